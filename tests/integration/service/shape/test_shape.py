"""What a create, a verify and a status read cost, counted: their shape, whatever the machine's speed."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest_asyncio

from tests.integration.faults.stack import breakable
from tests.integration.service.messages.rig import CREATE, STATUS, Rig, a_create, around, serving, until
from tests.integration.service.shape.tap import Tap
from tests.kit.brokers import RoleUrl

# Per operation: the statements that it waits for, AMQP's methods between service and RabbitMQ, calls to Stripe.
ONE_REPLY = {"deliver": 1, "publish": 1, "ack": 1}
REPLY_AND_EVENT = {"deliver": 1, "publish": 2, "ack": 1}
SHAPES: dict[str, tuple[dict[str, int], dict[str, int], dict[str, int]]] = {
    "create": ({"begin": 1, "record": 1}, REPLY_AND_EVENT, {"checkout.sessions.create": 1}),
    "the same create again": ({"begin": 1, "read by keys": 2, "read live": 1, "remember": 1}, ONE_REPLY, {}),
    "the same command again": ({"begin": 1, "read by keys": 1, "remember": 1}, ONE_REPLY, {}),
    "the first verify": ({"read": 1, "claim ask": 1}, ONE_REPLY, {"checkout.sessions.retrieve": 1}),
    "a verify within the freshness window": ({"read": 1}, ONE_REPLY, {}),
    "the verify that finds it paid": (
        {"read": 1, "claim ask": 1, "record": 1},
        REPLY_AND_EVENT,
        {"checkout.sessions.retrieve": 1},
    ),
    "a verify of a final payment": ({"read": 1}, ONE_REPLY, {}),
    "status": ({"read": 1}, ONE_REPLY, {}),
}
STATEMENTS = {
    "begin": "INSERT INTO payments",
    "record": "UPDATE payments SET status",
    "remember": "INSERT INTO request_keys",
    "read by keys": "request_keys.fingerprint",
    "read live": "WHERE payments.booking_id = ",
    "read": "WHERE payments.session_id = ",
    "claim ask": "UPDATE payments SET asked_at",
    "read by id": "WHERE payments.id = $1::BIGINT",
}
"""By words of theirs; the first that fits counts."""
BACKGROUND = (
    "outbox",
    "settle_attempts=",
    "SELECT payments.created_at",
    "ctid",
    "budget",
    "feed",
    "places",
    "operator_acts",
    "gateway_health",
    "SELECT 1",
    "LISTEN",
    "'jit'",
    "typeinfo",
    "pg_is_in_recovery",
    "SELECT clock_timestamp() AS now",
)
"""Words of what goes on beside: relay, sweeper, pruner and their like share a statement between many, the driver asks
about types once per connection, the listener is checked and the clock is measured every some seconds. Whatever has none
of all these words is a new statement, and belongs above."""

TIMES = 10
"""Of each operation: a cost that comes with every second one only would show."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The service between two taps."""

    rig: Rig
    statements: Tap
    methods: Tap

    async def cost(self, times: int, work: Callable[[int], Awaitable[Any]]) -> tuple[dict[str, int], ...]:
        """What `work`, done so many times one after the other, cost in all."""
        before = Counter(self.statements.seen), Counter(self.methods.seen), await self._calls()
        for number in range(times):
            await work(number)
        await until(self.quiet)
        statements: Counter[str] = Counter()
        for text, count in (self.statements.seen - before[0]).items():
            statements[_name(text)] += count
        del statements["background"]
        return dict(statements), dict(self.methods.seen - before[1]), dict(await self._calls() - before[2])

    async def quiet(self) -> bool:
        """Whether every delivery is acknowledged and every event has left."""
        seen = self.methods.seen
        [row] = await self.rig.sql("SELECT count(*) AS unsent FROM outbox WHERE sent_at IS NULL")
        return not row["unsent"] and seen["ack"] == seen["deliver"]

    async def _calls(self) -> Counter[str]:
        stats = await self.rig.sandbox.control("stats")
        return Counter({name: each["calls"] for name, each in stats["calls"].items()})


def _name(text: str) -> str:
    known = (name for name, words in STATEMENTS.items() if words in text)
    return next(known, "background" if any(words in text for words in BACKGROUND) else text)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def measured(amqp_url: str, role_url: RoleUrl, migrated_url: str) -> AsyncIterator[Measured]:
    async with (
        around(amqp_url, migrated_url, service_url=role_url("payment-service"), verify_freshness_seconds=60) as rig,
        breakable(rig.settings, "database_url", Tap) as (statements, settings),
        breakable(settings, "amqp_url", Tap) as (methods, settings),
    ):
        await rig.read_no_events()  # what the feed finds is counted beside it
        async with serving(settings) as rig.service:
            await rig.created()  # once, so that the queues and the connections have been used
            measured = Measured(rig=rig, statements=statements, methods=methods)
            await until(measured.quiet)
            yield measured


async def test_what_each_operation_costs(measured: Measured) -> None:
    rig = measured.rig
    creates = [a_create() for _ in range(TIMES)]
    sessions: list[str] = []
    sent: list[Any] = []

    async def repeat(number: int) -> None:
        await rig.ask(CREATE, creates[number], message_id=sent[number])

    async def create(number: int) -> None:
        reply = await rig.ask(CREATE, creates[number])
        sessions.append(reply.document["sessionId"])
        sent.append(reply.properties.correlation_id)

    async def verify(number: int) -> None:
        assert (await rig.verified(sessions[number]))["transactionId"] == sessions[number]

    async def status(number: int) -> None:
        reply = await rig.ask(STATUS, {"transactionId": sessions[number]})
        assert reply.document["transactionId"] == sessions[number]

    found = {
        "create": await measured.cost(TIMES, create),
        "the same create again": await measured.cost(TIMES, create),
        "the same command again": await measured.cost(TIMES, repeat),
        "the first verify": await measured.cost(TIMES, verify),
        "a verify within the freshness window": await measured.cost(TIMES, verify),
    }
    assert sessions[:TIMES] == sessions[TIMES:]
    creates, sessions[:] = [a_create() for _ in range(TIMES)], []
    await measured.cost(TIMES, create)
    for session in sessions:
        await rig.sandbox.pay(session)
    found["the verify that finds it paid"] = await measured.cost(TIMES, verify)
    found["a verify of a final payment"] = await measured.cost(TIMES, verify)
    found["status"] = await measured.cost(TIMES, status)
    assert found == {
        name: tuple({what: TIMES * count for what, count in part.items()} for part in parts)
        for name, parts in SHAPES.items()
    }


async def test_in_a_rush_events_share_the_relays_statements(measured: Measured) -> None:
    await measured.cost(1, lambda _: measured.rig.created())
    before = Counter(measured.statements.seen)
    events = 3 * TIMES
    marks = [await measured.rig.ask_later(CREATE, a_create()) for _ in range(events)]
    for mark in marks:
        await measured.rig.reply_to(mark)
    await until(measured.quiet)
    marked = sum(
        count for text, count in (measured.statements.seen - before).items() if "UPDATE outbox SET sent_at" in text
    )
    assert 0 < marked < events
