"""Dead letters as text for a terminal."""

from datetime import UTC, datetime, timedelta
from typing import Final

from contracts import envelope
from service.adapters.dead_letters import Letter, one_line

_MAX_HEADERS: Final = 100
_MAX_VALUE_LENGTH: Final = 512


def heading() -> str:
    """The line above the list."""
    return _columns(("age", "queue", "reason", "attempts", "message id", "text"))


def line_of(letter: Letter, now: datetime) -> str:
    """A letter in a line of the list."""
    attempts = "-" if letter.attempts is None else str(letter.attempts)
    age = _age(letter.age(now))
    return _columns((age, letter.command, letter.reason, attempts, letter.name, letter.reason_text))


def _columns(cells: tuple[str, str, str, str, str, str]) -> str:
    return "{:>4}  {:<15}  {:<14}  {:>8}  {:<36}  {}".format(*cells).rstrip()


def page_of(letter: Letter, now: datetime) -> str:
    """Everything about a letter."""
    properties = letter.properties
    rows = {
        "queue": letter.queue,
        "reason": letter.reason,
        "text": letter.headers.get(envelope.REASON_TEXT),
        "attempts": letter.attempts,
        "parked": f"{_at(letter.parked_at)} ({_age(letter.age(now))} ago)",
        "message id": properties.message_id,
        "correlation id": properties.correlation_id,
        "type": properties.message_type,
        "content type": properties.content_type,
        "encoding": properties.content_encoding,
        "sent": properties.timestamp and _at(properties.timestamp),
        "reply to": properties.reply_to,
        "expiration": properties.expiration,
        "sender": letter.headers.get(envelope.SENDER),
        "app, user": " ".join(part for part in (properties.app_id, properties.user_id) if part),
        "body": f"{len(letter.body)} bytes, sha256 {letter.body_sha256}",
    }
    lines = [f"{name:<16}{one_line(value)[:_MAX_VALUE_LENGTH]}" for name, value in rows.items() if value]
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
