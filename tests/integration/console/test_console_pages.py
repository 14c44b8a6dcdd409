"""What an operator finds, sees and does, on a real database and a real broker."""

import csv
import io
import json
from asyncio import sleep
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from uuid import uuid4

import asyncpg
import httpx
import pytest
import uvicorn

from console import bootstrap
from console.now_pages import FRESH_SECONDS
from console.settings import Settings
from contracts.commands import CommandType
from service.adapters.postgres import Database, PostgresActs, PostgresGatewayHealth, PostgresStore
from service.adapters.postgres.privileges import CONSOLE_GRANTED, GRANTED
from service.application.outcome_writer import OutcomeWriter
from service.application.ports.gateway_health import EndpointHealth
from service.domain.outcomes import Paid
from service.workers import act_worker
from service.workers.act_worker import ActWorker
from tests.integration.console.conftest import SURE, Browser, Browsers, ParkCreate, field
from tests.integration.service.ports.test_store import an_opening, begun, changed, context, fitting, opened
from tests.kit import clock as kit
from tests.kit.brokers import RoleUrl
from tests.kit.clock import MovableClock
from tests.kit.databases import Migrated
from tests.kit.lifetimes import closing
from tests.kit.service import a_draft
from tests.kit.until import until
from tests.kit.web import listening
from tests.kit.world import World

NOW = datetime.now(UTC)


async def test_a_booking_leads_to_its_only_payment_and_several_to_a_list(browser: Browser, migrated: Migrated) -> None:
    async with closing(Database(migrated.application)) as database:
        store = PostgresStore(database)
        payment = await opened(store, 1001)
        paid = (await begun(store, a_draft(booking_id=1002))).payment
        paid = await changed(store, await changed(store, paid, an_opening()), fitting(paid))
    for text in ("1001", "booking:1001", str(payment.id), f"payment {payment.id}", payment.session_id):
        answer = await browser.get("/find", params={"q": text})
        assert answer.headers["location"] == f"/payments/{payment.id}", text
    page = await browser.text(f"/payments/{paid.id}")
    assert "Paid. Nothing is waited for." in page
    assert "payment.completed" in page
    assert "not published yet" in page, "no relay runs here"
    assert (await browser.get("/find?q=booking:999999")).status_code == HTTPStatus.OK


async def test_every_field_of_the_search_finds_what_it_says(browser: Browser, migrated: Migrated) -> None:
    async with closing(Database(migrated.application)) as database:
        store = PostgresStore(database)
        draft = a_draft(booking_id=2001, user_id=777, created_at=NOW - timedelta(days=1))
        payment = await changed(store, (await begun(store, draft)).payment, an_opening())
        different = Paid(money=payment.money.__class__(1, "inr"), reference=payment.reference, livemode=False)
        payment = await changed(store, payment, different)
    day = (NOW - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    given = {
        "booking_id": "2001",
        "user_id": "777",
        "payment_id": str(payment.id),
        "session_id": payment.session_id,
        "status": "PENDING",
        "attention": "paid_differently",
        "amount": "449.97",
        "currency": "INR",
        "since": day,
        "until": NOW.strftime("%Y-%m-%dT%H:%M"),
    }
    link = f'href="/payments/{payment.id}"'
    for name, text in given.items():
        assert link in (await browser.get("/search", params={"user_id": "777", name: text})).text, name
    for name, text in {"booking_id": "2002", "status": "FAILED", "amount": "449.98", "attention": "unsettled"}.items():
        assert link not in (await browser.get("/search", params={"user_id": "777", name: text})).text, name
    assert link in (await browser.get("/search?attention=any&user_id=777")).text


async def test_a_long_list_has_pages_and_an_export_has_all(browser: Browser, migrated: Migrated) -> None:
    async with closing(Database(migrated.application)) as database:
        store = PostgresStore(database)
        for number in range(60):
            at = NOW - timedelta(seconds=number // 2)  # two at the same time
            await begun(store, a_draft(booking_id=3000 + number, user_id=888, created_at=at))
    seen, path = [], "/search?user_id=888"
    while path:
        text = await browser.text(path)
        seen += [part.partition('"')[0] for part in text.split('href="/search?booking_id=')[1:]]
        path = text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert sorted(seen) == sorted(str(3000 + number) for number in range(60))
    exported = json.loads(await browser.text("/export.json?user_id=888"))
    rows = list(csv.DictReader(io.StringIO(await browser.text("/export.csv?user_id=888"))))
    assert [row["booking"] for row in rows] == [str(each["booking"]) for each in exported]
    assert {row["amount"] for row in rows} == {"449.97"}
    assert len(rows) == 60
    assert json.loads(await browser.text("/export.json?user_id=889")) == []


async def test_the_first_page_says_how_things_stand(browser: Browser, migrated: Migrated, dead_letter: str) -> None:
    async with closing(Database(migrated.application)) as database:
        await begun(PostgresStore(database), a_draft(booking_id=4001, created_at=datetime.now(UTC)))
    async with closing(await asyncpg.connect(migrated.owner)) as owner:
        await owner.execute(
            "INSERT INTO budget (endpoint, next_at) VALUES ('create', '-infinity'), ('expire', now() + interval '1 d')"
            " ON CONFLICT (endpoint) DO UPDATE SET next_at = EXCLUDED.next_at"
        )
        assert "no service tells how it does" in await browser.text("/")
        await owner.execute(
            "UPDATE budget SET pace = 0.5, slowed_at = now() - interval '1 h' WHERE endpoint = 'create'"
        )
    await sleep(FRESH_SECONDS)
    async with closing(Database(migrated.application)) as database:
        store, health = PostgresStore(database), PostgresGatewayHealth(database)
        payment = await opened(store, 4003)
        known_at = datetime.now(UTC)
        told = {"gateway_event": "evt_1", "gateway_event_at": (known_at - timedelta(seconds=3)).isoformat()}
        outcomes = OutcomeWriter(store=store, clock=MovableClock(known_at))
        await outcomes.apply(payment, replace(fitting(payment), evidence=told), context=context())
        for circuit, sent in ((0, 60), (2, 30)):
            of = EndpointHealth(endpoint="create", circuit=circuit, sent=sent, calls=50, failed=circuit)
            await health.tell(str(uuid4()), [of], per_second=15)
    text = await browser.text("/")
    assert "payments.checkout.create" in text
    assert "payments.checkout.create.dead-letter" in text, dead_letter
    assert "the circuit is open for create" in text
    assert "99 % within 3.0 s" in text
    cells = [cell.partition("</td>")[0] for cell in text.partition("<code>create</code>")[2].split("<td")[1:6]]
    assert [cell.partition(">")[2] for cell in cells] == ["open in 1 of 2", "100", "2", "90 %", "100 %"]
    assert "The last hour, by minute" in text
    rows = {name: text.partition(f"<code>{name}</code>")[2].partition("</tr>")[0] for name in ("create", "expire")}
    assert ">now</td>" in rows["create"]
    assert ">in " in rows["expire"]
    assert '<rect x="' in text


async def test_an_open_page_gets_the_figures_as_events_until_the_process_leaves(
    console_url: str, role_url: RoleUrl, migrated: Migrated
) -> None:
    settings = Settings(database_url=console_url, amqp_url=role_url("payment-console"))
    async with bootstrap.console(settings) as server, closing(Database(migrated.application)) as database:
        config = uvicorn.Config(server.config.app, lifespan="off", log_config=None, ws="none", port=0)
        async with (
            listening(config) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
            client.stream("GET", "/now", timeout=60) as stream,
        ):
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["content-security-policy"]
            lines = stream.aiter_lines()
            assert "<main" not in await an_event(lines), "the part that a script shows"
            await begun(PostgresStore(database), a_draft(booking_id=4002, created_at=datetime.now(UTC)))
            while "booking_id=4002" not in await an_event(lines):
                pass
            server.should_exit = True
            assert [line async for line in lines if line and not line.startswith("data:")] == []


async def an_event(lines: AsyncIterator[str]) -> str:
    """The data of the next."""
    data = []
    async for line in lines:
        if not line:
            break
        data.append(line.removeprefix("data: "))
    return "\n".join(data)


async def test_an_operators_decision_about_a_letter_is_journaled_and_done_once(
    browser: Browser, dead_letter: str, console_url: str
) -> None:
    letters = await browser.text("/letters")
    path = "/letters/" + letters.partition('href="/letters/')[2].partition('"')[0]
    assert 'href="/search?booking_id=77"' in letters
    token = await browser.token(path)
    assert (await browser.post(f"{path}/replay", SURE, token=token)).headers["location"] == "/acts#letters"
    again = await browser.post(f"{path}/replay", SURE, token=token)
    assert again.status_code == HTTPStatus.NOT_FOUND
    assert "was replayed or dropped" in again.text
    async with closing(await asyncpg.connect(console_url)) as connection:
        line = await connection.fetchrow("SELECT * FROM operator_journal ORDER BY id DESC LIMIT 1")
    assert (line["kind"], line["actor"]) == ("dead-letter-replayed", "asha")
    assert line["message_id"].startswith(dead_letter.partition("<")[0])
    assert line["reason"].endswith(": a test")
    assert (await browser.get(f"/letters/{CommandType.CREATE_CHECKOUT.value}/{'0' * 20}")).status_code == 404
    assert (await browser.get("/letters/no.such/0")).status_code == 404


async def test_a_replay_says_what_it_would_do_and_the_futile_is_sent_only_if_a_person_insists(
    browser: Browser, migrated: Migrated, parked_create: ParkCreate
) -> None:
    async with closing(Database(migrated.application)) as database:
        store = PostgresStore(database)
        payment = await opened(store, 4101)
        path = await parked_create(4101)
        page = await browser.text(path)
        assert f"As things stand, it replaces payment {payment.id} of 449.97 INR." in page
        seen = {**SURE, "effect": field(page, "effect")}
        blind = await browser.post(f"{path}/replay", SURE, token=field(page, "token"))
        assert "what a replay would do has changed" in blind.text
        await changed(store, payment, fitting(payment))
        late = await browser.post(f"{path}/replay", seen, token=field(page, "token"))
    assert late.status_code == HTTPStatus.BAD_REQUEST
    assert f"It is of no use: its booking is paid by payment {payment.id}" in late.text
    seen = {**SURE, "effect": field(late.text, "effect")}

    async def is_refused() -> bool:
        refused = await browser.post(f"{path}/replay", seen, token=field(page, "token"))
        return "Nothing was done: it is of no use" in refused.text

    await until(is_refused)  # a letter that was looked at may be back in its queue a little late
    insisted = await browser.post(f"{path}/replay", {**seen, "force": "yes"}, token=field(page, "token"))
    assert insisted.headers["location"] == "/acts#letters"


async def test_a_letter_is_shown_while_the_database_is_away(
    browsers: Browsers, browser: Browser, parked_create: ParkCreate
) -> None:
    path = await parked_create(4102)
    assert "replay would" not in await browser.text(path), "nothing would follow that a person has to know"
    async with browsers(database_url="postgresql://u:p@127.0.0.1:1/x") as blind:
        assert "nobody can say what a replay would do" in await blind.text(path)


async def test_the_service_does_what_is_asked_and_its_answer_is_shown(browser: Browser, migrated: Migrated) -> None:
    clock = MovableClock(kit.NOW + timedelta(days=1))  # no other payment of the module is of that time
    async with closing(Database(migrated.application)) as database:
        store, acts = PostgresStore(database), PostgresActs(database)
        world = World(store=store, clock=clock)
        session = await world.create(bookingId=5001)
        payment = await store.payment_of_session(session.session_id)
        assert payment is not None
        parts = world.parts("store", "gateway", "outcomes", "clock", "reconciliation")
        worker = ActWorker(acts=acts, **parts, timeout_seconds=1)
        while await worker.do_next():
            pass
        for kind in ("verify", "resend", "reconcile", "close"):
            path = f"/payments/{payment.id}/act/{kind}"
            confirm = await browser.text(path)
            assert "payer" in confirm, "what the payment waits for"
            assert ("It sends no money back" in confirm) is (kind == "close")
            await browser.post(path, SURE, token=field(confirm, "token"))
            assert "has not answered yet" in await browser.text(f"/payments/{payment.id}/acts")
            assert await worker.do_next()
            assert not await worker.do_next(), "each is done once"
        answered = await acts.of_payment(payment.id, limit=10)
    assert [act.kind for act in answered] == ["close", "reconcile", "resend", "verify"]
    assert {act.actor for act in answered} == {"asha"}
    assert all(act.answer for act in answered)
    assert answered[0].answer == "Closed: the payment is FAILED."
    compared = "Compared 1 of Stripe's sessions, of half an hour before and after it: no difference."
    assert (answered[1].is_done, answered[1].answer) == (True, compared)
    assert answered[3].answer == "Stripe says: open. The payment is PENDING."
    assert (answered[2].is_done, answered[2].answer) == (
        True,
        "The event payment.pending is published once more, with the same id.",
    )
    page = await browser.text(f"/payments/{payment.id}")
    assert "has not answered yet" not in page
    assert "The event payment.pending is published once more" in page


async def test_a_reconciliation_that_takes_too_long_says_so(
    browser: Browser, migrated: Migrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(act_worker, "RECONCILE_SECONDS", 0.0)
    async with closing(Database(migrated.application)) as database:
        store, acts = PostgresStore(database), PostgresActs(database)
        payment = await opened(store, 5002)
        parts = World(store=store).parts("store", "gateway", "outcomes", "clock", "reconciliation")
        worker = ActWorker(acts=acts, **parts)
        path = f"/payments/{payment.id}/act/reconcile"
        await browser.post(path, SURE, token=await browser.token(path))
        while await worker.do_next():
            pass
        [act] = await acts.of_payment(payment.id, limit=10)
    answer = "It did not come to its end (it took too long): what was mended stays."
    assert (act.is_done, act.answer) == (False, answer)


FORBIDDEN = [
    *(f"DELETE FROM {table}" for table in GRANTED),  # noqa: S608 - constants
    *(f"TRUNCATE {table} CASCADE" for table in GRANTED),
    *(f"SELECT * FROM {table}" for table in GRANTED if table not in CONSOLE_GRANTED),  # noqa: S608 - constants
    *(
        "UPDATE payments SET closed_at = now()",
        "UPDATE outbox SET sent_at = NULL",
        "UPDATE operator_acts SET answer = ''",
    ),
    "INSERT INTO journal (payment_id) VALUES (1)",
    "INSERT INTO operator_acts (kind, payment_id, actor, why, done_at) VALUES ('close', 1, 'a', 'b', now())",
    "UPDATE operator_journal SET actor = 'x'",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_the_consoles_role_may_change_nothing_of_the_record(console_url: str, statement: str) -> None:
    async with closing(await asyncpg.connect(console_url)) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_what_was_asked_is_kept_and_answered_once(browser: Browser, migrated: Migrated) -> None:
    async with closing(Database(migrated.application)) as database:
        payment = await opened(PostgresStore(database), 6001)
    path = f"/payments/{payment.id}/act/close"
    await browser.post(path, SURE, token=await browser.token(path))
    async with closing(await asyncpg.connect(migrated.owner)) as owner:
        answered = "UPDATE operator_acts SET done_at = now(), is_done = true, answer = 'x' WHERE payment_id = $1"
        await owner.execute(answered, payment.id)
        for statement in ("UPDATE operator_acts SET actor = 'eve'", "UPDATE operator_acts SET answer = 'y'"):
            with pytest.raises(asyncpg.IntegrityConstraintViolationError):
                await owner.execute(statement)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await owner.execute("DELETE FROM operator_acts")


async def test_a_database_that_does_not_answer_is_a_sentence(browsers: Browsers) -> None:
    async with browsers(database_url="postgresql://u:p@127.0.0.1:1/x") as browser:
        answer = await browser.get("/search")
        assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert "The database does not answer" in answer.text
        assert (await browser.get("/actuator/health/readiness")).status_code == 503
        assert (await browser.get("/actuator/health/liveness")).status_code == 200
        links = (await browser.get("/actuator")).json()["_links"]
        assert {"self", "health", "info", "prometheus"} <= set(links)
