"""How far the event feed has read, in memory. The port suites hold it to what the real adapter does."""

import asyncio
from datetime import UTC, datetime

from service.application.ports import Clock, LeaderLease


class FakeEventCursor:
    """Which replica leads and how far it has read; the lease ends when a test says so."""

    def __init__(self, clock: Clock | None = None) -> None:
        """`clock`: the database's; by default as time goes by."""
        self.clock = clock
        self.leader: str | None = None
        self.read_until: datetime | None = None
        self.charges_read_until: datetime | None = None
        self.advances: list[float] = []
        self.wanted = 0

    async def claim(self, replica: str, *, lease_seconds: float) -> LeaderLease | None:  # noqa: ARG002
        await asyncio.sleep(0)
        self.leader = self.leader or replica
        if self.leader != replica:
            return None
        return LeaderLease(read_until=self.read_until, now=self._now(), charges_read_until=self.charges_read_until)

    async def advance(
        self,
        replica: str,
        *,
        read_until: datetime | None,
        began_seconds_ago: float,
        lease_seconds: float,  # noqa: ARG002
    ) -> bool:
        await asyncio.sleep(0)
        if self.leader != replica:
            return False
        self.read_until = self._farther(self.read_until, read_until)
        self.advances.append(began_seconds_ago)
        return True

    async def release(self, replica: str) -> None:
        await asyncio.sleep(0)
        if self.leader == replica:
            self.leader = None

    async def want(self) -> None:
        await asyncio.sleep(0)
        self.wanted += 1

    async def advance_charges(self, replica: str, *, read_until: datetime) -> None:
        await asyncio.sleep(0)
        if self.leader == replica:
            self.charges_read_until = self._farther(self.charges_read_until, read_until)

    def _farther(self, stored: datetime | None, given: datetime | None) -> datetime | None:
        now = self._now()
        true = None if stored is None or stored > now else stored
        return max(filter(None, (true, given and min(given, now))), default=None)

    def _now(self) -> datetime:
        return datetime.now(UTC) if self.clock is None else self.clock.now()
