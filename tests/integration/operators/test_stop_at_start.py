"""SIGTERM before the service serves: it waits for its servers, and ends at once when told, as a container's too."""

import asyncio
import signal

import pytest

from tests.kit.programs import END_SECONDS, start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_service_that_waits_for_its_database_ends_when_told(number: signal.Signals) -> None:
    database = "postgresql://u:p@127.0.0.1:1/payments"
    process = await start("-m", "service", "run", DATABASE_URL=database, STRIPE_API_KEY="sk_test_startstart")
    assert process.stdout is not None
    async with asyncio.timeout(END_SECONDS):
        while b"waiting for the database" not in await process.stdout.readline():
            assert process.returncode is None
        process.send_signal(number)
        rest = await process.stdout.read()
        assert await process.wait() == 0
    assert b"stopped before it served" in rest
    assert b"Traceback" not in rest
