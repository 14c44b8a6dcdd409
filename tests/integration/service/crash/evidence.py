"""What a crash test looks at: Stripe's counters, the journal, the replies and the events."""

import signal
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from contracts import envelope
from contracts.commands import CommandType
from service.failpoints import FailPoint
from tests.integration.service.crash.programs import Program, Programs
from tests.integration.service.messages.rig import Message, Rig, until

DEADLINE: Final = "120000"
"""Milliseconds, enough for two starts of a service on a busy machine; the default deadline is 30 s."""


@dataclass(frozen=True, kw_only=True)
class ExpectedEvents:
    """The events of a payment that subscribers must have: one for each status, perhaps in several copies."""

    statuses: tuple[str, ...]
    copies: int = 1
    """At least so many messages for each."""


async def calls(rig: Rig) -> Counter[str]:
    """All `calls` to Stripe so far, and the `replays` among them, by a kept answer; none of them failed."""
    counts = await rig.stripe_counts()
    assert not any(each["errors"] or each["rate_limited"] for each in counts)
    return Counter({name: sum(each[name] for each in counts) for name in ("calls", "replays")})


async def died(
    rig: Rig, programs: Programs, point: FailPoint, command: CommandType, bodies: list[dict[str, Any]]
) -> list[str]:
    """A service handles one command after the other and is killed at the last; their marks."""
    service = await programs.service(f"{point}:{len(bodies)}")
    marks = []
    for body in bodies:
        marks.append(await rig.send(command, body, reply_to=envelope.DIRECT_REPLY_TO, expiration=DEADLINE))
        if body is not bodies[-1]:
            await rig.reply_to(marks[-1])
    assert await service.ended() == -signal.SIGKILL
    return marks


async def replies_of(rig: Rig, mark: str, count: int = 1) -> list[Message]:
    """The replies to a command as soon as there are so many."""

    def found() -> list[Message]:
        return [each for each in rig.replies if each.properties.correlation_id == mark]

    await until(lambda: len(found()) >= count)
    return found()


async def nothing_left(rig: Rig, service: Program, command: CommandType) -> None:
    """The service goes, and no command has stayed behind: none waits, none is unacknowledged, none is dead-lettered."""
    await service.stopped()
    await rig.queue_empty(command)
    assert await rig.dead_letters(command) == []


async def journal(rig: Rig, payment_id: int) -> list[str]:
    """What has happened to a payment, in order."""
    lines = await rig.sql("SELECT version, kind FROM journal WHERE payment_id = $1 ORDER BY id", payment_id)
    assert [line["version"] for line in lines] == list(range(len(lines)))
    return [line["kind"] for line in lines]


async def delivered(rig: Rig, payment_id: int, expected: ExpectedEvents) -> int:
    """Each change of the payment was published as one event; how many copies came beside the first."""
    written = await rig.sql("SELECT event_id, body FROM outbox WHERE payment_id = $1 ORDER BY sequence", payment_id)
    copies = await rig.told(payment_id, events=expected.copies * len(expected.statuses))
    assert {(each.properties.message_id, each.body) for each in copies} == {
        (row["event_id"], row["body"]) for row in written
    }
    told = {each.document["data"]["sequence"]: each.document["data"]["status"] for each in copies}
    assert told == dict(enumerate(expected.statuses, start=1))
    return len(copies) - len(written)
