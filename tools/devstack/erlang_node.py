"""RabbitMQ nodes as processes of an installed server, with an epmd (Erlang's name server) of their own."""

import os
import shutil
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.devstack import processes
from tools.devstack.rabbitmq_install import Installed

START_SECONDS: Final = 180.0
# One scheduler that sleeps when idle: the node shares a small machine with the rest of the system.
SCHEDULERS: Final = "+sbwt none +sbwtdcpu none +sbwtdio none +S 1:1 +SDcpu 1:1"
LOOPBACK_ONLY: Final = "-kernel inet_dist_use_interface {127,0,0,1}"
AMQP: Final = b"AMQP\x00\x00\x09\x01"
"""The protocol header: a broker answers it only when it has booted."""


@dataclass(frozen=True, kw_only=True)
class Erlang:
    """What nodes that know each other share: the program, a home with the cookie, and an epmd.

    `mark` identifies our epmd later: its command line names no folder.
    """

    how: Installed
    home: Path
    epmd_port: int
    mark: str
    dies_with_us: bool

    @property
    def environment(self) -> dict[str, str]:
        """What every program needs that speaks to the nodes."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "BOOKTICKET_FOLDER": self.mark,
        }

    def spawn_epmd(self, folder: Path) -> int:
        """In the foreground: an epmd that Erlang starts itself leaves its session and outlives it."""
        return processes.spawn(
            [self.how.epmd],
            env=self.environment,
            log=folder / "epmd.log",
            pid_file=folder / "epmd.pid",
            dies_with_us=self._signal,
        )

    async def start_epmd(self, folder: Path) -> int:
        """The same, and waits until it answers."""
        pid = self.spawn_epmd(folder)

        async def is_ready() -> bool:
            return answers(self.epmd_port)

        await processes.wait_until_ready("Erlang's epmd", pid, folder / "epmd.log", is_ready, seconds=START_SECONDS)
        return pid

    def spawn_node(
        self, name: str, folder: Path, *, port: int, dist_port: int, log: Path, advanced: Path | None = None
    ) -> int:
        """Starts the node whose files `rabbitmq_files` has written into the folder.

        `advanced`: configuration in Erlang's terms.
        """
        return processes.spawn(
            [self.how.server],
            wrapper=_on_one_processor(port),
            env=self.environment
            | ({} if advanced is None else {"RABBITMQ_ADVANCED_CONFIG_FILE": str(advanced)})
            | {
                "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
                "RABBITMQ_NODENAME": f"{name}@localhost",
                "RABBITMQ_NODE_PORT": str(port),
                "RABBITMQ_DIST_PORT": str(dist_port),
                "RABBITMQ_MNESIA_BASE": str(folder / "data"),
                "RABBITMQ_LOG_BASE": str(folder),
                "RABBITMQ_PID_FILE": str(folder / "node.pid"),
                "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
                "RABBITMQ_CONF_ENV_FILE": os.devnull,
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{SCHEDULERS} {LOOPBACK_ONLY}",
                # Makes the start script exec the node instead of staying its parent.
                "RUNNING_UNDER_SYSTEMD": "true",
            },
            log=log,
            pid_file=folder / "rabbitmq.pid",
            dies_with_us=self._signal,
        )

    @property
    def _signal(self) -> signal.Signals | None:
        return signal.SIGTERM if self.dies_with_us else None


def answers(port: int, greeting: bytes = b"") -> bool:
    """Whether a port of this machine accepts a connection and, if there is a greeting, answers it."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(greeting)
            return not greeting or bool(connection.recv(1))
    except OSError:
        return False


def _on_one_processor(number: int) -> list[str]:
    """Pins the node to one processor: Erlang passes each file operation between threads, slow across processors.

    Measured on a virtual machine with two: ready in 6 s on one processor, in 19 s on both.
    """
    taskset = shutil.which("taskset")
    if taskset is None or sys.platform != "linux":
        return []
    allowed = sorted(os.sched_getaffinity(0))
    return [taskset, "-c", str(allowed[number % len(allowed)])]
