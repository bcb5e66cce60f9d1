"""The three lines after attaching."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distdbg.reporters import shape
from distdbg.reporters.units import count, count_range, duration, plural
from distdbg.reporters.view import Span, Text, ranks_span

if TYPE_CHECKING:
    from distdbg.client.session import Session


def banner(session: Session) -> Text:
    """What was attached to, how it is laid out, what to type next."""
    job = session.job
    prepared = "agent was on" if job.is_prepared else "not prepared"
    view = Text()
    where = f"{plural(job.world_size, 'rank')} on {plural(len(job.hostnames), 'host')}"
    head = f"{job.script} · job {job.id} · {where} · torch {job.torch_version} {job.backend}"
    how = f"attached in {duration(job.attached_in_s)}, {prepared}"
    for line in [f"{head} · {how}"] if len(head) + len(how) < 98 else [head, how]:
        view.add(line)
    layout = _layout(session)
    if layout:
        view.add(layout)
    if job.missing_ranks:
        view.add("not attached: ", ranks_span(job.missing_ranks, "outlier"))
    stopped = [rank for rank, state in session.states.items() if state.status == "stopped"]
    if stopped:
        view.add("stopped now: ", ranks_span(stopped), Span(" (where shows it)", "faint"))
    view.add("break MODULE and continue to stop the job; help for the rest.")
    return view


def job_data(session: Session) -> dict[str, object]:
    """The same for `--json`."""
    job = session.job
    pids = {rank: welcome.pid for rank, welcome in sorted(session.welcomes.items())}
    return {
        "job": job.id,
        "script": job.script,
        "world_size": job.world_size,
        "pids": pids,
        "is_prepared": job.is_prepared,
        "missing_ranks": sorted(job.missing_ranks),
    }


def _layout(session: Session) -> str:
    if not session.welcomes:
        return ""
    welcome = session.welcomes[min(session.welcomes)]
    parts = []
    meshes = [mesh for each in session.welcomes.values() for mesh in each.meshes]
    if meshes:
        largest = max(meshes, key=lambda mesh: (len(mesh.ranks), len(mesh.shape)))
        parts.append(f"mesh {shape.mesh(largest.axes, largest.shape)}")
    if welcome.model:
        parts.append(
            f"{welcome.model}, {plural(welcome.num_modules, 'module')}, {count(welcome.num_params)} parameters"
            + f", {_per_rank(session)} on each rank"
        )
    return " · ".join(parts)


def _per_rank(session: Session) -> str:
    return count_range([welcome.local_params for welcome in session.welcomes.values()])
