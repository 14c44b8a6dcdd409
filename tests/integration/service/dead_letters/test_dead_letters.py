"""An operator's commands on a real broker and a real database."""

import asyncio
import getpass
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from pamqp.commands import Basic

from contracts import topology
from service.adapters.dead_letters import opened
from service.domain.errors import StoreUnavailableError
from tests.conftest import Migrated
from tests.integration.service.dead_letters.conftest import CREATE, STATUS, VERIFY, Desk
from tests.proxy import Mode, behind_proxy

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


async def invalid(desk: Desk) -> None:
    await desk.park(b"{", headers={"x-reason": "invalid", "x-reason-text": "The body is not valid JSON."})


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
    async with asyncio.timeout(30):
        while not await desk.waiting(CREATES):
            message = await desk.channel.basic_get(COMMANDS)
            if isinstance(message.delivery, Basic.GetOk):
                await desk.channel.basic_reject(message.delivery.delivery_tag, requeue=True)


async def too_large(desk: Desk) -> None:
    await desk.park(b"x" * 200_000, headers={"x-reason": "too-large", "x-reason-text": "over 65536 bytes"})


async def oddly_headed(desk: Desk) -> None:
    headers: dict[str, Any] = {"x-reason": "refused", "x-attempts": True, "x-last-failed-at": "yesterday"}
    headers |= {
        "x-death": ["none"],
        "deep": {"list": [None, {"a": bytearray(b"\xff\x00")}]},
        "": "",
        "x-reason-text": 7,
    }
    await desk.park(headers=headers)


async def hostile(desk: Desk) -> None:
    headers = {"x-reason": "refused", "x-reason-text": ESCAPE, ESCAPE: ESCAPE}
    await desk.park(ESCAPE.encode(), headers=headers, message_type=ESCAPE, app_id=ESCAPE)


STATES: dict[Callable[[Desk], Awaitable[None]], tuple[str, ...]] = {
    exhausted: ("1h", "checkout.create", "exhausted", "6", "m-1", "Stripe", "is", "silent."),
    invalid: ("0s", "checkout.create", "invalid", "-", "m-1", "The", "body", "is", "not", "valid", "JSON."),
    expired_in_its_queue: ("0s", "checkout.create", "expired", "-", "m-1"),
    rejected: ("0s", "checkout.create", "rejected", "-", "m-1"),
    delivered_too_often: ("0s", "checkout.create", "delivery_limit", "-", "m-1"),
    too_large: ("0s", "checkout.create", "too-large", "-", "m-1", "over", "65536", "bytes"),
    oddly_headed: ("0s", "checkout.create", "refused", "-", "m-1"),
    hostile: ("0s", "checkout.create", "refused", "-", "m-1", r"\x1b[31mred\x9b2J"),
}
every_state = pytest.mark.parametrize("park", STATES, ids=lambda park: park.__name__)


def same_age(cells: list[str]) -> list[str]:
    """Seconds pass while a test runs."""
    return ["0s" if len(cells[0]) < 4 and cells[0].endswith("s") else cells[0], *cells[1:]]


@every_state
async def test_each_is_listed_with_its_reason(desk: Desk, park: Any) -> None:
    await park(desk)
    listed = await desk.says("list")
    heading, line, _, counted, total = listed.out.splitlines()
    assert heading.split() == ["age", "queue", "reason", "attempts", "message", "id", "text"]
    assert tuple(same_age(line.split())) == STATES[park]
    assert counted.split() == ["1", "checkout.create", STATES[park][2]]
    assert total.split() == ["1", "in", "all"]
    assert listed.status == 0


@every_state
async def test_each_is_shown_without_a_control_character(desk: Desk, park: Any) -> None:
    await park(desk)
    shown = await desk.says("show", "m-1")
    assert shown.status == 0
    assert f"reason          {STATES[park][2]}\n" in shown.out
    assert "correlation id  c-1\n" in shown.out
    assert all(character.isprintable() or character == "\n" for character in shown.out)
    assert len(shown.out.encode()) < 4096 + 3000


@every_state
async def test_looking_at_each_leaves_it_as_it_was(desk: Desk, park: Any) -> None:
    await park(desk)
    first = await desk.channel.basic_get(CREATES)
    await desk.channel.basic_reject(first.delivery.delivery_tag, requeue=True)
    await desk.says("list")
    await desk.says("show", "m-1")
    await desk.says("replay", "--dry-run", "--all")
    (last,) = await desk.parked()
    assert last.body == first.body
    assert without_counts(last) == without_counts(first)


def without_counts(message: Any) -> dict[str, Any]:
    kept: dict[str, Any] = {name: value for name, value in message.header.properties if name != "headers"}
    headers = message.header.properties.headers
    return kept | {name: value for name, value in headers.items() if name != "x-delivery-count"}


@every_state
async def test_each_can_be_replayed(desk: Desk, park: Any) -> None:
    await park(desk)
    before = len(await desk.journal())
    replayed = await desk.says("replay", "m-1", "--actor", "ana")
    assert replayed.status == 0, replayed
    (command,) = await desk.sent()
    assert command.header.properties.message_id == "m-1"
    await desk.wait_for(0, CREATES)
    line = ("dead-letter-replayed", "ana", CREATES, "m-1", STATES[park][2])
    assert (await desk.journal())[before:] == [line]


@every_state
async def test_each_can_be_dropped(desk: Desk, park: Any) -> None:
    await park(desk)
    before = len(await desk.journal())
    dropped = await desk.says("drop", "--reason", STATES[park][2], "--actor", "ana")
    assert dropped.status == 0, dropped
    assert dropped.out.splitlines()[-1] == "1 dropped."
    await desk.wait_for(0, CREATES)
    assert await desk.waiting(COMMANDS) == 0
    line = ("dead-letter-dropped", "ana", CREATES, "m-1", STATES[park][2])
    assert (await desk.journal())[before:] == [line]


# --- what is sent again ---------------------------------------------------------------------------------------------


async def test_a_replay_is_the_same_command_without_its_history(desk: Desk) -> None:
    kept = {"x-request-id": "r-1", "idempotency-key": "k", "x-caller": "booking", "number": 7, "none": None}
    history = {"x-reason": "exhausted", "x-reason-text": "t", "x-fault-code": "c", "x-attempts": 6}
    history |= {"x-first-failed-at": ago(days=2), "x-last-failed-at": ago(days=2)}
    history |= {"x-first-death-reason": "expired", "x-last-death-queue": "q", "x-delivery-count": 3}
    body = b'{"bookingId": 7,  "amount": 449.97}'
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    given = {"reply_to": "payments.reply.gone", "expiration": "86400000", "timestamp": long_ago}
    copied = {"CC": [topology.COMMAND_QUEUES[STATUS].routing_key]}
    await desk.park(body, headers=kept | history, **given)
    await desk.park(body, message_id="m-2", headers=kept | copied | history)
    assert (await desk.says("replay", "--all")).status == 0
    first, second = await desk.sent(2)
    for command, name in ((first, "m-1"), (second, "m-2")):
        found = command.header.properties
        assert command.body == body
        assert {name: value for name, value in found.headers.items() if name != "x-delivery-count"} == kept
        assert (found.message_id, found.correlation_id, found.message_type) == (name, "c-1", "checkout.create")
        assert (found.content_type, found.delivery_mode) == ("application/json", 2)
        assert (found.reply_to, found.expiration) == (None, None)
        assert found.timestamp is not None
        assert abs(found.timestamp - datetime.now(UTC)) < timedelta(seconds=30)
    assert await desk.waiting(topology.COMMAND_QUEUES[STATUS].name) == 0


async def test_each_goes_back_to_the_queue_from_which_it_came(desk: Desk) -> None:
    for command in (CREATE, VERIFY, STATUS):
        await desk.park(command=command, message_id=f"of-{command}", message_type="something.else")
    assert (await desk.says("replay", "--all")).out.splitlines()[-1] == "3 replayed."
    for command in (CREATE, VERIFY, STATUS):
        (sent,) = await desk.sent(command=command)
        assert sent.header.properties.message_id == f"of-{command}"


async def test_what_nobody_would_get_is_not_taken_away(desk: Desk) -> None:
    await desk.park(headers={"x-reason": "refused"})
    await desk.park(message_id="m-2", headers={"x-reason": "refused"})
    before = len(await desk.journal())
    binding = {"queue": COMMANDS, "exchange": topology.COMMANDS.name, "routing_key": CREATE.value}
    await desk.channel.queue_unbind(**binding)
    try:
        ended = await desk.says("replay", "--all", "--actor", "ana")
    finally:
        await desk.channel.queue_bind(**binding)
    assert ended.status == 1
    assert ended.err == (
        "Cannot send checkout.create again: RabbitMQ did not take it (no such queue, or the queue is full).\n"
    )
    assert ended.out == "0 replayed.\n"
    kinds = [line[0] for line in (await desk.journal())[before:]]
    assert kinds == ["dead-letter-replayed", "dead-letter-kept"]
    assert [letter.header.properties.message_id for letter in await desk.parked(2)] == ["m-1", "m-2"]


async def test_a_letter_without_a_message_id_has_a_number_and_can_be_dropped_and_not_replayed(desk: Desk) -> None:
    """The client library gives every message an id: RabbitMQ keeps an empty one."""
    await desk.park(headers={"x-reason": "refused"})
    await desk.park(exactly=NoMessageId(message_type="checkout.create", headers={"x-reason": "invalid"}))
    assert (await desk.says("list")).out.splitlines()[2].split() == ["?", "checkout.create", "invalid", "-", "#2"]
    replayed = await desk.says("replay", "--reason", "invalid")
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


WHICH = [
    (["--all"], {"m-1", "m-2", "m-3"}),
    (["m-1", "m-3"], {"m-1", "m-3"}),
    (["--queue", "checkout.verify"], {"m-3"}),
    (["--reason", "refused"], {"m-2", "m-3"}),
    (["--older-than", "90m"], {"m-2"}),
    (["--older-than", "1d"], set()),
    (["m-1", "m-2", "--reason", "refused", "--queue", "checkout.create", "--older-than", "5s"], {"m-2"}),
]


@pytest.mark.parametrize("action", ["replay", "drop"])
@pytest.mark.parametrize(("words", "meant"), WHICH)
async def test_only_what_fits_all_that_is_said_is_touched(
    desk: Desk, words: list[str], meant: set[str], action: str
) -> None:
    await desk.park(headers={"x-reason": "invalid", "x-last-failed-at": ago(hours=1)})
    await desk.park(message_id="m-2", headers={"x-reason": "refused", "x-last-failed-at": ago(hours=2)})
    await desk.park(command=VERIFY, message_id="m-3", headers={"x-reason": "refused", "x-last-failed-at": ago(hours=1)})
    would = await desk.says(action, *words, "--dry-run")
    assert {cell for line in would.out.splitlines() for cell in line.split() if cell.startswith("m-")} == meant
    before = len(await desk.journal())
    await desk.says(action, *words)
    assert {line[3] for line in (await desk.journal())[before:]} == meant
    listed = (await desk.says("list")).out
    assert {name for name in ("m-1", "m-2", "m-3") if name in listed} == {"m-1", "m-2", "m-3"} - meant


@pytest.mark.parametrize("action", ["replay", "drop"])
async def test_everything_must_be_meant_by_name(desk: Desk, action: str) -> None:
    await desk.park()
    ended = await desk.says(action)
    assert (ended.status, ended.err.split(":")[0]) == (2, f"Say which to {action}")
    ended = await desk.says(action, "--all", "--reason", "refused")
    assert (ended.status, ended.err.split(" ")[0]) == (2, "--all")
    assert await desk.waiting(CREATES) == 1


@pytest.mark.parametrize("action", ["show", "replay", "drop"])
async def test_an_id_that_no_letter_has_is_told(desk: Desk, action: str) -> None:
    ended = await desk.says(action, f"m-0{ESCAPE}")
    assert ended.status == 1
    assert "o such dead letter" in ended.err or "No dead letter has" in ended.err
    assert ESCAPE not in ended.err


async def test_an_odd_message_id_is_named_as_it_is_printed(desk: Desk) -> None:
    await desk.park(message_id=f"a\\b {ESCAPE}")
    printed = r"a\\b \x1b[31mred\x9b2J"
    assert printed in (await desk.says("list")).out
    assert (await desk.says("drop", printed)).status == 0
    await desk.wait_for(0, CREATES)


async def test_the_order_and_a_limit_are_kept(desk: Desk) -> None:
    names = [f"m-{number}" for number in range(100)]
    for name in names:
        await desk.park(message_id=name, headers={"x-reason": "refused"})
    listed = (await desk.says("list", "--limit", "3")).out.splitlines()
    assert [line.split()[4] for line in listed[1:4]] == names[:3]
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


async def test_no_dead_letters_are_no_error(desk: Desk) -> None:
    ended = await desk.says("list")
    assert (ended.status, ended.out) == (0, "No dead letters.\n")


# --- the record -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["UPDATE operator_journal SET actor = 'x'", "DELETE FROM operator_journal"])
async def test_what_was_done_stays_written(desk: Desk, operators: Migrated, statement: str) -> None:
    await desk.park()
    await desk.says("drop", "--all")
    connection = await asyncpg.connect(operators.owner)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
        await connection.execute(statement)
    await connection.close()


async def test_without_a_name_it_is_the_user_of_the_system(desk: Desk) -> None:
    await desk.park()
    await desk.says("drop", "--all")
    assert (await desk.journal())[-1][1] == getpass.getuser()


@pytest.mark.parametrize("action", ["replay", "drop"])
async def test_nothing_is_done_that_cannot_be_written_down(desk: Desk, action: str) -> None:
    await desk.park()
    nobody = urlsplit(desk.database_url)._replace(netloc="127.0.0.1:1").geturl()
    with pytest.raises(StoreUnavailableError):
        await desk.says(action, "--all", database_url=nobody)
    assert await desk.waiting(COMMANDS) == 0
    assert await desk.waiting(CREATES) == 1


async def test_a_database_without_the_tables_is_told(desk: Desk, new_database: Callable[[], str]) -> None:
    await desk.park()
    ended = await desk.says("drop", "--all", database_url=await asyncio.to_thread(new_database))
    assert ended.status == 2
    assert ended.err == "The database is not at the revision of this version: run payment-service migrate.\n"
    assert await desk.waiting(CREATES) == 1


# --- a broker that cannot be used -----------------------------------------------------------------------------------


async def test_a_queue_that_is_not_there_is_told(desk: Desk) -> None:
    queue = topology.DEAD_LETTER_QUEUES[STATUS]
    await desk.channel.queue_delete(queue.name)
    try:
        ended = await desk.says("list")
    finally:
        await desk.channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
        await desk.channel.queue_bind(queue.name, topology.DEAD_LETTERS.name, queue.routing_key)
    assert ended.status == 1
    assert ended.err.startswith(f"Cannot read {queue.name}: RabbitMQ (AMQP_URL) does not have it.")


async def test_a_broker_that_says_nothing_is_not_waited_for(desk: Desk) -> None:
    async with behind_proxy(desk.amqp_url) as (proxy, url):
        await proxy.set(Mode.BLACK_HOLE)
        started = time.monotonic()
        ended = await desk.says("list", amqp_url=url)
    assert time.monotonic() - started < 20
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("Cannot connect: RabbitMQ (AMQP_URL) cannot be reached (")


async def test_a_message_that_the_client_cannot_read_does_not_hide_the_others(desk: Desk) -> None:
    await desk.park(exactly=Unreadable(headers={"x-reason": "invalid"}))
    await desk.park(message_id="m-2", headers={"x-reason": "refused"})
    ended = await desk.says("list")
    assert [line.split()[1:5] for line in ended.out.splitlines()[1:3]] == [
        ["checkout.create", "invalid", "-", "#1"],
        ["checkout.create", "refused", "-", "m-2"],
    ]
    assert (await desk.says("drop", "--reason", "invalid")).status == 0
    assert [letter.header.properties.message_id for letter in await desk.parked()] == ["m-2"]


class Unreadable(Basic.Properties):
    """A message id that is no UTF-8."""

    def marshal(self) -> bytes:
        self.message_id = "??"
        return super().marshal().replace(b"\x02??", b"\x02\xff\xfe")


# --- as a process ---------------------------------------------------------------------------------------------------


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in {"AMQP_URL", "DATABASE_URL"}}
    command = [sys.executable, "-m", "service", "dead-letters", *words]
    return subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_missing_setting_is_one_sentence() -> None:
    ended = process("drop", "--all")
    assert ended.returncode == 1
    assert "DATABASE_URL is not set" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_broker_that_is_down_is_one_sentence_without_its_password() -> None:
    ended = process("list", AMQP_URL="amqp://u:secret@127.0.0.1:1/")
    assert ended.returncode == 1
    assert ended.stderr == "Cannot connect: RabbitMQ (AMQP_URL) cannot be reached (AMQPConnectionError).\n"


@pytest.mark.parametrize(
    "words",
    [("list", "--older-than", "soon"), ("list", "--limit", "0"), ("list", "--queue", "x"), ("drop", "--actor", " ")],
)
def test_what_cannot_be_understood_is_refused(words: tuple[str, ...]) -> None:
    ended = process(*words)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert words[1] in ended.stderr


async def test_a_database_that_is_down_is_one_sentence(desk: Desk) -> None:
    await desk.park()
    nobody = "postgresql://u:secret@127.0.0.1:1/x"
    urls = {"AMQP_URL": desk.amqp_url, "DATABASE_URL": nobody}
    ended = await asyncio.to_thread(process, "drop", "--all", **urls)
    assert ended.returncode == 1
    assert ended.stderr == "payment-service: the database (DATABASE_URL) cannot be reached.\n"


async def test_a_listing_whose_reader_leaves_ends_quietly(desk: Desk) -> None:
    for number in range(2000):
        await desk.park(message_id=f"{number:0>200}", headers={"x-reason": "refused"})
    command = f"{sys.executable} -m service dead-letters list | head -1"
    environment = os.environ | {"AMQP_URL": desk.amqp_url}
    ended = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", command], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.stdout.split()[0] == "age"
    assert ended.stderr == ""
