"""Doing to the system what the plan says, and taking it back."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from deploy.local.processes import LocalError
from tests.chaos.plan import BRIDGES, SERVICES, Fault
from tests.chaos.system import System
from tests.proxy import Mode


@dataclass(kw_only=True)
class Window:
    """A fault that was done: from its beginning until its cause is gone. `felt`: until what it ended is up again."""

    fault: Fault
    began: float
    ended: float
    felt: float = 0.0
    problem: str = ""


async def play(
    system: System, faults: list[Fault], *, started: float, tell: Callable[[str], None], windows: list[Window]
) -> None:
    """Every fault at its time. `windows` grows as they begin, so that an interrupted run can tell them, too."""
    async with asyncio.TaskGroup() as group:
        for fault in faults:
            await asyncio.sleep(max(0.0, started + fault.at - time.monotonic()))
            group.create_task(_play(system, fault, started, tell, windows))


async def _play(
    system: System, fault: Fault, started: float, tell: Callable[[str], None], windows: list[Window]
) -> None:
    began = time.monotonic() - started
    window = Window(fault=fault, began=began, ended=began)
    windows.append(window)
    tell(f"{began:6.1f} s  {fault.kind:<28} {fault.target:<18} {f'{fault.seconds:.1f} s' if fault.seconds else ''}")
    try:
        await ACTIONS[fault.kind](system, fault)
        window.ended = time.monotonic() - started
        if fault.target in system.members:
            await system.ready(system.members[fault.target])
    except (LocalError, OSError, asyncpg.PostgresError, TimeoutError) as error:
        window.problem = f"{type(error).__name__}: {error}"
        tell(f"          {fault.kind}: {window.problem}")
    window.felt = time.monotonic() - started


async def _kill(system: System, fault: Fault) -> None:
    await system.kill(fault.target)


async def _roll_services(system: System, _: Fault) -> None:
    for name in SERVICES:
        await system.roll(name)


async def _roll_bridges(system: System, _: Fault) -> None:
    for name in BRIDGES:
        await system.roll(name)


async def _kill_broker(system: System, fault: Fault) -> None:
    await system.kill_broker(fault.seconds)


async def _kill_database(system: System, fault: Fault) -> None:
    await system.kill_database(fault.seconds)


async def _end_sessions(system: System, _: Fault) -> None:
    connection = await asyncpg.connect(system.database_url, timeout=5)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    finally:
        connection.terminate()


async def _reset(system: System, fault: Fault) -> None:
    system.links[fault.target].reset()


def _link(mode: Mode) -> Callable[[System, Fault], Awaitable[None]]:
    async def action(system: System, fault: Fault) -> None:
        link = system.links[fault.target]
        await link.set(mode, delay_seconds=fault.value)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            await link.set(Mode.NORMAL)

    return action


def _stripe(on: Callable[[Fault], dict[str, Any]], **off: Any) -> Callable[[System, Fault], Awaitable[None]]:
    async def action(system: System, fault: Fault) -> None:
        async with _stripe_fault(system, on(fault), off):
            await asyncio.sleep(fault.seconds)

    return action


@asynccontextmanager
async def _stripe_fault(system: System, on: dict[str, Any], off: dict[str, Any]) -> AsyncGenerator[None]:
    await system.stripe(**on)
    try:
        yield
    finally:
        await system.stripe(**off)


ACTIONS: dict[str, Callable[[System, Fault], Awaitable[None]]] = {
    "service killed": _kill,
    "bridge killed": _kill,
    "broker killed": _kill_broker,
    "database killed": _kill_database,
    "services rolled": _roll_services,
    "bridges rolled": _roll_bridges,
    "link refuses": _link(Mode.DOWN),
    "link black hole": _link(Mode.BLACK_HOLE),
    "link reset": _reset,
    "link slow": _link(Mode.SLOW),
    "database sessions ended": _end_sessions,
    "Stripe slow": _stripe(lambda fault: {"latency_ms": fault.value}, latency_ms=0),
    "Stripe errors": _stripe(lambda fault: {"error_rate": fault.value}, error_rate=0),
    "Stripe down": _stripe(lambda _: {"down": True}, down=False),
    "Stripe answers dropped": _stripe(lambda fault: {"drop_responses": int(fault.value)}, drop_responses=0),
    "Stripe rate limits": _stripe(lambda fault: {"rate_limits": {"default": fault.value}}, rate_limits={}),
}
