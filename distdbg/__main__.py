"""`python -m distdbg`: attach, jobs, run, demo. Imports nothing heavy before it knows what is wanted."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from distdbg import __version__
from distdbg.errors import DistdbgError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] == ["run"]:
            from distdbg.client import launch

            return int(launch.main(words[1:]) or 0)
        return _run(_parser().parse_args(words))
    except DistdbgError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(arguments: argparse.Namespace) -> int:
    if arguments.verb == "attach":
        from distdbg.console import attach

        return attach.main(arguments)
    if arguments.verb == "jobs":
        from distdbg.console import jobs

        return jobs.main(arguments.json)
    from distdbg.client import demo

    return int(demo.main() or 0)


class _Step(argparse.Action):
    """Collects -ex and -x in the order in which they are given."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option: str | None = None) -> None:
        namespace.steps = [*namespace.steps, ("ex" if option == "-ex" else "x", value)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distdbg",
        description="One debugging console over all ranks of a running torch.distributed job.",
    )
    parser.add_argument("--version", action="version", version=f"distdbg {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="attach|jobs|run|demo")
    _add_attach(verbs.add_parser("attach", help="open a console on a running job", allow_abbrev=False))
    jobs = verbs.add_parser("jobs", help="list the jobs of this machine")
    jobs.add_argument("--json", action="store_true", help="one JSON object per line")
    verbs.add_parser("run", help="torchrun with the agent in every rank: run [torchrun options] script [args]")
    verbs.add_parser("demo", help="start a small job and attach to it")
    return parser


def _add_attach(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    parser.set_defaults(steps=[])
    add("job", nargs="?", metavar="JOB", help="its id as jobs lists it; not needed when there is one job")
    add("--pid", type=int, action="append", default=[], help="a rank's or the launcher's process id; repeatable")
    add("-ex", action=_Step, metavar="CMD", help="run this command; repeatable, each runs whatever came before")
    add("-x", action=_Step, metavar="FILE", help="run the commands of FILE up to the first that fails")
    add("--batch", action="store_true", help="leave after the commands; the job goes on")
    add("--json", action="store_true", help="one JSON object per line for results and events")
    add("--ranks", metavar="RANKS", help="attach to these ranks only, such as 0-3,7")
    add("--timeout", type=_positive, metavar="S", help="seconds that attaching, continue, step and the like may take")
    add("--lease", type=_positive, default=10.0, metavar="S", help="seconds that a stop outlives this console (10)")
    add("--on-disconnect", choices=("resume", "stay"), default="resume", help="what ranks do after the lease (resume)")


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be positive")
    return value


if __name__ == "__main__":
    sys.exit(main())
