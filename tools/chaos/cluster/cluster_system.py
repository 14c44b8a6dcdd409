"""The cluster under test: `make cluster` in a folder of its own, and how to find and hit its members."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import psutil

from tools.chaos.chaos_system import WINDOW_SECONDS
from tools.chaos.stripe_controls import StripeControls
from tools.devstack import processes, stack_settings
from tools.devstack.addresses import Addresses
from tools.devstack.cluster.cluster_stack import Cluster
from tools.devstack.cluster.patroni_members import HEALTHY
from tools.devstack.erlang_node import AMQP, answers
from tools.devstack.terminal import Terminal

SETTINGS = {
    "LOG_LEVEL": "warning",
    "LOG_FORMAT": "json",
    "STRIPE_REQUESTS_PER_SECOND": "200",
    "STRIPE_GLOBAL_REQUESTS_PER_SECOND": "0",
    "PAYMENT_WINDOW_SECONDS": str(WINDOW_SECONDS),
}
HEALTHY_SECONDS = 120.0


class ClusterSystem:
    """`running()` starts everything, restarts what is killed, and always ends it."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        ports = zip(
            stack_settings.DEFAULT_PORTS, map(str, processes.free_ports(len(stack_settings.DEFAULT_PORTS))), strict=True
        )
        self.folder = folder
        self.cluster = Cluster(stack_settings.load({**dict(ports), "STACK_DIR": str(folder)}), Terminal())
        self._say = say
        self._addresses: Addresses

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        watching: asyncio.Task[None] | None = None
        try:
            with patch.dict(os.environ, SETTINGS):  # the parts inherit it
                self._addresses = await self.cluster.start()
            watching = asyncio.create_task(self.cluster.watch(), name="supervisor")
            yield
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.wait([watching])
            await self.cluster.stop()

    # --- what `facts` looks at --------------------------------------------------------------------------------------

    @property
    def where(self) -> dict[str, Any]:
        """`stack.json` at this moment."""
        members: dict[str, Any] = json.loads((self.folder / "stack.json").read_text())
        return members

    @property
    def amqp_url(self) -> str:
        """A node that answers."""
        nodes = self.cluster.brokers
        return nodes.url(next((name for name in nodes.names if answers(nodes.port(name), AMQP)), nodes.names[0]))

    @property
    def database_url(self) -> str:
        return self._addresses.database

    @property
    def sandbox(self) -> str:
        return self._addresses.sandbox or ""

    @property
    def services(self) -> list[dict[str, Any]]:
        return list(self.where["nodes"]["service"])

    @property
    def bridges(self) -> list[str]:
        return [bridge["url"] for bridge in self.where["nodes"]["bridge"]]

    @property
    def stripe(self) -> StripeControls:
        return StripeControls(self.sandbox)

    async def operate(self, *arguments: str) -> tuple[int, str]:
        """Runs `payment-service` as an operator does; the exit status and the output."""
        return await self.cluster.operate(*arguments)

    # --- who is what ------------------------------------------------------------------------------------------------

    async def primary(self) -> str:
        """The PostgreSQL server that Patroni calls the leader."""
        states = await self.cluster.databases.states()
        return next(name for name, state in states.items() if state == "primary")

    async def standby(self) -> str:
        primary = await self.primary()
        return next(name for name in self.cluster.databases.names if name != primary)

    async def etcd_leader(self) -> str:
        async with httpx.AsyncClient(trust_env=False, timeout=3) as http:
            for number, host in enumerate(self.cluster.databases.etcd, start=1):
                with contextlib.suppress(httpx.TransportError):
                    status = (await http.post(f"http://{host}/v3/maintenance/status", json={})).json()
                    if status.get("leader") == status["header"]["member_id"]:
                        return f"etcd-{number}"
        message = "no etcd member says that it leads"
        raise processes.LocalError(message)

    async def broker_role(self, name: str) -> str:
        """Whether the node leads the queue of creates, and whether one of our processes is connected to it."""
        nodes = self.cluster.brokers
        output = await self._rabbitmqctl("list_queues", "-p", "payments", "name", "leader")
        leads = any(line.split() == ["payments.checkout.create", nodes.node_name(name)] for line in output.splitlines())
        role = "leader of creates" if leads else "follower"
        return f"{role}, {'connected to' if self._connected(nodes.port(name)) else 'not connected to'}"

    async def service_role(self, name: str) -> str:
        """Whether the service reads Stripe's events for all."""
        url = self.services[int(name[-1]) - 1]["url"]
        async with httpx.AsyncClient(trust_env=False, timeout=3) as http:
            leads = "payment_service_feed_is_leader 1.0" in (await http.get(f"{url}/actuator/prometheus")).text
        return "reads the events" if leads else "does not read the events"

    def _connected(self, port: int) -> bool:
        members = self.where["nodes"]
        pids = [each["pid"] for each in (*members["service"], *members["bridge"])]
        return any(
            connection.raddr and connection.raddr.port == port
            for pid in pids
            for connection in psutil.Process(pid).net_connections("tcp")
        )

    # --- faults -----------------------------------------------------------------------------------------------------

    def pids(self, parts: Sequence[str]) -> list[int]:
        """Of parts by the stack's names, and of a PostgreSQL server (`postgres-1`) with all its processes."""
        found = []
        for part in parts:
            pid = self.cluster.databases.postmaster(part) if part.startswith("postgres") else self.cluster.pid(part)
            if pid is not None:
                found.append(pid)
                if part.startswith("postgres"):
                    found.extend(child.pid for child in psutil.Process(pid).children(recursive=True))
        return found

    def kill(self, parts: Sequence[str]) -> None:
        _signal(self.pids(parts), signal.SIGKILL)

    async def freeze(self, parts: Sequence[str], seconds: float) -> None:
        pids = self.pids(parts)
        _signal(pids, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            _signal(pids, signal.SIGCONT)

    async def cut_off(self, name: str, seconds: float) -> None:
        """A partition between a RabbitMQ node and the others, who still reach their clients.

        Each refuses a peer of another cookie, and loses the connections that it has.
        """
        nodes = self.cluster.brokers
        others = ", ".join(f"'{nodes.node_name(each)}'" for each in nodes.names if each != name)
        at = ("--node", nodes.node_name(name), "eval")
        cut = "erlang:set_cookie(Node, 'another'), erlang:disconnect_node(Node)"
        await self._rabbitmqctl(*at, f"[begin {cut} end || Node <- [{others}]].")
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._rabbitmqctl(*at, f"[erlang:set_cookie(Node, erlang:get_cookie()) || Node <- [{others}]].")

    async def _rabbitmqctl(self, *arguments: str) -> str:
        """What it prints.

        Raises:
            LocalError: It failed.
        """
        status, output = await processes.run([self.folder / "cluster" / "bin" / "rabbitmqctl", "-q", *arguments])
        if status:
            message = f"rabbitmqctl {' '.join(arguments)} failed: {output.strip()}"
            raise processes.LocalError(message)
        return output

    async def end(self, part: str) -> None:
        """SIGTERM; the stack starts it again."""
        _signal(self.pids([part]), signal.SIGTERM)

    async def wait_until_healthy(self) -> None:
        """Until every member runs and is ready.

        Raises:
            LocalError: It is not, after two minutes.
        """
        deadline = asyncio.get_running_loop().time() + HEALTHY_SECONDS
        while problem := await self._problem():
            if asyncio.get_running_loop().time() > deadline:
                raise processes.LocalError(f"the cluster is not healthy again: {problem}")
            await asyncio.sleep(0.5)

    async def _problem(self) -> str:
        if dead := self.cluster.dead():
            return f"{dead} does not run"
        nodes = self.cluster.brokers
        for name in nodes.names:
            if not await asyncio.to_thread(answers, nodes.port(name), AMQP):
                return f"{name} does not answer"
        states = sorted((await self.cluster.databases.states()).values())
        if states != HEALTHY:
            return f"PostgreSQL is {', '.join(states)}"
        async with httpx.AsyncClient(trust_env=False, timeout=6) as http:
            for url in (*self.bridges, *(service["url"] for service in self.services)):
                if not await processes.is_serving(http, f"{url}/actuator/health/readiness"):
                    return f"{url} is not ready"
        return ""


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
