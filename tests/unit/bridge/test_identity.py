import pytest

from bridge.errors import ForbiddenError, InvalidRequestError, UnauthorizedError
from bridge.identity import caller, single

Headers = list[tuple[bytes, bytes]]


def identity(user_id: bytes | None, roles: bytes | None) -> Headers:
    pairs = [(b"x-user-id", user_id), (b"x-user-roles", roles)]
    return [(name, value) for name, value in pairs if value is not None]


@pytest.mark.parametrize("roles", [b"SERVICE_ACCOUNT", b"USER,SERVICE_ACCOUNT", b" USER , SERVICE_ACCOUNT "])
@pytest.mark.parametrize("user_id", [b"1", b"42", b" 7 ", b"9223372036854775807"])
def test_a_service_account_calls_on_behalf_of_a_user(user_id: bytes, roles: bytes) -> None:
    assert caller(identity(user_id, roles)) == user_id.decode().strip()


@pytest.mark.parametrize(
    ("user_id", "roles"),
    [
        (None, None),
        (b"1", None),
        (None, b"SERVICE_ACCOUNT"),
        (b"", b"SERVICE_ACCOUNT"),
        (b"1", b""),
        (b"0", b"SERVICE_ACCOUNT"),
        (b"-1", b"SERVICE_ACCOUNT"),
        (b"+1", b"SERVICE_ACCOUNT"),
        (b"01", b"SERVICE_ACCOUNT"),
        (b"1.0", b"SERVICE_ACCOUNT"),
        (b"1,2", b"SERVICE_ACCOUNT"),
        (b"abc", b"SERVICE_ACCOUNT"),
        ("\u0661".encode(), b"SERVICE_ACCOUNT"),
        (b"9223372036854775808", b"SERVICE_ACCOUNT"),
    ],
)
def test_no_or_half_an_identity_is_none(user_id: bytes | None, roles: bytes | None) -> None:
    with pytest.raises(UnauthorizedError):
        caller(identity(user_id, roles))


@pytest.mark.parametrize(
    "roles", [b"USER", b"service_account", b"SERVICE_ACCOUNTS", b"ROLE_SERVICE_ACCOUNT", b"USER;SERVICE_ACCOUNT", b","]
)
def test_without_the_role_nobody_comes_in(roles: bytes) -> None:
    with pytest.raises(ForbiddenError):
        caller(identity(b"1", roles))


@pytest.mark.parametrize("name", [b"x-user-id", b"x-user-roles"])
def test_an_identity_header_may_be_given_once_only(name: bytes) -> None:
    headers = [*identity(b"1", b"SERVICE_ACCOUNT"), (name, b"1")]
    with pytest.raises(InvalidRequestError):
        caller(headers)


def test_an_absent_header_is_none() -> None:
    assert single([], "Idempotency-Key") is None
