"""The AMQP properties and headers of each message type, as the schema that AsyncAPI calls headers."""

from typing import Any, Final

from contracts import envelope, events
from contracts.commands import CommandType
from contracts.events import EventKey
from contracts.faults import DeadLetterReason, FaultCode
from contracts.replies import StatusSource

Schema = dict[str, Any]

_ID: Final = {"type": "string", "minLength": 1, "maxLength": envelope.MAX_ID_LENGTH}
_TIME: Final = {"type": "string", "format": "date-time"}
_OPEN: Final = {"x-extensible": True}
"""Marks an enumeration of what we send: later versions may add values, and a receiver must expect them."""


def _property(description: str, **schema: Any) -> Schema:
    return {"description": f"AMQP property. {description}".strip(), **schema}


def _header(description: str, **schema: Any) -> Schema:
    return {"description": f"AMQP header. {description}".strip(), **schema}


def _pattern(pattern: str) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$"}


def _schema(members: dict[str, Schema], *required: str) -> Schema:
    return {"type": "object", "required": list(required), "properties": members}


_CORRELATION_ID: Final = _property("The command's, by which its sender finds the answer.", **_ID)
_TIMESTAMP: Final = _property("Whole unix seconds.", type="integer")
_REQUEST_ID: Final = _header("Connects logs, commands, answers and events.", **_pattern(envelope.REQUEST_ID_PATTERN))
_SENDER: Final = _header(
    "The RabbitMQ user who sent the command; `user_id` is that of the service, who copied it.", **_ID
)
_FROM_US: Final = _property("The service's own RabbitMQ user, for which RabbitMQ vouches.", **_ID)
_TRACE_PARENT: Final = _header("W3C Trace Context.", **_pattern(envelope.TRACE_PARENT_PATTERN))


def command(kind: CommandType) -> Schema:
    """Properties and headers of a command."""
    members = {
        "message_id": _property(
            "New for each command, the same when it is sent again. Of a create it is a key for 30 days.", **_ID
        ),
        "correlation_id": _property("Comes back with the answer.", **_ID),
        "content_type": _property("", const=envelope.CONTENT_TYPE),
        "type": _property("Also the routing key.", const=kind.value),
        "timestamp": _property(
            "When it was sent, whole unix seconds. One in the future counts as now.", type="integer"
        ),
        "expiration": _property(
            "Milliseconds from `timestamp` on that the sender waits; RabbitMQ itself drops what waits longer.",
            **_pattern("[0-9]+"),
        ),
        "reply_to": _property(
            "Where the answer goes; without it nobody waits.",
            maxLength=envelope.MAX_ID_LENGTH,
            **_pattern(envelope.REPLY_TO_PATTERN),
        ),
        "delivery_mode": _property("2, persistent, for what must survive a restart of RabbitMQ.", enum=[1, 2]),
        "user_id": _property("The sender's own RabbitMQ user: RabbitMQ refuses another's.", **_ID),
        envelope.REQUEST_ID: _REQUEST_ID,
        envelope.TRACE_PARENT: _TRACE_PARENT,
        envelope.CALLER: _header("On whose behalf it is sent.", **_pattern(envelope.REQUEST_ID_PATTERN)),
        envelope.CLOCK_UNKNOWN: _header(
            "`timestamp` is by a clock that was never compared with the service's (with the `timestamp` of its "
            "answers): the sender's time begins when the command arrives.",
            const="true",
        ),
    }
    if kind is CommandType.CREATE_CHECKOUT:
        members[envelope.IDEMPOTENCY_KEY] = _header(
            "Makes repeating safe for 30 days, also under another message id; scoped to `x-caller`.",
            **_pattern(envelope.IDEMPOTENCY_KEY_PATTERN),
        )
    if kind is CommandType.VERIFY_CHECKOUT:
        members[envelope.WAIT_SECONDS] = _header(
            "With `reply_to`: answer as soon as the payment is final, after so many seconds (or 3 s before the "
            f"sender's deadline) with the last known status. More than {envelope.MAX_WAIT_SECONDS} counts as "
            f"{envelope.MAX_WAIT_SECONDS}; a number will do, too; what is none is passed over.",
            **_pattern(envelope.WAIT_SECONDS_PATTERN),
        )
    return _schema(members, "message_id", "correlation_id", "content_type", "type", "timestamp")


def reply(kind: CommandType) -> Schema:
    """Properties and headers of the reply to a command."""
    members = _answer(envelope.reply_type(kind)) | {envelope.REQUEST_ID: _REQUEST_ID}
    required = [*_ANSWERED, envelope.REQUEST_ID]
    if kind is not CommandType.CREATE_CHECKOUT:
        members[envelope.ATTENTION] = _header(
            "Why a person must look at the payment, as `data.reason` of `payment.attention`. Absent if none must."
        )
    if kind is CommandType.VERIFY_CHECKOUT:
        members[envelope.STATUS_SOURCE] = _header(
            "`local`: Stripe could not be asked, and this is the last known status.",
            enum=[source.value for source in StatusSource],
        )
        required.append(envelope.STATUS_SOURCE)
        members[envelope.WAIT_SECONDS] = _header(
            "The command's wish to wait was heeded, and for how long at most.",
            **_pattern(envelope.WAIT_SECONDS_PATTERN),
        )
    return _schema(members, *required)


def fault() -> Schema:
    """Properties and headers of a fault."""
    request_id = _REQUEST_ID | {"description": f"{_REQUEST_ID['description']} Absent if the command was not readable."}
    reason = _header("What is wrong with properties or headers, which is no fault of the body's author.", type="string")
    members = {envelope.REQUEST_ID: request_id, envelope.REASON: reason}
    return _schema(_answer(envelope.FAULT_TYPE) | members, *_ANSWERED)


_ANSWERED: Final = ("correlation_id", "content_type", "type", "timestamp")


def _answer(message_type: str) -> dict[str, Schema]:
    return {
        "message_id": _property("The answer's own.", **_ID),
        "correlation_id": _CORRELATION_ID,
        "content_type": _property("", const=envelope.CONTENT_TYPE),
        "type": _property("", const=message_type),
        "timestamp": _TIMESTAMP,
        "delivery_mode": _property("Not persistent.", const=1),
        "user_id": _FROM_US,
    }


def event(key: EventKey) -> Schema:
    """Properties and headers of an event, outside its CloudEvent."""
    members = {
        "message_id": _property("The event's `id`.", **_ID),
        "correlation_id": _property("The request id of what caused the event.", **_ID),
        "content_type": _property("", const=events.CONTENT_TYPE),
        "type": _property("The event's `type`.", const=key.event_type),
        "timestamp": _TIMESTAMP,
        "delivery_mode": _property("Persistent.", const=2),
        "user_id": _FROM_US,
        envelope.REQUEST_ID: _REQUEST_ID,
        envelope.TRACE_PARENT: _TRACE_PARENT,
    }
    return _schema(members, *(name for name in members if name not in {"user_id", envelope.TRACE_PARENT}))


def retried(kind: CommandType) -> Schema:
    """Properties and headers of a fire-and-forget command that waits for a retry."""
    schema = command(kind)
    members = {name: member for name, member in schema["properties"].items() if name not in {"reply_to", "expiration"}}
    failures = _failures()
    expiration = _header("The command's `expiration`, which RabbitMQ takes away.", type="integer", minimum=0)
    own = {envelope.SENDER: _SENDER, envelope.EXPIRATION: expiration}
    return _schema(members | own | failures, *schema["required"], *failures)


def dead_letter() -> Schema:
    """What a dead letter carries beside the properties and headers of the command, which may be anything."""
    members = {
        envelope.REASON: _header(
            _reasons(), type="string", enum=[reason.value for reason in DeadLetterReason], **_OPEN
        ),
        envelope.REASON_TEXT: _header("What exactly was wrong.", type="string"),
        envelope.SENDER: _SENDER,
        **_failures(),
        "x-death": _header("RabbitMQ's own note, of what RabbitMQ dead-lettered itself.", type="array"),
    }
    return _schema(members)


def _failures() -> dict[str, Schema]:
    return {
        envelope.FAULT_CODE: _header(
            "Of the last failure.", type="string", enum=[code.value for code in FaultCode], **_OPEN
        ),
        envelope.ATTEMPTS: _header("How often it failed.", type="integer", minimum=1),
        envelope.FIRST_FAILED_AT: _header("", **_TIME),
        envelope.LAST_FAILED_AT: _header("", **_TIME),
    }


_REASONS: Final = {
    "invalid": "the body or the envelope cannot be understood",
    "unknown-type": "the type is none of this queue's",
    "misrouted": "another queue's command, which a wrong binding brought; no fault is sent for it",
    "too-large": f"over {envelope.MAX_MESSAGE_BYTES // 1024} KiB, dead-lettered unread",
    "id-conflict": "the message id was used before with another body",
    "unauthorized": "its sender is none of those whose commands the service executes",
    "expired": "the sender's deadline had passed",
    "refused": "it can never succeed, `x-fault-code` says why",
    "exhausted": "it failed for passing reasons as often as is allowed",
}


def _reasons() -> str:
    reasons = "; ".join(f"`{reason.value}`: {_REASONS[reason.value]}" for reason in DeadLetterReason)
    return f"Why it is here. {reasons}."
