"""The payment record in PostgreSQL. Nothing outside this package knows SQL."""

from service.adapters.store.database import POOL_SIZE, Database, Row
from service.adapters.store.feed import READ_CHANNEL, WANTED_CHANNEL, PostgresFeedRecord
from service.adapters.store.leases import PostgresLeases
from service.adapters.store.migrate import current_revision, migrate, newest_revision
from service.adapters.store.operators import OperatorJournal, OperatorLine
from service.adapters.store.outbox import PostgresOutbox
from service.adapters.store.places import PostgresPlaces
from service.adapters.store.privileges import NoSuchRoleError, could_rewrite
from service.adapters.store.store import PostgresStore
from service.adapters.store.wakeups import Wakeups

__all__ = [
    "POOL_SIZE",
    "READ_CHANNEL",
    "WANTED_CHANNEL",
    "Database",
    "NoSuchRoleError",
    "OperatorJournal",
    "OperatorLine",
    "PostgresFeedRecord",
    "PostgresLeases",
    "PostgresOutbox",
    "PostgresPlaces",
    "PostgresStore",
    "Row",
    "Wakeups",
    "could_rewrite",
    "current_revision",
    "migrate",
    "newest_revision",
]
