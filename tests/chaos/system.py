"""The system under test: every part a real process of its own, the links between them breakable, the dead restarted."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from deploy.local import postgres, processes, rabbitmq
from deploy.local.processes import LocalError
from deploy.local.rabbitmq_files import BRIDGE, SERVICE
from deploy.local.settings import CHECKOUT
from deploy.local.stack import command_path
from tests.proxy import Mode, Proxy

DATABASE = "payments"
WINDOW_SECONDS = 60
"""The time to pay, the shortest there may be: so the settler ends what nobody pays while everything breaks."""
REPLICAS = 2
READY_SECONDS = 60.0
RESTART_SECONDS = 0.5
"""How soon an orchestrator starts again what has died."""
QUEUES_SETTLE_SECONDS = 25.0
"""RabbitMQ 3.10 loses the leader of a quorum queue that was declared some 20 s before the node is killed."""
SANDBOX_PID_FILE = "sandbox.pid"


@dataclass(kw_only=True)
class Member:
    """One of our processes; `deaths` are the ends that nobody here had ordered."""

    name: str
    argv: list[str]
    env: dict[str, str]
    port: int
    pid: int = 0
    starts: int = 0
    ordered: bool = False
    deaths: list[str] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class System:
    """`running()` starts it, and ends all of it whatever happens."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self._say = say
        self.members: dict[str, Member] = {}
        self.links: dict[str, Proxy] = {}
        self.sandbox = ""
        self.declared_at = 0.0
        self._sandbox_pid = 0
        self._node: rabbitmq.Node | None = None
        self._database: postgres.Server | None = None

    @property
    def services(self) -> list[Member]:
        return [member for name, member in self.members.items() if name.startswith("service")]

    @property
    def bridges(self) -> list[Member]:
        return [member for name, member in self.members.items() if name.startswith("bridge")]

    @property
    def amqp_url(self) -> str:
        """Past the proxies: for the checks, which must not be fooled by faults."""
        assert self._node is not None
        return self._node.url()

    @property
    def broker_pid(self) -> int:
        assert self._node is not None
        return self._node.pid

    @property
    def database_url(self) -> str:
        """Past the proxies, by a user who may do everything."""
        assert self._database is not None
        return self._database.url(DATABASE)

    @asynccontextmanager
    async def running(self) -> Any:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._stop_servers)
            await self._start_servers()
            stack.push_async_callback(self._stop_links)
            await self._start_links()
            stack.push_async_callback(self._stop_members)
            self._define_members()
            for member in self.members.values():
                self._spawn(member)
            await asyncio.gather(*(self.ready(member) for member in self.members.values()))
            self.declared_at = time.monotonic()
            supervisor = asyncio.create_task(self._supervise(), name="supervisor")
            stack.push_async_callback(_cancel, supervisor)
            yield self

    # --- what faults do ---------------------------------------------------------------------------------------------

    async def kill(self, name: str) -> None:
        """`kill -9`; the supervisor starts it again."""
        member = self.members[name]
        member.ordered = True
        await processes.kill(member.pid)

    async def roll(self, name: str) -> None:
        """What a deployment does: SIGTERM, patience, a new one, wait until it is ready."""
        member = self.members[name]
        member.ordered = True
        await processes.stop(member.pid, patience_seconds=25)
        await self.ready(member)

    async def kill_broker(self, down_seconds: float) -> None:
        """`kill -9` of the node, and the same node again."""
        assert self._node is not None
        await asyncio.sleep(max(0.0, self.declared_at + QUEUES_SETTLE_SECONDS - time.monotonic()))
        await rabbitmq.kill(self._node.folder)
        await asyncio.sleep(down_seconds)
        self._node = await rabbitmq.start(self._node.folder, port=self._node.port, dies_with_us=True)

    async def kill_database(self, down_seconds: float) -> None:
        """`kill -9` of the postmaster, and the same server again, which recovers from its log."""
        assert self._database is not None
        await postgres.kill(self._database.folder)
        await asyncio.sleep(down_seconds)
        # Its orphans notice by themselves; until the last is gone the shared memory belongs to them.
        for _ in range(10):
            try:
                self._database = await postgres.start(
                    self._database.folder, port=self._database.port, dies_with_us=True
                )
            except LocalError:
                await asyncio.sleep(0.5)
            else:
                return

    async def stripe(self, **settings: Any) -> None:
        """Change the sandbox's faults."""
        async with self._http() as http, http.post(f"{self.sandbox}/_sandbox/config", json=settings) as answer:
            answer.raise_for_status()

    async def heal(self) -> None:
        """Undo what a fault may have left when it was interrupted."""
        for link in self.links.values():
            await link.set(Mode.NORMAL)
        await self.stripe(latency_ms=0, error_rate=0, down=False, drop_responses=0, lose_responses=0, rate_limits={})
        waits = (self.ready(member) for member in self.members.values())
        for problem in await asyncio.gather(*waits, return_exceptions=True):
            if problem is not None:
                self._say(str(problem))  # no reason to stop: its missing consumers are a violation

    # --- what the checks read ---------------------------------------------------------------------------------------

    async def ledger(self) -> list[dict[str, Any]]:
        """Every session that the sandbox has made."""
        async with self._http() as http, http.get(f"{self.sandbox}/_sandbox/ledger") as answer:
            sessions: list[dict[str, Any]] = json.loads(await answer.read())
            return sessions

    async def most_payable(self) -> int:
        """The most sessions of one booking that were open or paid at any one moment."""
        async with self._http() as http, http.get(f"{self.sandbox}/_sandbox/stats") as answer:
            most: int = json.loads(await answer.read())["max_payable_per_booking"]
            return most

    async def ready(self, member: Member) -> None:
        """Wait until it says that it can work; whoever supervises starts it again meanwhile, if need be."""
        deadline = time.monotonic() + READY_SECONDS
        async with self._http() as http:
            while time.monotonic() < deadline:
                with suppress(aiohttp.ClientError, TimeoutError, OSError):
                    async with http.get(f"{member.base}/actuator/health/readiness") as answer:
                        if answer.status == 200 and not member.ordered:
                            return
                await asyncio.sleep(0.1)
        raise LocalError(f"{member.name} is not ready after {READY_SECONDS:.0f} s:\n{self._last_words(member)}")

    # --- starting and ending ----------------------------------------------------------------------------------------

    async def _start_servers(self) -> None:
        (port,) = processes.free_ports(1)
        self.sandbox = f"http://127.0.0.1:{port}"
        (self.folder / "logs").mkdir()
        self._sandbox_pid = processes.spawn(
            [sys.executable, "-m", "deploy.sandbox"],
            env=self._environment() | {"SANDBOX_HOST": "127.0.0.1", "SANDBOX_PORT": str(port)},
            log=self.folder / "logs" / "sandbox.log",
            pid_file=self.folder / SANDBOX_PID_FILE,
            dies_with_us=signal.SIGTERM,
        )
        self._node, self._database = await asyncio.gather(
            rabbitmq.start(self.folder / "rabbitmq", dies_with_us=True), self._start_database()
        )

    async def _start_database(self) -> postgres.Server:
        server = await postgres.start(self.folder / "postgres", database=DATABASE, dies_with_us=True)
        owner, application = server.url(DATABASE), server.application_url(DATABASE)
        environment = self._environment() | {"MIGRATION_DATABASE_URL": owner, "DATABASE_URL": application}
        status, said = await processes.run([command_path("payment-service"), "migrate"], env=environment)
        if status:
            raise LocalError(f"payment-service migrate failed: {said}")
        return server

    async def _start_links(self) -> None:
        assert self._node is not None
        assert self._database is not None
        targets = {
            "bridges-broker": self._node.port,
            "services-broker": self._node.port,
            "services-database": self._database.port,
            "services-stripe": int(self.sandbox.rpartition(":")[2]),
        }
        for name, port in targets.items():
            self.links[name] = Proxy(name, port)
            await self.links[name].start()

    def _define_members(self) -> None:
        assert self._database is not None
        assert self._node is not None
        ports = iter(processes.free_ports(2 * REPLICAS))
        service = {
            "AMQP_URL": self._through(self._node.url(user=SERVICE), "services-broker"),
            "DATABASE_URL": self._through(self._database.application_url(DATABASE), "services-database"),
            "STRIPE_API_KEY": "sk_test_chaos000001",
            "STRIPE_API_BASE": f"http://127.0.0.1:{self.links['services-stripe'].port}",
            "STRIPE_REQUESTS_PER_SECOND": "200",
            "STRIPE_GLOBAL_REQUESTS_PER_SECOND": "0",
            "PAYMENT_WINDOW_SECONDS": str(WINDOW_SECONDS),
        }
        bridge = {"AMQP_URL": self._through(self._node.url(user=BRIDGE), "bridges-broker")}
        for number in range(1, REPLICAS + 1):
            self._define(f"service-{number}", "payment-service", "SERVICE_PORT", next(ports), service)
            self._define(f"bridge-{number}", "payment-bridge", "BRIDGE_PORT", next(ports), bridge)

    def _define(self, name: str, command: str, variable: str, port: int, settings: dict[str, str]) -> None:
        environment = self._environment() | settings | {variable: str(port)}
        self.members[name] = Member(name=name, argv=[command_path(command), "run"], env=environment, port=port)

    def _through(self, url: str, link: str) -> str:
        address = urlsplit(url)
        return address._replace(netloc=address.netloc.replace(f":{address.port}", f":{self.links[link].port}")).geturl()

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("BRIDGE_", "STRIPE_", "PAYMENT_"))
        }
        # Compiled code is kept, in our folder: processes that start every few seconds must not compile every time.
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)
        return {
            **inherited,
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "warning",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPYCACHEPREFIX": str(self.folder / "compiled"),
        }

    def _spawn(self, member: Member) -> None:
        member.starts += 1
        member.pid = processes.spawn(
            member.argv,
            env=member.env,
            log=self.folder / "logs" / f"{member.name}.{member.starts}.log",
            pid_file=self.folder / f"{member.name}.pid",
            dies_with_us=signal.SIGTERM,
        )
        member.ordered = False

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            if not processes.running(self._sandbox_pid):
                self._say("the sandbox has died: nothing that follows means anything")
                return
            for member in self.members.values():
                if not processes.running(member.pid):
                    if not member.ordered:
                        member.deaths.append(self._last_words(member))
                    member.ordered = True
                    await asyncio.sleep(RESTART_SECONDS)
                    self._spawn(member)

    def _last_words(self, member: Member) -> str:
        return processes.last_lines(self.folder / "logs" / f"{member.name}.{member.starts}.log", 15)

    async def _stop_members(self) -> None:
        await asyncio.gather(*(processes.stop(member.pid) for member in self.members.values() if member.pid))

    async def _stop_links(self) -> None:
        for link in self.links.values():
            await link.stop()

    async def _stop_servers(self) -> None:
        stops: list[Awaitable[None]] = [
            rabbitmq.stop(self.folder / "rabbitmq"),
            postgres.stop(self.folder / "postgres"),
        ]
        if self._sandbox_pid:
            stops.append(processes.stop(self._sandbox_pid))
        await asyncio.gather(*stops)

    def _http(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
