"""Why the database cannot be used, in words for an operator."""

from typing import Final

import asyncpg
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from runtime import connection_urls
from service.domain.errors import StoreUnavailableError

USELESS: Final = frozenset({"25006", "57P01", "57P02", "57P03"})
"""SQLSTATE of a session that will take no more writes: read-only, or its server is going away or was killed."""
_LOST: Final = "08"
"""The class of SQLSTATE by which the driver itself says that a connection ended: the statement may be done."""
NO_RIGHT: Final = "refuses the role a right that it needs: run payment-service migrate with MIGRATION_DATABASE_URL"
_TOO_LONG: Final = "57014"
_REASONS: Final = {
    "25006": "accepts no writes",
    "28000": "refuses the role or its password",
    "28P01": "refuses the role or its password",
    "3D000": "does not exist on that server",
    "42501": NO_RIGHT,
    "53300": "has no connection left",
    _TOO_LONG: "ended a statement that took too long",
    "57P03": "is still starting or stopping",
}
"""SQLSTATE -> what is to be told."""
_SPOKEN: Final = frozenset({"42501", "53300"})
"""SQLSTATE of those whose own words name what is missing."""


def why(error: StoreUnavailableError) -> str:
    """What to say after the database's name: that it cannot be reached, or why it refuses us."""
    return "accepts no writes" if error.__cause__ is None else reason(error.__cause__)


def reason(cause: BaseException) -> str:
    """The same of what a driver raised. What PostgreSQL says of such errors holds no value of a row."""
    if (distrust := connection_urls.distrust(cause)) is not None:
        return distrust
    if isinstance(cause, PoolTimeoutError):
        return "is too slow: every connection of this process is in use"
    if isinstance(cause.__cause__ or cause, asyncpg.TargetServerAttributeNotMatched):
        return "accepts no writes"  # a server that follows another one
    code, said = sqlstate(cause), _said(cause)
    known = _REASONS.get(code)
    if known is not None:
        return f"{known} ({said})" if said and code in _SPOKEN else known
    if said and code and not code.startswith(_LOST):
        return f"says {code}: {said}"
    return f"cannot be reached ({type(_driver(cause)).__name__})"


def sqlstate(error: BaseException) -> str:
    """Five characters; empty if the error is not the server's."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def is_too_long(error: StoreUnavailableError) -> bool:
    """Whether the database ended a statement because of its time (`statement_timeout`): itself it works."""
    return error.__cause__ is not None and sqlstate(error.__cause__) == _TOO_LONG


def is_rolled_back(error: Exception) -> bool:
    """Whether the database itself said that a statement failed, so that nothing of it is done."""
    said = sqlstate(error.__cause__ or error)
    return bool(said) and said not in USELESS and not said.startswith(_LOST)


def _driver(error: BaseException) -> BaseException:
    """What asyncpg raised, of whose errors SQLAlchemy makes its own."""
    original = getattr(error, "orig", error)
    cause = original.__cause__
    return cause if isinstance(cause, Exception) else original  # a timeout's is a cancellation


def _said(error: BaseException) -> str:
    """The server's own sentence, without its details."""
    return str(getattr(_driver(error), "message", None) or "")
