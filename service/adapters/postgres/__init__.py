"""The ports on PostgreSQL, and the migrations. All SQL is here, and no rule about payments."""

from service.adapters.postgres.account_pin import move_pin, pin, pinned
from service.adapters.postgres.act_store import PostgresActs
from service.adapters.postgres.database import POOL_SIZE, Database, Row
from service.adapters.postgres.database_clock import DatabaseClock, database_now
from service.adapters.postgres.event_cursor import READ_CHANNEL, WANTED_CHANNEL, PostgresEventCursor
from service.adapters.postgres.fitness import check_usable, listening_problem_of, problem_of
from service.adapters.postgres.health_store import PostgresGatewayHealth
from service.adapters.postgres.listener import PostgresListener
from service.adapters.postgres.migrate import (
    MigrationForbiddenError,
    TablesInUseError,
    UnknownRevisionError,
    current_revision,
    migrate,
    newest_revision,
    revision_problem,
)
from service.adapters.postgres.operators import OperatorJournal
from service.adapters.postgres.outbox_reader import OutboxEvent, PostgresOutboxReader
from service.adapters.postgres.outbox_store import PostgresOutbox
from service.adapters.postgres.overview import PostgresOverview
from service.adapters.postgres.payment_store import PostgresStore
from service.adapters.postgres.privileges import CONSOLE_GRANTED, GRANTED, NoSuchRoleError, could_rewrite
from service.adapters.postgres.quota_store import PostgresQuotaStore
from service.adapters.postgres.reasons import why
from service.adapters.postgres.reservation_store import PostgresReservations
from service.adapters.postgres.search import PostgresSearch
from service.adapters.postgres.statements import OUTBOX_CHANNEL

__all__ = [
    "CONSOLE_GRANTED",
    "GRANTED",
    "OUTBOX_CHANNEL",
    "POOL_SIZE",
    "READ_CHANNEL",
    "WANTED_CHANNEL",
    "Database",
    "DatabaseClock",
    "MigrationForbiddenError",
    "NoSuchRoleError",
    "OperatorJournal",
    "OutboxEvent",
    "PostgresActs",
    "PostgresEventCursor",
    "PostgresGatewayHealth",
    "PostgresListener",
    "PostgresOutbox",
    "PostgresOutboxReader",
    "PostgresOverview",
    "PostgresQuotaStore",
    "PostgresReservations",
    "PostgresSearch",
    "PostgresStore",
    "Row",
    "TablesInUseError",
    "UnknownRevisionError",
    "check_usable",
    "could_rewrite",
    "current_revision",
    "database_now",
    "listening_problem_of",
    "migrate",
    "move_pin",
    "newest_revision",
    "pin",
    "pinned",
    "problem_of",
    "revision_problem",
    "why",
]
