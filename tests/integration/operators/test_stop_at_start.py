"""Signals before and while a process serves: it ends at once when told, in a container too, and once if told twice."""

import asyncio
import signal

import pytest

from tests.integration.sandbox.harness import Running
from tests.kit.brokers import RoleUrl
from tests.kit.databases import Migrated
from tests.kit.forks import Process
from tests.kit.programs import END_SECONDS, start
from tools.devstack.rabbitmq_files import SERVICE

NOWHERE = {
    "AMQP_URL": "amqp://u:p@127.0.0.1:1/",
    "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/payments",
    "STRIPE_API_KEY": "sk_test_startstart",
}
TWICE_SECONDS = 0.03


async def read_until(process: Process, words: bytes) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(END_SECONDS):
        while words not in await process.stdout.readline():
            assert process.returncode is None


async def rest_of(process: Process) -> bytes:
    """What it says until it has ended, well."""
    async with asyncio.timeout(END_SECONDS):
        rest, _ = await process.communicate()
    assert process.returncode == 0, rest
    assert b"Traceback" not in rest
    return rest


async def interrupt_twice(process: Process) -> None:
    process.send_signal(signal.SIGINT)
    await asyncio.sleep(TWICE_SECONDS)
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_service_that_waits_for_its_database_ends_when_told(number: signal.Signals) -> None:
    process = await start("-m", "service", "run", **NOWHERE)
    await read_until(process, b"waiting for the database")
    process.send_signal(number)
    assert b"stopped before it served" in await rest_of(process)


@pytest.mark.parametrize(
    ("program", "words"),
    [("service", b"waiting for the database"), ("bridge", b"Listening"), ("console", b"Listening")],
)
async def test_two_interrupts_within_milliseconds_are_one_clean_stop(program: str, words: bytes) -> None:
    process = await start("-m", program, "run", **NOWHERE)
    await read_until(process, words)
    await interrupt_twice(process)
    assert (await rest_of(process)).lower().count(b"stopped") == 1


async def test_two_interrupts_of_a_service_that_consumes_are_one_clean_stop(
    migrated: Migrated, role_url: RoleUrl, sandbox: Running
) -> None:
    there = {"DATABASE_URL": migrated.application, "AMQP_URL": role_url(SERVICE), "STRIPE_API_BASE": sandbox.url}
    process = await start("-m", "service", "run", **NOWHERE | there)
    await read_until(process, b"ready: consuming commands")
    await interrupt_twice(process)
    assert b"stopped taking commands" in await rest_of(process)
