"""From the answers of many ranks to a report: typed clusters, failures and silent ranks, always named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from distdbg import errors
from distdbg.client.gather import Gathered
from distdbg.client.merge import Cluster, merge
from distdbg.console.report import Report
from distdbg.errors import DistdbgError, RankLost, UnknownName
from distdbg.reporters.view import Span, Text, View, ranks_span, stack
from distdbg.schema.message import AnyReply, Failure
from distdbg.schema.ranks import Ranks, format_ranks

R = TypeVar("R", bound=AnyReply)

REASONS = {
    "slow": "no answer in time",
    "gil-held": "alive, but its Python does not run (something holds the GIL)",
    "gone": "its process has ended",
    "restarted": "its process was restarted",
}
"""What the reasons of a Gathered mean, for people."""


def replies_of(gathered: Gathered, kind: type[R]) -> dict[int, R]:
    """The replies of one kind by rank, in rank order. Raises what the ranks say when none replied at all."""
    if not gathered.replies:
        raise failure_of(gathered)
    return {rank: reply for rank, reply in sorted(gathered.replies.items()) if isinstance(reply, kind)}


def clusters_of(gathered: Gathered, kind: type[R], key: Callable[[R], object] | None = None) -> list[Cluster[R]]:
    """Equal replies as clusters; raises what the ranks say when none replied at all."""
    replies = replies_of(gathered, kind)
    return merge(replies.items(), key) if key else merge(replies.items())


def failure_of(gathered: Gathered) -> DistdbgError:
    """One error for a request that no rank carried out."""
    if not gathered.failures:
        ended = all(reason in ("gone", "restarted") for reason in gathered.missing.values())
        sentence = "; ".join(_missing_lines(gathered.missing)) or "No rank is left to ask"
        return (RankLost if ended else DistdbgError)(sentence + ".")
    clusters = merge(gathered.failures.items())
    first = clusters[0].answer
    if len(clusters) == 1:
        return error_of(first)
    message = "\n".join(f"{format_ranks(each.ranks)}   {_sentence(each.answer)}" for each in clusters)
    return type(error_of(first))(message)


def error_of(failure: Failure) -> DistdbgError:
    """The error that a rank reported, as its own class."""
    kind = getattr(errors, failure.error, DistdbgError)
    is_ours = isinstance(kind, type) and issubclass(kind, DistdbgError)
    return (kind if is_ours else DistdbgError)(_sentence(failure))


def _sentence(failure: Failure) -> str:
    is_refusal = failure.error in ("WouldDeadlock", "RefusedError")
    return failure.message if not is_refusal or failure.message.startswith("Refused") else f"Refused: {failure.message}"


def report_answers(view: View, gathered: Gathered, data: list[tuple[Ranks, object]]) -> Report:
    """A report of what the ranks answered, with a line for every rank that failed or said nothing.

    A name that only some ranks know (another pipeline stage) is not an error; any other failure is.
    """
    below = Text()
    error: DistdbgError | None = None
    clusters = list(data)
    for failed in merge(gathered.failures.items()):
        known = error_of(failed.answer)
        if isinstance(known, UnknownName) and gathered.replies:
            below.add("not on ", ranks_span(failed.ranks))
        else:
            below.add(ranks_span(failed.ranks, "error"), "   ", Span(_sentence(failed.answer), "error"))
            error = known
        clusters.append((failed.ranks, {"error": failed.answer.error, "message": failed.answer.message}))
    for line in _missing_lines(gathered.missing):
        below.add(Span(line, "outlier"))
    shown = stack(view, below) if below.lines else view
    return Report(shown, clusters, gathered.ranks, dict(gathered.missing), error)


def _missing_lines(missing: Mapping[int, str]) -> list[str]:
    by_reason = merge(missing.items())
    return [f"no answer from {_noun(each.ranks)}: {REASONS.get(each.answer, each.answer)}" for each in by_reason]


def _noun(ranks: Ranks) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + format_ranks(ranks)
