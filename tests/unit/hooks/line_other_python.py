"""Run by an interpreter that may have no torch and no msgspec: the `sys.monitoring` way of `break FILE:LINE`.

Prints `passed` when everything holds.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2] / "jobs")]

import lines as job  # noqa: E402

from distdbg.hooks import line_monitor  # noqa: E402
from distdbg.hooks.line_target import find_codes, find_file, qualified_name  # noqa: E402

NUMBERS = {
    text.split("@")[1].strip(): number
    for number, text in enumerate(Path(job.__file__).read_text().splitlines(), 1)
    if "@" in text and "#" in text
}


def watch(mark: str, seen: list) -> tuple:
    """Watch the marked line; how to close it, and where it landed."""
    codes = find_codes(find_file("jobs/lines.py"), lambda code: code)
    number = NUMBERS[mark]
    found = [code for code in codes if number in line_monitor.lines_of(code)]
    inner = {id(each) for code in found for each in code.co_consts}
    (code,) = [code for code in found if id(code) not in inner]
    close = line_monitor.watch(code, number, lambda frame: seen.append((frame.f_lineno, dict(frame.f_locals))))
    return close, qualified_name(code)


def check() -> None:
    """Stop at several lines of one function, twice at one, and leave nothing."""
    seen: list = []
    first, name = watch("super", seen)
    assert name == "Child.scale", name
    assert job.Child().scale(2) == 5
    assert [number for number, _ in seen] == [NUMBERS["super"]]
    second, _ = watch("middle", seen)
    again, _ = watch("super", seen)
    seen.clear()
    assert job.Child().scale(2) == 5
    assert [number for number, _ in seen] == [NUMBERS["super"]] * 2 + [NUMBERS["middle"]]
    first()
    again()
    seen.clear()
    job.Child().scale(2)
    assert [number for number, _ in seen] == [NUMBERS["middle"]]
    second()

    loop, _ = watch("running", seen)
    loop()
    opened: list = []
    seen.clear()
    # In force in a call that is already running.
    job.run_long(lambda i: opened.append(watch("running", seen)[0]) if i == 1 else None, 4)
    assert [values["i"] for _, values in seen] == [1, 2, 3], seen
    opened[0]()

    inner, _ = watch("inner", seen)
    seen.clear()
    job.shift(1)
    job.make(2)(1)
    assert len(seen) == 2
    inner()
    assert all(sys.monitoring.get_tool(number) is None for number in range(6))
    assert "torch" not in sys.modules


check()
print("passed")
