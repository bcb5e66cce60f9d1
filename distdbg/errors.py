"""Every error that distdbg raises on purpose. The message is what the user reads: no traceback of ours is ever shown.

DistdbgError
├── UsageError              the request was invalid: an unknown word, a bad number, a name that matches nothing
│   ├── UnknownName         no module, tensor or rank of that name; carries the nearest ones
│   └── AmbiguousName       several match where one is needed; carries them
├── RefusedError            the request was valid and would have harmed the job
│   └── WouldDeadlock       an expression would issue a collective on only some of a group's ranks
├── NotStoppedError         the command needs a stopped rank
├── EvaluationError         the user's expression raised; the message is its own traceback's last lines
├── AttachError             there is no way in; the job was not touched
│   ├── NoJob               no job, or several and none chosen
│   ├── NotPermitted        the kernel forbids it
│   ├── NotPython           no Python interpreter in that process
│   ├── NotDistributed      Python, and no torch.distributed process group in it
│   ├── ProcessGone         it ended before or while attaching
│   └── InjectionFailed     everything was permitted and the agent did not come up
└── RankLost                a rank went away while attached
"""

from __future__ import annotations

__all__ = [
    "AmbiguousName",
    "AttachError",
    "DistdbgError",
    "EvaluationError",
    "InjectionFailed",
    "NoJob",
    "NotDistributed",
    "NotPermitted",
    "NotPython",
    "NotStoppedError",
    "ProcessGone",
    "RankLost",
    "RefusedError",
    "UnknownName",
    "UsageError",
    "WouldDeadlock",
]


class DistdbgError(Exception):
    """Root of the tree; `exit_status` is the console's when this ends it."""

    exit_status = 1


class UsageError(DistdbgError):
    """The request was invalid."""


class UnknownName(UsageError):
    """No module, tensor or rank of that name."""


class AmbiguousName(UsageError):
    """Several match where one is needed."""


class RefusedError(DistdbgError):
    """The request was valid and would have harmed the job."""


class WouldDeadlock(RefusedError):
    """An expression would issue a collective on only some of a group's ranks."""


class NotStoppedError(DistdbgError):
    """The command needs a stopped rank."""


class EvaluationError(DistdbgError):
    """The user's expression raised."""


class AttachError(DistdbgError):
    """There is no way in; the job was not touched."""

    exit_status = 4


class NoJob(AttachError):
    """No job, or several and none chosen."""


class NotPermitted(AttachError):
    """The kernel forbids it."""

    exit_status = 5


class NotPython(AttachError):
    """No Python interpreter in that process."""


class NotDistributed(AttachError):
    """Python, and no torch.distributed process group in it."""


class ProcessGone(AttachError):
    """The process ended before or while attaching."""


class InjectionFailed(AttachError):
    """Everything was permitted and the agent did not come up."""


class RankLost(DistdbgError):
    """A rank went away while attached."""

    exit_status = 3
