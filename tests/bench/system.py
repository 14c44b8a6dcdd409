"""The system that is measured: a stack of its own for each set of settings, as many services and bridges as wanted."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from deploy.local import processes
from deploy.local import settings as local_settings
from deploy.local.console import Teller
from deploy.local.stack import Stack, command_path
from tests.bench.bare import KEY
from tests.bench.load import OK, Http

LATENCY_MS = 300
UNPACED = {"STRIPE_REQUESTS_PER_SECOND": "0", "STRIPE_GLOBAL_REQUESTS_PER_SECOND": "0", "STRIPE_CONCURRENCY": "400"}
"""As many calls at once as there are callers, and no limit: what fills up must be the machine, not a setting."""
READY_SECONDS = 60.0
_ASIDE = {"epmd", "storefront"}
_OURS = ("bridge", "service", "rabbitmq", "postgres")
_COMMANDS = {"service": ("payment-service", "SERVICE_PORT"), "bridge": ("payment-bridge", "BRIDGE_PORT")}


class System:
    """`start` brings everything up; `scale` replaces the services and bridges; `stop` ends all of it."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.settings = dict(settings)
        self.where: dict[str, Any] = {}
        self.pids: dict[str, list[int]] = {}
        self.bridges: list[str] = []
        self._stack: Stack | None = None
        self._started = 0

    async def start(self) -> None:
        names = ("BRIDGE_PORT", "SERVICE_PORT", "SANDBOX_PORT", "STOREFRONT_PORT")
        ports = dict(zip(names, map(str, processes.free_ports(4)), strict=True))
        own = {name: os.environ[name] for name in ("AMQP_URL", "DATABASE_URL") if name in os.environ}
        chosen = local_settings.load({**own, **ports, "STACK_DIR": str(self.folder)})
        self._stack = Stack(chosen, Teller())
        with _environment({"LOG_LEVEL": "warning", "LOG_FORMAT": "json", **self.settings}):
            await self._stack.start()
        self.where = json.loads((self.folder / "stack.json").read_text())
        self.pids = {name: [pid] for name, pid in self.where["pids"].items()}
        if (broker := await _in_container(self.folder / "rabbitmq")) is not None:
            self.pids["rabbitmq"] = [broker]
        self.bridges = [self.where["bridge"]]

    async def stop(self) -> None:
        if self._stack is not None:
            await self._stack.stop()

    async def scale(self, *, services: int = 1, bridges: int = 1, settings: Mapping[str, str] | None = None) -> None:
        """End the services and bridges that there are and start others, with the settings of the system or these."""
        self.settings = dict(self.settings if settings is None else settings)
        for name in ("bridge", "service"):
            await asyncio.gather(*(processes.stop(pid) for pid in self.pids[name]))
        new = await asyncio.gather(
            *(self.spawn(name) for name, count in (("service", services), ("bridge", bridges)) for _ in range(count))
        )
        self.pids["service"] = [pid for pid, _, _ in new[:services]]
        self.pids["bridge"] = [pid for pid, _, _ in new[services:]]
        self.bridges = [base for _, base, _ in new[services:]]

    async def spawn(self, name: str) -> tuple[int, str, float]:
        """Another service or bridge: its process, its address, and the seconds from its start until it was ready."""
        command, variable = _COMMANDS[name]
        (port,) = processes.free_ports(1)
        self._started += 1
        folder = self.folder / f"{name}-{self._started}"  # where the stack looks for what it has to end
        folder.mkdir()
        began = time.perf_counter()
        pid = processes.spawn(
            [command_path(command), "run"],
            env={
                **os.environ,
                "LOG_LEVEL": "warning",
                "LOG_FORMAT": "json",
                "BOOKTICKET_FOLDER": str(self.folder),
                "AMQP_URL": self.where["amqp"],
                "DATABASE_URL": self.where["database"],
                "STRIPE_API_KEY": KEY,
                "STRIPE_API_BASE": self.where["sandbox"],
                **self.settings,
                variable: str(port),
            },
            log=folder / "log",
            pid_file=folder / f"{name}.pid",
            dies_with_us=signal.SIGTERM,
        )
        base = f"http://127.0.0.1:{port}"
        await _ready(f"{base}/actuator/health/readiness", folder / "log")
        return pid, base, round(time.perf_counter() - began, 2)

    async def start_another(self, name: str) -> float:
        """The seconds from the start of one more service or bridge until it was ready; it is ended at once."""
        pid, _, seconds = await self.spawn(name)
        await processes.stop(pid)
        return seconds

    # --- Stripe's stand-in ------------------------------------------------------------------------------------------

    async def stripe(self, **changes: Any) -> None:
        """How the sandbox behaves: `latency_ms`, `rate_limits`."""
        await self._sandbox("POST", "config", changes)

    async def reset_stripe(self) -> None:
        """The sandbox forgets everything, its sessions too."""
        await self._sandbox("POST", "reset", {})

    async def stats(self) -> dict[str, Any]:
        return await self._sandbox("GET", "stats", None)

    async def _sandbox(self, method: str, path: str, body: Any) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            answer = await client.request(method, f"{self.where['sandbox']}/_sandbox/{path}", json=body)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            return found

    # --- what it costs ----------------------------------------------------------------------------------------------

    def cpu(self) -> dict[str, float]:
        """Seconds of processor time so far: each part with its children, and this process (the load)."""
        seconds = {
            name: sum(_tree_seconds(pid) for pid in pids) for name, pids in self.pids.items() if name not in _ASIDE
        }
        return {**seconds, "load": _seconds(psutil.Process())}

    def resident_mb(self) -> dict[str, float]:
        """Of service and bridge."""
        return {
            name: round(sum(psutil.Process(pid).memory_info().rss for pid in self.pids[name]) / 2**20, 1)
            for name in ("service", "bridge")
        }


@dataclass(kw_only=True)
class Bench:
    """Hands the parts their system: the same one again for the same settings, unless they want a new one."""

    folder: Path
    quick: bool = False
    _system: System | None = None
    _count: int = 0

    async def system(self, settings: Mapping[str, str], *, new: bool = False) -> System:
        if self._system is not None and not new and self._system.settings == settings:
            return self._system
        await self.close()
        self._count += 1
        self._system = System(self.folder / f"{self._count}", settings)
        await self._system.start()
        return self._system

    async def close(self) -> None:
        if self._system is not None:
            await self._system.stop()
            self._system = None

    def say(self, text: str) -> None:
        sys.stderr.write(f"  {text}\n")


@dataclass(kw_only=True)
class Meter:
    """Processor time and Stripe's calls between the two ends of a block."""

    system: System
    seconds: float = 0.0
    cores: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    limited: int = 0

    async def __aenter__(self) -> Self:
        self._stats = await self.system.stats()
        self._cpu, self._began = self.system.cpu(), time.perf_counter()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self.cores = {
            name: round((after - self._cpu[name]) / self.seconds, 3) for name, after in self.system.cpu().items()
        }
        stats = await self.system.stats()
        self.calls, self.limited = calls_between(self._stats, stats)

    @property
    def ours(self) -> float:
        """Cores that bridge, service, RabbitMQ and PostgreSQL used together."""
        return sum(self.cores.get(name, 0.0) for name in _OURS)

    def ms_each(self, count: int) -> float | None:
        """Milliseconds of our processor time for each of so many."""
        return round(self.ours * self.seconds * 1000 / count, 2) if count else None


def calls_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Calls that reached Stripe per endpoint, and how many of them it limited."""
    counts = {name: (before["calls"][name], now) for name, now in after["calls"].items()}
    limited = sum(now["rate_limited"] - then["rate_limited"] for then, now in counts.values())
    return {name: now["calls"] - then["calls"] for name, (then, now) in counts.items()}, limited


async def sessions_of(clients: list[Http], count: int, bookings: Iterator[int], *, callers: int = 100) -> list[str]:
    """So many new unpaid payments, by the front door."""
    made: list[str] = []
    wanted = iter(range(count))

    async def caller(client: Http) -> None:
        for _ in wanted:
            answer = await client.create(next(bookings))
            if answer.status == OK:
                made.append(answer.body["sessionId"])

    await asyncio.gather(*(caller(clients[number % len(clients)]) for number in range(callers)))
    return made


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """The parts of a stack inherit ours."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def _in_container(folder: Path) -> int | None:
    """The broker itself where only the client of its container is our process."""
    container = processes.read_text(folder / "container")
    if not container:
        return None
    client, name = container.rsplit(maxsplit=1)
    status, said = await processes.run([client, "inspect", "--format", "{{.State.Pid}}", name])
    return int(said) if status == 0 and said.strip().isdecimal() and psutil.pid_exists(int(said)) else None


def _tree_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    return sum(_seconds(each) for each in (process, *process.children(recursive=True)))


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # it has ended since its parent named it, and counts among its parent's children
        return 0.0
    if process.pid == os.getpid():
        return float(times.user + times.system)
    return float(times.user + times.system + times.children_user + times.children_system)


async def _ready(url: str, log: Path) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)
    raise TimeoutError(f"{url} is not ready after {READY_SECONDS:.0f} s: {processes.last_lines(log)}")
