"""The parts of the chaos run: each check of the tool is shown to fail."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from tests.kit.until import until
from tools.chaos import chaos_page, invariants, report
from tools.chaos.facts import Facts, Leaks
from tools.chaos.fault_injection import ACTIONS, Window
from tools.chaos.plan import KINDS, Fault, Plan, draw
from tools.chaos.proxy import Mode, Proxy, behind_proxy
from tools.chaos.wishes import Attempt, Command, Operation

SOON = 0.15
"""Bytes that do not arrive within this time are held."""


# --- the proxy --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def echo_behind_proxy() -> AsyncIterator[Proxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(1024):
                writer.write(piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, behind_proxy(f"echo://{host}:{port}") as (proxy, _):
        yield proxy
    await asyncio.sleep(0.02)  # closed transports say goodbye in the loop's next rounds


@dataclass(frozen=True)
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def says(self, text: bytes, *, within: float = 2.0) -> bytes:
        self.writer.write(text)
        return await asyncio.wait_for(self.reader.read(1024), within)


@asynccontextmanager
async def client_of(proxy: Proxy) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    yield client
    client.writer.close()


async def test_a_proxy_forwards_cuts_refuses_and_comes_back_on_the_same_port() -> None:
    async with echo_behind_proxy() as proxy, client_of(proxy) as client:
        assert await client.says(b"hello") == b"hello"
        assert proxy.connections == 1
        port = proxy.port
        await proxy.set(Mode.DOWN)
        assert await client.reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await proxy.set(Mode.NORMAL)
        assert proxy.port == port
        async with client_of(proxy) as again:
            assert await again.says(b"again") == b"again"


async def test_a_connection_that_is_accepted_as_the_proxy_stops_is_ended_too() -> None:
    ends: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    server = await asyncio.start_server(lambda *streams: ends.append(streams), "127.0.0.1", 0)
    async with server, echo_behind_proxy() as proxy:
        for stops_first in (False, True):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await until(lambda: ends)
            if stops_first:
                await proxy.stop()
            proxy._accept(*ends.pop())
            await proxy.stop()
            assert await asyncio.wait_for(reader.read(), 60) == b""
            writer.close()


async def test_a_black_hole_holds_everything_and_delivers_it_afterwards() -> None:
    async with echo_behind_proxy() as proxy, client_of(proxy) as client:
        await client.says(b"hello")
        await proxy.set(Mode.BLACK_HOLE)
        with pytest.raises(TimeoutError):
            await client.says(b"anybody?", within=SOON)
        async with client_of(proxy) as another:  # is accepted, and gets no answer
            with pytest.raises(TimeoutError):
                await another.says(b"me too", within=SOON)
            await proxy.set(Mode.NORMAL)
            assert await another.says(b"") == b"me too"
        assert await client.says(b"") == b"anybody?"


async def test_a_reset_is_a_reset_and_a_slow_link_delivers_late() -> None:
    async with echo_behind_proxy() as proxy, client_of(proxy) as client:
        await proxy.set(Mode.SLOW, delay_seconds=SOON)
        began = time.monotonic()
        assert await client.says(b"slowly") == b"slowly"
        assert time.monotonic() - began >= 2 * SOON  # there and back
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await client.reader.read()


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan(seed: int, *, seconds: float = 120, operations: int = 50, kills_per_minute: float = 0) -> Plan:
    return draw(seed, seconds=seconds, operations=operations, kills_per_minute=kills_per_minute)


def test_the_same_seed_is_the_same_plan_and_another_seed_another() -> None:
    first = plan(7)
    assert first == plan(7)
    assert first.faults != plan(8).faults
    assert first.faults == plan(7, operations=60).faults


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_waits_for_the_queues_and_ends_in_calm(seed: int) -> None:
    faults = plan(seed, seconds=300).faults
    assert {fault.kind for fault in faults} == {kind.name for kind in KINDS}
    assert min(fault.at for fault in faults if fault.kind == "broker killed") >= 25
    assert max(fault.at + fault.seconds for fault in faults) <= 295


def test_kills_come_on_top_at_their_rate_and_leave_time_to_be_up_again() -> None:
    faults = plan(3, seconds=600, kills_per_minute=12).faults
    kills = [fault for fault in faults if fault.kind in {"service killed", "bridge killed"}]
    assert len(faults) - len(kills) > 60
    assert 90 < len(kills) < 170
    assert [fault.number for fault in faults] == [*range(1, len(faults) + 1)]
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)


def test_every_kind_of_fault_can_be_done() -> None:
    assert {kind.name for kind in KINDS} == set(ACTIONS)


def test_amounts_are_doubles_as_java_prints_them() -> None:
    buyers = plan(1, operations=500).buyers
    assert all(round(float(buyer.amount) * 100) == buyer.minor for buyer in buyers)
    assert any(len(buyer.amount) > 12 for buyer in buyers)


# --- the invariants ---------------------------------------------------------------------------------------------------

SESSION = "cs_test_one"


def body(**changes: object) -> bytes:
    data = {"paymentId": 1, "bookingId": 5, "sequence": 1, "status": "PENDING", "amountMinor": 44997, "currency": "inr"}
    return json.dumps({"data": data | changes}).encode()


def operation(kind: str, answer: dict[str, object], *, status: int = 200) -> Operation:
    made = Operation(kind=kind, booking=5, began=0.0, answer=answer, asked=SESSION)
    made.minor = 44997 if kind == "create" else 0
    made.attempts.append(Attempt(at=0.0, seconds=0.1, status=status))
    return made


def verified(status: str, message: str = "") -> Operation:
    return operation("verify", {"paymentStatus": status, "message": message})


def good() -> Facts:
    """One booking, created over REST and by a command, paid, verified."""
    session = {
        "id": SESSION,
        "status": "complete",
        "payment_status": "paid",
        "amount_total": 44997,
        "currency": "inr",
        "client_reference_id": "5",
        "metadata": {"bookingId": "5", "paymentReference": "ref-1"},
    }
    payment = {
        "id": 1,
        "booking_id": 5,
        "reference": "ref-1",
        "amount_minor": 44997,
        "currency": "inr",
        "status": "COMPLETED",
        "reason": None,
        "attention": None,
        "session_id": SESSION,
        "version": 2,
        "neglected": False,
    }
    history = [("created", "PENDING"), ("opened", "PENDING"), ("completed", "COMPLETED")]
    return Facts(
        payments=[payment],
        journal=[
            {"payment_id": 1, "version": version, "kind": kind, "status": status, "detail": {}}
            for version, (kind, status) in enumerate(history)
        ],
        sessions=[session],
        delivered=[("e1", body()), ("e2", body(sequence=2, status="COMPLETED")), ("e1", body())],
        operations=[
            operation("create", {"sessionId": SESSION, "amount": 449.97}),
            verified("PENDING"),
            verified("COMPLETED"),
        ],
        commands=[Command(message_id="command-5", booking=5, minor=44997, confirmed=True)],
        leaks=Leaks(database_sessions=(40, 40), consumers={"queue": (2, 2)}, growth={"channels": (12, 12)}),
    )


def broken(facts: Facts) -> set[str]:
    return {violation.invariant for violation in invariants.check(facts)}


def test_good_facts_break_nothing() -> None:
    assert broken(good()) == set()


def test_terms_that_were_renewed_have_a_journal_line_and_neither_version_nor_event() -> None:
    facts = good()
    facts.journal.insert(1, facts.journal[0] | {"kind": "renewed"})
    assert broken(facts) == set()


def test_a_session_that_was_ended_before_its_terms_were_renewed_needs_no_payment_and_one_that_lives_does() -> None:
    facts = good()
    facts.journal.insert(1, facts.journal[0] | {"kind": "renewed", "detail": {"replaced": "ref-before"}})
    before = {"metadata": facts.sessions[0]["metadata"] | {"paymentReference": "ref-before"}}
    session_like(facts, **before, status="expired", payment_status="unpaid")
    assert broken(facts) == set()
    session_like(facts, **before, id="cs_test_three", status="open", payment_status="unpaid", created=0)
    assert "I1" in broken(facts)


def test_money_that_does_not_fit_is_told_to_a_person_and_to_reconcile_and_breaks_nothing() -> None:
    facts = good()
    called(facts)
    facts.sessions[0].update(amount_total=1)
    facts.operations.append(MONEY)
    facts.differences.append({"kind": "money_differs", "bookingId": 5, "attention": "paid_differently"})
    assert broken(facts) == set()


def test_what_a_restore_makes_undone_is_no_breach_and_what_comes_afterwards_may_be() -> None:
    facts = good()
    put_back(facts)
    facts.commands.append(Command(message_id="command-6", booking=6, minor=1, at=1.5, confirmed=True))
    assert broken(facts) == set()
    facts.commands.append(Command(message_id="command-7", booking=7, minor=1, at=2.5, confirmed=True))
    facts.delivered.append(("e5", body()))
    assert broken(facts) == {"I5", "I8"}


def test_after_a_restore_a_paid_session_needs_a_payment_or_a_person_and_without_one_both() -> None:
    facts = good()
    called(facts, "unknown_session")
    facts.operations.append(verified("COMPLETED"))
    facts.journal[-1]["detail"]["session"] = SESSION
    payment_of(facts, session_id="cs_test_two")
    session_like(facts, status="expired", payment_status="unpaid")
    assert broken(facts) == {"I1", "I9"}
    facts.losses.append((1.0, 2.0))
    assert broken(facts) == set()
    facts.operations.append(verified("FAILED"))
    assert broken(facts) == {"I9"}
    facts.operations.pop()
    facts.journal[-1]["detail"]["session"] = "cs_test_another"
    assert broken(facts) == {"I1", "I9", "I13"}


def session_like(facts: Facts, **changes: object) -> None:
    facts.sessions.append(facts.sessions[0] | {"id": "cs_test_two"} | changes)


def payment_of(facts: Facts, **changes: object) -> None:
    facts.payments[0].update(changes)


def line_of(facts: Facts, **changes: object) -> None:
    facts.journal.append(facts.journal[-1] | changes)


def command_lost(facts: Facts) -> None:
    facts.commands.append(Command(message_id="command-6", booking=6, minor=1, confirmed=True))


def second_payment(facts: Facts) -> None:
    facts.payments.append(facts.payments[0] | {"id": 2, "session_id": "cs_test_two"})
    facts.journal += [line | {"payment_id": 2} for line in facts.journal]
    opened, completed = body(paymentId=2), body(paymentId=2, sequence=2, status="COMPLETED")
    facts.delivered += [("e3", opened), ("e4", completed)]


def called(facts: Facts, reason: str = "paid_differently") -> None:
    """A person was called for the payment, which is PENDING."""
    payment_of(facts, status="PENDING", attention=reason)
    line = {"kind": "attention", "status": "PENDING", "detail": {"reason": reason}}
    facts.journal[-1] = facts.journal[-1] | line
    facts.delivered[1] = ("e2", body(sequence=2))
    facts.operations.pop()


def put_back(facts: Facts) -> None:
    """The database was put back to a copy of before the payment, and the payment was adopted."""
    facts.losses.append((1.0, 2.0))
    facts.delivered_before = facts.delivered
    payment_of(facts, id=2)
    facts.journal = [line | {"payment_id": 2} for line in facts.journal]
    facts.journal[0] |= {"kind": "adopted"}
    facts.delivered = [("e3", body(paymentId=2)), ("e4", body(paymentId=2, sequence=2, status="COMPLETED"))]


def failed_but_paid(facts: Facts) -> None:
    payment_of(facts, status="FAILED")
    facts.journal[-1] = facts.journal[-1] | {"kind": "failed", "status": "FAILED"}
    facts.delivered[1] = ("e2", body(sequence=2, status="FAILED"))
    facts.operations.pop()


MONEY = verified("PENDING", "Money has arrived that does not fit this payment.")

BREACHES: dict[str, tuple[str, Callable[[Facts], object]]] = {
    "a session that no payment knows": ("I1", lambda f: session_like(f, status="expired", payment_status="unpaid")),
    "a payment that lost its session": ("I1", lambda f: payment_of(f, session_id=None, status="PENDING")),
    "two open sessions": (
        "I2",
        lambda f: [session_like(f, status="open", payment_status="unpaid", id=f"cs_test_{n}") for n in range(2)],
    ),
    "two payable sessions at some moment": ("I2", lambda f: setattr(f, "most_payable", 2)),
    "two paid sessions": ("I3", session_like),
    "two COMPLETED payments": ("I3", second_payment),
    "a transition without an event": ("I4", lambda f: f.delivered.pop(1)),
    "an event of a version that is not committed": ("I5", lambda f: f.delivered.append(("e3", body(sequence=3)))),
    "an event that tells another status": ("I5", lambda f: f.delivered.append(("e2", body(status="FAILED")))),
    "a transition published under two ids": ("I6", lambda f: f.delivered.append(("e9", body()))),
    "an event whose bytes changed": ("I6", lambda f: f.delivered.append(("e1", body() + b" "))),
    "a second final transition": (
        "I7",
        lambda f: (
            payment_of(f, version=3),
            line_of(f, version=3, kind="completed"),
            f.delivered.append(("e3", body(sequence=3, status="COMPLETED"))),
        ),
    ),
    "a status that the journal does not know": ("I7", lambda f: payment_of(f, status="FAILED")),
    "terms renewed after the end": ("I7", lambda f: line_of(f, kind="renewed")),
    "a gap in the journal": ("I7", lambda f: f.journal.pop(1)),
    "a confirmed command that is nowhere": ("I8", command_lost),
    "a command dead-lettered without a reason": ("I8", lambda f: f.dead.update({"command-5": ""})),
    "a create answered with a session that we do not have": (
        "I9",
        lambda f: f.operations.append(operation("create", {"sessionId": "cs_test_none", "amount": 449.97})),
    ),
    "ALREADY_PAID for a booking that nobody paid": (
        "I9",
        lambda f: (
            f.sessions[0].update(payment_status="unpaid"),
            f.operations.append(operation("create", {"paymentStatus": "ALREADY_PAID"}, status=409)),
        ),
    ),
    "FAILED, and later COMPLETED": ("I9", lambda f: f.operations.append(verified("FAILED"))),
    "COMPLETED, and the ledger says unpaid": ("I9", lambda f: f.sessions[0].update(payment_status="unpaid")),
    "COMPLETED, and a restore left it PENDING": (
        "I9",
        lambda f: (called(f), f.operations.append(verified("COMPLETED")), f.losses.append((1.0, 2.0))),
    ),
    "FAILED and paid, and no person was called": ("I13", failed_but_paid),
    "a refund that is not in the journal": ("I13", lambda f: f.operations.append(operation("refund", {}))),
    "a dispute that is not in the journal": ("I13", lambda f: f.operations.append(operation("dispute", {}))),
    "nothing was charged, and it is paid": (
        "I14",
        lambda f: f.operations.append(verified("PENDING", "The checkout ended. Nothing was charged.")),
    ),
    "money has arrived, and it is not paid": (
        "I14",
        lambda f: (f.sessions[0].update(payment_status="unpaid"), f.operations.pop(), f.operations.append(MONEY)),
    ),
    "reconcile tells something of which no person knows": (
        "I15",
        lambda f: f.differences.append({"kind": "paid_there", "bookingId": 5, "attention": None}),
    ),
    "reconcile tells what it should have mended": (
        "I15",
        lambda f: f.differences.append({"kind": "session_not_stored", "bookingId": 5, "attention": "unsettled"}),
    ),
    "another amount at Stripe": ("I10", lambda f: f.sessions[0].update(amount_total=44998)),
    "another amount at Stripe, and a person was called for something else": (
        "I10",
        lambda f: (called(f, "unknown_session"), f.sessions[0].update(amount_total=44998)),
    ),
    "another amount in the row": ("I10", lambda f: payment_of(f, amount_minor=44998)),
    "another amount in an event": ("I10", lambda f: f.delivered.append(("e1", body(amountMinor=1)))),
    "another amount in the answer": ("I10", lambda f: f.operations[0].answer.update(amount=449.98)),
    "more database sessions than the pools have": ("I11", lambda f: setattr(f.leaks, "database_sessions", (41, 40))),
    "a transaction that stands still": ("I11", lambda f: setattr(f.leaks, "idle_in_transaction_seconds", (6.0, 5.0))),
    "a consumer that is missing": ("I11", lambda f: f.leaks.consumers.update(queue=(1, 2))),
    "a payment whose time is over": ("I12", lambda f: payment_of(f, neglected=True)),
    "channels that grow": ("I11", lambda f: f.leaks.growth.update(channels=(13, 12))),
}


def test_each_breach_turns_its_invariant_red_and_each_invariant_has_one_that_shows_it_alone() -> None:
    alone = set()
    for description, (name, breach) in BREACHES.items():
        facts = good()
        breach(facts)
        found = broken(facts)
        assert name in found, description
        alone |= found if len(found) == 1 else set()
    assert alone == set(invariants.INVARIANTS) == set(invariants.RULES)


# --- the report -------------------------------------------------------------------------------------------------------


def test_a_report_counts_what_clients_saw_during_a_fault_and_becomes_one_page() -> None:
    facts = good()
    facts.operations[0].attempts.insert(0, Attempt(at=0.0, seconds=0.1, status=503))
    session_like(facts)
    fault = Fault(number=1, kind="Stripe down", target="stripe", at=0.0, seconds=0.05, value=0.0)
    figures = report.figures_of(
        operations=facts.operations,
        windows=[Window(fault=fault, began=0.0, ended=0.05)],
        violations=invariants.check(facts),
        seconds=2.0,
    )
    row = figures["kinds"]["Stripe down"]
    assert (row["attempts"], row["acknowledged"], row["recovered"], row["duplicated"]) == (4, 3, 1, 1)
    assert figures["faults"][0]["recovery"] == 0.05
    text = chaos_page.render(
        figures
        | {
            "seed": 1,
            "command": "again",
            "at": "now",
            "machine": "<this>",
            "per_minute": 1,
            "waited_seconds": 0.0,
            "limits": "",
        }
        | {"open": {}, "measured": {}, "deaths": {}, "logged": {}}
    )
    assert "<svg" in text
    assert "&lt;this&gt;" in text
    assert "src=" not in text
