"""The system under measurement: its own stack for each set of settings, with any number of services and bridges."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import httpx
import psutil

from tools.bench.bare_sdk import KEY
from tools.bench.load_generator import OK, Http
from tools.devstack import processes, stack_settings
from tools.devstack.stack import Stack, command_path
from tools.devstack.stack_settings import CHECKOUT
from tools.devstack.terminal import Terminal

LATENCY_MS = 300
UNPACED = {"STRIPE_REQUESTS_PER_SECOND": "0", "STRIPE_GLOBAL_REQUESTS_PER_SECOND": "0", "STRIPE_CONCURRENCY": "400"}
"""Unlimited calls to Stripe, so that the machine is the bottleneck and not a setting."""
AS_SHIPPED: dict[str, str] = {}
"""The default settings: 20 calls a second per endpoint, for all services together."""
STRIPE_LIMIT = 25
STRIPE_LIMITS = {"default": STRIPE_LIMIT, "global": 100}
"""What Stripe serves a second, of one endpoint and in all."""
READY_SECONDS = 60.0
_ASIDE = {"epmd", "storefront"}
_OURS = ("bridge", "service", "rabbitmq", "postgres", "patroni", "etcd")
_COMMANDS = {"service": ("payment-service", "SERVICE_PORT"), "bridge": ("payment-bridge", "BRIDGE_PORT")}


class System:
    """`start` starts everything; `scale` replaces the services and bridges; `stop` ends everything."""

    stack_class: type[Stack] = Stack

    def __init__(self, folder: Path, settings: Mapping[str, str], *, tree: Path = CHECKOUT) -> None:
        """`tree`: the checkout whose service and bridge are measured."""
        self.folder = folder
        self.tree = tree
        self.settings = dict(settings)
        self.where: dict[str, Any] = {}
        self.pids: dict[str, list[int]] = {}
        self.bridges: list[str] = []
        self.services: list[str] = []
        self._stack: Stack | None = None
        self._started = 0

    async def start(self) -> None:
        names = stack_settings.DEFAULT_PORTS
        ports = dict(zip(names, map(str, processes.free_ports(len(names))), strict=True))
        own = {name: os.environ[name] for name in ("AMQP_URL", "DATABASE_URL") if name in os.environ}
        chosen = stack_settings.load({**own, **ports, "STACK_DIR": str(self.folder)})
        self._stack = self.stack_class(chosen, Terminal(), tree=self.tree)
        with patch.dict(
            os.environ, {"LOG_LEVEL": "warning", "LOG_FORMAT": "json", **self.settings}
        ):  # the parts inherit it
            await self._stack.start()
        self.where = json.loads((self.folder / "stack.json").read_text())
        self.pids = {}
        for name, pid in self.where["pids"].items():  # the members of a cluster are numbered
            self.pids.setdefault(name.rpartition("-")[0] or name, []).append(pid)
        if (broker := await _in_container(self.folder / "rabbitmq")) is not None:
            self.pids["rabbitmq"] = [broker]
        self.bridges = [self.where["bridge"]]

    async def stop(self) -> None:
        if self._stack is not None:
            await self._stack.stop()

    async def scale(self, *, services: int = 1, bridges: int = 1, settings: Mapping[str, str] | None = None) -> None:
        """Replaces the services and bridges by others, with the system's settings or these."""
        self.settings = dict(self.settings if settings is None else settings)
        for name in ("bridge", "service"):
            await asyncio.gather(*(processes.stop(pid) for pid in self.pids[name]))
        new = await asyncio.gather(
            *(self.spawn(name) for name, count in (("service", services), ("bridge", bridges)) for _ in range(count))
        )
        self.pids["service"] = [pid for pid, _, _ in new[:services]]
        self.pids["bridge"] = [pid for pid, _, _ in new[services:]]
        self.services, self.bridges = ([base for _, base, _ in each] for each in (new[:services], new[services:]))

    async def spawn(self, name: str) -> tuple[int, str, float]:
        """Starts another service or bridge: its pid, its URL, and the seconds until it was ready."""
        command, variable = _COMMANDS[name]
        (port,) = processes.free_ports(1)
        self._started += 1
        folder = self.folder / f"{name}-{self._started}"  # where the stack finds the processes that it has to end
        folder.mkdir()
        began = time.perf_counter()
        pid = processes.spawn(
            [command_path(command, tree=self.tree), "run"],
            env={
                **os.environ,
                "PYTHONPATH": str(self.tree),
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
        ready = f"{base}/actuator/health/readiness"
        await processes.wait_until_serving(name, pid, folder / "log", ready, seconds=READY_SECONDS)
        return pid, base, round(time.perf_counter() - began, 2)

    async def start_another(self, name: str) -> float:
        """The seconds until one more service or bridge was ready; it is ended at once."""
        pid, _, seconds = await self.spawn(name)
        await processes.stop(pid)
        return seconds

    # --- the sandbox ------------------------------------------------------------------------------------------------

    async def stripe(self, **changes: Any) -> None:
        """Configures the sandbox: `latency_ms`, `rate_limits`."""
        await self._sandbox("POST", "config", changes)

    async def reset_stripe(self) -> None:
        """Deletes all state of the sandbox."""
        await self._sandbox("POST", "reset", {})

    async def stats(self) -> dict[str, Any]:
        return await self._sandbox("GET", "stats", None)

    async def _sandbox(self, method: str, path: str, body: Any) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            answer = await client.request(method, f"{self.where['sandbox']}/_sandbox/{path}", json=body)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            return found

    # --- resources --------------------------------------------------------------------------------------------------

    def cpu(self) -> dict[str, float]:
        """Processor seconds so far, of each part with its children and of this process (the load)."""
        seconds = {
            name: sum(_tree_seconds(pid) for pid in pids) for name, pids in self.pids.items() if name not in _ASIDE
        }
        return {**seconds, "load": _seconds(psutil.Process())}

    def resident_mb(self) -> dict[str, float]:
        """Resident memory of services and bridges."""
        return {
            name: round(sum(psutil.Process(pid).memory_info().rss for pid in self.pids[name]) / 2**20, 1)
            for name in ("service", "bridge")
        }


@dataclass(kw_only=True)
class Bench:
    """Provides the system of each part: the same one for the same settings, unless the part wants a new one."""

    folder: Path
    quick: bool = False
    tree: Path = CHECKOUT
    _system: System | None = None
    _count: int = 0

    async def system(self, settings: Mapping[str, str], *, new: bool = False) -> System:
        if self._system is not None and not new and self._system.settings == settings:
            return self._system
        await self.close()
        self._count += 1
        self._system = System(self.folder / f"{self._count}", settings, tree=self.tree)
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
    """Measures processor time and calls to Stripe during a `with` block."""

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
        """Cores used by bridge, service, RabbitMQ and PostgreSQL together."""
        return sum(self.cores.get(name, 0.0) for name in _OURS)

    def ms_each(self, count: int) -> float | None:
        """Milliseconds of our processor time per item."""
        return round(self.ours * self.seconds * 1000 / count, 2) if count else None


def calls_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Calls to Stripe by endpoint, and how many of them it answered 429."""
    counts = {name: (before["calls"][name], now) for name, now in after["calls"].items()}
    limited = sum(now["rate_limited"] - then["rate_limited"] for then, now in counts.values())
    return {name: now["calls"] - then["calls"] for name, (then, now) in counts.items()}, limited


async def sessions_of(clients: list[Http], count: int, bookings: Iterator[int], *, callers: int = 100) -> list[str]:
    """Creates unpaid payments through the bridge; their sessions."""
    made: list[str] = []
    wanted = iter(range(count))

    async def caller(client: Http) -> None:
        for _ in wanted:
            answer = await client.create(next(bookings))
            if answer.status == OK:
                made.append(answer.body["sessionId"])

    await asyncio.gather(*(caller(clients[number % len(clients)]) for number in range(callers)))
    return made


async def _in_container(folder: Path) -> int | None:
    """The broker's pid, if it runs in a container and our process is only its client."""
    container = processes.read_text(folder / "container")
    if not container:
        return None
    client, name = container.rsplit(maxsplit=1)
    status, output = await processes.run([client, "inspect", "--format", "{{.State.Pid}}", name])
    return int(output) if status == 0 and output.strip().isdecimal() and psutil.pid_exists(int(output)) else None


def _tree_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    return sum(_seconds(each) for each in (process, *process.children(recursive=True)))


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # it ended meanwhile, and its parent's children_* times include it
        return 0.0
    if process.pid == os.getpid():
        return float(times.user + times.system)
    return float(times.user + times.system + times.children_user + times.children_system)
