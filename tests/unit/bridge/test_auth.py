import asyncio

import pytest

from bridge.auth import HeaderAuth, Permission
from bridge.errors import FORBIDDEN, NO_IDENTITY, BridgeError, Refusal
from contracts.faults import FaultCode

SERVICE = b"SERVICE_ACCOUNT"


def outcome(*headers: tuple[bytes, bytes | None]) -> str | Refusal:
    """The caller or the refusal."""
    given = [(name, value) for name, value in headers if value is not None]
    try:
        return asyncio.run(HeaderAuth().authenticate(given, Permission.READ))
    except BridgeError as error:
        return error.refusal


@pytest.mark.parametrize("roles", [SERVICE, b"USER,SERVICE_ACCOUNT", b" USER , SERVICE_ACCOUNT "])
def test_a_service_account_calls_on_behalf_of_a_user(roles: bytes) -> None:
    for user_id in (b"1", b"42", b" 7 ", b"9223372036854775807"):
        assert outcome((b"x-user-id", user_id), (b"x-user-roles", roles)) == user_id.decode().strip()


def test_no_half_or_an_invalid_identity_is_none() -> None:
    invalid = [b"", b"0", b"-1", b"+1", b"01", b"1.0", b"1,2", b"abc", "\u0661".encode(), b"9223372036854775808"]
    for user_id, roles in [(None, None), (b"1", None), (b"1", b""), *((each, SERVICE) for each in (None, *invalid))]:
        assert outcome((b"x-user-id", user_id), (b"x-user-roles", roles)) is NO_IDENTITY, user_id


def test_without_the_role_nobody_comes_in() -> None:
    others = b"USER ADMIN ADMIN,USER,THEATER_OWNER service_account SERVICE_ACCOUNTS ROLE_SERVICE_ACCOUNT * ,".split()
    for roles in (*others, b"USER;SERVICE_ACCOUNT", b"USER SERVICE_ACCOUNT", b"payments:create payments:read"):
        assert outcome((b"x-user-id", b"1"), (b"x-user-roles", roles)) is FORBIDDEN, roles


@pytest.mark.parametrize("name", [b"x-user-id", b"x-user-roles"])
def test_an_identity_header_may_be_given_once_only(name: bytes) -> None:
    refusal = outcome((b"x-user-id", b"1"), (b"x-user-roles", SERVICE), (name, b"1"))
    assert isinstance(refusal, Refusal)
    assert refusal.code is FaultCode.VALIDATION_ERROR
