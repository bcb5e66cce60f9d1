"""`break`: stop all ranks at a module or at a source line."""

from __future__ import annotations

from typing import Literal

from distdbg.console.breakpoints import chosen_focus, read_location, report_rule
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import Condition, Location


@command("break", aliases=("b",), family="stop")
def break_(
    console: Console,
    where: Location,
    when: Literal["forward", "backward", "end"] = "",  # type: ignore[assignment]  # not given: forward, or a line
    condition: Condition = "",
) -> Report:
    """Stop all ranks at a module or at a source line.
     MODULE is a name, the end of one (layer.0.attention), a glob (layers.*.attention) or Keras form
    with /. The ranks stop before its forward; backward: when the gradient of its output arrives; end:
    after its forward. EXPR is evaluated in the stopped frame of each rank. All ranks stop at the same
    call when any of them wants to.

        break layer.0.attention
        break layers.*.mlp backward
        break train.py:47 if loss.isnan()
        @tp=1 break layer.0.attention      only these ranks may want to stop
    """
    point = read_location(where, when, condition, is_temporary=False, focus=chosen_focus(console))
    return report_rule(*console.session.add_rule(point))
