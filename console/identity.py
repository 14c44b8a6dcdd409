"""Who asks: nobody in particular on this machine, a person with a session, or one whom a proxy names."""

import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from starlette.requests import HTTPConnection

MAX_NAME_LENGTH: Final = 128
"""The length of the column in the operators' journal."""
PROXY_SECRET_HEADER: Final = "x-console-proxy-secret"  # noqa: S105 - its name


class Role(StrEnum):
    """What a person may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who asks. `name` is None where nobody logs in: whoever acts must then say who it is."""

    name: str | None
    role: Role

    @property
    def may_act(self) -> bool:
        """Whether acts are allowed, and not only pages."""
        return self.role is Role.OPERATOR


class Identify(Protocol):
    """How a mode of `CONSOLE_AUTH` knows people."""

    can_log_in: bool
    """Whether the console has a login page of its own."""

    def person(self, request: HTTPConnection, session_id: str | None) -> Person | None:
        """Who asks; None if that is not known, so that nothing is shown."""


class Anybody:
    """`none`: whoever is on this machine is an operator, and says a name with each act."""

    can_log_in = False

    def person(self, _request: HTTPConnection, _session_id: str | None) -> Person | None:
        """Always."""
        return Person(name=None, role=Role.OPERATOR)


class BehindProxy:
    """`proxy`: an identity proxy says who it is, and proves with a secret that it is the proxy."""

    can_log_in = False

    def __init__(self, *, secret: str, user_header: str, roles_header: str) -> None:
        self._secret = secret.encode()
        self._user_header = user_header
        self._roles_header = roles_header

    def person(self, request: HTTPConnection, _session_id: str | None) -> Person | None:
        """A header that comes twice, perhaps from the browser and the proxy, names nobody."""
        secret, name, roles = (
            _only(request, header) for header in (PROXY_SECRET_HEADER, self._user_header, self._roles_header)
        )
        if not hmac.compare_digest(secret.encode("latin-1"), self._secret) or not is_name(name):
            return None
        named = {role.strip().lower() for role in roles.split(",")}
        role = next((each for each in (Role.OPERATOR, Role.VIEWER) if each in named), None)
        return None if role is None else Person(name=name, role=role)


def is_name(text: str) -> bool:
    """Whether it can stand in the operators' journal as the name of a person."""
    return bool(text.strip()) and text.isprintable() and len(text) <= MAX_NAME_LENGTH


def _only(request: HTTPConnection, header: str) -> str:
    values = request.headers.getlist(header)
    return values[0] if len(values) == 1 else ""
