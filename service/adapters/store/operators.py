"""The record of what operators did by hand. It can only grow."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import insert

from service.adapters.store.database import Database
from service.adapters.store.tables import operator_journal

_APPEND: Final = insert(operator_journal).returning(operator_journal.c.id)


@dataclass(frozen=True, kw_only=True)
class OperatorLine:
    """Who did what to which message. `message_id` is as a person sees it, escaped; None if the message has none."""

    kind: str
    actor: str
    queue: str
    message_id: str | None
    reason: str
    body_sha256: str
    at: datetime


class OperatorJournal:
    """Lines of `operator_journal`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, line: OperatorLine) -> None:
        """Write a line.

        Raises:
            StoreUnavailableError: it may or may not be written; what it announces must not be done.
        """
        await self._database.run(_APPEND, asdict(line))
