"""Every message survives the wire, and nothing else does."""

from __future__ import annotations

import pickle
import random
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from distdbg.schema import message as m
from distdbg.schema.message import AnyReply, AnyRequest, ToAgent, ToClient
from distdbg.wire.codec import MalformedMessage, decode_for_agent, decode_for_client, encode

SIMPLE: dict[Any, Any] = {int: 3, float: 2.5, str: "é\0", bool: True, type(None): None}


def fill(kind: Any, turn: int = 0) -> Any:
    """A value of a type with every field set; `turn` chooses among the members of a union."""
    if kind in SIMPLE:
        return SIMPLE[kind]
    if get_origin(kind) in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not type(None)]
        return fill(members[turn % len(members)], turn)
    if get_origin(kind) is dict:
        return {"a": fill(get_args(kind)[1], turn)}
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        return (fill(inner[0], turn),) if inner[-1] is Ellipsis else tuple(fill(one, turn) for one in inner)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind)
        return kind(**{name: fill(hints[name], turn) for name in kind.__struct_fields__})
    raise AssertionError(f"no example of {kind}")


REQUESTS, REPLIES = get_args(AnyRequest), get_args(AnyReply)


@pytest.mark.parametrize("turn", range(8))
@pytest.mark.parametrize("request_type", REQUESTS, ids=lambda kind: kind.__name__)
def test_requests(request_type: Any, turn: int) -> None:
    call = m.Call(id=7, request=fill(request_type, turn))
    assert decode_for_agent(encode(call)) == call


@pytest.mark.parametrize("turn", range(8))
@pytest.mark.parametrize("reply_type", [*REPLIES, m.Failure], ids=lambda kind: kind.__name__)
def test_replies(reply_type: Any, turn: int) -> None:
    answer = m.Answer(id=7, result=fill(reply_type, turn))
    assert decode_for_client(encode(answer)) == answer


@pytest.mark.parametrize("turn", range(8))
@pytest.mark.parametrize("notice", [kind for kind in get_args(ToClient) if kind is not m.Answer])
def test_notices(notice: Any, turn: int) -> None:
    message = fill(notice, turn)
    assert decode_for_client(encode(message)) == message


def test_permit() -> None:
    permit = m.Permit(id=1, is_granted=False, reason="no")
    assert decode_for_agent(encode(permit)) == permit


def test_defaults_travel_too() -> None:
    call = m.Call(id=1, request=m.Hello(client_pid=5))
    assert decode_for_agent(encode(call)).request.lease_s == 10.0  # type: ignore[union-attr]


def test_every_request_and_reply_has_its_place() -> None:
    assert set(REQUESTS) == set(m.Request.__subclasses__())
    assert set(REPLIES) == set(m.Reply.__subclasses__())
    assert set(get_args(ToAgent)) == {m.Call, m.Permit}


# ---- from a hostile or broken peer ----------------------------------------------------------------------------------

CALL = encode(m.Call(id=1, request=m.Evaluate(text="x", ranks=(0, 1))))
ANSWER = encode(m.Answer(id=1, result=m.Evaluated(repr="1")))


def packed(thing: object) -> bytes:
    return msgspec.msgpack.encode(thing)


HOSTILE = {
    "empty": b"",
    "garbage": b"\xc1\xff\x00garbage",
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "pickle": pickle.dumps({"type": "Call"}),
    "nil": packed(None),
    "a number": packed(5),
    "a list": packed([1, 2, 3]),
    "an empty map": packed({}),
    "no type": packed({"id": 1}),
    "unknown type": packed({"type": "Shutdown"}),
    "type of a wrong type": packed({"type": 5}),
    "a request without its call": packed({"type": "Ping"}),
    "no id": packed({"type": "Call", "request": {"type": "Ping"}}),
    "id is text": packed({"type": "Call", "id": "1", "request": {"type": "Ping"}}),
    "id is too large": packed({"type": "Call", "id": 2**64 - 1, "request": {"type": "Evaluate", "text": 1}}),
    "unknown request": packed({"type": "Call", "id": 1, "request": {"type": "System"}}),
    "request of a wrong type": packed({"type": "Call", "id": 1, "request": {"type": "Evaluate", "text": 5}}),
    "a reply as a request": packed({"type": "Call", "id": 1, "request": {"type": "Done"}}),
    "unknown rule": packed({"type": "Call", "id": 1, "request": {"type": "Install", "breakpoint": {"on": "x"}}}),
    "wrong ranks": packed({"type": "Call", "id": 1, "request": {"type": "Evaluate", "text": "x", "ranks": ["a"]}}),
    "not utf-8": b"\x82\xa4type\xa4Call\xa2id\xa2\xff\xfe",
    "a text that is not utf-8": CALL.replace(b"\xa1x", b"\xa1\xff"),
    "a list that claims to be huge": b"\xdd\xff\xff\xff\xff",
    "bytes that claim to be huge": b"\xc6\xff\xff\xff\xff",
    "a map that claims to be huge": b"\xdf\xff\xff\xff\xff",
    "nested lists": b"\x91" * 200_000,
    "nested maps": b"\x81\xa1a" * 200_000,
    "nested in a field": b"\x82\xa4type\xa4Call\xa1x" + b"\x91" * 200_000,
    "two messages": CALL + CALL,
    "large": b"\x00" * (8 << 20),
}


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_frames_are_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_for_agent(frame)
    with pytest.raises(MalformedMessage):
        decode_for_client(frame)


def test_each_end_refuses_what_is_meant_for_the_other() -> None:
    with pytest.raises(MalformedMessage):
        decode_for_agent(ANSWER)
    with pytest.raises(MalformedMessage):
        decode_for_client(CALL)


@pytest.mark.parametrize("frame", [CALL, ANSWER], ids=["call", "answer"])
def test_cut_frames_are_malformed(frame: bytes) -> None:
    for length in range(len(frame)):
        for decode in (decode_for_agent, decode_for_client):
            with pytest.raises(MalformedMessage):
                decode(frame[:length])


@pytest.mark.parametrize("seed", range(20))
def test_changed_frames_are_read_or_malformed_and_nothing_else(seed: int) -> None:
    draw = random.Random(seed)
    frames = [CALL, ANSWER, encode(fill(m.Stopped))]
    num_malformed = 0
    for _ in range(300):
        frame = bytearray(draw.choice(frames))
        for _ in range(draw.randint(1, 4)):
            frame[draw.randrange(len(frame))] = draw.randrange(256)
        for decode in (decode_for_agent, decode_for_client):
            try:
                decode(bytes(frame))
            except MalformedMessage:
                num_malformed += 1
    assert num_malformed > 300
