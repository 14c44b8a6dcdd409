"""Real `payment-service run` and `payment-bridge run` processes: started, killed, stopped, and their logs read."""

import asyncio
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.integration.service.messages.rig import Rig, until
from tests.kit.forks import Process
from tests.kit.programs import spawn
from tools.devstack.processes import free_ports, read_text
from tools.devstack.stack_settings import CHECKOUT

START_SECONDS: Final = 180.0
END_SECONDS: Final = 60.0
"""Twice what an orchestrator usually grants between SIGTERM and SIGKILL: it ends a hang beside other tests."""
_READY: Final = {"service": "ready: consuming commands", "bridge": "Connected to RabbitMQ"}


@dataclass(kw_only=True)
class Program:
    """One process and what it says."""

    process: Process
    kind: str
    log: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> list[dict[str, Any]]:
        """Its log, line by line, as far as they are written to their ends."""
        written, _, _ = read_text(self.log).rpartition("\n")
        return [json.loads(line) for line in written.splitlines() if line.startswith("{")]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log, to the letter: a line that is not one JSON object is an error."""
        return [json.loads(line) for line in self.log.read_bytes().decode().split("\n")[:-1]]

    async def ready(self) -> None:
        def is_ready() -> bool:
            assert self.process.returncode is None, read_text(self.log)
            return _READY[self.kind] in read_text(self.log)

        await until(is_ready, START_SECONDS)

    async def ended(self, seconds: float = END_SECONDS) -> int:
        """Its exit status once it is gone; minus the signal's number if one ended it."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def stopped(self) -> None:
        """SIGTERM, and an end in time and of its own accord."""
        self.process.terminate()
        assert await self.ended() == 0, read_text(self.log)
        assert "Traceback" not in read_text(self.log), read_text(self.log)

    async def killed(self) -> None:
        self.process.kill()
        assert await self.ended() == -signal.SIGKILL


@dataclass(kw_only=True)
class Programs:
    """Starts processes around a rig."""

    rig: Rig
    logs: Path
    command: tuple[str, ...] = ("service", "run")
    """What a service is started by, after `-m`."""
    checkout: Path = CHECKOUT
    """Whose code runs."""
    all: list[Program] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """Of their logs: several may be about to start."""

    async def service(self, failpoint: str | None = None, **changes: str) -> Program:
        """A service, consuming; `changes` of its environment."""
        settings = self.rig.settings
        environment = {
            "AMQP_URL": self.rig.amqp_url,
            "DATABASE_URL": self.rig.database_url,
            "STRIPE_API_KEY": settings.stripe_api_key.get_secret_value(),
            "STRIPE_API_BASE": settings.stripe_api_base,
            "STRIPE_REQUESTS_PER_SECOND": str(settings.stripe_requests_per_second),
            "VERIFY_FRESHNESS_SECONDS": str(settings.verify_freshness_seconds),
            "SERVICE_PORT": "0",
            # What is counted are the calls of commands and of the sweeper.
            "RECONCILE_ON_START": "never",
        }
        armed = {"FAILPOINT": failpoint} if failpoint else {}
        return await self._start("service", *self.command, settings=environment | armed | changes, port=0)

    async def bridge(self, **changes: str) -> Program:
        """A bridge, connected; `changes` of its environment."""
        (port,) = free_ports(1)
        environment = {"AMQP_URL": self.rig.amqp_url, "BRIDGE_PORT": str(port)}
        return await self._start("bridge", "bridge", "run", settings=environment | changes, port=port)

    async def _start(self, kind: str, *command: str, settings: dict[str, str], port: int) -> Program:
        # Compiled code is kept, whatever the environment says: so many starts must not compile every time.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(
                ("BRIDGE_", "STRIPE_", "PAYMENT_", "SERVICE_", "EUREKA_", "INSTANCE_", "LOG_", "PYTHONDONTWRITE")
            )
        }
        ours = {"PYTHONPATH": str(self.checkout), "LOG_FORMAT": "json"}
        log = self.logs / f"{kind}-{next(self.numbers)}.log"
        with log.open("w") as out:
            environment = inherited | ours | settings
            process = await spawn("-m", *command, folder=self.checkout, environment=environment, out=out.fileno())
        program = Program(process=process, kind=kind, log=log, port=port)
        self.all.append(program)
        await program.ready()
        return program


@asynccontextmanager
async def starting(rig: Rig, *, logs: Path, **changes: Any) -> AsyncIterator[Programs]:
    """What still runs at the end is killed."""
    programs = Programs(rig=rig, logs=logs, **changes)
    try:
        yield programs
    finally:
        for program in programs.all:
            if program.process.returncode is None:
                await program.killed()
