"""`up`: select the frame that called the current one."""

from __future__ import annotations

from distdbg.console.announce import frame_data, place, source_lines
from distdbg.console.answers import clusters_of, report_answers
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.stopping import stops_in_focus
from distdbg.errors import UsageError
from distdbg.reporters.view import View, ranks_span, stack, text
from distdbg.schema.message import ReadStack, Stack
from distdbg.schema.ranks import Ranks


@command("up", aliases=("u",), family="look", is_repeated=True)
def up(console: Console, count: int = 1) -> Report:
    """Select the caller of the current frame, for print, locals and list.

    COUNT frames up.
    """
    return select_frame(console, console.session.frame + count)


def select_frame(console: Console, number: int) -> Report:
    """Select frame `number` on all ranks and show it; equal frames share an entry."""
    stops_in_focus(console)
    if number < 0:
        raise UsageError("This is the innermost frame." if console.session.frame == 0 else "There are fewer frames.")
    gathered = console.session.ask(ReadStack(depth=number + 1, context=console.settings.context))
    clusters = clusters_of(gathered, Stack, lambda stack: repr(stack.frames[number:]))
    there = [cluster for cluster in clusters if len(cluster.answer.frames) > number]
    if not there:
        raise UsageError("This is the outermost frame.")
    console.session.frame = number
    views: list[View] = []
    for cluster in there:
        frame = cluster.answer.frames[number]
        views.append(text((ranks_span(cluster.ranks), f"   frame {number}   {place(frame)}")))
        views.append(source_lines(frame, console.settings.context))
    data: list[tuple[Ranks, object]] = [
        (each.ranks, {"frame": number, **frame_data(each.answer.frames[number])}) for each in there
    ]
    return report_answers(stack(*views), gathered, data)
