"""msgpack with strict types, both ways. Nothing from the wire is ever evaluated or unpickled."""

from __future__ import annotations

import msgspec

from distdbg.errors import DistdbgError
from distdbg.schema.message import ToAgent, ToClient

MAX_MESSAGE_BYTES = 4 << 20
"""Both ends refuse larger frames: a stuck or hostile peer must not fill our memory."""


class MalformedMessage(DistdbgError):
    """A peer sent something that is not of this protocol."""


_encoder = msgspec.msgpack.Encoder()
_to_agent: msgspec.msgpack.Decoder[ToAgent] = msgspec.msgpack.Decoder(ToAgent)
_to_client: msgspec.msgpack.Decoder[ToClient] = msgspec.msgpack.Decoder(ToClient)


def encode(message: ToAgent | ToClient) -> bytes:
    """The message as bytes."""
    return _encoder.encode(message)


def decode_for_agent(frame: bytes) -> ToAgent:
    """Read what a client sent; raises MalformedMessage."""
    try:
        return _to_agent.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error


def decode_for_client(frame: bytes) -> ToClient:
    """Read what an agent sent; raises MalformedMessage."""
    try:
        return _to_client.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error
