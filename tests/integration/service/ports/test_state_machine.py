"""The state machine on PostgreSQL and on the sandbox through Stripe's SDK: shorter runs, and as strict.

The rules and invariants are those of `tests/unit/service`; only the house differs. A replica dies at a drawn crossing
of a link, which cuts its calls to the database or to Stripe in the middle.
"""

import asyncio
import functools
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from hypothesis import Phase, settings
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import select

from service.adapters.postgres import Database, PostgresOutbox, PostgresStore, migrate, tables
from service.adapters.postgres.payment_store import _payment
from service.adapters.stripe import StripeGateway
from service.application.ports import JournalEntry, OutboxRow
from service.domain.errors import IllegalTransitionError
from service.domain.money import Money
from service.domain.outcomes import Expired, Open, Outcome, Paid, Unknown, UnknownCause
from tests.integration.sandbox.harness import KEY, Running, running_sandbox
from tests.kit.fake_outbox import Waiting
from tests.kit.fake_store import FakeStore
from tests.kit.servers import run
from tests.kit.world import a_stripe_gateway
from tests.mutants import mutants
from tests.unit.service.application.machine import House, Job, Replica
from tests.unit.service.application.test_state_machine import HISTORIES, AnythingMayHappen, _in_silence
from tools.sandbox import cards

__all__ = ["_in_silence"]

SHORT = settings(HISTORIES, stateful_step_count=30, phases=[Phase.generate])
PATIENCE_SECONDS = 60.0
_EMPTY = """
    ALTER TABLE journal DISABLE TRIGGER USER;
    ALTER TABLE operator_acts DISABLE TRIGGER USER;
    TRUNCATE payments, request_keys, journal, outbox, operator_acts RESTART IDENTITY CASCADE;
    ALTER TABLE operator_acts ENABLE TRIGGER USER;
    ALTER TABLE journal ENABLE TRIGGER USER;
"""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the houses of a run share, one after another."""

    runner: asyncio.Runner
    database: Database
    admin: asyncpg.Connection
    gateway: StripeGateway
    sandbox: Running


class FaultyGateway:
    """Stripe's gateway with the faults that the machine draws: calls that fail, and answers that are lost."""

    def __init__(self, gateway: StripeGateway, sandbox: Running) -> None:
        self._gateway, self._account = gateway, sandbox.sandbox.account
        self.fault: UnknownCause | None = None
        self.lost_answers = 0
        self.late_calls = 0
        self.livemode = gateway.livemode
        self.checkout_request = gateway.checkout_request

    def __getattr__(self, name: str) -> Any:
        return functools.partial(self._send, getattr(self._gateway, name))

    async def _send(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if self.fault is not None:
            return Unknown(cause=self.fault)
        answer = await call(*args, **options)
        if self.lost_answers:
            self.lost_answers -= 1
            return Unknown(cause=UnknownCause.TIMEOUT)
        return answer

    # --- what the machine sees and does at Stripe: past the adapter, which might be wrong -------------------------

    @property
    def made(self) -> dict[str, Any]:
        return {
            session["id"]: SimpleNamespace(
                payment=SimpleNamespace(
                    booking_id=int(session["metadata"]["bookingId"]),
                    reference=session["metadata"]["paymentReference"],
                    money=Money(session["amount_total"], session["currency"]),
                )
            )
            for session in self._account.sessions.bodies
        }

    def stands(self, session_id: str | None) -> Outcome:
        self._account.expire_due()
        session = self._account.session(session_id or "")
        if session["status"] == "open":
            return Open()
        if session["status"] == "expired":
            return Expired()
        assert session["payment_status"] == "paid"
        money = Money(session["amount_total"], session["currency"])
        return Paid(money=money, reference=session["metadata"]["paymentReference"], livemode=session["livemode"])

    def stand(self, session_id: str, outcome: Outcome) -> None:
        """Only payers change a session; a card's money comes at once or never."""
        if not isinstance(outcome, Paid):
            return
        payer = {"email": "payer@example.com", "name": "A Payer"}
        self._account.pay(session_id, cards.find("4242424242424242"), payer)
        if outcome.reference != self.made[session_id].payment.reference:
            self._account.change(session_id, amount_total=self._account.session(session_id)["amount_total"] + 1)

    def deliver(self, *, until: datetime | None = None) -> None:
        """Nothing to do: within one process no call stays on its way."""

    def lose_calls(self) -> None:
        """As above."""

    def heal(self) -> None:
        self.fault, self.lost_answers, self.late_calls = None, 0, 0


class RealHouse(House):
    """Two replicas on a real database and a real gateway. `store` is a copy of the database as it was last."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        parts.runner.run(parts.admin.execute(_EMPTY))
        super().__init__(
            store=PostgresStore(parts.database),
            outbox=PostgresOutbox(parts.database),
            gateway=FaultyGateway(parts.gateway, parts.sandbox),
            gateway_timeout_seconds=20.0,
        )
        self._loop.close()
        self._loop = parts.runner.get_loop()  # type: ignore[assignment]
        parts.sandbox.sandbox.clock.wall = lambda: self.clock.now().timestamp()
        parts.sandbox.sandbox.reset()

    def close(self) -> None:
        """Nothing to do: the houses share the loop."""

    async def _do(self, jobs: tuple[Job, ...], kill: tuple[int, int] | None) -> None:
        if kill is not None:
            self.replicas[kill[0]].fuse = kill[1] // 3
        tasks = self._start(jobs)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait(tasks)
            while flights := [flight for replica in self.replicas for flight in replica.flights]:
                await asyncio.wait(flights)
        self.replicas = [each if each.alive else Replica(self, each.number) for each in self.replicas]
        for replica in self.replicas:
            replica.fuse = None
        self._raise_errors(tasks)
        await self.look()

    async def look(self) -> None:
        seen = FakeStore()
        payments = await self._parts.database.run(select(tables.payments).order_by(tables.payments.c.id), {})
        async with self._parts.database.transaction() as connection:
            lines = (await connection.execute(select(tables.journal).order_by(tables.journal.c.id))).all()
            by_sequence = select(tables.outbox).order_by(tables.outbox.c.payment_id, tables.outbox.c.sequence)
            rows = (await connection.execute(by_sequence)).all()
        seen.payments = {row.id: _payment(row) for row in payments}
        for line in lines:
            seen._journal.setdefault(line.payment_id, []).append(_record_of(JournalEntry, line))
        seen.outbox._waiting = [Waiting(row=_record_of(OutboxRow, row), sent_at=row.sent_at) for row in rows]
        self.store = seen


def _record_of(kind: Any, row: Any) -> Any:
    return kind(**{member.name: getattr(row, member.name) for member in fields(kind)})


@pytest.fixture
def parts(new_database: Callable[[], str]) -> Iterator[Parts]:
    """On a database of its own, which each run empties."""
    url = new_database()
    run(migrate(url))
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stack = AsyncExitStack()

        async def build() -> Parts:
            sandbox = await stack.enter_async_context(running_sandbox())
            admin = await asyncpg.connect(url)
            stack.push_async_callback(admin.close)
            database = Database(url)
            stack.push_async_callback(database.close)
            clock = sandbox.sandbox.clock  # whose wall is the house's clock
            gateway = a_stripe_gateway(sandbox.url, api_key=KEY, now=lambda: datetime.fromtimestamp(clock.wall(), UTC))
            stack.push_async_callback(gateway.close)
            return Parts(runner=runner, database=database, admin=admin, gateway=gateway, sandbox=sandbox)

        yield runner.run(build())
        runner.run(stack.aclose())


def play(parts: Parts, *, examples: int) -> None:
    class OnRealParts(AnythingMayHappen):
        has_copies = False

        def a_house(self) -> House:
            return RealHouse(parts)

    run_state_machine_as_test(OnRealParts, settings=settings(SHORT, max_examples=examples))


@pytest.mark.usefixtures("_in_silence")
def test_whatever_happens_to_real_parts_nobody_pays_twice_and_nothing_is_lost(
    parts: Parts, pytestconfig: pytest.Config
) -> None:
    play(parts, examples=pytestconfig.getoption("--histories") // 10)


@pytest.mark.mutants
@pytest.mark.usefixtures("_in_silence")
@pytest.mark.parametrize(
    "mutant",
    # What is met soon by chance; scenarios turn red with the others.
    [mutants.another_key_each_time, mutants.ended_here_and_not_at_stripe],
    ids=lambda mutant: mutant.__name__,
)
def test_the_state_machine_on_real_parts_notices(
    parts: Parts, mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    # By an invariant, or by the status table, which knows no such transition.
    # Real parts may do otherwise in a repetition, which is told as "flaky".
    noticed = (AssertionError, IllegalTransitionError)
    with pytest.raises((*noticed, FlakyFailure), match="Failing test case") as caught:
        play(parts, examples=150)
    if isinstance(caught.value, FlakyFailure):
        assert all(isinstance(each, noticed) for each in caught.value.exceptions)
