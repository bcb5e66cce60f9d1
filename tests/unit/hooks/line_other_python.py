"""Run by an interpreter that may have no torch and no msgspec: its way of `break FILE:LINE`, without the events.

Prints `passed` when everything holds.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2] / "jobs")]

import lines as job  # noqa: E402

from distdbg.hooks import line_monitor, line_swap, line_trace  # noqa: E402
from distdbg.hooks.line_source import locate, read_tree  # noqa: E402
from distdbg.hooks.line_target import find_codes, find_file, qualified_name, running_frames  # noqa: E402

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


def check_monitor() -> None:
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


def swap(mark: str, seen: list) -> tuple:
    """Exchange the code around the marked line, and trace a call that is running; how to close, and where it landed."""
    file = find_file("jobs/lines.py")
    tree = read_tree(file)
    statement, _ = locate(tree, file, NUMBERS[mark])
    (code,) = line_swap.find_code(tree, file, statement, find_codes(file, line_swap.original))

    def reach(frame: object) -> None:
        seen.append((frame.f_lineno, dict(frame.f_locals)))

    closes = [line_swap.watch(code, statement, reach)]
    running = [frame for frame in running_frames() if line_swap.original(frame.f_code) is code]
    closes += [line_trace.watch(frame, statement.node.lineno, reach) for frame in running]
    return lambda: [close() for close in closes], code.co_name


def check_swap() -> None:
    """Several lines of one function, closures, a call that is running; every code object is itself again."""
    functions = [job.Child.scale, job.make, job.shift, job.produce, job.count, job.run_long]
    before = [function.__code__ for function in functions]
    seen: list = []
    first, _ = swap("super", seen)
    second, _ = swap("inner", seen)
    third, _ = swap("while", seen)
    assert job.Child().scale(2) == 5
    made = job.make(2)
    assert made(1) == 3
    assert job.shift(1) == 6
    assert job.count(2) == 0
    expected = ["super", "inner", "inner", "while", "while", "while"]
    assert [number for number, _ in seen] == [NUMBERS[mark] for mark in expected], seen
    first(), second(), third()

    opened: list = []
    seen.clear()

    def step(i: int) -> None:
        if i == 1:
            opened.append(swap("running", seen)[0])
        if i == 4:
            opened[0]()

    job.run_long(step, 6)
    assert [values["i"] for _, values in seen] == [1, 2, 3], seen
    assert sys.gettrace() is None
    assert all(function.__code__ is code for function, code in zip(functions, before, strict=True))
    assert made.__code__ is job.shift.__code__
    assert "torch" not in sys.modules


check_monitor() if line_monitor.is_available() else check_swap()
print("passed")
