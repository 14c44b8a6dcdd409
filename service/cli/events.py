"""`payment-service events`: the outbox's events and when each was published, and with `--follow` what comes."""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from runtime.process_settings import DatabaseSettings
from service.adapters.postgres import (
    Database,
    DatabaseClock,
    OutboxEvent,
    PostgresOutboxReader,
    PostgresSearch,
    PostgresStore,
    why,
)
from service.application.ports import Clock
from service.cli.show import NOT_FOUND, find_payments
from service.domain.errors import StoreUnavailableError

POLL_SECONDS: Final = 0.5
PUBLISHED_WITHIN: Final = timedelta(seconds=2)
"""Usually: a younger event is printed once it is published."""
MOST: Final = 10_000
LATE: Final = 500
"""Rows that are looked at again: transactions do not commit in the order of their ids."""
_COLUMNS: Final = "{:<24}  {:>16}  {:>3}  {:<18}  {:<32}  {}"


def needs(_: argparse.Namespace) -> type[DatabaseSettings]:
    """Its settings."""
    return DatabaseSettings


async def run(arguments: argparse.Namespace, settings: DatabaseSettings) -> int:
    """Print events; 1 if there are none."""
    database = Database(settings.database_url.get_secret_value())
    try:
        payment_ids = None
        if arguments.id is not None:
            found = await find_payments(PostgresStore(database), arguments.id, PostgresSearch(database))
            if not found:
                sys.stderr.write(f"{NOT_FOUND}\n")
                return 1
            payment_ids = [payment.id for payment in found]
        clock = DatabaseClock(database)
        await clock.measure()
        return await _print(arguments, PostgresOutboxReader(database), payment_ids, clock)
    finally:
        await database.close()


async def _print(
    arguments: argparse.Namespace, reader: PostgresOutboxReader, payment_ids: Sequence[int] | None, clock: Clock
) -> int:
    if not arguments.json:
        names = ("written", "payment", "seq", "event", "published", "request")
        sys.stdout.write(_COLUMNS.format(*names).rstrip() + "\n")
    only_unsent = arguments.unpublished
    events = await reader.newest(payment_ids=payment_ids, only_unsent=only_unsent, limit=arguments.limit)
    told, floor = _tell(events, {}, clock, as_json=arguments.json), min([event.id for event in events], default=1) - 1
    is_away = False
    while arguments.follow:
        await asyncio.sleep(POLL_SECONDS)
        try:
            newer = await reader.newest(payment_ids=payment_ids, after_id=floor, only_unsent=only_unsent, limit=MOST)
        except StoreUnavailableError as error:  # a failover: just then somebody looks
            if not is_away:
                sys.stderr.write(f"The database (DATABASE_URL) {why(error)}; trying again.\n")
            is_away = True
            continue
        if is_away:
            sys.stderr.write("The database answers again.\n")
            is_away = False
        soon = clock.now() - PUBLISHED_WITHIN
        due = [event for event in newer if event.sent_at is not None or event.created_at < soon]
        told = _tell(due, told, clock, as_json=arguments.json)
        waiting = [event.id for event in newer if event.sent_at is None]
        floor = max(floor, min([newer[-1].id - LATE, *(each - 1 for each in waiting)]) if newer else 0)
        told = {each: sent_at for each, sent_at in told.items() if each > floor}
    if not events:
        deleted = "No such events: published ones are deleted after OUTBOX_RETENTION_DAYS."
        sys.stderr.write(("Every event is published." if only_unsent else deleted) + "\n")
    return 0 if events else 1


def _tell(
    events: Sequence[OutboxEvent], told: Mapping[int, datetime | None], clock: Clock, *, as_json: bool
) -> dict[int, datetime | None]:
    """Print those that are new or published by now; what has been told with them."""
    for event in events:
        if told.get(event.id, ...) != event.sent_at:
            sys.stdout.write((json.dumps(_described(event)) if as_json else _line(event, clock.now())) + "\n")
    sys.stdout.flush()
    return {**told, **{event.id: event.sent_at for event in events}}


def _published(event: OutboxEvent, now: datetime) -> str:
    if event.sent_at is not None:
        return event.sent_at.isoformat(timespec="milliseconds")
    waiting = (now - event.created_at).total_seconds()
    return f"waits for {max(waiting, 0):.0f} s, {event.attempts} attempts"


def _line(event: OutboxEvent, now: datetime) -> str:
    written = event.created_at.isoformat(timespec="seconds")
    name, request = event.routing_key, event.request_id or ""
    return _COLUMNS.format(written, event.payment_id, event.sequence, name, _published(event, now), request).rstrip()


def _described(event: OutboxEvent) -> dict[str, Any]:
    return {
        "eventId": event.event_id,
        "paymentId": event.payment_id,
        "sequence": event.sequence,
        "event": event.routing_key,
        "writtenAt": event.created_at.isoformat(timespec="milliseconds"),
        "publishedAt": None if event.sent_at is None else event.sent_at.isoformat(timespec="milliseconds"),
        "attempts": event.attempts,
        "requestId": event.request_id,
    }
