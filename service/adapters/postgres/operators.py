"""The append-only journal of what operators did by hand."""

from typing import Final

from sqlalchemy import func, insert

from service.adapters.postgres.database import Database
from service.adapters.postgres.tables import operator_journal

_APPEND: Final = insert(operator_journal).values(at=func.now()).returning(operator_journal.c.id)


class OperatorJournal:
    """Lines of `operator_journal`: who did what to which message."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(
        self, *, kind: str, actor: str, queue: str, message_id: str | None, reason: str, body_sha256: str
    ) -> None:
        """Write a line. `message_id` is escaped, as operators see it; None if the message has none.

        Raises:
            StoreUnavailableError: the line may or may not be written; the action must not be done.
        """
        message = {"queue": queue, "message_id": message_id, "body_sha256": body_sha256}
        line = {"kind": kind, "actor": actor, "reason": reason, **message}
        await self._database.run(_APPEND, line)
