"""Applies the faults of a plan to the system and reverts them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg

from tools.chaos import restoring
from tools.chaos.chaos_system import System
from tools.chaos.plan import BRIDGES, SERVICES, Fault
from tools.chaos.proxy import Mode
from tools.devstack.processes import LocalError


@dataclass(kw_only=True)
class Window:
    """An applied fault: from its beginning until its cause is gone. `felt`: until the ended parts are ready again."""

    fault: Fault
    began: float
    ended: float
    felt: float = 0.0
    problem: str = ""


async def play(
    system: System, faults: list[Fault], *, started: float, report: Callable[[str], None], windows: list[Window]
) -> None:
    """Applies every fault at its time. `windows` grows as they begin, so that an interrupted run has them too."""
    async with asyncio.TaskGroup() as group:
        for fault in faults:
            await asyncio.sleep(max(0.0, started + fault.at - time.monotonic()))
            group.create_task(_play(system, fault, started, report, windows))


async def _play(
    system: System, fault: Fault, started: float, report: Callable[[str], None], windows: list[Window]
) -> None:
    began = time.monotonic() - started
    window = Window(fault=fault, began=began, ended=began)
    windows.append(window)
    report(f"{began:6.1f} s  {fault.kind:<28} {fault.target:<18} {f'{fault.seconds:.1f} s' if fault.seconds else ''}")
    try:
        await ACTIONS[fault.kind](system, fault)
        window.ended = time.monotonic() - started
        if fault.target in system.members:
            await system.ready(system.members[fault.target])
    except (LocalError, OSError, asyncpg.PostgresError, TimeoutError) as error:
        window.problem = f"{type(error).__name__}: {error}"
        report(f"          {fault.kind}: {window.problem}")
    window.felt = time.monotonic() - started


async def _roll(system: System, names: tuple[str, ...]) -> None:
    for name in names:
        await system.roll(name)


async def _end_sessions(system: System, _: Fault) -> None:
    connection = await asyncpg.connect(system.database_url, timeout=5)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    finally:
        connection.terminate()


async def _restore(system: System, fault: Fault) -> None:
    copy = await restoring.copied(system)
    await asyncio.sleep(fault.seconds)
    await restoring.put_back(system, copy)


async def _clock_off(system: System, fault: Fault) -> None:
    await system.stripe.set_clock(int(fault.value))
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        await system.stripe.set_clock(0)


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
        await system.stripe.set(**on(fault))
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            await system.stripe.set(**off)

    return action


def _of_database(action: Callable[[System, Fault], Awaitable[None]]) -> Callable[[System, Fault], Awaitable[None]]:
    """The action, once no other one is under way that would leave half a database."""

    async def in_turn(system: System, fault: Fault) -> None:
        async with system.database_fault:
            await action(system, fault)

    return in_turn


ACTIONS: dict[str, Callable[[System, Fault], Awaitable[None]]] = {
    "service killed": lambda system, fault: system.kill(fault.target),
    "bridge killed": lambda system, fault: system.kill(fault.target),
    "broker killed": lambda system, fault: system.kill_broker(fault.seconds),
    "database killed": _of_database(lambda system, fault: system.kill_database(fault.seconds)),
    "services rolled": lambda system, _: _roll(system, SERVICES),
    "bridges rolled": lambda system, _: _roll(system, BRIDGES),
    "link refuses": _link(Mode.DOWN),
    "link black hole": _link(Mode.BLACK_HOLE),
    "link reset": _reset,
    "link slow": _link(Mode.SLOW),
    "database sessions ended": _of_database(_end_sessions),
    "Stripe slow": _stripe(lambda fault: {"latency_ms": fault.value}, latency_ms=0),
    "Stripe errors": _stripe(lambda fault: {"error_rate": fault.value}, error_rate=0),
    "Stripe down": _stripe(lambda _: {"down": True}, down=False),
    "Stripe answers dropped": _stripe(lambda fault: {"drop_responses": int(fault.value)}, drop_responses=0),
    "Stripe rate limits": _stripe(lambda fault: {"rate_limits": {"default": fault.value}}, rate_limits={}),
    "Stripe refuses our account": _stripe(lambda _: {"account_error": True}, account_error=False),
    "Stripe's events late": _stripe(lambda fault: {"events_late_seconds": fault.value}, events_late_seconds=0),
    "Stripe's clock off": _clock_off,
    "database restored": _of_database(_restore),
}
