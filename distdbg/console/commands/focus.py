"""`focus`: which ranks the commands apply to."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import RanksText
from distdbg.reporters.view import Text, ranks_span
from distdbg.schema.ranks import format_ranks, parse_ranks


@command("focus", aliases=("f",), family="ranks")
def focus(console: Console, ranks: RanksText = "") -> Report:
    """Show or set the ranks that commands apply to.

    0-3,7 numbers; all, stopped, running; dp=0:2,tp=1 by mesh axis; !0 takes one away. continue and step
    still let all ranks go on.

        focus tp=1
        focus all
        @0,2 where         these ranks, for one command
    """
    session = console.session
    if ranks:
        session.focus = parse_ranks(ranks.replace(" ", ""), session.context())
        session.focus_text = ranks
    view = Text()
    title = console.focus_title()
    same = format_ranks(session.focus)
    view.add(f"focus {title}", *((" is ranks ", ranks_span(session.focus)) if title != same else ()))
    return Report(view, [(session.focus, {"focus": title})], session.focus)
