"""Counts what one create and one verify execute of the service, over fakes and a rate of 20/s: `python -m` this module.

Every entry into a function of `service/` counts, also when a coroutine goes on after a wait.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from types import FrameType
from typing import Any

from service.ratelimit.quota import LocalQuotaStore, Rates
from tests.kit.world import World, a_limiter

SERVICE = str(Path(__file__).parents[2] / "service") + "/"
RATES = Rates(endpoint=20)
QUOTA_SECONDS = 0.2
"""After which a permit is free again."""


Entries = Counter[tuple[str, str]]
"""How often each function of the service is entered, by its file and name."""


async def entries(work: Awaitable[Any]) -> Entries:
    """Of this work alone."""
    seen: Entries = Counter()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(SERVICE):
            seen[frame.f_code.co_filename.removeprefix(SERVICE), frame.f_code.co_qualname] += 1

    sys.setprofile(note)
    try:
        await work
    finally:
        sys.setprofile(None)
    return seen


async def create_and_verify() -> tuple[Entries, Entries]:
    """The entries of a create, and of the first verify of its session."""
    limiter = a_limiter(rates=RATES, quota_store=LocalQuotaStore(rates=RATES, clock=time.monotonic))
    world = World(limiter=limiter)
    await world.create(bookingId=1)  # what happens once in a process
    await asyncio.sleep(QUOTA_SECONDS)
    created = await entries(world.create(bookingId=2))
    await asyncio.sleep(QUOTA_SECONDS)
    session_id = next(reversed(world.gateway.made))
    return created, await entries(world.verify(session_id))


def report(name: str, seen: Entries) -> str:
    """The sums, and a line for each function."""
    lines = [f"  {times:3} {file} {function}" for (file, function), times in sorted(seen.items())]
    return "\n".join([f"{name}: {len(seen)} functions, {seen.total()} entries", *lines])


if __name__ == "__main__":
    for name, seen in zip(("create", "verify"), asyncio.run(create_and_verify()), strict=True):
        print(report(name, seen))  # noqa: T201
