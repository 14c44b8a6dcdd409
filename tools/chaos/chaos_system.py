"""The system under test: each part a real process, the links between them proxied, dead processes restarted."""

import asyncio
import math
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tools.chaos.member import Member
from tools.chaos.proxy import Mode, Proxy
from tools.chaos.stripe_controls import StripeControls
from tools.devstack import postgres_server, processes, rabbitmq_server
from tools.devstack.rabbitmq_files import BRIDGE, SERVICE
from tools.devstack.stack import command_path
from tools.devstack.stack_settings import CHECKOUT

DATABASE = "payments"
WINDOW_SECONDS = 60
"""The time to pay, the shortest allowed: so the sweeper expires unpaid payments during the faults."""
OTHER_DEFAULTS = {
    "PAYMENT_CURRENCY": "eur",
    "PAYMENT_SUCCESS_URL": "https://new.example/paid",
    "PAYMENT_CANCEL_URL": "https://new.example/back",
}
"""Of the second service, as in a release that stopped half-way."""
REPLICAS, READY_SECONDS = 2, 180.0
RESTART_SECONDS = 0.5  # the delay with which an orchestrator restarts a dead process
QUEUES_SETTLE_SECONDS = 25.0
"""RabbitMQ 3.10 loses the leader of a quorum queue declared less than about 20 s before the node is killed."""
SANDBOX_PID_FILE = "sandbox.pid"


class System:
    """`running()` starts everything and always ends it."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self._say = say
        self.members: dict[str, Member] = {}
        self.links: dict[str, Proxy] = {}
        self.stripe: StripeControls
        self.declared_at = -math.inf
        self.losses: list[tuple[float, float]] = []
        """When each copy of the database that was put back was made, and put back; on the monotonic clock."""
        self.operators = 0
        self.database_fault = asyncio.Lock()
        """One at a time: on a busy machine a restore outlasts what was planned for it."""
        self.before_restore: Callable[[], Awaitable[None]]
        """Called when everything has happened that a restore undoes."""
        self._sandbox_pid = 0
        self._node: rabbitmq_server.Node
        self._database: postgres_server.Server

    @property
    def services(self) -> list[Member]:
        return [member for name, member in self.members.items() if name.startswith("service")]

    @property
    def bridges(self) -> list[Member]:
        return [member for name, member in self.members.items() if name.startswith("bridge")]

    @property
    def amqp_url(self) -> str:
        """Past the proxies, for checks, which faults must not disturb."""
        return self._node.url()

    @property
    def broker_pid(self) -> int:
        return self._node.pid

    @property
    def database_url(self) -> str:
        """Past the proxies, for the superuser."""
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

    # --- faults -----------------------------------------------------------------------------------------------------

    async def kill(self, name: str) -> None:
        """`kill -9`; the supervisor restarts it."""
        member = self.members[name]
        if not member.held:
            member.ordered = True
            await processes.kill(member.pid)

    async def roll(self, name: str) -> None:
        """As a deployment: SIGTERM, a new process, and a wait until it is ready."""
        member = self.members[name]
        member.ordered = True
        await processes.stop(member.pid, patience_seconds=25)
        await self.ready(member)

    async def kill_broker(self, down_seconds: float) -> None:
        """`kill -9` of the node, and a restart."""
        await asyncio.sleep(max(0.0, self.declared_at + QUEUES_SETTLE_SECONDS - time.monotonic()))
        await rabbitmq_server.kill(self._node.folder)
        await asyncio.sleep(down_seconds)
        self._node = await rabbitmq_server.start(self._node.folder, port=self._node.port, dies_with_us=True)

    async def kill_database(self, down_seconds: float) -> None:
        """`kill -9` of the postmaster, and a restart, which recovers from the write-ahead log."""
        await postgres_server.kill(self._database.folder)
        await asyncio.sleep(down_seconds)
        # Its child processes end by themselves; until the last one is gone they hold the shared memory.
        for _ in range(10):
            try:
                self._database = await postgres_server.start(
                    self._database.folder, port=self._database.port, dies_with_us=True
                )
            except processes.LocalError:
                await asyncio.sleep(0.5)
            else:
                return

    async def operate(self, *arguments: str) -> tuple[int, str]:
        """Runs `payment-service` as an operator does; the exit status and the output."""
        variables = ("DATABASE_URL", "STRIPE_API_KEY", "STRIPE_API_BASE", "AMQP_URL")
        service = {name: self.services[0].env[name] for name in variables}
        self.operators += 1
        try:
            return await processes.run([command_path("payment-service"), *arguments], env=self.environment() | service)
        finally:
            self.operators -= 1

    async def heal(self) -> None:
        """Reverts whatever an interrupted fault may have left."""
        for link in self.links.values():
            await link.set(Mode.NORMAL)
        await self.stripe.heal()
        waits = (self.ready(member) for member in self.members.values())
        for problem in await asyncio.gather(*waits, return_exceptions=True):
            if problem is not None:
                self._say(str(problem))  # no reason to stop: the invariants report missing consumers

    # --- observations -----------------------------------------------------------------------------------------------

    async def ready(self, member: Member) -> None:
        """Waits until its readiness page says so; the supervisor restarts it meanwhile if it is dead."""
        deadline = time.monotonic() + READY_SECONDS
        async with self._http() as http:
            while time.monotonic() < deadline:
                if await processes.is_serving(http, f"{member.base}/actuator/health/readiness") and not member.ordered:
                    return
                await asyncio.sleep(0.1)
        how = f"is not ready after {READY_SECONDS:.0f} s"
        raise processes.LocalError(processes.death_notice(member.name, self._log(member), how))

    # --- starting and ending ----------------------------------------------------------------------------------------

    async def _start_servers(self) -> None:
        (port,) = processes.free_ports(1)
        self.stripe = StripeControls(f"http://127.0.0.1:{port}")
        (self.folder / "logs").mkdir()
        self._sandbox_pid = processes.spawn(
            [sys.executable, "-m", "tools.sandbox"],
            env=self.environment() | {"SANDBOX_HOST": "127.0.0.1", "SANDBOX_PORT": str(port)},
            log=self.folder / "logs" / "sandbox.log",
            pid_file=self.folder / SANDBOX_PID_FILE,
            dies_with_us=signal.SIGTERM,
        )
        self._node, self._database = await asyncio.gather(
            rabbitmq_server.start(self.folder / "rabbitmq", dies_with_us=True), self._start_database()
        )

    async def _start_database(self) -> postgres_server.Server:
        server = await postgres_server.start(self.folder / "postgres", database=DATABASE, dies_with_us=True)
        owner, application = server.url(DATABASE), server.application_url(DATABASE)
        environment = self.environment() | {"MIGRATION_DATABASE_URL": owner, "DATABASE_URL": application}
        status, output = await processes.run([command_path("payment-service"), "migrate"], env=environment)
        if status:
            raise processes.LocalError(f"payment-service migrate failed: {output}")
        return server

    async def _start_links(self) -> None:
        targets = {
            "bridges-broker": self._node.port,
            "services-broker": self._node.port,
            "services-database": self._database.port,
            "services-stripe": int(self.stripe.url.rpartition(":")[2]),
        }
        for name, port in targets.items():
            self.links[name] = Proxy(name, port)
            await self.links[name].start()

    def _define_members(self) -> None:
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
            settings = service if number == 1 else service | OTHER_DEFAULTS
            self._define(f"service-{number}", "payment-service", "SERVICE_PORT", next(ports), settings)
            self._define(f"bridge-{number}", "payment-bridge", "BRIDGE_PORT", next(ports), bridge)

    def _define(self, name: str, command: str, variable: str, port: int, settings: dict[str, str]) -> None:
        environment = self.environment() | settings | {variable: str(port)}
        self.members[name] = Member(name=name, argv=[command_path(command), "run"], env=environment, port=port)

    def _through(self, url: str, link: str) -> str:
        address = urlsplit(url)
        return address._replace(netloc=address.netloc.replace(f":{address.port}", f":{self.links[link].port}")).geturl()

    def environment(self) -> dict[str, str]:
        """Of every process: without settings of the person who runs this."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("BRIDGE_", "STRIPE_", "PAYMENT_"))
        }
        # Keep compiled code, in our folder: processes that restart every few seconds must not compile each time.
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
            log=self._log(member),
            pid_file=self.folder / f"{member.name}.pid",
            dies_with_us=signal.SIGTERM,
        )
        member.ordered = False

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            if not processes.running(self._sandbox_pid):
                self._say("the sandbox has died: the rest of this run means nothing")
                return
            for member in self.members.values():
                if not member.held and not processes.running(member.pid):
                    if not member.ordered:
                        member.deaths.append(processes.last_lines(self._log(member)))
                    member.ordered = True
                    await asyncio.sleep(RESTART_SECONDS)
                    if not member.held:  # nothing runs while the database is put back, whenever that began
                        self._spawn(member)

    def _log(self, member: Member) -> Path:
        return self.folder / "logs" / f"{member.name}.{member.starts}.log"

    async def _stop_members(self) -> None:
        await asyncio.gather(*(processes.stop(member.pid) for member in self.members.values() if member.pid))

    async def _stop_links(self) -> None:
        for link in self.links.values():
            await link.stop()

    async def _stop_servers(self) -> None:
        stops: list[Awaitable[None]] = [
            rabbitmq_server.stop(self.folder / "rabbitmq"),
            postgres_server.stop(self.folder / "postgres"),
        ]
        if self._sandbox_pid:
            stops.append(processes.stop(self._sandbox_pid))
        await asyncio.gather(*stops)

    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(trust_env=False, timeout=5)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
