"""`watch`: stop when a tensor or a value changes."""

from __future__ import annotations

from distdbg.console.breakpoints import chosen_focus, report_rule
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import TensorName
from distdbg.schema.breakpoint import Watchpoint


@command("watch", family="stop")
def watch(console: Console, expression: TensorName) -> Report:
    """Stop when a tensor or the value of an expression changes.

    Checked at every module and iteration event, on each rank on its own local part: a tensor by
    its fingerprint, which costs a pass over it at each event.

        watch layer.0.attention.wq.weight
        watch scaler.get_scale()
    """
    focus = chosen_focus(console)
    point = Watchpoint(id=0, expression=expression, focus=tuple(sorted(focus)) if focus is not None else None)
    return report_rule(*console.session.add_rule(point))
