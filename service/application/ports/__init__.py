"""The protocols that adapters and the tests' fakes implement. No behaviour is here."""

from service.application.ports.charge_events import ChargeEvent, ChargePage
from service.application.ports.command_context import Clock, CommandContext
from service.application.ports.gateway import Gateway
from service.application.ports.outbox import (
    PUBLISH_SECONDS,
    Backlog,
    BrokerFailedError,
    BrokerLostError,
    EventPublisher,
    Outbox,
    OutboxRow,
    UnpublishedError,
)
from service.application.ports.session_events import (
    EventCursor,
    EventPage,
    LeaderLease,
    SessionEvent,
    ToldPage,
    ToldSession,
)
from service.application.ports.store import (
    CLOCKS_DIFFER,
    Begun,
    JournalEntry,
    KeyScope,
    Relation,
    RequestKey,
    Reservations,
    Store,
)

__all__ = [
    "CLOCKS_DIFFER",
    "PUBLISH_SECONDS",
    "Backlog",
    "Begun",
    "BrokerFailedError",
    "BrokerLostError",
    "ChargeEvent",
    "ChargePage",
    "Clock",
    "CommandContext",
    "EventCursor",
    "EventPage",
    "EventPublisher",
    "Gateway",
    "JournalEntry",
    "KeyScope",
    "LeaderLease",
    "Outbox",
    "OutboxRow",
    "Relation",
    "RequestKey",
    "Reservations",
    "SessionEvent",
    "Store",
    "ToldPage",
    "ToldSession",
    "UnpublishedError",
]
