"""Sessions of people who have logged in, and the tokens that show that a form is ours.

Sessions are in this process alone: where people log in one console serves, and its restart logs everybody out.
"""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import HTTPConnection

from console.identity import Person

COOKIE: Final = "payment-console"
IDLE_SECONDS: Final = 3600.0
MAX_SESSIONS: Final = 1_000
_ID_BYTES: Final = 32


def new_id() -> str:
    """A new id of a browser, which says nothing about it."""
    return secrets.token_urlsafe(_ID_BYTES)


@dataclass(kw_only=True)
class _Session:
    person: Person
    ends_at: float
    seen_at: float


class Sessions:
    """`password`: who has logged in, by the id in the browser's cookie."""

    can_log_in = True

    def __init__(self, *, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def begin(self, person: Person) -> str:
        """A new session under a new id: one that somebody else has put into the browser is worth nothing."""
        now, session_id = self._now(), new_id()
        self._sessions[_key(session_id)] = _Session(person=person, ends_at=now + self._seconds, seen_at=now)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session_id

    def end(self, session_id: str | None) -> None:
        """Log out."""
        self._sessions.pop(_key(session_id or ""), None)

    def person(self, _request: HTTPConnection, session_id: str | None) -> Person | None:
        """Who has logged in with this id, not too long ago."""
        session, now = self._sessions.get(_key(session_id or "")), self._now()
        if session is None:
            return None
        if now >= min(session.ends_at, session.seen_at + IDLE_SECONDS):
            self.end(session_id)
            return None
        session.seen_at = now
        return session.person


class FormTokens:
    """The token of a browser, bound to its id and to the person: another site can neither read nor guess it."""

    def __init__(self, secret: str | None = None) -> None:
        """Consoles with the same secret take each other's forms; without one, only this process takes them."""
        self._key = hmac.digest(secret.encode(), b"form tokens", "sha256") if secret else secrets.token_bytes(_ID_BYTES)

    def of(self, session_id: str, person: Person | None) -> str:
        """To put into a form."""
        words = [session_id, (person and person.name) or ""]
        return hmac.new(self._key, "\n".join(words).encode(), hashlib.sha256).hexdigest()

    def fits(self, token: str, session_id: str | None, person: Person | None) -> bool:
        """Whether a form came from a page of ours in this browser."""
        expected = self.of(session_id or "", person)
        return session_id is not None and hmac.compare_digest(token.encode(), expected.encode())


def _key(session_id: str) -> str:
    """Kept as a hash, so that the memory holds no id that logs in."""
    return hashlib.sha256(session_id.encode()).hexdigest()
