"""What client and agent say to each other: requests with their replies in pairs, and notices that nobody asked for.

A request goes out in a `Call` with an id and comes back in an `Answer` with the same id: the reply, or an error by the
name of its class in `distdbg.errors`. An agent keeps recent ids, so a call sent twice runs once.
"""

from __future__ import annotations

import msgspec

from distdbg.schema.breakpoint import AnyBreakpoint
from distdbg.schema.stop import Clock, Frame, Stop
from distdbg.schema.tensor import Mesh, Module, Piece, Tensor

PROTOCOL = 1
"""Both sides must speak the same; raised whenever a struct here changes its meaning."""


class Request(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Something the client wants of one rank."""


class Reply(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """What one rank answers."""


class Done(Reply, frozen=True):
    """The request was carried out; `note` is a sentence worth showing, or empty."""

    note: str = ""


# ---- the session -----------------------------------------------------------------------------------------------------


class Hello(Request, frozen=True, kw_only=True):
    """Attach. `lease_s` is how long a stop outlives this client; then `on_disconnect` is resume or stay."""

    protocol: int = PROTOCOL
    client_pid: int
    lease_s: float = 10.0
    on_disconnect: str = "resume"


class Welcome(Reply, frozen=True, kw_only=True):
    """Who this rank is. `timeouts_s` are the process groups' own limits, before they were raised (group -> seconds)."""

    rank: int
    world_size: int
    pid: int
    hostname: str
    script: str
    backend: str
    torch_version: str
    python_version: str
    device: str
    is_prepared: bool
    run_id: str = ""
    restart: int = 0
    model: str = ""
    num_modules: int = 0
    num_params: int = 0
    local_params: int = 0
    has_optimizer: bool = False
    meshes: tuple[Mesh, ...] = ()
    timeouts_s: dict[str, float] = {}
    iteration: int = 0
    stop: Stop | None = None
    is_eager: bool = False
    """A former console was lost while it had compiled code run eagerly; this one switches back when it leaves."""
    is_about_to_stop: bool = False
    """It waits in `distdbg.breakpoint()` and parks as soon as it knows of this console."""


class Detach(Request, frozen=True):
    """Take everything away and let the rank run; an agent that was injected leaves, a prepared one keeps listening."""


class Detached(Reply, frozen=True, kw_only=True):
    """What was taken away. `problems` lists what could not be restored (empty: nothing is left)."""

    num_hooks: int = 0
    timeouts_s: dict[str, float] = {}
    problems: tuple[str, ...] = ()


class Ping(Request, frozen=True):
    """Renew the lease and ask how the rank is doing."""


class Pong(Reply, frozen=True, kw_only=True):
    """`activity` says what the training thread is in, as one phrase: `all_reduce from Block.forward, train.py:47`.

    `stop` is what it is parked at: a client whose connection broke may have missed it, or its Resume may have got lost.
    """

    iteration: int
    is_stopped: bool
    clock: Clock = {}
    activity: str = ""
    stop: Stop | None = None


# ---- running and stopping --------------------------------------------------------------------------------------------


class Install(Request, frozen=True, kw_only=True):
    """Install the copy of a breakpoint in this rank."""

    breakpoint: AnyBreakpoint


class Installed(Reply, frozen=True, kw_only=True):
    """What the breakpoint landed on: (fqn, class) of modules, or (file:line, function) of a line.

    `clock` is read after the hooks are in: a logical point with a larger one is seen by this rank for sure.
    `is_compiled` says that a matched module is inside a torch.compile region, where hooks do not fire.
    """

    matches: tuple[tuple[str, str], ...] = ()
    clock: Clock = {}
    is_compiled: bool = False
    note: str = ""


class Remove(Request, frozen=True, kw_only=True):
    """Take the copy of a breakpoint away."""

    id: int


class Resume(Request, frozen=True, kw_only=True):
    """Let the parked thread go on. `hit` names the stop that the client means: a late one is not answered twice."""

    hit: int | None = None


class Pause(Request, frozen=True):
    """Park the training thread at its next bytecode."""


class SetCompileStance(Request, frozen=True, kw_only=True):
    """On the parked thread: torch.compiler.set_stance(`stance`), force_eager or default."""

    stance: str


# ---- looking ---------------------------------------------------------------------------------------------------------


class ListModules(Request, frozen=True, kw_only=True):
    """Modules that match `pattern` (empty: all), in definition order."""

    pattern: str = ""


class Modules(Reply, frozen=True):
    """The modules of the model on this rank."""

    modules: tuple[Module, ...] = ()


class ListMeshes(Request, frozen=True):
    """Every DeviceMesh."""


class Meshes(Reply, frozen=True):
    """The meshes of this rank."""

    meshes: tuple[Mesh, ...] = ()


class DescribeTensors(Request, frozen=True, kw_only=True):
    """Tensors by name: a parameter, buffer, NAME.grad, optimizer state `NAME.exp_avg`, input, output, a module (its
    parameters), a glob, or any expression of the stopped frame. `with_stats` reads the values."""

    name: str
    with_stats: bool = False
    frame: int = 0


class Tensors(Reply, frozen=True):
    """Tensors as this rank holds them."""

    tensors: tuple[Tensor, ...] = ()


class ReadValues(Request, frozen=True, kw_only=True):
    """The part of `name` inside the box that this rank owns; [start, stop) per dim, of global indices.

    At most `limit` values; raises UsageError beyond.
    """

    name: str
    starts: tuple[int, ...]
    stops: tuple[int, ...]
    limit: int = 100_000
    frame: int = 0


class Values(Reply, frozen=True, kw_only=True):
    """Pieces of the box, none when this rank owns nothing of it."""

    pieces: tuple[Piece, ...] = ()
    dtype: str = ""
    live: bool = False


class Evaluate(Request, frozen=True, kw_only=True):
    """Evaluate (`mode` eval) or execute (exec) Python text in frame number `frame` of the parked thread.

    `ranks` are all ranks that evaluate it: a collective on a group with other members is refused.
    """

    text: str
    mode: str = "eval"
    frame: int = 0
    ranks: tuple[int, ...] = ()


class Evaluated(Reply, frozen=True, kw_only=True):
    """The value's repr and what its reader must know (`local part only: W is S(0) on tp`)."""

    repr: str
    note: str = ""


class Interrupt(Request, frozen=True):
    """Break off what is being evaluated in this rank; Done either way."""


class ReadStack(Request, frozen=True, kw_only=True):
    """The user's frames of the training thread, innermost first: `depth` frames, `context` lines around each."""

    depth: int = 1
    context: int = 2


class Stack(Reply, frozen=True, kw_only=True):
    """`stop` is None for a running rank, whose frames are then a live sample. `thread` is the thread's name."""

    frames: tuple[Frame, ...] = ()
    stop: Stop | None = None
    thread: str = ""


class ReadLocals(Request, frozen=True, kw_only=True):
    """Names and short descriptions of the locals of frame number `frame`."""

    frame: int = 0


class Locals(Reply, frozen=True):
    """(name, description) of each local; a tensor as `f32[4, 16, 36] S(0) on tp`."""

    locals: tuple[tuple[str, str], ...] = ()


class ReadSource(Request, frozen=True, kw_only=True):
    """Source lines around the current line of frame number `frame`, or from `first` on."""

    frame: int = 0
    first: int | None = None
    num_lines: int = 11


class Source(Reply, frozen=True, kw_only=True):
    """`lines` are (number, text); `current` the frame's line."""

    file: str
    function: str
    current: int
    lines: tuple[tuple[int, str], ...] = ()


class ListNames(Request, frozen=True):
    """Every module, parameter and buffer name, for completion and for the nearest name."""


class Names(Reply, frozen=True, kw_only=True):
    """`modules` and `tensors` by fqn."""

    modules: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()


AnyRequest = (
    Hello | Detach | Ping | Install | Remove | Resume | Pause | SetCompileStance | ListModules | ListMeshes
    | DescribeTensors | ReadValues | Evaluate | Interrupt | ReadStack | ReadLocals | ReadSource | ListNames
)  # fmt: skip
AnyReply = (
    Done | Welcome | Detached | Pong | Installed | Modules | Meshes | Tensors | Values | Evaluated | Stack | Locals
    | Source | Names
)  # fmt: skip


# ---- on the wire -----------------------------------------------------------------------------------------------------


class Failure(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """An error of `distdbg.errors` by class name."""

    error: str
    message: str


class Call(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Client to agent: one request. `id` is unique for this client; an agent runs it at most once."""

    id: int
    request: AnyRequest


class Answer(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Agent to client: the answer to call `id`."""

    id: int
    result: AnyReply | Failure


class Stopped(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Agent to client, a notice: a thread of this rank is parked at an event and waits for Resume."""

    stop: Stop


class Resumed(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Agent to client, a notice: the rank runs again; `reason` when it was not this client's wish (lease, ...)."""

    hit: int
    reason: str = ""


class AskCollective(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Agent to client, a notice: call `id` evaluates up to a collective on `ranks`; Permit answers."""

    id: int
    op: str
    group: str
    ranks: tuple[int, ...]


class Permit(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Client to agent: whether the evaluation of call `id` may issue its collective, and why not."""

    id: int
    is_granted: bool
    reason: str = ""


class Ticked(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Agent to client, a notice, at most a few per second: iterations go on."""

    iteration: int


class Warned(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Agent to client, a notice: something the user must know (a hook was closed because it raised, ...)."""

    text: str


class Bye(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Agent to client, a notice: the rank's process is ending, or another console took over."""

    reason: str


ToAgent = Call | Permit
ToClient = Answer | Stopped | Resumed | AskCollective | Ticked | Warned | Bye
