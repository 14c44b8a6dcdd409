"""Reservations of permits in memory. The port suites hold them to what the real adapter does."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(kw_only=True)
class _Reservation:
    arrived_at: datetime
    due_until: datetime
    kept_until: datetime


class FakeReservations:
    """Reservations in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[int, _Reservation] = {}

    async def keep(self, booking_id: int, *, arrived_at: datetime, due_until: datetime, kept_until: datetime) -> None:
        await asyncio.sleep(0)
        reservation = _Reservation(arrived_at=arrived_at, due_until=due_until, kept_until=kept_until)
        earlier = self.kept.get(booking_id)
        if earlier is not None and earlier.kept_until >= arrived_at:
            reservation.arrived_at = min(earlier.arrived_at, arrived_at)
        self.kept[booking_id] = reservation

    async def take(self, booking_id: int, *, at: datetime, kept_until: datetime) -> datetime | None:
        await asyncio.sleep(0)
        reservation = self.kept.get(booking_id)
        if reservation is None or reservation.kept_until < at:
            return None
        reservation.due_until, reservation.kept_until = at, max(reservation.kept_until, kept_until)
        return reservation.arrived_at

    async def drop(self, booking_id: int) -> None:
        await asyncio.sleep(0)
        self.kept.pop(booking_id, None)

    async def due(self, *, at: datetime) -> Mapping[int, int]:
        await asyncio.sleep(0)
        return Counter(int(each.arrived_at.timestamp()) for each in self.kept.values() if each.due_until > at)

    async def prune_reservations(self, *, before: datetime, limit: int) -> int:
        await asyncio.sleep(0)
        old = sorted((each.kept_until, booking) for booking, each in self.kept.items() if each.kept_until < before)
        for _, booking in old[:limit]:
            del self.kept[booking]
        return len(old[:limit])
