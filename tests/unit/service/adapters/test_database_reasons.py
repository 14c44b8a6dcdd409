"""Why the database cannot be used, as an operator hears it."""

import asyncio

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.adapters.postgres.reasons import NO_RIGHT, reason, why
from service.domain.errors import StoreUnavailableError


def said(kind: type[asyncpg.PostgresError], message: str) -> asyncpg.PostgresError:
    """What asyncpg raises when the server has said this."""
    return kind.new({"C": kind.sqlstate, "M": message, "D": "Failing row contains (4711)."})


def raised(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "refused"), "cannot be reached (ConnectionRefusedError)"),
        (raised(TimeoutError(), asyncio.CancelledError()), "cannot be reached (TimeoutError)"),
        (PoolTimeoutError(), "is too slow: every connection of this process is in use"),
        (
            said(asyncpg.DiskFullError, "could not extend file: No space left on device"),
            "says 53100: could not extend file: No space left on device",
        ),
        (
            said(asyncpg.InsufficientPrivilegeError, "permission denied for table payments"),
            f"{NO_RIGHT} (permission denied for table payments)",
        ),
        (
            said(asyncpg.TooManyConnectionsError, 'too many connections for role "payment_service"'),
            'has no connection left (too many connections for role "payment_service")',
        ),
        (
            said(asyncpg.InvalidPasswordError, 'password authentication failed for user "a"'),
            "refuses the role or its password",
        ),
        (said(asyncpg.ReadOnlySQLTransactionError, "cannot execute INSERT"), "accepts no writes"),
        (asyncpg.ConnectionDoesNotExistError("closed"), "cannot be reached (ConnectionDoesNotExistError)"),
    ],
)
def test_each_cause_has_its_words(error: Exception, words: str) -> None:
    assert reason(error) == words
    as_sqlalchemy_tells_it = DBAPIError("INSERT", {}, raised(Exception(), error))
    if isinstance(error, asyncpg.PostgresError):
        as_sqlalchemy_tells_it.orig.sqlstate = error.sqlstate  # type: ignore[union-attr]
        assert reason(as_sqlalchemy_tells_it) == words
    assert why(raised(StoreUnavailableError(), error)) == words  # type: ignore[arg-type]


def test_a_database_that_answers_and_takes_no_writes_says_nothing() -> None:
    assert why(StoreUnavailableError()) == "accepts no writes"
