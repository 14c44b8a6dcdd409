"""What the hot statements cost on tables of many rows, and with dead rows that an old snapshot keeps.

`python -m tools.bench.large_tables --payments 1000000`: on a private server, which is gone afterwards. A payment has
three lines of journal, two events and two keys of requests; one in 500 is PENDING and has an unsent event.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
from sqlalchemy import event

from service.adapters.postgres import Database, PostgresOutbox, PostgresStore, migrate
from service.application.ports import KeyScope, RequestKey
from tools.devstack import postgres_server

RUNS: Final = 30
DEAD: Final = 20
"""How often every unsent event is claimed while an old snapshot is open."""
FILL: Final = """
    SET session_replication_role = replica;
    SET synchronous_commit = off;
    INSERT INTO payments (id, reference, booking_id, user_id, amount_minor, currency, success_url, cancel_url, livemode,
        gateway_request, status, reason, session_id, payment_url, version, created_at, updated_at, expires_at,
        pay_until)
    SELECT n, md5(n::text), n, n % 100000 + 1, 44997, 'inr', 'https://shop.example/done', 'https://shop.example/back',
        false, '{"mode": "payment"}', CASE WHEN n % 500 = 0 THEN 'PENDING' WHEN n % 3 = 0 THEN 'FAILED'
        ELSE 'COMPLETED' END, CASE WHEN n % 500 > 0 AND n % 3 = 0 THEN 'expired' END, 'cs_test_' || md5(n::text),
        'https://pay.example/' || n, 2, at, at, at + interval '35 minutes', at + interval '15 minutes'
    FROM (SELECT n, now() - (:rows - n) * interval '1 second' AS at FROM generate_series(1, :rows) AS n) AS given;
    INSERT INTO request_keys (scope, caller, key, fingerprint, payment_id, created_at)
    SELECT scope, 'booking-service', scope || id, md5(id::text), id, created_at
    FROM payments, (VALUES ('message'), ('idempotency')) AS scopes (scope);
    INSERT INTO journal (payment_id, version, kind, status, detail, request_id, at)
    SELECT id, number, 'opened', status, '{}', 'request-1', created_at FROM payments, generate_series(0, 2) AS number;
    INSERT INTO outbox (event_id, payment_id, sequence, routing_key, headers, body, created_at, sent_at)
    SELECT md5(id::text || number), id, number, 'payment.pending', '{}', repeat('x', 600)::bytea, created_at,
        CASE WHEN id % 500 > 0 OR number = 1 THEN created_at END FROM payments, generate_series(1, 2) AS number;
"""
Action = Callable[[], Awaitable[object]]


async def measure(rows: int, folder: Path) -> dict[str, Any]:
    """Milliseconds of each action, and how its statement finds its rows."""
    server = await postgres_server.start(folder, database="payments", durable=False, dies_with_us=True)
    url = server.url("payments")
    try:
        await migrate(url)
        began = time.monotonic()
        admin = await asyncpg.connect(url)
        await admin.execute(FILL.replace(":rows", str(rows)))
        await admin.execute("VACUUM ANALYZE")
        filled = time.monotonic() - began
        size = await admin.fetchval("SELECT pg_database_size(current_database())")
        figures = await _actions(url, rows, admin)
        figures["claims behind an old snapshot"] = await _behind_an_old_snapshot(url, admin)
        await admin.close()
        return {
            "payments": rows,
            "filled_seconds": round(filled),
            "gigabytes": round(size / 1e9, 1),
            "actions": figures,
        }
    finally:
        await postgres_server.stop(folder)


async def _actions(url: str, rows: int, admin: asyncpg.Connection) -> dict[str, Any]:
    database, seen = Database(url), dict[str, tuple[Any, ...]]()
    event.listen(
        database.engine.sync_engine,
        "connect",
        lambda connection, _: connection.driver_connection.add_query_logger(
            lambda record: seen.__setitem__(record.query, tuple(record.args))
        ),
    )
    store, outbox = PostgresStore(database), PostgresOutbox(database)
    middle = await store.payment(rows // 2 * 2 // 500 * 500 + 1) or await store.payment(1)
    if middle is None:
        raise LookupError
    key = RequestKey(scope=KeyScope.IDEMPOTENCY, caller="booking-service", key="idempotency1", fingerprint="f")

    def now() -> datetime:
        return datetime.now(UTC)

    actions: dict[str, Action] = {
        "payment by session": lambda: store.payment_of_session(str(middle.session_id)),
        "payment by booking": lambda: store.latest_of_booking(middle.booking_id),
        "payment of a key": lambda: store._payment_of_keys([key], middle),  # noqa: SLF001  # type: ignore[arg-type]
        "oldest pending": store.oldest_pending_at,
        "claim of the sweeper": lambda: store.claim_unfinished(at=now(), unopened_before=now(), limit=20),
        "claim of the relay": lambda: outbox.claim(limit=100, at=now(), lease_seconds=0),
        "backlog": outbox.backlog,
        "prune keys": lambda: store.prune_keys(before=now() - timedelta(days=1), limit=500),
        "prune events": lambda: outbox.prune_sent(before=now() - timedelta(days=1), limit=500),
    }
    found: dict[str, Any] = {}
    for name, action in actions.items():
        seen.clear()
        found[name] = {"ms": await _milliseconds(action)}
        statement, arguments = list(seen.items())[-1]
        await admin.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        [top] = await admin.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)
        found[name]["scans"] = sorted(set(_scans(top["Plan"])))
    await database.close()
    return found


async def _behind_an_old_snapshot(url: str, admin: asyncpg.Connection) -> dict[str, Any]:
    """The relay's claim while a transaction keeps every dead row, and after it has ended and autovacuum has run."""
    database = Database(url)
    outbox = PostgresOutbox(database)
    old = admin.transaction(isolation="repeatable_read")
    await old.start()
    await admin.fetchval("SELECT count(*) FROM feed")
    other = await asyncpg.connect(url)
    for _ in range(DEAD):
        await other.execute("UPDATE outbox SET claimed_until = '-infinity' WHERE sent_at IS NULL")
    await other.close()
    behind = await _milliseconds(lambda: outbox.claim(limit=100, at=datetime.now(UTC), lease_seconds=0))
    await old.rollback()
    await admin.execute("VACUUM outbox")
    after = await _milliseconds(lambda: outbox.claim(limit=100, at=datetime.now(UTC), lease_seconds=0))
    await database.close()
    return {"ms": behind, "ms_after_it_has_ended": after}


async def _milliseconds(action: Action) -> float:
    """The median."""
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        await action()
        taken.append(time.perf_counter() - began)
    return round(1000 * statistics.median(taken), 2)


def _scans(plan: dict[str, Any]) -> Iterator[str]:
    if "Relation Name" in plan and "Scan" in plan["Node Type"]:
        yield f"{plan['Node Type']} {plan.get('Index Name') or plan['Relation Name']}"
    elif plan["Node Type"] == "Bitmap Index Scan":
        yield f"{plan['Node Type']} {plan['Index Name']}"
    for child in plan.get("Plans", ()):
        yield from _scans(child)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payments", type=int, default=1_000_000)
    with tempfile.TemporaryDirectory(prefix="large-tables-") as folder:
        found = asyncio.run(measure(parser.parse_args().payments, Path(folder) / "postgres"))
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
