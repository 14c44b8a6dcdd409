"""Every statement of the adapters finds its rows by an index, however long the tables are."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import text

from service.adapters.postgres import (
    Database,
    PostgresActs,
    PostgresOutbox,
    PostgresOverview,
    PostgresSearch,
    PostgresStore,
    migrate,
)
from service.application.ports import Relation
from service.application.ports.search import Place, Wanted
from service.domain.outcomes import Expired
from service.domain.payment import PaymentStatus
from tests.integration.service.ports.test_store import an_opening, begun, changed
from tests.kit.databases import Migrated, NewDatabase
from tests.kit.lifetimes import closing
from tests.kit.servers import run
from tests.kit.service import a_draft, idempotency_key, message_key, statements_of
from tools.devstack.postgres_server import execute

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
    # Without foreign keys, which only an administrator may disable, it is filled in a third of the time.
    superuser = run(execute(made.owner, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")) == "t"
    run(execute(made.owner, ("SET session_replication_role = replica;" if superuser else "") + FILL))
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sent(filled: Migrated) -> AsyncIterator[Sent]:
    """The adapters' statements, after everything that they can do was done once."""
    async with closing(Database(filled.application)) as database, statements_of(database) as seen:
        await everything(PostgresStore(database), PostgresOutbox(database))
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
    claimed = await store.claim_unfinished(at=now, limit=20, unopened_before=now - timedelta(seconds=15))
    assert len(claimed) == 20
    assert await store.prune_keys(before=now - timedelta(days=30), limit=500) == 500
    assert await store.oldest_pending_at() is not None
    assert await store.newest_opened_at() == now
    hour_ago = now - timedelta(hours=1)
    opened = await store.opened_between((hour_ago, 0), now, limit=20)
    assert [each.created_at for each in opened] == sorted(each.created_at for each in opened)
    after = await store.opened_between((opened[9].created_at, opened[9].id), now, limit=10)
    assert after == opened[10:20]
    assert await store.payments_of_sessions(["cs_test_stranger", payment.session_id or ""]) == [
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
    """The big tables that the plan scans from end to end."""
    [top] = json.loads(plan)
    return [
        f"{node['Node Type']} on {node['Relation Name']}"
        for node in nodes(top["Plan"])
        if node["Node Type"].endswith("Seq Scan") and node["Relation Name"] in TABLES
    ]


@pytest.fixture
async def planner(filled: Migrated) -> AsyncIterator[asyncpg.Connection]:
    async with closing(await asyncpg.connect(filled.owner)) as connection:
        await connection.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=str)
        yield connection


@pytest.mark.parametrize("kind", ["FORMAT JSON", "GENERIC_PLAN, FORMAT JSON"])
async def test_no_statement_reads_a_whole_table(planner: asyncpg.Connection, sent: Sent, kind: str) -> None:
    """Neither with its parameters nor in the generic plan, which PostgreSQL may keep after some runs."""
    if "GENERIC" in kind and planner.get_server_version().major < 16:
        pytest.skip("EXPLAIN (GENERIC_PLAN) came with PostgreSQL 16")
    assert len(sent) == 20
    plans = {
        statement: await planner.fetchval(f"EXPLAIN ({kind}) {statement}", *parameters)
        for statement, parameters in sent.items()
    }
    assert [(scans, statement) for statement, plan in plans.items() if (scans := whole_tables(plan))] == []


@pytest.fixture
def fresh(new_migrated: Callable[[], Migrated]) -> Migrated:
    return new_migrated()


async def test_nor_does_the_service_of_tables_that_are_new(
    fresh: Migrated, sent: Sent, planner: asyncpg.Connection
) -> None:
    """Nothing has analyzed them, and PostgreSQL keeps the plans that it makes then until something does."""
    if planner.get_server_version().major < 16:
        pytest.skip("EXPLAIN (GENERIC_PLAN) came with PostgreSQL 16")
    async with (
        closing(Database(fresh.application, plans_once=True)) as database,
        closing(await database.sessions.open()) as session,
    ):
        await session.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=str)
        plans = {
            statement: await session.fetchval(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement}", *parameters)
            for statement, parameters in sent.items()
        }
    assert [(scans, statement) for statement, plan in plans.items() if (scans := whole_tables(plan))] == []


@pytest.mark.parametrize("kind", ["FORMAT JSON", "GENERIC_PLAN, FORMAT JSON"])
async def test_what_operators_look_at_reads_no_whole_table(
    planner: asyncpg.Connection, filled: Migrated, kind: str
) -> None:
    """The figures of the first page, and what there is of one payment."""
    if "GENERIC" in kind and planner.get_server_version().major < 16:
        pytest.skip("EXPLAIN (GENERIC_PLAN) came with PostgreSQL 16")
    async with closing(Database(filled.application)) as database, statements_of(database) as seen:
        search, overview, acts = PostgresSearch(database), PostgresOverview(database), PostgresActs(database)
        await search.events(1)
        await overview.read()
        await overview.minutes()
        await acts.of_payment(1, limit=10)
    plans = [
        (statement, await planner.fetchval(f"EXPLAIN ({kind}) {statement}", *parameters))
        for statement, parameters in dict(seen).items()
    ]
    assert [(scans, statement) for statement, plan in plans if (scans := whole_tables(plan))] == []


NOW = datetime.now(UTC)
SEARCHES: list[tuple[dict[str, Any], str]] = [
    *(({}, ""), ({"payment_id": 1}, ""), ({"booking_id": 1}, ""), ({"user_id": 5}, "")),
    *(({"session_id": "cs_test_1"}, ""), ({"request_id": "r"}, "")),
    *(({"status": status}, "") for status in PaymentStatus),
    ({"reason": "refused"}, "payments_reason_idx"),
    *(({"attention": word}, "payments_attention_idx") for word in ("any", "unsettled")),
    *(({"amount": Decimal(text)}, "payments_amount_idx") for text in ("1.5", "449.98")),
    ({"currency": "kwd"}, "payments_currency_idx"),
    *(({"currency": "kwd", word: value}, "") for word, value in (("status", "FAILED"), ("amount", Decimal("449.97")))),
    *(({"reason": "refused", "amount": Decimal("449.97")}, ""), ({"reason": "closed", "currency": "jpy"}, "")),
    ({"since": NOW - timedelta(days=1), "until": NOW}, "payments_created_idx"),
]
"""What is looked for, and the index without which too much would be read on the way."""


@pytest.mark.parametrize(("given", "index"), SEARCHES)
async def test_a_search_reads_no_whole_table(
    planner: asyncpg.Connection, filled: Migrated, given: dict[str, Any], index: str
) -> None:
    """On its first page and on a later one; sessions that are made for searches plan each anew."""
    for after in (None, Place(created_at=NOW - timedelta(days=30), id=7)):
        async with closing(Database(filled.application, plans_once=False)) as database:
            [row] = await database.run(text("SHOW plan_cache_mode"), {})
            assert row[0] == "force_custom_plan"
            async with statements_of(database) as seen:
                await PostgresSearch(database).page(Wanted(**given), after=after, limit=50)
        [(statement, parameters)] = dict(seen).items()
        plan = await planner.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
        assert not whole_tables(plan)
        assert index in plan


@pytest.mark.parametrize("given", [{"amount": Decimal("1.5")}, {"reason": "refused"}], ids=str)
async def test_what_is_of_another_currency_is_passed_over_in_the_index(
    planner: asyncpg.Connection, filled: Migrated, given: dict[str, Any]
) -> None:
    """Otherwise each payment of that amount or reason would be read, to see that it is of another currency."""
    async with closing(Database(filled.application, plans_once=False)) as database, statements_of(database) as seen:
        await PostgresSearch(database).page(Wanted(**given, currency="inr"), after=None, limit=50)
    [(statement, parameters)] = dict(seen).items()
    [top] = json.loads(await planner.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters))
    [scan] = [node for node in nodes(top["Plan"]) if "Index Cond" in node]
    assert "currency" in scan["Index Cond"]
    assert "currency" not in scan.get("Filter", "")


@pytest.mark.parametrize("currency", ["inr", "usd"])
def test_the_usual_currency_needs_no_index(new_database: NewDatabase, currency: str) -> None:
    url = new_database()
    run(migrate(url, currency=currency))
    made = run(execute(url, "SELECT pg_get_indexdef('payments_currency_idx'::regclass)"))
    assert f"<> '{currency}'::text" in made


async def test_a_search_that_nothing_can_match_is_not_made(filled: Migrated) -> None:
    async with closing(Database(filled.application, plans_once=False)) as database, statements_of(database) as seen:
        found = await PostgresSearch(database).page(Wanted(status="COMPLETED", reason="expired"), after=None, limit=50)
        assert (found, dict(seen)) == ([], {})


async def test_a_later_page_has_one_end(filled: Migrated) -> None:
    """Of two PostgreSQL would begin at the first, and walk to the other."""
    wanted, after = Wanted(until=NOW), Place(created_at=NOW - timedelta(days=1), id=7)
    async with closing(Database(filled.application, plans_once=False)) as database, statements_of(database) as seen:
        later = await PostgresSearch(database).page(wanted, after=after, limit=50)
        assert later == await PostgresSearch(database).page(Wanted(), after=after, limit=50)
        assert len(dict(seen)) == 1


async def test_a_statement_without_an_index_would_be_found(planner: asyncpg.Connection) -> None:
    plan = await planner.fetchval("EXPLAIN (FORMAT JSON) SELECT * FROM payments WHERE dispute = 'won'")
    assert whole_tables(plan) == ["Seq Scan on payments"]
