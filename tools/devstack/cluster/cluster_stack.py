"""The whole system without a single point of failure: starts every member, and starts again what has died."""

import asyncio
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from tools.devstack import processes, rabbitmq_files, rabbitmq_install
from tools.devstack.addresses import CONSOLE_ROLE, Addresses, Urls
from tools.devstack.cluster import cluster_ports, etcd_members
from tools.devstack.cluster.broker_nodes import BrokerNodes
from tools.devstack.cluster.etcd_members import EtcdMembers
from tools.devstack.cluster.patroni_members import PatroniMembers
from tools.devstack.postgres_server import APPLICATION
from tools.devstack.processes import LocalError
from tools.devstack.stack import DATABASE, VHOST, WATCH_SECONDS, Stack, command_path
from tools.devstack.stack_settings import CHECKOUT, Settings
from tools.devstack.terminal import Terminal

AGAIN_SECONDS: Final = 5.0
"""How long a dead process stays away, as if its machine had to start again."""
NOT_RESTARTED: Final = {"sandbox", "storefront"}
"""Stand-ins: the sandbox would come back without its sessions."""


class Cluster(Stack):
    """A stack of three RabbitMQ nodes, three PostgreSQL servers, three etcd members, two services and two bridges."""

    def __init__(self, settings: Settings, terminal: Terminal, *, tree: Path = CHECKOUT) -> None:
        super().__init__(settings, terminal, tree=tree)
        if settings.amqp_url or settings.database_url:
            message = "A cluster starts its own servers: unset AMQP_URL and DATABASE_URL, or use `make run` with them."
            raise LocalError(message)
        self._place = self._folder / "cluster"
        self._paths.insert(0, self._place / "bin")  # comes before the environment's folder, which has a patronictl too
        self._ports = cluster_ports.keep(self._place)
        for file in self._place.glob("*.away"):
            processes.remove(file)
        self._second_service, self._second_bridge = processes.free_ports(2)
        self._due: dict[str, float] = {}
        self._written = ""
        self._addresses: Addresses
        self.brokers: BrokerNodes
        self.databases: PatroniMembers

    async def start(self) -> Addresses:
        self._addresses = await super().start()
        return self._addresses

    async def watch(self) -> None:
        """Starts every server node again 5 s after its end, and keeps `stack.json` current; never returns.

        Raises:
            LocalError: The sandbox or the web shop has ended.
        """
        while True:
            for name, pid in list(self._pids.items()):
                if not processes.running(pid):
                    self._start_again(name)
            state = str((self._pids, self._more_members()))
            if state != self._written:
                self._written = state
                self._write(self._addresses)
            await asyncio.sleep(WATCH_SECONDS)

    def pid(self, name: str) -> int:
        """Of a part: `rabbitmq-1`, `patroni-1`, `etcd-1`, `service-1`, `bridge-1`."""
        return self._pids[name]

    def dead(self) -> str:
        """The name of a part that does not run; empty if all do."""
        return next((name for name, pid in self._pids.items() if not processes.running(pid)), "")

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """Within it a part that ends is not started again, as if its machine were lost; a file says so."""
        file = self._place / f"{name}.away"
        file.touch()
        try:
            yield
        finally:
            processes.remove(file)

    def _start_again(self, name: str) -> None:
        if (self._place / f"{name}.away").exists():
            return
        if name in NOT_RESTARTED:
            raise LocalError(processes.death_notice(name, self._log(name), "has ended unexpectedly"))
        if name not in self._due:
            self._terminal.say(f"  {name} has ended; it is started again in {AGAIN_SECONDS:.0f} s", style="dim")
            self._due[name] = time.monotonic() + AGAIN_SECONDS
        elif self._due[name] <= time.monotonic():
            del self._due[name]
            self._pids[name] = self._spawns[name]()
            self._terminal.say(f"  {name} is started again", style="dim")

    async def operate(self, *arguments: str) -> tuple[int, str]:
        """Runs `payment-service` as an operator does; the exit status and the output."""
        urls = {"DATABASE_URL": self.databases.all_url(), "AMQP_URL": self.brokers.all_url()}
        command = [command_path("payment-service"), *arguments]
        return await processes.run(command, env=self._environment() | urls | self._stripe())

    # --- the parts ----------------------------------------------------------------------------------------------

    def _services(self) -> dict[str, int]:
        return {"service-1": self._settings.service_port, "service-2": self._second_service}

    def _bridges(self) -> dict[str, int]:
        return {"bridge-1": self._settings.bridge_port, "bridge-2": self._second_bridge}

    async def _database(self) -> Urls:
        etcd = EtcdMembers(
            program=await etcd_members.find_or_install(self._terminal.say),
            folder=self._place,
            logs=self._folder / "logs",
            ports=self._ports,
            mark=str(self._folder),
        )
        self.databases = PatroniMembers(
            folder=self._place,
            logs=self._folder / "logs",
            ports=self._ports,
            etcd=etcd.hosts,
            database=DATABASE,
            roles=(APPLICATION, CONSOLE_ROLE),
            mark=str(self._folder),
        )
        for name in etcd.names:
            self._start_part(name, partial(etcd.spawn, name))
        for name in self.databases.names:
            self._start_part(f"patroni-{name[-1]}", partial(self.databases.spawn, name))
        pids = {name: self._pids[f"patroni-{name[-1]}"] for name in self.databases.names}
        await self._timed("PostgreSQL", self.databases.wait_until_ready(pids), note="three under Patroni, with etcd")
        urls = Urls(
            administrator=self.databases.all_url(),
            service=self.databases.all_url(user=APPLICATION),
            console=self.databases.all_url(user=CONSOLE_ROLE),
        )
        await self._timed("migrations", self._migrate(urls.roles()))
        return urls

    async def _broker(self) -> Urls:
        self.brokers = BrokerNodes(
            how=await rabbitmq_install.installed_or_install(self._terminal.say),
            folder=self._place,
            logs=self._folder / "logs",
            ports=self._ports,
            vhost=VHOST,
        )
        self.brokers.prepare()
        self._start_part("epmd", self.brokers.spawn_epmd)
        for name in self.brokers.names:
            self._start_part(name, partial(self.brokers.spawn, name))
        pids = {name: self._pids[name] for name in self.brokers.names}
        await self._timed("RabbitMQ", self.brokers.wait_until_ready(pids), note="three nodes")
        return Urls(
            administrator=self.brokers.all_url(),
            service=self.brokers.all_url(user=rabbitmq_files.SERVICE),
            bridge=self.brokers.all_url(user=rabbitmq_files.BRIDGE),
            console=self.brokers.all_url(user=rabbitmq_files.CONSOLE),
        )

    def _start_part(self, name: str, spawn: Callable[[], int]) -> None:
        self._spawns[name] = spawn
        self._pids[name] = spawn()

    # --- files --------------------------------------------------------------------------------------------------

    def _more_members(self) -> dict[str, Any]:
        """`nodes`: every server node with its pid at this moment; 0 for a postmaster that does not run."""
        brokers, databases = self.brokers, self.databases
        return {
            "nodes": {
                "rabbitmq": [
                    {"name": brokers.node_name(name), "pid": self._pids[name], "amqp": brokers.url(name)}
                    for name in brokers.names
                ],
                "postgres": [
                    {
                        "name": name,
                        "pid": databases.postmaster(name) or 0,
                        "patroni": self._pids[f"patroni-{name[-1]}"],
                        "database": databases.url(name),
                    }
                    for name in databases.names
                ],
                "service": self._replicas(self._services()),
                "bridge": self._replicas(self._bridges()),
            }
        }

    def _replicas(self, ports: Mapping[str, int]) -> list[dict[str, Any]]:
        return [{"pid": self._pids[name], "url": f"http://127.0.0.1:{port}"} for name, port in ports.items()]

    def _write(self, addresses: Addresses) -> None:
        patronictl = Path(sys.executable).parent / "patronictl"
        configuration = self.databases.configuration_file(self.databases.names[0])
        scripts = self.brokers.commands() | {
            "patronictl": f'#!/bin/sh\nexec {shlex.quote(str(patronictl))} -c {shlex.quote(str(configuration))} "$@"\n'
        }
        commands = self._place / "bin"
        commands.mkdir(exist_ok=True)
        for name, text in scripts.items():
            (commands / name).write_text(text)
            (commands / name).chmod(0o755)
        super()._write(addresses)
