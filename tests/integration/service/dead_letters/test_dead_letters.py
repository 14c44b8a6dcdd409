"""An operator's commands on a real broker and a real database."""

import asyncio
import getpass
import json
import os
import pty
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from pamqp.commands import Basic

from contracts import topology
from runtime.connection_urls import amqp_user
from runtime.dead_letters.queues import opened
from service.domain.errors import StoreUnavailableError
from service.entrypoints import broker as brokers
from tests.integration.service.dead_letters.conftest import CREATE, STATUS, VERIFY, Desk
from tests.kit.databases import Migrated, wrong_clock
from tests.kit.lifetimes import closing
from tests.kit.programs import ended
from tools.chaos.proxy import Mode, behind_proxy
from tools.devstack.rabbitmq_files import BRIDGE

ESCAPE = "\x1b[31mred\x9b2J"
CREATES = topology.DEAD_LETTER_QUEUES[CREATE].name
COMMANDS = topology.COMMAND_QUEUES[CREATE].name


def ago(**length: float) -> str:
    return (datetime.now(UTC) - timedelta(**length)).isoformat()


# --- every way in which a command becomes a dead letter -------------------------------------------------------------


async def exhausted(desk: Desk) -> None:
    headers = {"x-reason": "exhausted", "x-reason-text": "Stripe is silent.\nAnd so on", "x-attempts": 6}
    headers |= {"x-fault-code": "GATEWAY_ERROR", "x-first-failed-at": ago(hours=2), "x-last-failed-at": ago(hours=1)}
    await desk.park(headers=headers)


async def expired_in_its_queue(desk: Desk) -> None:
    await desk.send(expiration="1")
    await desk.wait_for(1, CREATES)


async def rejected(desk: Desk) -> None:
    await desk.send()
    message = await desk.channel.basic_get(COMMANDS)
    await desk.channel.basic_reject(message.delivery.delivery_tag, requeue=False)
    await desk.wait_for(1, CREATES)


async def delivered_too_often(desk: Desk) -> None:
    await desk.send()
    async with asyncio.timeout(60):
        while not await desk.waiting(CREATES):
            message = await desk.channel.basic_get(COMMANDS)
            if isinstance(message.delivery, Basic.GetOk):
                await desk.channel.basic_reject(message.delivery.delivery_tag, requeue=True)


async def hostile(desk: Desk) -> None:
    headers = {"x-reason": "refused", "x-reason-text": ESCAPE, ESCAPE: ESCAPE}
    await desk.park(ESCAPE.encode(), headers=headers, message_type=ESCAPE, app_id=ESCAPE)


STATES: dict[Callable[[Desk], Awaitable[None]], tuple[str, ...]] = {
    exhausted: ("1h", "checkout.create", "exhausted", "6", "-", "m-1", "Stripe", "is", "silent."),
    expired_in_its_queue: ("0s", "checkout.create", "expired", "-", "-", "m-1"),
    rejected: ("0s", "checkout.create", "rejected", "-", "-", "m-1"),
    delivered_too_often: ("0s", "checkout.create", "delivery_limit", "-", "-", "m-1"),
    hostile: ("0s", "checkout.create", "refused", "-", "-", "m-1", r"\x1b[31mred\x9b2J"),
}


def same_age(cells: list[str]) -> list[str]:
    """Seconds pass while a test runs."""
    return ["0s" if len(cells[0]) < 4 and cells[0].endswith("s") else cells[0], *cells[1:]]


def without_counts(message: Any) -> dict[str, Any]:
    kept: dict[str, Any] = {name: value for name, value in message.header.properties if name != "headers"}
    headers = message.header.properties.headers
    return kept | {name: value for name, value in headers.items() if name != "x-delivery-count"}


@pytest.mark.parametrize("park", STATES, ids=lambda park: park.__name__)
async def test_each_is_listed_and_shown_as_it_stays_and_can_be_replayed_or_dropped(desk: Desk, park: Any) -> None:
    await park(desk)
    first, reason = await desk.peeked(), STATES[park][2]
    listed = await desk.says("list")
    heading, line, _, counted, total = listed.out.splitlines()
    assert heading.split() == ["age", "queue", "reason", "attempts", "sender", "message", "id", "text"]
    assert tuple(same_age(line.split())) == STATES[park]
    assert (counted.split(), total.split()) == (["1", "checkout.create", reason], ["1", "in", "all"])
    shown = await desk.says("show", "m-1")
    assert f"reason            {reason}\n" in shown.out
    assert "correlation id    c-1\n" in shown.out
    assert all(character.isprintable() or character == "\n" for character in shown.out)
    dry = await desk.says("replay", "--dry-run", "--all")
    assert (listed.status, shown.status, dry.status) == (0, 0, reason in {"refused", "expired"})
    before = len(await desk.journal())

    assert (await desk.says("replay", "m-1", "--force", "--actor", "ana")).status == 0
    (command,) = await desk.sent()
    assert (command.body, command.header.properties.message_id) == (first.body, "m-1")
    await desk.wait_for(0, CREATES)
    await park(desk)
    dropped = await desk.says("drop", "--reason", reason, "--actor", "ana")
    assert (dropped.status, dropped.out.splitlines()[-1]) == (0, "1 dropped.")
    await desk.wait_for(0, CREATES)
    assert await desk.waiting(COMMANDS) == 0
    lines = [(f"dead-letter-{done}", "ana", CREATES, "m-1", reason) for done in ("replayed", "dropped")]
    assert (await desk.journal())[before:] == lines


async def test_looking_leaves_a_letter_as_it_was(desk: Desk) -> None:
    await delivered_too_often(desk)
    before = await desk.peeked()
    for words in (("list",), ("show", "m-1"), ("replay", "--dry-run", "--all"), ("drop", "--dry-run", "--all")):
        assert (await desk.says(*words)).status == 0
    (after,) = await desk.parked()
    assert (after.body, without_counts(after)) == (before.body, without_counts(before))


# --- what is sent again ---------------------------------------------------------------------------------------------


async def test_a_replay_is_the_same_command_without_its_history(desk: Desk) -> None:
    kept = {"x-request-id": "r-1", "idempotency-key": "k", "x-caller": "booking", "number": 7, "none": None}
    history = {"x-reason": "exhausted", "x-reason-text": "t", "x-fault-code": "c", "x-attempts": 6}
    history |= {"x-first-failed-at": ago(days=2), "x-last-failed-at": ago(days=2)}
    history |= {"x-sender": BRIDGE, "x-first-death-reason": "expired", "x-last-death-queue": "q", "x-delivery-count": 3}
    body = b'{"bookingId": 7,  "amount": 449.97}'
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    given = {"reply_to": "payments.reply.gone", "expiration": "86400000", "timestamp": long_ago}
    copied = {"CC": [topology.COMMAND_QUEUES[STATUS].routing_key]}
    await desk.park(body, headers=kept | history, **given)
    await desk.park(body, message_id="m-2", headers=kept | copied | history)
    await desk.park(command=VERIFY, message_id="m-3", message_type="something.else")
    assert f"sender            {BRIDGE}" in (await desk.says("show", "m-1")).out.splitlines()
    assert (await desk.says("replay", "--all", "--yes")).out.splitlines()[-1] == "3 replayed."
    first, second = await desk.sent(2)
    for command, name in ((first, "m-1"), (second, "m-2")):
        found = command.header.properties
        assert command.body == body
        assert {name: value for name, value in found.headers.items() if name != "x-delivery-count"} == kept
        assert (found.message_id, found.correlation_id, found.message_type) == (name, "c-1", "checkout.create")
        assert (found.content_type, found.delivery_mode) == ("application/json", 2)
        assert (found.reply_to, found.expiration) == (None, None)
        assert found.user_id == amqp_user(desk.amqp_url), "S7: it goes out by the operator's name"
    assert first.header.properties.timestamp == long_ago, "a create never becomes younger"
    assert second.header.properties.timestamp is not None
    assert abs(second.header.properties.timestamp - datetime.now(UTC)) < timedelta(seconds=30)
    (verify,) = await desk.sent(command=VERIFY)
    assert verify.header.properties.message_id == "m-3", "each goes to the queue that it came from"
    assert await desk.waiting(topology.COMMAND_QUEUES[STATUS].name) == 0


async def test_a_letter_that_no_queue_takes_is_kept(desk: Desk) -> None:
    await desk.park(headers={"x-reason": "refused"})
    await desk.park(message_id="m-2", headers={"x-reason": "refused"})
    before = len(await desk.journal())
    binding = {"queue": COMMANDS, "exchange": topology.COMMANDS.name, "routing_key": CREATE.value}
    await desk.channel.queue_unbind(**binding)
    try:
        said = await desk.says("replay", "--all", "--yes", "--force", "--actor", "ana")
    finally:
        await desk.channel.queue_bind(**binding)
    assert said.status == 1
    assert said.err == (
        "Cannot send checkout.create again: RabbitMQ did not take it (no such queue, or the queue is full).\n"
    )
    assert said.out == "0 replayed.\n"
    kinds = [line[0] for line in (await desk.journal())[before:]]
    assert kinds == ["dead-letter-replayed", "dead-letter-kept"]
    assert [letter.header.properties.message_id for letter in await desk.parked(2)] == ["m-1", "m-2"]


async def test_a_letter_without_a_message_id_has_a_number_and_can_be_dropped_and_not_replayed(desk: Desk) -> None:
    """The client library gives every message an id: RabbitMQ keeps an empty one."""
    await desk.park(headers={"x-reason": "refused"})
    await desk.park(exactly=NoMessageId(message_type="checkout.create", headers={"x-reason": "invalid"}))
    assert (await desk.says("list")).out.splitlines()[2].split() == ["?", "checkout.create", "invalid", "-", "-", "#2"]
    replayed = await desk.says("replay", "--reason", "invalid", "--force")
    assert replayed.status == 1
    assert replayed.out.startswith("kept, it has no message id, by which a repeat is recognised:")
    assert await desk.waiting(COMMANDS) == 0
    before = len(await desk.journal())
    assert (await desk.says("drop", "--reason", "invalid", "--actor", "ana")).status == 0
    assert (await desk.journal())[before:] == [("dead-letter-dropped", "ana", CREATES, None, "invalid")]
    assert [letter.header.properties.message_id for letter in await desk.parked()] == ["m-1"]


class NoMessageId(Basic.Properties):
    """The client library puts an id into every message that has none; this one leaves it out on the wire."""

    def marshal(self) -> bytes:
        self.message_id = None
        return super().marshal()


# --- which --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["replay", "drop"])
async def test_only_what_is_selected_is_touched(desk: Desk, action: str) -> None:
    """What a selection means is in `tests/unit/service/cli`."""
    await desk.park(headers={"x-reason": "invalid", "x-last-failed-at": ago(hours=1)})
    await desk.park(message_id="m-2", headers={"x-reason": "refused", "x-last-failed-at": ago(hours=2)})
    await desk.park(command=VERIFY, message_id="m-3", headers={"x-reason": "refused", "x-last-failed-at": ago(hours=1)})
    words: tuple[str, ...] = ("m-1", "m-2", "--reason", "refused", "--queue", "checkout.create", "--older-than", "5s")
    words += ("--force",) if action == "replay" else ()
    would = await desk.says(action, *words, "--dry-run")
    assert {cell for line in would.out.splitlines() for cell in line.split() if cell.startswith("m-")} == {"m-2"}
    before = len(await desk.journal())
    await desk.says(action, *words)
    assert [line[3] for line in (await desk.journal())[before:]] == ["m-2"]
    listed = (await desk.says("list")).out
    assert {name for name in ("m-1", "m-2", "m-3") if name in listed} == {"m-1", "m-3"}


@pytest.mark.parametrize("action", ["replay", "drop"])
async def test_everything_must_be_meant_by_name(desk: Desk, action: str) -> None:
    await desk.park()
    said = await desk.says(action)
    assert (said.status, said.err.split(":")[0]) == (2, f"Say which to {action}")
    said = await desk.says(action, "--all", "--reason", "refused")
    assert (said.status, said.err.split(" ")[0]) == (2, "--all")
    assert await desk.waiting(CREATES) == 1


@pytest.mark.parametrize("action", ["show", "replay", "drop"])
async def test_an_id_that_no_letter_has_is_told(desk: Desk, action: str) -> None:
    said = await desk.says(action, f"m-0{ESCAPE}")
    assert said.status == 1
    assert "o such dead letter" in said.err or "No dead letter has" in said.err
    assert ESCAPE not in said.err


async def test_the_order_and_a_limit_are_kept(desk: Desk) -> None:
    names = [f"m-{number}" for number in range(100)]
    for name in names:
        await desk.park(message_id=name, headers={"x-reason": "refused"})
    listed = (await desk.says("list", "--limit", "3")).out.splitlines()
    assert [line.split()[5] for line in listed[1:4]] == names[:3]
    assert listed[4] == "... and 97 more"
    assert listed[-1].split() == ["100", "in", "all"]
    await desk.says("drop", "m-4", "m-17")
    left = [name for name in names if name not in {"m-4", "m-17"}]
    assert [letter.header.properties.message_id for letter in await desk.parked(98)] == left


async def test_a_look_holds_so_many_letters_at_once_and_counts_the_rest(desk: Desk) -> None:
    for number in range(5):
        await desk.park(message_id=f"m-{number}")
    async with opened(desk.amqp_url, max_held=3) as queues:
        seen = [letter.message_id async for letter in queues.letters([CREATE])]
        assert (seen, queues.unseen) == (["m-0", "m-1", "m-2"], 2)
    await desk.wait_for(5, CREATES)  # RabbitMQ counts what was given back a moment later
    async with opened(desk.amqp_url, max_held=3) as queues:
        async for letter in queues.letters([CREATE]):
            await queues.remove(letter)
        assert queues.unseen == 0
    await desk.wait_for(0, CREATES)


# --- what is asked, and what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["replay", "drop"])
async def test_nothing_is_done_to_all_where_nobody_can_be_asked(desk: Desk, action: str) -> None:
    await desk.park()
    said = await desk.says(action, "--all")
    assert (said.status, said.err) == (2, f"{action} --all needs --yes where nobody can be asked.\n")
    assert await desk.waiting(CREATES) == 1


@pytest.mark.parametrize(("answer", "status", "left"), [("y\n", 0, 0), ("n\n", 2, 2), ("\n", 2, 2)])
async def test_a_person_is_asked_whether_all_are_meant(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, answer: str, status: int, left: int
) -> None:
    await desk.park()
    await desk.park(message_id="m-2", command=VERIFY)
    person, terminal = pty.openpty()
    os.write(person, answer.encode())
    with os.fdopen(person), os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        said = await desk.says("drop", "--all")
    assert said.err.startswith("Drop all 2 dead letters of every queue? [y/N] ")
    assert said.status == status
    verifies = topology.DEAD_LETTER_QUEUES[VERIFY].name
    for queue in (CREATES, verifies):
        await desk.wait_for(left // 2, queue)
    await desk.channel.queue_purge(verifies)


@pytest.mark.parametrize("reason", ["invalid", "unknown-type", "too-large", "id-conflict", "refused", "expired"])
async def test_what_is_of_no_use_is_sent_again_by_force_only(desk: Desk, reason: str) -> None:
    await desk.park(headers={"x-reason": reason, "x-sender": BRIDGE}, user_id=None)
    said = await desk.says("replay", "m-1", "--json")
    told = json.loads(said.out)
    assert (said.status, told["result"], told["sender"]) == (1, "kept", BRIDGE)
    assert "--force" in told["why"]
    assert await desk.waiting(COMMANDS) == 0
    assert (await desk.says("replay", "m-1", "--force")).out.startswith("replayed: ")
    await desk.sent()


async def test_programs_read_letters_as_json(desk: Desk) -> None:
    await exhausted(desk)
    (line,) = (await desk.says("list", "--json")).out.splitlines()
    (page,) = (await desk.says("show", "m-1", "--json")).out.splitlines()
    listed, shown = json.loads(line), json.loads(page)
    assert (listed["messageId"], listed["reason"], listed["attempts"]) == ("m-1", "exhausted", 6)
    assert listed.items() <= shown.items()
    assert (shown["body"], shown["headers"]["x-fault-code"]) == ("{}", "GATEWAY_ERROR")


# --- the record -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["UPDATE operator_journal SET actor = 'x'", "DELETE FROM operator_journal"])
async def test_what_was_done_stays_written(desk: Desk, migrated: Migrated, statement: str) -> None:
    await desk.park()
    await desk.says("drop", "--all", "--yes")
    assert (await desk.journal())[-1][1] == getpass.getuser(), "who does not say who it is"
    assert (await desk.says("list")).out == "No dead letters.\n"
    async with closing(await asyncpg.connect(migrated.owner)) as connection:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
            await connection.execute(statement)


@pytest.mark.parametrize("action", ["replay", "drop"])
async def test_nothing_is_done_that_cannot_be_written_down(desk: Desk, action: str) -> None:
    await desk.park()
    nobody = urlsplit(desk.database_url)._replace(netloc="127.0.0.1:1").geturl()
    with pytest.raises(StoreUnavailableError):
        await desk.says(action, "--all", "--yes", database_url=nobody)
    assert await desk.waiting(COMMANDS) == 0
    assert await desk.waiting(CREATES) == 1


async def test_a_database_without_the_tables_is_told(desk: Desk, new_database: Callable[[], str]) -> None:
    await desk.park()
    said = await desk.says("drop", "--all", "--yes", database_url=await asyncio.to_thread(new_database))
    assert said.status == 2
    assert said.err == "The database is not at the revision of this version: run payment-service migrate.\n"
    assert await desk.waiting(CREATES) == 1


# --- a broker that cannot be used -----------------------------------------------------------------------------------


async def test_a_queue_that_is_not_there_is_told(desk: Desk, amqp_url: str) -> None:
    queue = topology.DEAD_LETTER_QUEUES[STATUS]
    await desk.channel.queue_delete(queue.name)
    try:
        said = await desk.says("list")
    finally:
        await brokers.declare(amqp_url)
    assert said.status == 1
    assert said.err.startswith(f"Cannot read {queue.name}: RabbitMQ (AMQP_URL) does not have it.")


async def test_a_broker_that_says_nothing_is_not_waited_for(desk: Desk) -> None:
    async with behind_proxy(desk.amqp_url) as (proxy, url):
        await proxy.set(Mode.BLACK_HOLE)
        async with asyncio.timeout(60):
            said = await desk.says("list", amqp_url=url)
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith("Cannot connect: RabbitMQ (AMQP_URL) cannot be reached (")


async def test_a_message_that_the_client_cannot_read_does_not_hide_the_others(desk: Desk) -> None:
    await desk.park(exactly=Unreadable(headers={"x-reason": "invalid"}))
    await desk.park(message_id="m-2", headers={"x-reason": "refused"})
    said = await desk.says("list")
    assert [line.split()[1:6] for line in said.out.splitlines()[1:3]] == [
        ["checkout.create", "invalid", "-", "-", "#1"],
        ["checkout.create", "refused", "-", "-", "m-2"],
    ]
    assert (await desk.says("drop", "--reason", "invalid")).status == 0
    assert [letter.header.properties.message_id for letter in await desk.parked()] == ["m-2"]


class Unreadable(Basic.Properties):
    """A message id that is no UTF-8."""

    def marshal(self) -> bytes:
        self.message_id = "??"
        return super().marshal().replace(b"\x02??", b"\x02\xff\xfe")


@pytest.mark.parametrize("hours", [1, -1])
async def test_ages_and_times_of_what_is_changed_are_the_databases(
    desk: Desk, new_migrated: Callable[[], Migrated], hours: int
) -> None:
    """A machine whose clock is wrong drops nothing early, and sends nothing again as if it were older or newer."""
    database = await asyncio.to_thread(new_migrated)
    await wrong_clock(database.owner, hours=hours)
    now = datetime.now(UTC).replace(microsecond=0)
    headers = {"x-reason": "exhausted", "x-last-failed-at": (now + timedelta(minutes=60 * hours - 15)).isoformat()}
    sent_at = now + timedelta(minutes=60 * hours - 5)
    await desk.park(headers=headers, timestamp=sent_at)
    said = await desk.says("drop", "--older-than", "30m", database_url=database.owner)
    assert "0 dropped" in said.out
    said = await desk.says("replay", "m-1", database_url=database.owner)
    assert said.status == 0, said.err
    [command] = await desk.sent()
    assert command.header.properties.timestamp == sent_at


# --- as a process ---------------------------------------------------------------------------------------------------


async def test_what_is_missing_or_down_is_one_sentence_without_its_password(desk: Desk) -> None:
    await desk.park()
    nobody = "u:secret@127.0.0.1:1"
    unset = "DATABASE_URL is not set; expected: postgresql://user:password@host:port/name"
    for words, urls, status, expected in (
        (("drop", "--all", "--yes"), {}, 2, f"payment-service cannot start:\n{unset}\n"),
        (
            ("list",),
            {"AMQP_URL": f"amqp://{nobody}/"},
            1,
            "Cannot connect: RabbitMQ (AMQP_URL) cannot be reached (AMQPConnectionError).\n",
        ),
        (
            ("drop", "--all", "--yes"),
            {"AMQP_URL": desk.amqp_url, "DATABASE_URL": f"postgresql://{nobody}/x"},
            1,
            "payment-service: the database (DATABASE_URL) cannot be reached (ConnectionRefusedError).\n0 dropped.\n",
        ),
    ):
        end = await ended("-m", "service", "dead-letters", *words, **urls)
        assert (end.status, end.said) == (status, expected)
    assert await desk.waiting(CREATES) == 1


async def test_a_listing_whose_reader_leaves_ends_quietly(desk: Desk) -> None:
    for number in range(2000):
        await desk.park(message_id=f"{number:0>200}", headers={"x-reason": "refused"})
    command = f"{sys.executable} -m service dead-letters list | head -1"
    environment = os.environ | {"AMQP_URL": desk.amqp_url}
    said = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", command], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert said.stdout.split()[0] == "age"
    assert said.stderr == ""


async def test_what_was_only_looked_at_is_seen_by_whoever_looks_next(desk: Desk) -> None:
    """RabbitMQ 3 has them back only some time after it confirmed the end of the channel that held them."""
    await desk.park()
    await desk.wait_for(1, CREATES)
    for _ in range(20):
        async with opened(desk.amqp_url) as queues:
            assert len([letter async for letter in queues.letters((CREATE,))]) == 1
        assert await desk.waiting(CREATES) == 1
