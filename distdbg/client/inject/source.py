"""The text that is run for the user's code: it leaves no name behind and lets no exception out."""

from __future__ import annotations

_TEMPLATE = """\
try:
    __import__("builtins").exec({code}, {{"__name__": "__distdbg__"}})
except BaseException:
    __import__("traceback").print_exc()
"""


def wrap_source(code: str) -> bytes:
    """ASCII source for `PyRun_SimpleString`, which runs in the job's `__main__`.

    There, `exec` and `compile` may be names of the job's own (`compile = True` is a usual flag), so builtins
    are asked for by import. An exception that got out would be printed as well, but SystemExit would end the
    job.
    """
    if "\0" in code:
        raise ValueError("code must not contain NUL characters")
    return _TEMPLATE.format(code=ascii(code)).encode("ascii")
