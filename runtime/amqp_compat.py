"""Works around properties that the client library cannot decode, and headers that it cannot encode again.

RabbitMQ checks neither the encoding nor the times in a message's properties. pamqp raises on text that is not UTF-8 and
on a timestamp beyond all years (in microseconds, for one), which closes the connection. RabbitMQ delivers the message
again, until its delivery limit dead-letters it together with every other command in progress on those connections.
Therefore such a message is delivered without what is unreadable, and a header of its own says what that was.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from pamqp import decode, encode
from pamqp.commands import Basic

from contracts import envelope

_log = logging.getLogger(__name__)

MAX_HEADER_BYTES: Final = 64 * 1024
"""The headers of a copy, with ours, fit in one frame: RabbitMQ closes the connection over 128 KiB."""

_OURS: Final = (
    envelope.REQUEST_ID,
    envelope.TRACE_PARENT,
    envelope.IDEMPOTENCY_KEY,
    envelope.CALLER,
    envelope.EXPIRATION,
    envelope.ATTEMPTS,
    envelope.FIRST_FAILED_AT,
    envelope.SENDER,
)
_ROUTING: Final = {"cc", "bcc"}

UNREADABLE: Final = "x-unreadable-property"
"""Header that is added here; a sender who sets it is refused as well."""

_LAST_SECOND: Final = 2**32 - 1
"""In 2106. pamqp takes later timestamps for milliseconds, other clients take them as they are."""
_UNUSED: Final = {"app_id", "cluster_id"}
_TEXT: Final = "shortstr"
_SIZES: Final = {"octet": (1, 0), "timestamp": (8, 0), _TEXT: (1, 1), "table": (4, 4)}
"""Bytes of a property by its type, and how many of them are the length of what follows."""
_PROPERTIES: Final = [
    (name, Basic.Properties.flags[name], kind, *_SIZES[kind])
    for name in Basic.Properties.__slots__
    for kind in [str(getattr(Basic.Properties, f"_{name}"))]
]
"""Each property: its name, flag, type and bytes."""


def _unmarshal_readable(properties: Basic.Properties, flags: int, data: bytes) -> None:
    """As pamqp's, which reads properties in the order of their names; but it goes on after one that cannot be read."""
    unreadable = None
    for name, flag, kind, size, prefix in _PROPERTIES:
        if not flags & flag:
            continue
        end = size + int.from_bytes(data[:prefix], "big")
        try:
            setattr(properties, name, data[size:end].decode() if kind == _TEXT else _decoded(kind, data[:end]))
        except Exception as error:  # noqa: BLE001 - nothing that a sender writes may close the connection
            if name not in _UNUSED:
                unreadable = unreadable or ("type" if name == "message_type" else name)
            _log.warning("the %s of a message cannot be read (%s)", name, type(error).__name__)
        data = data[end:]
    if unreadable is not None:
        properties.headers = {**(properties.headers or {}), UNREADABLE: unreadable}


def _decoded(kind: str, data: bytes) -> Any:
    if kind == "timestamp" and int.from_bytes(data, "big") > _LAST_SECOND:
        raise ValueError("not in seconds")
    return decode.by_type(data, kind)[1]


def survive_unreadable_properties() -> None:
    """Have pamqp return what it can decode instead of raising, for which it has no setting. Repeating is harmless."""
    Basic.Properties.unmarshal = _unmarshal_readable  # type: ignore[assignment, method-assign]


def carried(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Headers for a copy of a message: ours and the sender's harmless ones, or only ours if all cannot be sent."""
    # A replay has a time of its own, and must not be refused for an unreadable one.
    marked = (*_OURS, UNREADABLE) if headers.get(UNREADABLE) != "timestamp" else _OURS
    headers = {name: value for name, value in headers.items() if name in marked or _is_harmless(name)}
    try:
        if len(encode.field_table(dict(headers))) <= MAX_HEADER_BYTES:
            return dict(headers)
    except Exception as error:  # noqa: BLE001 - the library decodes more than it encodes, and raises many types
        _log.warning("the headers of a message cannot be copied (%s)", type(error).__name__)
    return {name: headers[name] for name in _OURS if _is_small(headers.get(name))}


def _is_harmless(name: str) -> bool:
    """Whether no broker acts on it: RabbitMQ and its plug-ins route by `CC`, `BCC` and headers that begin with `x-`.

    A copy is published with the service's rights, and its sender may have fewer.
    """
    return name.lower() not in _ROUTING and not name.lower().startswith("x-")


def _is_small(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= envelope.MAX_ID_LENGTH
    return isinstance(value, int) and abs(value) < 2**31
