"""The bridge as a process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from tests.integration.bridge.conftest import IDENTITY
from tests.kit.forks import Process
from tests.kit.programs import start
from tests.kit.until import PATIENCE_SECONDS
from tools.devstack.processes import free_ports

COMMAND: Final = ("-m", "bridge", "run")


@dataclass(frozen=True, kw_only=True)
class Running:
    """A bridge that serves, and a caller of it with an identity."""

    process: Process
    port: int
    client: httpx.AsyncClient

    async def health(self, *, wanted: int) -> httpx.Response:
        """The answer of `/actuator/health/readiness` once it has the wanted status."""
        # A client of its own leaves no open connection behind.
        async with httpx.AsyncClient(base_url=self.client.base_url) as client, asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    answer = await client.get("/actuator/health/readiness")
                    if answer.status_code == wanted:
                        return answer
                await asyncio.sleep(0.05)

    async def end(self) -> str:
        """What the bridge logs until it has ended, well."""
        async with asyncio.timeout(60):
            logged, _ = await self.process.communicate()
        assert self.process.returncode == 0, logged
        assert b"Traceback" not in logged
        return logged.decode()


@asynccontextmanager
async def running(amqp_url: str, *, wanted: int = 200, **variables: str) -> AsyncIterator[Running]:
    """A bridge whose readiness has the wanted status."""
    (port,) = free_ports(1)
    process = await start(*COMMAND, BRIDGE_PORT=str(port), AMQP_URL=amqp_url, **variables)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=IDENTITY, timeout=60) as client:
            bridge = Running(process=process, port=port, client=client)
            await bridge.health(wanted=wanted)
            yield bridge
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
