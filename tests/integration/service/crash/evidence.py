"""What a crash test looks at: Stripe's counters, the journal, the replies and the events."""

import signal
from dataclasses import dataclass
from typing import Any, Self

from contracts import envelope
from contracts.commands import CommandType
from service.failpoints import FailPoint
from tests.integration.service.crash.programs import Program, Programs
from tests.integration.service.messages.rig import Message, Rig, until

SENT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Told:
    """What subscribers must have heard of a payment: each status once, as one event, perhaps in several copies."""

    statuses: tuple[str, ...]
    copies: int = 1
    """At least so many messages for each."""


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Calls to Stripe, and those of them that were answered from a kept answer."""

    calls: int
    replays: int = 0

    def __add__(self, other: Self) -> "Calls":
        return Calls(calls=self.calls + other.calls, replays=self.replays + other.replays)

    def __sub__(self, other: Self) -> "Calls":
        return Calls(calls=self.calls - other.calls, replays=self.replays - other.replays)


async def calls(rig: Rig) -> Calls:
    """All there were so far; none of them failed."""
    counts = await rig.stripe_counts()
    assert not any(each["errors"] or each["rate_limited"] for each in counts)
    return Calls(calls=sum(each["calls"] for each in counts), replays=sum(each["replays"] for each in counts))


async def died(
    rig: Rig, programs: Programs, point: FailPoint, command: CommandType, bodies: list[dict[str, Any]]
) -> list[str]:
    """A service handles one command after the other and is killed at the last; their marks."""
    service = await programs.service(f"{point}:{len(bodies)}")
    marks = []
    for body in bodies:
        marks.append(await rig.send(command, body, reply_to=envelope.DIRECT_REPLY_TO))
        if body is not bodies[-1]:
            await rig.reply_to(marks[-1])
    assert await service.ended() == -signal.SIGKILL
    return marks


async def replies_of(rig: Rig, mark: str, count: int = 1) -> list[Message]:
    """The replies to a command as soon as there are so many."""

    def found() -> list[Message]:
        return [each for each in rig.replies if each.properties.correlation_id == mark]

    await until(lambda: len(found()) >= count, SENT_SECONDS)
    return found()


async def nothing_left(rig: Rig, service: Program, command: CommandType) -> None:
    """The service goes, and no command has stayed behind: none waits, none was held, none was parked."""
    await service.stopped()
    await rig.queue_empty(command)
    assert await rig.dead_letters(command) == []


async def journal(rig: Rig, payment_id: int) -> list[str]:
    """What has happened to a payment, in order."""
    lines = await rig.sql("SELECT version, kind FROM journal WHERE payment_id = $1 ORDER BY id", payment_id)
    assert [line["version"] for line in lines] == list(range(len(lines)))
    return [line["kind"] for line in lines]


async def all_sent(rig: Rig) -> None:
    """Wait until the outbox holds nothing that was not sent."""

    async def sent() -> bool:
        return not await rig.sql("SELECT 1 FROM outbox WHERE sent_at IS NULL")

    await until(sent, SENT_SECONDS)


async def delivered(rig: Rig, payment_id: int, expected: Told) -> int:
    """The payment's changes were all told, each as one event; how many copies came beside the first."""
    written = await rig.sql("SELECT event_id, body FROM outbox WHERE payment_id = $1 ORDER BY sequence", payment_id)
    copies = await rig.told(payment_id, events=expected.copies * len(expected.statuses))
    assert {(each.properties.message_id, each.body) for each in copies} == {
        (row["event_id"], row["body"]) for row in written
    }
    told = {each.document["data"]["sequence"]: each.document["data"]["status"] for each in copies}
    assert told == dict(enumerate(expected.statuses, start=1))
    return len(copies) - len(written)
