"""Three RabbitMQ nodes that form one cluster, with the settings of `deploy/ha`."""

import asyncio
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tools.devstack import processes, rabbitmq_files
from tools.devstack.cluster.cluster_ports import SIZE
from tools.devstack.erlang_node import AMQP, START_SECONDS, Erlang, answers
from tools.devstack.rabbitmq_files import Ports
from tools.devstack.rabbitmq_install import Installed
from tools.devstack.stack_settings import CHECKOUT

CONFIGURATION: Final = CHECKOUT / "deploy" / "ha" / "rabbitmq.conf"
ADVANCED: Final = CONFIGURATION.with_name("advanced.config")
COMMANDS: Final = ("rabbitmqctl", "rabbitmq-queues", "rabbitmq-diagnostics")


@dataclass(kw_only=True)
class BrokerNodes:
    """The nodes below `folder`; `spawn` starts one, also again after its end."""

    how: Installed
    folder: Path
    logs: Path
    ports: dict[str, int]
    vhost: str
    passwords: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [f"rabbitmq-{number}" for number in range(1, SIZE + 1)]

    def node_name(self, name: str) -> str:
        """The name by which RabbitMQ's tools know it."""
        return f"{name}@localhost"

    def port(self, name: str) -> int:
        return self.ports[name.replace("rabbitmq", "amqp")]

    def url(self, name: str, *, user: str = rabbitmq_files.USER) -> str:
        """The AMQP URL of one node."""
        return self._url(f"127.0.0.1:{self.port(name)}", user)

    def all_url(self, *, user: str = rabbitmq_files.USER) -> str:
        """The AMQP URL that names all nodes."""
        return self._url(",".join(f"127.0.0.1:{self.port(name)}" for name in self.names), user)

    def prepare(self) -> None:
        """Writes every node's files, and the commands for a shell."""
        base = CONFIGURATION.read_text()
        for number, name in enumerate(self.names, start=1):
            base = re.sub(rf"rabbit@broker-{number}\b", self.node_name(name), base)
        for name in self.names:
            ports = Ports(plain=self.port(name), tls=None)
            self.passwords = rabbitmq_files.write(
                self.folder / name, (self.vhost,), ports, shared=self.folder, base=base
            )

    def spawn_epmd(self) -> int:
        return self._erlang.spawn_epmd(self.folder)

    def spawn(self, name: str) -> int:
        return self._erlang.spawn_node(
            name,
            self.folder / name,
            port=self.port(name),
            dist_port=self.ports[name.replace("rabbitmq", "distribution")],
            log=self.logs / f"{name}.log",
            advanced=ADVANCED,
        )

    async def wait_until_ready(self, pids: dict[str, int]) -> None:
        """Waits until every node has booted: then each has joined the cluster.

        Raises:
            LocalError: A node did not start.
        """
        await asyncio.gather(*(self._ready(name, pids[name]) for name in pids))

    async def _ready(self, name: str, pid: int) -> None:
        async def is_ready() -> bool:
            return await asyncio.to_thread(answers, self.port(name), AMQP)

        await processes.wait_until_ready(name, pid, self.logs / f"{name}.log", is_ready, seconds=START_SECONDS)

    def commands(self) -> dict[str, str]:
        """RabbitMQ's tools as shell scripts that reach these nodes, and not a broker of the system."""
        variables = self._erlang.environment
        exports = [f"export {name}={shlex.quote(variables[name])}" for name in ("HOME", "ERL_EPMD_PORT", "LANG")]
        first = self.node_name(self.names[0])
        scripts = {}
        for command in COMMANDS:
            path = shlex.quote(str(self.how.server.parent / command))
            lines = ["#!/bin/sh", *exports, f'export RABBITMQ_NODENAME="${{RABBITMQ_NODENAME:-{first}}}"']
            scripts[command] = "\n".join([*lines, f'exec {path} "$@"', ""])
        return scripts

    @property
    def _erlang(self) -> Erlang:
        return Erlang(
            how=self.how,
            home=self.folder / "home",
            epmd_port=self.ports["epmd"],
            mark=str(self.folder),
            dies_with_us=True,
        )

    def _url(self, hosts: str, user: str) -> str:
        return f"amqp://{user}:{self.passwords[user]}@{hosts}/{quote(self.vhost, safe='')}"
