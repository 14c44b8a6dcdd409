"""Every statement of the adapters finds its rows by an index, however long the tables are."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from deploy.local.postgres import execute
from service.adapters.store import Database, PostgresOutbox, PostgresStore
from service.application.ports import Relation
from service.domain.outcomes import Expired
from tests.conftest import Migrated, run
from tests.integration.service.ports.test_store import an_opening, begun, changed
from tests.service_support import a_draft, idempotency_key, message_key, statements_of

ROWS = 50_000
FILL = f"""
    INSERT INTO payments (reference, booking_id, user_id, amount_minor, currency, success_url, cancel_url, livemode,
        gateway_request, status, reason, session_id, version, created_at, updated_at, expires_at)
    SELECT 'reference-' || n, n, 5, 44997, 'inr', '', '', false, '{{}}',
        CASE WHEN n % 500 = 0 THEN 'PENDING' WHEN n % 3 = 0 THEN 'FAILED' ELSE 'COMPLETED' END,
        CASE WHEN n % 500 > 0 AND n % 3 = 0 THEN 'expired' END, 'cs_test_' || n, 2, at, at, at + interval '35 minutes'
    FROM (SELECT n, now() - ({ROWS} - n) * interval '2 minutes' AS at FROM generate_series(1, {ROWS}) AS n) AS given;
    INSERT INTO request_keys (scope, caller, key, fingerprint, payment_id, created_at)
    SELECT scope, 'booking-service', scope || id, 'f1', id, created_at
    FROM payments, (VALUES ('message'), ('idempotency')) AS scopes (scope);
    INSERT INTO journal (payment_id, version, kind, status, detail, request_id, at)
    SELECT id, 2, 'opened', status, '{{}}', 'request-1', created_at FROM payments;
    INSERT INTO outbox (event_id, payment_id, sequence, routing_key, headers, body, created_at, sent_at)
    SELECT 'event-' || id, id, 2, 'payment.pending', '{{}}', '{{}}', created_at,
        CASE WHEN id % 500 > 0 THEN created_at END FROM payments;
    ANALYZE
"""  # noqa: S608 - constants
TABLES = {"payments", "request_keys", "journal", "outbox"}
Sent = dict[str, tuple[Any, ...]]
"""Statements with the parameters of their last run."""


@pytest.fixture(scope="module")
def filled(new_migrated: Callable[[], Migrated]) -> Migrated:
    """Some months of payments, with the planner's statistics; few are pending, few events unsent."""
    made = new_migrated()

    # Without its foreign keys it is filled in a third of the time, which only an administrator may do.
    superuser = run(execute(made.owner, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")) == "t"
    run(execute(made.owner, ("SET session_replication_role = replica;" if superuser else "") + FILL))
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sent(filled: Migrated) -> AsyncIterator[Sent]:
    """What the adapters sent when everything they can do was done once."""
    database = Database(filled.application)
    async with statements_of(database) as seen:
        await everything(PostgresStore(database), PostgresOutbox(database))
    await database.close()
    yield dict(seen)


async def everything(store: PostgresStore, outbox: PostgresOutbox) -> None:
    now = datetime.now(UTC)
    draft, keys = a_draft(booking_id=10**9, created_at=now), [message_key(), idempotency_key("key-1")]
    payment = (await begun(store, draft, *keys)).payment
    assert (await begun(store, draft, *keys)).relation is Relation.REPEATED
    assert (await begun(store, draft)).relation is Relation.SAME
    payment = await changed(store, payment, an_opening())
    assert await store.payment(payment.id) == await store.payment_of_session(payment.session_id or "")
    assert len(await store.payments_of_booking(payment.booking_id)) == 1
    assert len(await store.journal(payment.id)) == 2
    assert await store.claim_ask(payment.id, at=now, fresh_seconds=1)
    await store.note_ask_failed(payment.id, at=now)
    unsettled = {"unopened_before": now - timedelta(seconds=15), "unpaid_before": now - timedelta(minutes=15)}
    assert len(await store.claim_unsettled(at=now, limit=20, **unsettled)) == 20
    assert await store.prune_keys(before=now - timedelta(days=30), limit=500) == 500
    assert await store.oldest_pending_at() is not None
    assert await store.pending_of_sessions(["cs_test_stranger", payment.session_id or ""]) == [
        replace(payment, asked_at=now, ask_failed_at=now)
    ]
    await changed(store, replace(payment, asked_at=now), Expired())
    rows = await outbox.claim(limit=100, at=now, lease_seconds=10)
    await outbox.mark_sent([row.id for row in rows[1:]], at=now)
    await outbox.put_off(rows[0].id, until=now)
    assert await outbox.prune_sent(before=now - timedelta(days=7), limit=500) == 500


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def whole_tables(plan: Any) -> list[str]:
    """The big tables that the plan reads from end to end."""
    [top] = json.loads(plan)
    return [
        f"{node['Node Type']} on {node['Relation Name']}"
        for node in nodes(top["Plan"])
        if node["Node Type"].endswith("Seq Scan") and node["Relation Name"] in TABLES
    ]


@pytest.fixture
async def planner(filled: Migrated) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(filled.owner)
    await connection.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=str)
    yield connection
    await connection.close()


async def test_no_statement_reads_a_whole_table(planner: asyncpg.Connection, sent: Sent) -> None:
    assert len(sent) == 19
    found = {}
    for statement, parameters in sent.items():
        plan = await planner.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
        found[statement] = whole_tables(plan)
    assert [(scans, statement) for statement, scans in found.items() if scans] == []


async def test_neither_does_the_plan_that_is_kept_for_any_parameters(planner: asyncpg.Connection, sent: Sent) -> None:
    """PostgreSQL may settle for one after some runs, knowing neither limits nor dates."""
    if planner.get_server_version().major < 16:
        pytest.skip("EXPLAIN (GENERIC_PLAN) came with PostgreSQL 16")
    found = {}
    for statement, parameters in sent.items():
        plan = await planner.fetchval(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement}", *parameters)
        found[statement] = whole_tables(plan)
    assert [(scans, statement) for statement, scans in found.items() if scans] == []


async def test_a_statement_without_an_index_would_be_found(planner: asyncpg.Connection) -> None:
    plan = await planner.fetchval("EXPLAIN (FORMAT JSON) SELECT * FROM payments WHERE user_id = 7")
    assert whole_tables(plan) == ["Seq Scan on payments"]
