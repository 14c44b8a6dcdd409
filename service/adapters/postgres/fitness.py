"""Whether the service can use a database, and if not why, in sentences for an operator."""

from collections.abc import Sequence
from typing import Final

from runtime.health import NotReadyError
from service.adapters.postgres.database import Database
from service.adapters.postgres.listener import LISTEN_ERRORS, PostgresListener, SharedSessionError
from service.adapters.postgres.migrate import revision_problem
from service.adapters.postgres.privileges import Granted, lacking
from service.adapters.postgres.reasons import NO_RIGHT, reason, why
from service.domain.errors import StoreUnavailableError

_TOLD: Final = 3
"""How many missing rights are told in full."""


async def problem_of(database: Database, granted: Granted) -> str | None:
    """Why a process that needs what is `granted` cannot use the database, as a sentence; None if it can."""
    try:
        await database.ping()
        if (problem := await revision_problem(database)) is not None:
            return problem
        return (
            f"The database (DATABASE_URL) {_refusal(missing)}."
            if (missing := await lacking(database, granted))
            else None
        )
    except StoreUnavailableError as error:
        return f"The database (DATABASE_URL) {why(error)}."


async def check_usable(database: Database, granted: Granted) -> None:
    """Raise NotReadyError unless the database answers, takes writes, and gives us what is to be `granted`."""
    try:
        await database.ping()
        missing = await lacking(database, granted)
    except StoreUnavailableError as error:
        raise NotReadyError(f"it {why(error)}") from error
    if missing:
        raise NotReadyError(f"it {_refusal(missing)}")


def _refusal(missing: Sequence[str]) -> str:
    told, more = "; ".join(missing[:_TOLD]), len(missing) - _TOLD
    return f"{NO_RIGHT} ({told}{f'; {more} more' if more > 0 else ''})"


async def listening_problem_of(url: str | None, *, otherwise: str) -> str | None:
    """Why no notification would come by DATABASE_LISTEN_URL, or without one by `otherwise`; None if they would."""
    listener = PostgresListener(url or otherwise, on_notification={}, on_reconnect=lambda: None)
    try:
        await listener.check()
    except SharedSessionError:
        name = "DATABASE_LISTEN_URL" if url else "DATABASE_URL"
        return (
            f"{name} leads through a pooler in transaction mode, which drops notifications: "
            "DATABASE_LISTEN_URL must lead to the database itself."
        )
    except LISTEN_ERRORS as error:
        return f"The database (DATABASE_LISTEN_URL) {reason(error)}." if url else None  # DATABASE_URL is checked anyway
    return None
