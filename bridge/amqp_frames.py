"""A publication as AMQP frames. All calls send one shape, and pamqp's encoder would take a sixth of their CPU time.

The layout is AMQP 0-9-1 §4.2; a test compares the bytes with pamqp's.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from aiormq import spec
from pamqp import frame

from contracts import envelope, topology
from contracts.commands import CommandType

_HEADER_FRAME: Final = 2
_BODY_FRAME: Final = 3
_FRAME_HEAD: Final = struct.Struct(">BHI")
_CONTENT_HEAD: Final = struct.Struct(">HHQH")
_FRAME_END: Final = b"\xce"
_BASIC: Final = 60
_NOT_PERSISTENT: Final = b"\x01"
"""A command with a deadline is worthless after a restart of the broker."""

# In order: content type, headers, delivery mode, correlation id, reply to, expiration, message id, timestamp, type.
_PRESENT: Final = 1 << 15 | 1 << 13 | 1 << 12 | 1 << 10 | 1 << 9 | 1 << 8 | 1 << 7 | 1 << 6 | 1 << 5
_USER_ID_PRESENT: Final = 1 << 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """A command as a message. `sent_at` in whole unix seconds; `expiration_ms` counts from then.

    `user_id`: our RabbitMQ user, which the broker checks; None if it is not known.
    """

    command: CommandType
    body: bytes
    headers: Mapping[str, str]
    message_id: str
    correlation_id: str
    sent_at: int
    expiration_ms: int
    user_id: str | None = None

    def encode(self, channel_number: int, max_body_bytes: int) -> bytes:
        """The frames: method, header, and body in pieces of at most `max_body_bytes`."""
        properties = b"".join(
            (
                _short(envelope.CONTENT_TYPE),
                _table(self.headers),
                _NOT_PERSISTENT,
                _short(self.correlation_id),
                _short(envelope.DIRECT_REPLY_TO),
                _short(str(self.expiration_ms)),
                _short(self.message_id),
                self.sent_at.to_bytes(8, "big"),
                _short(self.command.value),
                _short(self.user_id) if self.user_id is not None else b"",
            )
        )
        present = _PRESENT if self.user_id is None else _PRESENT | _USER_ID_PRESENT
        header = _CONTENT_HEAD.pack(_BASIC, 0, len(self.body), present) + properties
        frames = [_method(self.command, channel_number), _frame(_HEADER_FRAME, channel_number, header)]
        pieces = (self.body[at : at + max_body_bytes] for at in range(0, len(self.body), max_body_bytes))
        return b"".join((*frames, *(_frame(_BODY_FRAME, channel_number, piece) for piece in pieces)))


@lru_cache
def _method(command: CommandType, channel_number: int) -> bytes:
    publish = spec.Basic.Publish(exchange=topology.COMMANDS.name, routing_key=command.value, mandatory=True)
    return frame.marshal(publish, channel_number)


def _frame(kind: int, channel_number: int, payload: bytes) -> bytes:
    return _FRAME_HEAD.pack(kind, channel_number, len(payload)) + payload + _FRAME_END


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes((len(data),)) + data


def _table(values: Mapping[str, str]) -> bytes:
    fields = b"".join(_short(name) + b"S" + _long(value.encode()) for name, value in values.items())
    return _long(fields)


def _long(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
