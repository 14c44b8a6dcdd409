"""AMQP properties and headers around a body.

A command has `message_id`, `correlation_id`, `content_type`, `type` (its routing key) and `timestamp` (whole seconds).
With `reply_to` it is answered by a reply or a fault; `timestamp` + `expiration` is then the caller's deadline.
"""

import re
import secrets
from typing import Final

from contracts.cards import holds_card_number

CONTENT_TYPE: Final = "application/json"
MAX_MESSAGE_BYTES: Final = 64 * 1024
MAX_ID_LENGTH: Final = 255
MAX_HEADERS: Final = 64

REQUEST_ID: Final = "x-request-id"
TRACE_PARENT: Final = "traceparent"
IDEMPOTENCY_KEY: Final = "idempotency-key"
CALLER: Final = "x-caller"
"""On whose behalf a command is sent. Idempotency keys are scoped to it."""

WAIT_SECONDS: Final = "x-wait-seconds"
"""On a verify with a reply address: how long its sender would wait for a final status. On its reply: it was heeded."""
MAX_WAIT_SECONDS: Final = 60

STATUS_SOURCE: Final = "x-payment-status-source"
"""On replies: `gateway` or `local` (see `replies.StatusSource`)."""

REASON: Final = "x-reason"
"""On dead letters: see `faults.DeadLetterReason`."""
REASON_TEXT: Final = "x-reason-text"
SENDER: Final = "x-sender"
"""On dead letters: the RabbitMQ user who sent the command, if it said so. A copy's own `user_id` is the service's."""
FAULT_CODE: Final = "x-fault-code"
ATTEMPTS: Final = "x-attempts"
FIRST_FAILED_AT: Final = "x-first-failed-at"
LAST_FAILED_AT: Final = "x-last-failed-at"

FAULT_TYPE: Final = "fault"
"""`type` property of a fault; a reply's is the command's type with `.reply` behind it."""

DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"
REPLY_QUEUE_PREFIX: Final = "payments.reply."

# As regular expressions that JSON Schema has, too: the documents quote them.
REQUEST_ID_PATTERN: Final = "[!-~]{1,128}"
TRACE_PARENT_PATTERN: Final = "(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
IDEMPOTENCY_KEY_PATTERN: Final = f"[!-~]([ -~]{{0,{MAX_ID_LENGTH - 2}}}[!-~])?"
WAIT_SECONDS_PATTERN: Final = "[0-9]{1,9}"
REPLY_TO_PATTERN: Final = f"({DIRECT_REPLY_TO}|{REPLY_QUEUE_PREFIX})[!-{{}}~]*".replace(".", r"\.")

_REQUEST_ID = re.compile(REQUEST_ID_PATTERN, re.ASCII)
_TRACE_PARENT = re.compile(TRACE_PARENT_PATTERN, re.ASCII)
_IDEMPOTENCY_KEY = re.compile(IDEMPOTENCY_KEY_PATTERN, re.ASCII)
_WAIT_SECONDS = re.compile(WAIT_SECONDS_PATTERN, re.ASCII)
_REPLY_TO = re.compile(REPLY_TO_PATTERN, re.ASCII)


def reply_type(command_type: str) -> str:
    """The `type` property of the reply to a command."""
    return f"{command_type}.reply"


def is_request_id(value: object) -> bool:
    """Printable ASCII without blanks, at most 128 characters: safe in a log line and in a header.

    Request ids are logged everywhere, so what could be an e-mail address or a card number is none.
    """
    return is_token(value) and "@" not in str(value) and not holds_card_number(str(value))


def is_token(value: object) -> bool:
    """Printable ASCII without blanks, at most 128 characters."""
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None


def is_trace_parent(value: object) -> bool:
    """W3C Trace Context, version 00's form; ids of zeros and version ff mean none."""
    return isinstance(value, str) and _TRACE_PARENT.fullmatch(value) is not None


def new_trace_parent() -> str:
    """The beginning of a trace, for what came without one. Flags 00: nobody has recorded a span."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def trace_ids(trace_parent: str) -> dict[str, str]:
    """The two ids of a trace parent, as fields of log lines."""
    _, trace_id, span_id, _ = trace_parent.split("-")
    return {"trace_id": trace_id, "span_id": span_id}


def is_idempotency_key(value: object) -> bool:
    """1 to 255 printable ASCII characters (Stripe's own limit), without blanks at its ends: HTTP would lose them."""
    return isinstance(value, str) and _IDEMPOTENCY_KEY.fullmatch(value) is not None


def wait_seconds(value: object) -> int:
    """How long the sender would wait, in seconds up to `MAX_WAIT_SECONDS`, which is also what more counts as.

    It is a wish: 0, which is none, for whatever else stands there.
    """
    text = str(value) if isinstance(value, str | int) else ""
    return min(int(text), MAX_WAIT_SECONDS) if _WAIT_SECONDS.fullmatch(text) else 0


def is_reply_to(value: object) -> bool:
    """Only a direct reply-to address or a queue named `payments.reply...` may be answered.

    Anything else would let a sender use the service's rights to write into other queues.
    """
    return isinstance(value, str) and len(value) <= MAX_ID_LENGTH and _REPLY_TO.fullmatch(value) is not None
