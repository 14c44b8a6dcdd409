"""Who calls, by the platform's `X-User-*` headers; and how to read a header that may be given only once.

The other way to authenticate a caller, signed service tokens, is `jwt_auth`.
"""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from bridge.errors import FORBIDDEN, INVALID_REQUEST, NO_IDENTITY, BridgeError
from contracts.fields import MAX_INT64
from runtime.health import Check

SERVICE_ROLE: Final = "SERVICE_ACCOUNT"

_USER_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)

RawHeaders = Iterable[tuple[bytes, bytes]]
"""As ASGI gives them: with lower-case names."""


class Permission(StrEnum):
    """What an operation requires of its caller; the scopes of service tokens have these names."""

    CREATE = "payments:create"
    READ = "payments:read"


class Authenticator(Protocol):
    """Authenticates callers and checks what they may do."""

    checks: Mapping[str, Check]
    """The parts that it depends on, for readiness."""

    async def authenticate(self, headers: RawHeaders, permission: Permission) -> str:
        """The caller, as `contracts.envelope.CALLER` takes it.

        Raises:
            BridgeError: an identity header is given twice; no identity, an invalid one, or one without the permission;
                or it cannot be checked at the moment.
        """
        ...


class HeaderAuth:
    """The platform's way: its gateway and services set `X-User-*`, and every service account has every permission."""

    checks: Mapping[str, Check] = MappingProxyType({})
    """It depends on nothing."""

    async def authenticate(self, headers: RawHeaders, permission: Permission) -> str:  # noqa: ARG002 - all or nothing
        """The id of the user on whose behalf a service account calls (the Booking Service passes the end user's)."""
        user_id = single(headers, "X-User-Id")
        roles = single(headers, "X-User-Roles")
        if not user_id or not roles or not _USER_ID.fullmatch(user_id) or int(user_id) > MAX_INT64:
            raise BridgeError(NO_IDENTITY)
        if SERVICE_ROLE not in (role.strip() for role in roles.split(",")):
            raise BridgeError(FORBIDDEN)
        return user_id


def single(headers: RawHeaders, name: str) -> str | None:
    """The header's value, without blanks around it; None if absent.

    If it is given more than once, two readers could see two values: that raises BridgeError.
    """
    wanted = name.lower().encode()
    values = [value for key, value in headers if key == wanted]
    if len(values) > 1:
        raise BridgeError(INVALID_REQUEST, message=f"The header {name} is given more than once.")
    return values[0].decode("latin-1").strip() if values else None
