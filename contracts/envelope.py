"""AMQP properties and headers around a body.

A command has `message_id`, `correlation_id`, `content_type`, `type` (its routing key) and `timestamp` (whole seconds).
With `reply_to` it is answered by a reply or a fault; `timestamp` + `expiration` is then the caller's deadline.
"""

import re
import secrets
from typing import Final

from contracts.fields import holds_card_number

CONTENT_TYPE: Final = "application/json"
"""With any parameters; a `charset` among them must be UTF-8. `content_encoding` is absent or UTF-8."""
MAX_MESSAGE_BYTES: Final = 64 * 1024
MAX_ID_LENGTH: Final = 255
MAX_HEADERS: Final = 64

REQUEST_ID: Final = "x-request-id"
TRACE_PARENT: Final = "traceparent"
IDEMPOTENCY_KEY: Final = "idempotency-key"
CALLER: Final = "x-caller"
"""The caller on whose behalf a command is sent. Idempotency keys are scoped to it."""

CLOCK_UNKNOWN: Final = "x-clock-unknown"
"""On a command: its `timestamp` is by a clock that was not compared with the service's, so its arrival counts instead.
RabbitMQ has dropped it by then if it waited longer than its `expiration`."""

WAIT_SECONDS: Final = "x-wait-seconds"
"""On a verify with a reply address: how long the sender would wait for a final status. On its reply: it was applied."""
MAX_WAIT_SECONDS: Final = 60

STATUS_SOURCE: Final = "x-payment-status-source"
"""On replies: `gateway` or `local` (see `replies.StatusSource`)."""

ATTENTION: Final = "x-payment-attention"
"""On replies about a payment that a person must look at: why, as in the event `payment.attention`."""

REASON: Final = "x-reason"
"""On dead letters, and on faults for what is wrong with the envelope: see `faults.DeadLetterReason`."""
REASON_TEXT: Final = "x-reason-text"
SENDER: Final = "x-sender"
"""On dead letters: the RabbitMQ user who sent the command, if named. The letter's own `user_id` is the service's."""
EXPIRATION: Final = "x-expiration"
"""On a retried command: its `expiration` in milliseconds. RabbitMQ drops the property when a retry queue returns it."""
FAULT_CODE: Final = "x-fault-code"
ATTEMPTS: Final = "x-attempts"
FIRST_FAILED_AT: Final = "x-first-failed-at"
LAST_FAILED_AT: Final = "x-last-failed-at"

FAULT_TYPE: Final = "fault"
"""The `type` property of a fault; a reply's is the command's type followed by `.reply`."""

DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"
REPLY_QUEUE_PREFIX: Final = "payments.reply."

# Regular expressions that are valid in JSON Schema, too: the documents quote them.
REQUEST_ID_PATTERN: Final = "[!-~]{1,128}"
TRACE_PARENT_PATTERN: Final = "(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
IDEMPOTENCY_KEY_PATTERN: Final = f"[!-~]([ -~]{{0,{MAX_ID_LENGTH - 2}}}[!-~])?"
WAIT_SECONDS_PATTERN: Final = "[0-9]{1,9}"
REPLY_TO_PATTERN: Final = f"({DIRECT_REPLY_TO}|{REPLY_QUEUE_PREFIX})[!-{{}}~]*".replace(".", r"\.")

_UTF_8: Final = {"utf-8", "utf8"}

_REQUEST_ID = re.compile(REQUEST_ID_PATTERN, re.ASCII)
_TRACE_PARENT = re.compile(TRACE_PARENT_PATTERN, re.ASCII)
_IDEMPOTENCY_KEY = re.compile(IDEMPOTENCY_KEY_PATTERN, re.ASCII)
_WAIT_SECONDS = re.compile(WAIT_SECONDS_PATTERN, re.ASCII)
_REPLY_TO = re.compile(REPLY_TO_PATTERN, re.ASCII)


def is_json(content_type: object) -> bool:
    """Whether a body of this type is read."""
    kind, *parameters = [part.strip().lower() for part in str(content_type).split(";")]
    named = {name.rstrip(): value.strip(' "') for name, _, value in (each.partition("=") for each in parameters)}
    return kind == CONTENT_TYPE and named.get("charset", "utf-8") in _UTF_8


def is_uncompressed(content_encoding: object) -> bool:
    """Whether a body in this encoding is read: several clients write the name of the charset there."""
    return not content_encoding or str(content_encoding).strip().lower() in {*_UTF_8, "identity"}


def reply_type(command_type: str) -> str:
    """The `type` property of the reply to a command."""
    return f"{command_type}.reply"


def is_request_id(value: object) -> bool:
    """A token that looks like no e-mail address and no card number: request ids are logged everywhere."""
    return is_token(value) and "@" not in str(value) and not holds_card_number(str(value))


def is_token(value: object) -> bool:
    """Printable ASCII without blanks, at most 128 characters: safe in a log line and in a header."""
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None


def is_trace_parent(value: object) -> bool:
    """W3C Trace Context in the form of version 00; ids of zeros and version ff are invalid."""
    return isinstance(value, str) and _TRACE_PARENT.fullmatch(value) is not None


def new_trace_parent() -> str:
    """A new trace, for a request that came without one. Flags 00: no span was recorded."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def trace_ids(trace_parent: str) -> dict[str, str]:
    """The two ids of a trace parent, as fields of log lines."""
    _, trace_id, span_id, _ = trace_parent.split("-")
    return {"trace_id": trace_id, "span_id": span_id}


def is_idempotency_key(value: object) -> bool:
    """1 to 255 printable ASCII characters (Stripe's own limit), without blanks at its ends, which HTTP would drop."""
    return isinstance(value, str) and _IDEMPOTENCY_KEY.fullmatch(value) is not None


def wait_seconds(value: object) -> int:
    """How long the sender would wait, `MAX_WAIT_SECONDS` at most; an invalid value means 0, as it is only a wish."""
    text = str(value) if isinstance(value, str | int) else ""
    return min(int(text), MAX_WAIT_SECONDS) if _WAIT_SECONDS.fullmatch(text) else 0


def is_reply_to(value: object) -> bool:
    """Only a direct reply-to address or a queue named `payments.reply...` may be answered.

    Anything else would let a sender use the service's rights to write into other queues.
    """
    return isinstance(value, str) and len(value) <= MAX_ID_LENGTH and _REPLY_TO.fullmatch(value) is not None
