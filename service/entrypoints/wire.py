"""Messages whose properties the client library cannot read, and headers that it could not write again.

RabbitMQ checks neither the text nor the times in a message's properties. pamqp raises on what is no UTF-8 and on a
timestamp of no year (a sender that counts in microseconds is enough), and that ends the connection. The message comes
again on the next one, and again, until the delivery limit parks it, together with every innocent command that was
under way beside it. So such a message must arrive: it lacks the property that could not be read and those behind it.
Its `type` comes nearly last on the wire, so that it is parked as of an unknown type.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from pamqp import encode
from pamqp.commands import Basic

from contracts import envelope

_log = logging.getLogger(__name__)

MAX_HEADER_BYTES: Final = 64 * 1024
"""Of the headers of a copy. They travel in one frame, with what we add: RabbitMQ ends the connection over 128 KiB."""

_OURS: Final = (
    envelope.REQUEST_ID,
    envelope.TRACE_PARENT,
    envelope.IDEMPOTENCY_KEY,
    envelope.CALLER,
    envelope.ATTEMPTS,
    envelope.FIRST_FAILED_AT,
    envelope.SENDER,
)

_read_properties: Final = Basic.Properties.unmarshal


def _read_what_can_be_read(properties: Basic.Properties, flags: int, data: bytes) -> None:
    try:
        _read_properties(properties, flags, data)
    except Exception as error:  # noqa: BLE001 - whatever a sender wrote must not end the connection
        _log.warning("the properties of a message cannot be read (%s)", type(error).__name__)


def survive_unreadable_properties() -> None:
    """Have pamqp hand over what it can read instead of raising. It has no setting for that. Repeating is harmless."""
    Basic.Properties.unmarshal = _read_what_can_be_read  # type: ignore[assignment, method-assign]


def carried(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Headers for a copy of a message: all of them, or only those that mean something to us if they cannot be sent."""
    try:
        if len(encode.field_table(dict(headers))) <= MAX_HEADER_BYTES:
            return dict(headers)
    except Exception as error:  # noqa: BLE001 - the library reads more than it writes, and says so in many ways
        _log.warning("the headers of a message cannot be copied (%s)", type(error).__name__)
    return {name: headers[name] for name in _OURS if _is_small(headers.get(name))}


def _is_small(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= envelope.MAX_ID_LENGTH
    return isinstance(value, int) and abs(value) < 2**31
