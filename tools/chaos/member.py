"""One of our processes in the system under test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tools.devstack import processes

STOP_SECONDS = 25.0


@dataclass(kw_only=True)
class Member:
    """A process; `deaths` are the logs of ends that no fault had caused. It is not started while `held`."""

    name: str
    argv: list[str]
    env: dict[str, str]
    port: int
    pid: int = 0
    starts: int = 0
    ordered: bool = False
    held: bool = False
    deaths: list[str] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """It ends by SIGTERM, and is started again afterwards."""
        self.held = self.ordered = True
        try:
            await processes.stop(self.pid, patience_seconds=STOP_SECONDS)
            yield
        finally:
            self.held = False
