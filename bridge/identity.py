"""Who calls: the platform's `X-User-*` headers, and the request headers that may be given once only.

The other way to know a caller, signed service tokens, is in `tokens`.
"""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from bridge.errors import ForbiddenError, InvalidRequestError, UnauthorizedError
from contracts.actuator import Check
from contracts.fields import MAX_INT64

SERVICE_ROLE: Final = "SERVICE_ACCOUNT"

_USER_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)

RawHeaders = Iterable[tuple[bytes, bytes]]
"""As ASGI gives them: lower-case names."""


class Permission(StrEnum):
    """What an operation asks of its caller; the scopes of service tokens are called so."""

    CREATE = "payments:create"
    READ = "payments:read"


class Identity(Protocol):
    """A way to know who calls."""

    @property
    def checks(self) -> Mapping[str, Check]:
        """What it stands on, for readiness."""
        ...

    async def caller(self, headers: RawHeaders, permission: Permission) -> str:
        """The caller, as `contracts.envelope.CALLER` takes it.

        Raises:
            InvalidRequestError: an identity header is given twice.
            UnauthorizedError: no identity, or none that holds.
            ForbiddenError: an identity without the permission.
            UnavailableError: it cannot be checked at the moment.
        """
        ...


class PlatformHeaders:
    """The platform as it is: its gateway and services set `X-User-*`, and every service account may do everything."""

    checks: Mapping[str, Check] = MappingProxyType({})
    """It stands on nothing."""

    async def caller(self, headers: RawHeaders, permission: Permission) -> str:  # noqa: ARG002 - all or nothing
        """The user on whose behalf a service account calls."""
        return caller(headers)


def single(headers: RawHeaders, name: str) -> str | None:
    """The header's value, without blanks around it; None if absent.

    Raises:
        InvalidRequestError: it is given more than once, so that two readers could see two different values.
    """
    wanted = name.lower().encode()
    values = [value for key, value in headers if key == wanted]
    if len(values) > 1:
        raise InvalidRequestError(f"The header {name} is given more than once.")
    return values[0].decode("latin-1").strip() if values else None


def caller(headers: RawHeaders) -> str:
    """The id of the user on whose behalf the call is made (the Booking Service passes the end user's).

    Raises:
        InvalidRequestError: an identity header is given twice.
        UnauthorizedError: no identity, half of one, or an id that is none.
        ForbiddenError: the role `SERVICE_ACCOUNT` is missing.
    """
    user_id = single(headers, "X-User-Id")
    roles = single(headers, "X-User-Roles")
    if not user_id or not roles:
        raise UnauthorizedError
    if not _USER_ID.fullmatch(user_id) or int(user_id) > MAX_INT64:
        raise UnauthorizedError
    if SERVICE_ROLE not in (role.strip() for role in roles.split(",")):
        raise ForbiddenError
    return user_id
