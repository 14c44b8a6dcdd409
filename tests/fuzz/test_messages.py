"""B16 to B24 and B26 Every message to the command queues gets its disposition, and others are not disturbed."""

import asyncio
import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import uuid4

import aiormq
import pytest
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelClosed

from contracts import envelope, topology
from contracts.commands import CommandType
from runtime import amqp_compat
from tests.fuzz.conftest import Say
from tests.fuzz.messages import REFUSED, REPLY_QUEUE, UNKNOWN_SESSION, Odd, drawn
from tests.integration.service.crash.programs import Programs
from tests.integration.service.messages.rig import CREATE, VERIFY, Message, Rig, _message, a_create
from tests.kit.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

READY = "ready: consuming commands"


@dataclass(kw_only=True)
class Witness:
    """Sends odd messages one by one, and checks the disposition of each."""

    rig: Rig
    channel: aiormq.abc.AbstractChannel
    letters: list[Message] = field(default_factory=list)
    answers: list[Message] = field(default_factory=list)
    events: Counter[int] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    parked: int = 0
    executed: list[int] = field(default_factory=list)

    @classmethod
    async def watching(cls, rig: Rig) -> Self:
        channel = await rig.connection.channel(publisher_confirms=True)
        witness = cls(rig=dataclasses.replace(rig, channel=channel), channel=channel)
        await channel.queue_declare(REPLY_QUEUE, exclusive=True)
        audit = await channel.queue_declare(f"fuzz-{uuid4()}", exclusive=True)
        await channel.queue_bind(audit.queue or "", topology.EVENTS.name, "#")
        for queue in (envelope.DIRECT_REPLY_TO, REPLY_QUEUE):
            await channel.basic_consume(queue, witness._on_answer, no_ack=True)
        for dead in topology.DEAD_LETTER_QUEUES.values():
            await channel.basic_consume(dead.name, witness._on_letter, no_ack=True)
        await channel.basic_consume(audit.queue or "", witness._on_event, no_ack=True)
        return witness

    async def send(self, odd: Odd) -> None:
        """Send it, and wait until it has its disposition."""
        if REFUSED in odd.reasons:
            await self._send_refused(odd)
        elif odd.reasons:
            await self._send_flawed(odd)
        else:
            await self._send_good(odd)
        # A further dead letter would have no reason, or be a second copy.
        assert len(self.letters) == self.parked, self.letters[-1]

    async def _send_refused(self, odd: Odd) -> None:
        channel = await self.rig.connection.channel(publisher_confirms=True)
        with pytest.raises(ChannelClosed):
            await self._publish(odd, dataclasses.replace(self.rig, channel=channel), reply_to=None)
        self.ended[REFUSED] += 1

    async def _send_flawed(self, odd: Odd) -> None:
        before = len(self.answers)
        content, properties, _ = await self._publish(odd, self.rig)
        letter = await self._letter()
        assert letter.headers["x-reason"] in odd.reasons, letter.headers
        assert letter.body == content
        assert letter.headers["x-reason-text"].isprintable()
        if odd.told:
            correlation_id = properties["correlation_id"]
            fault = await until(lambda: self._answer(correlation_id, since=before))
            assert (fault.type, fault.document["code"]) == ("fault", "VALIDATION_ERROR")
        self.ended[f"parked as {letter.headers['x-reason']}"] += 1

    async def _send_good(self, odd: Odd) -> None:
        before = len(self.answers)
        _, properties, members = await self._publish(odd, self.rig)
        if odd.reply_to is not None:
            answer = await until(lambda: self._answer(properties["correlation_id"], since=before))
            if odd.command is CREATE:
                assert (answer.type, answer.document["bookingId"]) == ("checkout.create.reply", members["bookingId"])
            else:
                assert answer.document["code"] == "NOT_FOUND"
        elif odd.command is not CREATE:
            assert (await self._letter()).headers["x-reason"] == "refused"
        if odd.command is CREATE:
            await until(lambda: self.events[members["bookingId"]])
            self.executed.append(members["bookingId"])
        self.ended["executed" if odd.command is CREATE else "answered" if odd.reply_to else "parked as refused"] += 1

    async def _publish(self, odd: Odd, rig: Rig, **changes: Any) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
        mark = str(uuid4())
        members = {"sessionId" if odd.command is VERIFY else "transactionId": UNKNOWN_SESSION}
        if odd.command is CREATE:
            members = a_create()
        properties = {"message_id": mark, "correlation_id": mark} | odd.properties() | changes
        content = odd.body(members)
        await rig.send(odd.command, content, **properties)
        return content, properties, members

    async def _letter(self) -> Message:
        letter = await until(lambda: self.letters[self.parked :])
        self.parked += 1
        return letter[0]

    def _answer(self, correlation_id: str, *, since: int) -> Message | None:
        matching = (each for each in self.answers[since:] if each.properties.correlation_id == correlation_id)
        return next(matching, None)

    async def _on_answer(self, delivered: DeliveredMessage) -> None:
        self.answers.append(_message(delivered))

    async def _on_letter(self, delivered: DeliveredMessage) -> None:
        self.letters.append(_message(delivered))

    async def _on_event(self, delivered: DeliveredMessage) -> None:
        self.events[_message(delivered).document["data"]["bookingId"]] += 1


async def buys(rig: Rig, stop: asyncio.Event) -> int:
    """Good creates and verifies, one after another, all answered; how many."""
    done = 0
    while not stop.is_set():
        created = await rig.created()
        assert (await rig.verified(created["sessionId"]))["paymentStatus"] == "PENDING"
        done += 1
        await asyncio.sleep(0.1)
    return done


@pytest.fixture(scope="module")
def messages(seed: int, cases: int) -> list[Odd]:
    return drawn(seed=seed, count=cases)


async def test_every_odd_message_ends_where_it_must(
    messages: list[Odd], programs: Programs, seed: int, say: Say
) -> None:
    """B26 Nothing unacknowledged, no consumer dead; each is dead-lettered once, answered, or done with one event."""
    amqp_compat.survive_unreadable_properties()  # this client reads the letters
    rig, service = programs.rig, await programs.service()
    witness = await Witness.watching(rig)
    stop = asyncio.Event()
    buying = asyncio.create_task(buys(rig, stop))
    for odd in messages:
        try:
            await witness.send(odd)
        except Exception as error:
            error.add_note(f"{odd!r:.2000}")
            raise
    stop.set()
    bought = await buying

    counted = ", ".join(f"{count} {how}" for how, count in witness.ended.most_common())
    say(f"messages, seed {seed}: {witness.ended.total()} sent: {counted}; meanwhile {bought} good purchases")
    assert witness.ended.total() == len(messages)
    for command in CommandType:
        assert await rig.consumers(command) == 1
    assert all(witness.events[booking] == 1 for booking in witness.executed)
    [(payments,)] = await rig.sql("SELECT count(*) FROM payments")
    assert payments == len(witness.executed) + bought

    await service.stopped()  # unacknowledged messages are back in their queue now
    waiting = {queue.name: await _waiting(rig, queue.name) for queue in topology.QUEUES}
    assert {name: count for name, count in waiting.items() if count} == {}
    assert len(witness.letters) == witness.parked
    lines = service.lines
    assert [line for line in lines if not line["message"].isprintable()] == []
    assert [line for line in lines if line["level"] in {"ERROR", "CRITICAL"}] == []
    # The libraries would log a consumer that died, and the service a second start.
    assert {line["logger"].split(".")[0] for line in lines} <= {"service", "runtime"}
    assert sum(line["message"].startswith(READY) for line in lines) == 1


async def _waiting(rig: Rig, queue: str) -> int:
    declared = await rig.looking.queue_declare(queue, passive=True)
    return declared.message_count or 0
