"""The environment's door: what `sitecustomize` does to an interpreter, and what it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from distdbg.client.launch import SITE

ROOT = SITE.parent.parent


def run(program: str, *path: Path, folder: Path, **environ: str) -> str:
    """What a fresh interpreter prints, run in an empty folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DISTDBG", "PYTHON"))}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, path)), **environ}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr.replace("\n\n", "\n")


FAKE_C10D = """
from functools import wraps

def logged(function):
    @wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper

@logged
def init_process_group(backend, *, world_size=1):
    if backend == "broken":
        raise ValueError(backend)
    print("init", backend, world_size)
"""


def fake_torch(folder: Path) -> Path:
    """A package that looks like torch.distributed as far as this door looks."""
    package = folder / "torch" / "distributed"
    package.mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("from torch.distributed.distributed_c10d import init_process_group\n")
    (package / "distributed_c10d.py").write_text(FAKE_C10D)
    agent = folder / "bootstrap.py"
    agent.write_text("def start(): print('agent', True)\n")
    return folder


PROGRAM = """
import sys, types, importlib.util
spec = importlib.util.spec_from_file_location("distdbg.agent.bootstrap", "bootstrap.py")
package = types.ModuleType("distdbg.agent"); package.__path__ = []
import distdbg
sys.modules["distdbg.agent"] = distdbg.agent = package
package.bootstrap = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package.bootstrap)

import torch.distributed as dist
function = dist.init_process_group
names = set(function.__globals__)
try: function("broken")
except ValueError as error: print("raised", error)
function("gloo", world_size=2)
code = function.__code__
function("gloo")
print(function is dist.init_process_group, function.__code__ is code, code.co_name, code.co_freevars)
print([name for name in function.__globals__ if "distdbg" in name])
print([finder for finder in sys.meta_path if type(finder).__name__ == "_Finder"])
"""


def test_agent_starts_after_the_first_init_that_succeeds(tmp_path: Path) -> None:
    printed = run(PROGRAM, SITE, ROOT, folder=fake_torch(tmp_path), DISTDBG="1")
    assert printed.splitlines() == [
        "raised broken",
        "init gloo 2",
        "agent True",
        "init gloo 1",
        "True True wrapper ('function',)",
        "[]",
        "[]",
    ]


def test_an_agent_that_fails_is_one_line_and_the_job_goes_on(tmp_path: Path) -> None:
    folder = fake_torch(tmp_path)
    (folder / "bootstrap.py").write_text("def start(): raise OSError('disk full')\n")
    printed = run(PROGRAM, SITE, ROOT, folder=folder, DISTDBG="1")
    assert "init gloo 2\n" in printed
    assert printed.splitlines()[-1] == "distdbg: not listening: OSError: disk full"


def test_off_means_off(tmp_path: Path) -> None:
    for value in ("", "0"):
        printed = run("import sys; print(sys.meta_path[0], sys.path)", SITE, folder=tmp_path, DISTDBG=value)
        assert "_Finder" not in printed
        assert str(SITE) not in printed


def test_sitecustomize_further_down_the_path_runs_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('mine')\n")
    program = "import sys, sitecustomize; print(sitecustomize.__file__); print(type(sys.meta_path[0]).__name__)"
    printed = run(program, SITE, tmp_path, folder=tmp_path, DISTDBG="1")
    assert printed.splitlines() == ["mine", str(tmp_path / "sitecustomize.py"), "_Finder"]


def test_loads_no_module_before_it_is_needed(tmp_path: Path) -> None:
    program = "import sys; print(sorted(sys.modules))"
    without = run(program, folder=tmp_path)
    prepared = run(program, SITE, folder=tmp_path, DISTDBG="1")
    extra = set(eval(prepared)) - set(eval(without))
    assert extra <= {"sitecustomize", "__future__"}


def test_launcher_environment_puts_the_folder_first_once() -> None:
    from distdbg.client.launch import prepare_environment

    environment = prepare_environment({"PYTHONPATH": f"/a{os.pathsep}{SITE}", "TORCH_NCCL_ENABLE_MONITORING": "1"})
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(SITE), "/a"]
    assert environment["DISTDBG"] == "1"
    assert environment["TORCH_NCCL_ENABLE_MONITORING"] == "1", "what the user has set stays"
    assert int(environment["TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC"]) > 3600
