# Needs a Python >= 3.10 with pip, and make. `make demo` first; `make help` lists the rest.
# Environments are made once: the stamp files make every later run cheap.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test unit lint format docs docs-check clean

help:
	@echo "make demo    a 4-rank CPU job with a 2-D parallel transformer, and the console stopped inside it"
	@echo "make test    every test"
	@echo "make unit    the tests that start no process: seconds"
	@echo "make lint    ruff and mypy --strict"
	@echo "make docs    write docs/commands.md anew"

# A Debian python3 without its venv package has no ensurepip: this pip then installs one into the environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "distdbg needs Python 3.10 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "creating $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
	  || { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing distdbg and torch into $(VENV) (once)"
	@$(INSTALL) -e '.[fast]'
	@touch $@

$(VENV)/.tests: $(VENV)/.core
	@echo "installing the test tools into $(VENV) (once)"
	@$(INSTALL) -e '.[fast,hf,test,dev]'
	@touch $@

demo: $(VENV)/.core
	@$(BIN)/python -m distdbg demo

test: $(VENV)/.tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

unit: $(VENV)/.tests
	$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

format: $(VENV)/.tests
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.tests
	$(BIN)/python -m distdbg.console.reference > docs/commands.md

docs-check: $(VENV)/.tests
	$(BIN)/python -m distdbg.console.reference | diff -u docs/commands.md - \
	  || { echo "docs/commands.md is stale: make docs"; exit 1; }

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
