"""Parses the envelope of a delivery: what a command must have, and when its sender stops waiting."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from aio_pika import IncomingMessage

from contracts import envelope
from contracts.commands import CommandType
from contracts.faults import DeadLetterReason
from contracts.fields import holds_card_number
from runtime import amqp_compat, tracing
from service.application.ports import CommandContext

DEFAULT_DEADLINE: Final = timedelta(seconds=30)
"""For a command with a reply address and no expiration."""

ANSWER_MARGIN: Final = timedelta(seconds=3.5)
"""How long before the sender's deadline a pending reply is sent at the latest: the deadline includes one second that
the sender may not have, and thousands of replies are not published at once."""

UNTOLD: Final = (DeadLetterReason.EXPIRED, DeadLetterReason.MISROUTED)
"""Reasons for which no fault is sent: nobody waits for one."""

_MAX_EXPIRATION_MS: Final = 2**32 - 1
"""RabbitMQ's own bound, some 50 days."""
_COMMANDS: Final = {command.value for command in CommandType}
_TIMESTAMP_RESOLUTION: Final = timedelta(seconds=1)
"""AMQP timestamps are whole seconds: the sender's clock was anywhere within that second."""
_TEXTS: Final = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "type",
    "user_id",
)
_UNREADABLE: Final = {
    "timestamp": "timestamp must be in whole seconds since 1970, and not in milliseconds or microseconds",
    "headers": "the headers cannot be read: all text in them must be UTF-8, and all times before the year 10000",
    **{name: f"{name} must be UTF-8" for name in _TEXTS},
}


class RejectedCommandError(Exception):
    """The command is invalid, or must not be executed any more; it is dead-lettered with this reason."""

    def __init__(self, reason: DeadLetterReason, text: str) -> None:
        self.reason = reason
        self.text = text
        super().__init__(text)


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """`reply_to` is None if nobody waits; `attempts` counts earlier failures of a fire-and-forget command.

    `wait_seconds`: how long the sender of a verify waits for a final status, until `wait_until`; 0 if it does not.
    """

    context: CommandContext
    reply_to: str | None
    attempts: int
    first_failed_at: str | None
    wait_seconds: int
    wait_until: datetime


def parse(
    message: IncomingMessage, *, expected: CommandType, now: datetime, senders: frozenset[str] | None
) -> Envelope:
    """The envelope of a delivery. `senders`: RabbitMQ users whose commands are executed; None: all users'.

    Raises:
        RejectedCommandError: too large, of an unknown sender, a property missing or wrong, an unknown type, or past
            its deadline.
    """
    if len(message.body) > envelope.MAX_MESSAGE_BYTES:
        raise RejectedCommandError(DeadLetterReason.TOO_LARGE, f"over {envelope.MAX_MESSAGE_BYTES} bytes")
    if senders is not None and message.user_id not in senders:  # RabbitMQ refuses any user_id but the connection's own
        raise RejectedCommandError(DeadLetterReason.UNAUTHORIZED, "user_id is required, as one of COMMAND_USERS")
    if amqp_compat.UNREADABLE in message.headers:
        raise _invalid(_UNREADABLE.get(str(message.headers[amqp_compat.UNREADABLE]), "a property cannot be read"))
    if message.type != expected.value and message.type == message.routing_key in _COMMANDS:
        raise RejectedCommandError(DeadLetterReason.MISROUTED, f"the queue of {expected} must not be bound to it")
    if message.type != expected.value:
        raise RejectedCommandError(DeadLetterReason.UNKNOWN_TYPE, f"type must be {expected.value}")
    message_id = _identifier(message.message_id, "message_id")
    _identifier(message.correlation_id, "correlation_id")
    if not envelope.is_json(message.content_type):
        raise _invalid(f"content_type must be {envelope.CONTENT_TYPE}, in UTF-8")
    if not envelope.is_uncompressed(message.content_encoding):
        raise _invalid("content_encoding must be absent or UTF-8: a compressed body is not read")
    if message.reply_to is not None and not envelope.is_reply_to(message.reply_to):
        raise _invalid(f"reply_to must be a direct reply-to address or begin with {envelope.REPLY_QUEUE_PREFIX}")
    sent_at = _sent_at(message, now=now)
    headers = message.headers
    if len(headers) > envelope.MAX_HEADERS:
        raise _invalid(f"more than {envelope.MAX_HEADERS} headers")
    request_id, trace_parent = headers.get(envelope.REQUEST_ID), headers.get(envelope.TRACE_PARENT)
    context = CommandContext(
        message_id=message_id,
        request_id=str(request_id) if envelope.is_request_id(request_id) else f"generated-{uuid4()}",
        caller=_caller(headers),
        idempotency_key=_idempotency_key(headers),
        trace_parent=tracing.current().trace_parent
        or (str(trace_parent) if envelope.is_trace_parent(trace_parent) else None),
        deadline=_deadline(message, sent_at=sent_at, now=now),
        sent_at=sent_at,
    )
    waits = expected is CommandType.VERIFY_CHECKOUT and message.reply_to is not None
    wait_seconds = envelope.wait_seconds(headers.get(envelope.WAIT_SECONDS)) if waits else 0
    wait_until = now + timedelta(seconds=wait_seconds)
    attempts, first_failed_at = headers.get(envelope.ATTEMPTS), headers.get(envelope.FIRST_FAILED_AT)
    return Envelope(
        context=context,
        reply_to=message.reply_to,
        attempts=attempts if isinstance(attempts, int) and attempts > 0 else 0,
        first_failed_at=first_failed_at if isinstance(first_failed_at, str) else None,
        wait_seconds=wait_seconds,
        wait_until=min(wait_until, context.deadline - ANSWER_MARGIN) if context.deadline else wait_until,
    )


def has_usable_reply_to(message: IncomingMessage) -> bool:
    """Whether a fault can be sent although the rest of the envelope is invalid."""
    return envelope.is_reply_to(message.reply_to)


def expiration_seconds(message: IncomingMessage) -> float | None:
    """How long its sender said that the command may be executed, also of a command that was retried."""
    if isinstance(message.expiration, int | float):  # aio-pika converts it to seconds
        return message.expiration
    kept = message.headers.get(envelope.EXPIRATION)
    return kept / 1000 if isinstance(kept, int) and 0 <= kept <= _MAX_EXPIRATION_MS else None


def _sent_at(message: IncomingMessage, *, now: datetime) -> datetime:
    """When it was first sent: our own copies keep the sender's timestamp, and so does a dead letter sent again."""
    timestamp = message.timestamp
    if not isinstance(timestamp, datetime):
        raise _invalid("timestamp is required")
    sent_at = timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
    # A sender whose clock is ahead has not sent it later than it came.
    return now if envelope.CLOCK_UNKNOWN in message.headers else min(sent_at, now)


def _deadline(message: IncomingMessage, *, sent_at: datetime, now: datetime) -> datetime | None:
    if (seconds := expiration_seconds(message)) is not None:
        patience = timedelta(seconds=seconds) + _TIMESTAMP_RESOLUTION
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
    # The bridge sends a user id, and one in ten long numbers passes for a card number.
    return caller if caller.isdigit() else _without_card_number(caller, envelope.CALLER)


def _idempotency_key(headers: Mapping[str, Any]) -> str | None:
    value = headers.get(envelope.IDEMPOTENCY_KEY)
    if value is not None and not envelope.is_idempotency_key(value):
        raise _invalid(f"{envelope.IDEMPOTENCY_KEY} must be 1 to {envelope.MAX_ID_LENGTH} printable ASCII characters")
    return None if value is None else _without_card_number(str(value), envelope.IDEMPOTENCY_KEY)


def _invalid(text: str) -> RejectedCommandError:
    return RejectedCommandError(DeadLetterReason.INVALID, text)
