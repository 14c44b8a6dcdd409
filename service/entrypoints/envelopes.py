"""Reading the envelope of a delivery: what a command must carry, and when its sender stops waiting."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from aio_pika import IncomingMessage

from contracts import envelope
from contracts.cards import holds_card_number
from contracts.commands import CommandType
from contracts.faults import DeadLetterReason
from service.application.ports import CommandContext

DEFAULT_DEADLINE: Final = timedelta(seconds=30)
"""Of a command with a reply address whose sender does not say how long it waits."""

ANSWER_MARGIN: Final = timedelta(seconds=3.5)
"""So long before its sender's deadline a held answer leaves at the latest: the deadline counts one second that the
sender may not have, and when thousands are answered at once the last of them is not on its way at once."""

_MAX_CLOCK_SKEW: Final = timedelta(minutes=5)
_TIMESTAMP_RESOLUTION: Final = timedelta(seconds=1)
"""AMQP timestamps are whole seconds: the sender's clock stood anywhere within that second."""


class RejectedCommandError(Exception):
    """The command cannot be understood, or must not be executed any more; it is parked with this reason."""

    def __init__(self, reason: DeadLetterReason, text: str) -> None:
        self.reason = reason
        self.text = text
        super().__init__(text)


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """`reply_to` is None if nobody waits; `attempts` counts earlier failures of a fire-and-forget command.

    `wait_seconds`: how long the sender of a verify would wait for a final status, which is until `wait_until`; 0: not.
    """

    context: CommandContext
    reply_to: str | None
    attempts: int
    first_failed_at: str | None
    wait_seconds: int
    wait_until: datetime


def read(message: IncomingMessage, *, expected: CommandType, now: datetime, senders: frozenset[str] | None) -> Envelope:
    """The envelope of a delivery. `senders`: RabbitMQ users whose commands are executed; None: anybody's who may write.

    Raises:
        RejectedCommandError: too large, of an unknown sender, a property missing or wrong, an unknown type, or past
            its deadline.
    """
    if len(message.body) > envelope.MAX_MESSAGE_BYTES:
        raise RejectedCommandError(DeadLetterReason.TOO_LARGE, f"over {envelope.MAX_MESSAGE_BYTES} bytes")
    if senders is not None and message.user_id not in senders:  # RabbitMQ lets nobody name another user than itself
        raise RejectedCommandError(DeadLetterReason.UNAUTHORIZED, "user_id is required, as one of COMMAND_USERS")
    if message.type != expected.value:
        raise RejectedCommandError(DeadLetterReason.UNKNOWN_TYPE, f"type must be {expected.value}")
    message_id = _identifier(message.message_id, "message_id")
    _identifier(message.correlation_id, "correlation_id")
    if message.content_type != envelope.CONTENT_TYPE or message.content_encoding:
        raise _invalid(f"content_type must be {envelope.CONTENT_TYPE}, without an encoding")
    if message.reply_to is not None and not envelope.is_reply_to(message.reply_to):
        raise _invalid(f"reply_to must be a direct reply-to address or begin with {envelope.REPLY_QUEUE_PREFIX}")
    headers = message.headers
    if len(headers) > envelope.MAX_HEADERS:
        raise _invalid(f"more than {envelope.MAX_HEADERS} headers")
    request_id, trace_parent = headers.get(envelope.REQUEST_ID), headers.get(envelope.TRACE_PARENT)
    context = CommandContext(
        message_id=message_id,
        request_id=str(request_id) if envelope.is_request_id(request_id) else f"generated-{uuid4()}",
        caller=_caller(headers),
        idempotency_key=_idempotency_key(headers),
        trace_parent=str(trace_parent) if envelope.is_trace_parent(trace_parent) else None,
        deadline=_deadline(message, now=now),
    )
    waits = expected is CommandType.VERIFY_CHECKOUT and message.reply_to is not None
    wait_seconds = envelope.wait_seconds(headers.get(envelope.WAIT_SECONDS)) if waits else 0
    wait_until = now + timedelta(seconds=wait_seconds)
    return Envelope(
        context=context,
        reply_to=message.reply_to,
        attempts=_count(headers.get(envelope.ATTEMPTS)),
        first_failed_at=_text(headers.get(envelope.FIRST_FAILED_AT)),
        wait_seconds=wait_seconds,
        wait_until=min(wait_until, context.deadline - ANSWER_MARGIN) if context.deadline else wait_until,
    )


def usable_reply_to(message: IncomingMessage) -> str | None:
    """Where a fault can be sent even if the rest of the envelope is wrong."""
    usable = envelope.is_reply_to(message.reply_to) and message.correlation_id
    return message.reply_to if usable else None


def _deadline(message: IncomingMessage, *, now: datetime) -> datetime | None:
    timestamp = message.timestamp
    if not isinstance(timestamp, datetime):
        raise _invalid("timestamp is required")
    sent_at = timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
    if sent_at > now + _MAX_CLOCK_SKEW:
        raise _invalid("timestamp lies in the future")
    if isinstance(message.expiration, int | float):  # aio-pika reads it into seconds
        patience = timedelta(seconds=message.expiration) + _TIMESTAMP_RESOLUTION
    elif message.reply_to is not None:
        patience = DEFAULT_DEADLINE
    else:
        return None
    deadline = sent_at + patience
    if deadline <= now:
        raise RejectedCommandError(DeadLetterReason.EXPIRED, "the sender's deadline has passed")
    return deadline


def _identifier(value: Any, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= envelope.MAX_ID_LENGTH or not value.isprintable():
        raise _invalid(f"{name} is required, as 1 to {envelope.MAX_ID_LENGTH} printable characters")
    return _without_card_number(value, name)


def _without_card_number(value: str, name: str) -> str:
    if holds_card_number(value):
        raise _invalid(f"{name} must not hold a card number")
    return value


def _caller(headers: Mapping[str, Any]) -> str:
    value = headers.get(envelope.CALLER, "")
    if value != "" and not envelope.is_token(value):
        raise _invalid(f"{envelope.CALLER} must be printable ASCII without blanks")
    caller = str(value)
    # The bridge sends a user's id, and one in ten long ids could be a card's.
    return caller if caller.isdigit() else _without_card_number(caller, envelope.CALLER)


def _idempotency_key(headers: Mapping[str, Any]) -> str | None:
    value = headers.get(envelope.IDEMPOTENCY_KEY)
    if value is not None and not envelope.is_idempotency_key(value):
        raise _invalid(f"{envelope.IDEMPOTENCY_KEY} must be 1 to {envelope.MAX_ID_LENGTH} printable ASCII characters")
    return None if value is None else _without_card_number(str(value), envelope.IDEMPOTENCY_KEY)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _invalid(text: str) -> RejectedCommandError:
    return RejectedCommandError(DeadLetterReason.INVALID, text)
