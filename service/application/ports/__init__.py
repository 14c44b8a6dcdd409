"""What the handlers need from the outside, as protocols. The adapters and the tests' fakes implement them."""

from service.application.ports.commands import Clock, CommandContext
from service.application.ports.feed import FeedRecord, Lead, Page, Told
from service.application.ports.gateway import CheckoutTerms, Gateway
from service.application.ports.outbox import Backlog, Outbox, OutboxRow
from service.application.ports.store import Begun, JournalEntry, KeyScope, Places, Relation, RequestKey, Store

__all__ = [
    "Backlog",
    "Begun",
    "CheckoutTerms",
    "Clock",
    "CommandContext",
    "FeedRecord",
    "Gateway",
    "JournalEntry",
    "KeyScope",
    "Lead",
    "Outbox",
    "OutboxRow",
    "Page",
    "Places",
    "Relation",
    "RequestKey",
    "Store",
    "Told",
]
