"""Who may log in with a password: names, roles and argon2 hashes, and the bound on guesses."""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import Argon2Error, InvalidHashError

from console.identity import Person, Role

MIN_PASSWORD_LENGTH: Final = 12
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_HASHER: Final = PasswordHasher()
_NOBODYS: Final = _HASHER.hash("the password of nobody")
"""Held against the password of a name that does not exist, so that the time tells no names."""

MAX_FAILURES: Final = 5
FORGET_SECONDS: Final = 900.0
MAX_REMEMBERED: Final = 10_000
MAX_AT_ONCE: Final = 2
"""Each check takes 64 MiB and a core for a while."""


class InvalidUsersError(ValueError):
    """The text has no list of users in it."""


@dataclass(frozen=True, kw_only=True)
class _User:
    role: Role
    password_hash: str


class Users:
    """The people who may log in."""

    def __init__(self, users: Mapping[str, _User]) -> None:
        self._users = users
        self._free = asyncio.Semaphore(MAX_AT_ONCE)

    @classmethod
    def parsed(cls, text: str) -> "Users":
        """From lines of `name:role:hash`; InvalidUsersError if one is something else, or there is none."""
        users = dict[str, _User]()
        for line in filter(None, map(str.strip, text.splitlines())):
            name, _, rest = line.partition(":")
            role, _, password_hash = rest.partition(":")
            try:
                if not _NAME.fullmatch(name) or name in users:
                    raise InvalidUsersError
                extract_parameters(password_hash)
                users[name] = _User(role=Role(role), password_hash=password_hash)
            except (ValueError, InvalidHashError):
                raise InvalidUsersError from None
        if not users:
            raise InvalidUsersError
        return cls(users)

    async def person(self, name: str, password: str) -> Person | None:
        """Who has this name and password; None if nobody has."""
        user = self._users.get(name)
        async with self._free:
            fits = await asyncio.to_thread(_fits, user.password_hash if user else _NOBODYS, password)
        return Person(name=name, role=user.role) if user is not None and fits else None


def _fits(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False


def user_line(name: str, role: Role, password: str) -> str:
    """The line of a user; ValueError with a sentence if name or password will not do."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "A name has 1 to 64 letters, digits, dots, hyphens, underscores and @, a letter or digit first."
        )
    if len(password) < MIN_PASSWORD_LENGTH:
        raise ValueError(f"A password has {MIN_PASSWORD_LENGTH} characters or more.")
    return f"{name}:{role}:{_HASHER.hash(password)}"


class Throttle:
    """Bounds guesses: after `MAX_FAILURES` of a name or an address it must wait, longer each time."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def seconds_left(self, *keys: str) -> float:
        """How long the next attempt must wait; 0 if it need not."""
        return max(self._seconds_left(key) for key in keys)

    def failed(self, *keys: str) -> None:
        """Count a failure."""
        for key in keys:
            count, at = self._failures.pop(key, (0, 0.0))
            count = 0 if self._now() - at > FORGET_SECONDS else count
            self._failures[key] = (count + 1, self._now())
        while len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        """Forget the failures."""
        for key in keys:
            self._failures.pop(key, None)

    def _seconds_left(self, key: str) -> float:
        count, at = self._failures.get(key, (0, 0.0))
        wait = min(2.0 ** (count - MAX_FAILURES), FORGET_SECONDS) if count >= MAX_FAILURES else 0.0
        return max(0.0, at + wait - self._now())
