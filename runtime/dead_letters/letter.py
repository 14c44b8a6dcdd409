"""A dead letter as an operator sees it. No member of it is trusted, and none reaches a terminal unescaped."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from pamqp.commands import Basic

from contracts import body as bodies
from contracts import envelope, topology
from contracts.commands import CommandType

MAX_SHOWN_BYTES: Final = 4096
MAX_LINE_LENGTH: Final = 512

_OURS: Final = frozenset(
    {
        envelope.REASON,
        envelope.REASON_TEXT,
        envelope.FAULT_CODE,
        envelope.ATTEMPTS,
        envelope.FIRST_FAILED_AT,
        envelope.LAST_FAILED_AT,
        envelope.SENDER,
        envelope.EXPIRATION,
    }
)
_BROKERS: Final = frozenset({"x-death", "x-delivery-count", "x-acquired-count"})
_BROKERS_PREFIXES: Final = ("x-first-death-", "x-last-death-")
_ROUTING: Final = frozenset({"CC", "BCC"})
"""RabbitMQ would send copies to the queues named in these."""


def escaped(text: str, *, keep: str = "") -> str:
    """The text with every unprintable character (control, bidirectional, line separators) as a backslash escape."""
    return "".join(
        character if character.isprintable() or character in keep else character.encode("unicode_escape").decode()
        for character in text
    )


def one_line(value: object) -> str:
    """A value of any type for one line of a terminal. Two different texts never look the same."""
    if isinstance(value, bytes | bytearray):
        value = bytes(value).decode("utf-8", "backslashreplace")
    text = value.replace("\\", "\\\\") if isinstance(value, str) else repr(value)
    return escaped(text)


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A message of a dead-letter queue. `number` counts the letters of one action, from 1; `tag` is the delivery's."""

    command: CommandType
    number: int
    tag: int
    properties: Basic.Properties
    body: bytes

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers, none if there are none."""
        return self.properties.headers or {}

    @property
    def message_id(self) -> str | None:
        """The message id as an operator types it; None if there is none."""
        return one_line(self.properties.message_id) if self.properties.message_id else None

    @property
    def name(self) -> str:
        """The message id, or `#n` of a message that has none."""
        return self.message_id or f"#{self.number}"

    @property
    def reason(self) -> str:
        """The service's reason, else RabbitMQ's."""
        reason = self.headers.get(envelope.REASON) or self._death.get("reason")
        return one_line(reason)[:MAX_LINE_LENGTH] if isinstance(reason, str | bytes) else "unknown"

    @property
    def reason_text(self) -> str:
        """The first line of the reason's text."""
        text = self.headers.get(envelope.REASON_TEXT)
        lines = text.splitlines() if isinstance(text, str) else []
        return one_line(lines[0])[:MAX_LINE_LENGTH] if lines else ""

    @property
    def sender(self) -> str | None:
        """The RabbitMQ user who sent the command; None if nobody said so."""
        # The message that we dead-letter is a copy of ours: its `user_id` is our own.
        user = self.headers.get(envelope.SENDER) if envelope.REASON in self.headers else self.properties.user_id
        return one_line(user)[:MAX_LINE_LENGTH] if isinstance(user, str) and user else None

    @property
    def attempts(self) -> int | None:
        """How often the command failed, if known."""
        count = self.headers.get(envelope.ATTEMPTS)
        return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else None

    @property
    def dead_since(self) -> datetime | None:
        """When it was dead-lettered, as far as known: of a letter that never failed, when it was sent."""
        if envelope.REASON in self.headers:
            return _time(self.headers.get(envelope.LAST_FAILED_AT)) or _time(self.properties.timestamp)
        return _time(self._death.get("time")) or _time(self.properties.timestamp)

    @property
    def body_sha256(self) -> str:
        """The body's fingerprint, by which the journal identifies a message without an id."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def queue(self) -> str:
        """The name of its dead-letter queue."""
        return topology.DEAD_LETTER_QUEUES[self.command].name

    def age(self, now: datetime) -> timedelta | None:
        """How long ago it was dead-lettered; never negative, whatever the sender's clock said."""
        return max(now - self.dead_since, timedelta(0)) if self.dead_since else None

    def sent_at(self, now: datetime) -> datetime:
        """When it was first sent, as far as its sender said so; never later than now."""
        return min(_time(self.properties.timestamp) or now, now)

    def replayed(self, now: datetime, *, user: str | None = None) -> Basic.Properties:
        """The properties with which `user` sends the command again.

        It keeps its sender's timestamp: a create must not replace a checkout that is newer than itself.
        Without `reply_to` and `expiration`, as nobody waits any more. RabbitMQ accepts no other `user_id` than our own.
        """
        given = self.properties
        return Basic.Properties(
            content_type=given.content_type,
            content_encoding=given.content_encoding,
            headers={name: value for name, value in self.headers.items() if not _is_history(name)},
            delivery_mode=2,
            correlation_id=given.correlation_id,
            message_id=given.message_id,
            timestamp=self.sent_at(now).replace(microsecond=0),
            message_type=given.message_type,
            user_id=user,
            app_id=given.app_id,
        )

    def shown_body(self) -> str:
        """The body for a terminal: indented if it is JSON, else unchanged; cut at 4 KiB."""
        text = _pretty(self.body) or self.body[: MAX_SHOWN_BYTES + 1].decode("utf-8", "backslashreplace")
        safe = escaped(text, keep="\n").encode()
        if len(safe) <= MAX_SHOWN_BYTES and len(self.body) <= MAX_SHOWN_BYTES:
            return safe.decode()
        return safe[:MAX_SHOWN_BYTES].decode("utf-8", "ignore") + "\n(cut here)"

    @property
    def _death(self) -> Mapping[str, Any]:
        """RabbitMQ's entry about the last time that it dead-lettered the message."""
        deaths = self.headers.get("x-death")
        latest = deaths[0] if isinstance(deaths, list) and deaths else None
        return latest if isinstance(latest, dict) else {}


def _is_history(name: str) -> bool:
    return name in _OURS | _BROKERS | _ROUTING or name.startswith(_BROKERS_PREFIXES)


def _time(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _pretty(body: bytes) -> str | None:
    """Indented JSON with exactly the body's values; None if the body is no JSON or that cannot be guaranteed."""
    if len(body) > MAX_SHOWN_BYTES:
        return None
    try:
        return json.dumps(bodies.loads(body), indent=2, ensure_ascii=False, default=_exactly)
    except (ValueError, TypeError, RecursionError):
        return None


def _exactly(number: object) -> float:
    """A fraction as a float that prints the same digits: an operator must see the price that was sent."""
    if not isinstance(number, Decimal) or Decimal(repr(float(number))) != number:
        raise ValueError
    return float(number)
