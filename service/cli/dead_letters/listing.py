"""Dead letters as text for a terminal, and as JSON for programs."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from contracts import envelope
from runtime.dead_letters.letter import Letter, one_line

_MAX_HEADERS: Final = 100
_MAX_VALUE_LENGTH: Final = 512


def heading() -> str:
    """The line above the list."""
    return _columns(("age", "queue", "reason", "attempts", "sender", "message id", "text"))


def line_of(letter: Letter, now: datetime) -> str:
    """A letter in a line of the list."""
    attempts = "-" if letter.attempts is None else str(letter.attempts)
    age = _age(letter.age(now))
    sender = letter.sender or "-"
    return _columns((age, letter.command, letter.reason, attempts, sender, letter.name, letter.reason_text))


def _columns(cells: tuple[str, ...]) -> str:
    return "{:>4}  {:<15}  {:<14}  {:>8}  {:<15}  {:<36}  {}".format(*cells).rstrip()


def described(letter: Letter) -> dict[str, Any]:
    """A letter as a JSON object."""
    return {
        "queue": letter.queue,
        "command": letter.command.value,
        "messageId": letter.message_id,
        "reason": letter.reason,
        "text": letter.reason_text,
        "attempts": letter.attempts,
        "sender": letter.sender,
        "sentAt": _iso(letter.properties.timestamp),
        "deadLetteredAt": _iso(letter.dead_since),
    }


def fully_described(letter: Letter) -> dict[str, Any]:
    """The same with headers and body, as a terminal would show them."""
    headers = {one_line(name): _plain(value) for name, value in letter.headers.items()}
    return {**described(letter), "headers": headers, "body": letter.shown_body(), "bodySha256": letter.body_sha256}


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | None) else one_line(value)[:_MAX_VALUE_LENGTH]


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else _at(moment)


def page_of(letter: Letter, now: datetime) -> str:
    """Everything about a letter."""
    properties = letter.properties
    rows = {
        "queue": letter.queue,
        "reason": letter.reason,
        "text": letter.headers.get(envelope.REASON_TEXT),
        "attempts": letter.attempts,
        "dead since": f"{_at(letter.dead_since)} ({_age(letter.age(now))} ago)",
        "message id": properties.message_id,
        "correlation id": properties.correlation_id,
        "type": properties.message_type,
        "content type": properties.content_type,
        "encoding": properties.content_encoding,
        "sent": properties.timestamp and _at(properties.timestamp),
        "reply to": properties.reply_to,
        "expiration": properties.expiration,
        "sender": letter.sender,
        "dead-lettered by": properties.user_id if envelope.REASON in letter.headers else "RabbitMQ",
        "app": properties.app_id,
        "body": f"{len(letter.body)} bytes, sha256 {letter.body_sha256}",
    }
    lines = [f"{name:<18}{one_line(value)[:_MAX_VALUE_LENGTH]}" for name, value in rows.items() if value]
    lines.append("headers")
    headers = sorted(letter.headers.items())
    lines.extend(f"  {one_line(name)}: {one_line(value)[:_MAX_VALUE_LENGTH]}" for name, value in headers[:_MAX_HEADERS])
    if len(headers) > _MAX_HEADERS:
        lines.append(f"  ... and {len(headers) - _MAX_HEADERS} more")
    return "\n".join([*lines, "", letter.shown_body(), ""])


def _at(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else "not known"


def _age(age: timedelta | None) -> str:
    if age is None:
        return "?"
    seconds = int(age.total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
