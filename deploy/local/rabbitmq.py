"""A private RabbitMQ node: in one folder, on free ports of 127.0.0.1, with an epmd, a cookie and users of its own.

It never meets another broker of this machine. An installed `rabbitmq-server` or Docker runs it (`rabbitmq_install`).
"""

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from deploy.local import processes, rabbitmq_files, rabbitmq_install
from deploy.local.processes import LocalError
from deploy.local.rabbitmq_files import USER, Ports
from deploy.local.rabbitmq_install import Docker, Installed

START_SECONDS: Final = 120.0
# One scheduler that sleeps when idle: the node shares a small machine with everything else that is being tried.
SCHEDULERS: Final = "+sbwt none +sbwtdcpu none +sbwtdio none +S 1:1 +SDcpu 1:1"
LOOPBACK_ONLY: Final = "-kernel inet_dist_use_interface {127,0,0,1}"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A running node. `folder` holds all of it; `passwords` has those of all users."""

    folder: Path
    pid: int
    port: int
    passwords: dict[str, str]
    tls_port: int | None = None

    def url(self, vhost: str = "/", *, user: str = USER) -> str:
        """The AMQP address of a virtual host, by a user who may do everything, or by the user of one part."""
        return f"amqp://{user}:{self.passwords[user]}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"


async def start(
    folder: Path,
    *,
    vhosts: Sequence[str] = ("/",),
    port: int | None = None,
    log: Path | None = None,
    dies_with_us: bool = False,
    how: Installed | Docker | None = None,
    tls: bool = False,
) -> Node:
    """Starts the node of a folder, making it first if there is none, and waits until it accepts AMQP.

    Args:
        folder: An absolute path, kept between starts; holds queues, the password and the pids.
        vhosts: Virtual hosts that exist when it is up.
        port: A free one if None.
        log: Where it writes; `rabbitmq.log` in the folder if None.
        dies_with_us: End it when this process is killed.
        how: What runs it; found, or installed, if None.
        tls: Also listen with TLS, on `tls_port`; `tls/ca.pem`, `tls/cert.pem` and `tls/key.pem` are in the folder.

    Raises:
        LocalError: There is no way to run a broker here, or it did not start; says why.
    """
    how = how or await rabbitmq_install.find_or_install()
    node_port, tls_port = processes.free_ports(2)
    ports = Ports(plain=port or node_port, tls=tls_port if tls else None)
    log = log or folder / "rabbitmq.log"
    passwords = rabbitmq_files.write(folder, vhosts, ports)
    try:
        if isinstance(how, Installed):
            pid = await _start_installed(how, folder, ports, log, dies_with_us=dies_with_us)
        else:
            pid = await _start_in_docker(how, folder, ports, log, dies_with_us=dies_with_us)
        node = Node(folder=folder, pid=pid, port=ports.plain, passwords=passwords, tls_port=ports.tls)
        await _wait_until_ready(node, log)
    except BaseException:
        await stop(folder)
        raise
    return node


async def stop(folder: Path) -> None:
    """Ends the node of a folder, if one runs, and its epmd."""
    # The node first: it starts an epmd of its own, which would outlive it, when it misses the one it knows.
    await processes.stop_recorded(folder / "rabbitmq.pid", mark=str(folder))
    await processes.stop_recorded(folder / "epmd.pid", mark=str(folder))
    await _remove_container(folder)


async def kill(folder: Path) -> None:
    """What a power cut does to the node. `stop` still has to be called for its epmd, or `start` to go on."""
    await _remove_container(folder)
    pid = processes.read_pid(folder / "rabbitmq.pid")
    if pid is not None:
        await processes.kill(pid)


def record(node: Node) -> str:
    """The node as JSON, for a process that shares it."""
    return json.dumps(asdict(node) | {"folder": str(node.folder)})


def recorded(text: str) -> Node:
    """The node that `record` wrote."""
    members = json.loads(text)
    return Node(**members | {"folder": Path(members["folder"])})


async def _start_installed(how: Installed, folder: Path, ports: Ports, log: Path, *, dies_with_us: bool) -> int:
    dist, epmd_port = processes.free_ports(2)
    base = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(folder / "home"),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
        # The mark by which we know our epmd again: its command line names no folder.
        "BOOKTICKET_FOLDER": str(folder),
    }
    await processes.stop_recorded(folder / "epmd.pid", mark=str(folder))
    # Ours, in the foreground: the one that Erlang would start itself leaves its session and outlives it.
    epmd = processes.spawn(
        [how.epmd],
        env=base,
        log=folder / "epmd.log",
        pid_file=folder / "epmd.pid",
        dies_with_us=signal.SIGTERM if dies_with_us else None,
    )
    await _wait_for_port(epmd_port, epmd, folder / "epmd.log")
    return processes.spawn(
        [how.server],
        wrapper=_on_one_processor(ports.plain),
        env=base
        | {
            "RABBITMQ_NODENAME": "bookticket@localhost",
            "RABBITMQ_NODE_PORT": str(ports.plain),
            "RABBITMQ_DIST_PORT": str(dist),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_PID_FILE": str(folder / "node.pid"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{SCHEDULERS} {LOOPBACK_ONLY}",
            # Its start script then becomes the node instead of standing between us and it.
            "RUNNING_UNDER_SYSTEMD": "true",
        },
        log=log,
        pid_file=folder / "rabbitmq.pid",
        dies_with_us=signal.SIGTERM if dies_with_us else None,
    )


def _on_one_processor(number: int) -> list[str]:
    """Erlang hands every file to another thread and back; across processors of a virtual machine that is dear.

    Measured with two of them: up in 6 s on one processor, in 19 s on both.
    """
    taskset = shutil.which("taskset")
    if taskset is None or sys.platform != "linux":
        return []
    allowed = sorted(os.sched_getaffinity(0))
    return [taskset, "-c", str(allowed[number % len(allowed)])]


async def _start_in_docker(how: Docker, folder: Path, ports: Ports, log: Path, *, dies_with_us: bool) -> int:
    """The container's client is our process: it hands signals on, and `--rm` leaves nothing behind."""
    await _remove_container(folder)
    name = f"bookticket-rabbitmq-{ports.plain}"
    (folder / "container").write_text(f"{how.client} {name}")
    inside = "/var/lib/bookticket"
    published = {ports.plain: "5672", **({ports.tls: "5671"} if ports.tls else {})}
    configuration = (folder / "rabbitmq.conf").read_text()
    for port, inner in published.items():
        configuration = configuration.replace(f"127.0.0.1:{port}", inner)
    (folder / "rabbitmq.conf").write_text(configuration.replace(str(folder), inside))
    uid, gid = _identity_in_docker(folder)
    return processes.spawn(
        [
            *(how.client, "run", "--rm", "--name", name, "--hostname", "localhost"),
            *("--user", f"{uid}:{gid}"),
            *(word for port, inner in published.items() for word in ("--publish", f"127.0.0.1:{port}:{inner}")),
            *("--volume", f"{folder}:{inside}", "--env", f"HOME={inside}/home"),
            *("--env", f"RABBITMQ_MNESIA_BASE={inside}/data", "--env", "RABBITMQ_NODENAME=bookticket@localhost"),
            *("--env", f"RABBITMQ_CONFIG_FILE={inside}/rabbitmq.conf"),
            *("--env", f"RABBITMQ_ENABLED_PLUGINS_FILE={inside}/enabled_plugins"),
            *("--env", f"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS={SCHEDULERS}"),
            how.image,
        ],
        env=dict(os.environ),
        log=log,
        pid_file=folder / "rabbitmq.pid",
        dies_with_us=signal.SIGTERM if dies_with_us else None,
    )


async def _remove_container(folder: Path) -> None:
    """Ends the container that a node of this folder ran in, if any: it can outlive its client."""
    container = processes.read_text(folder / "container")
    if container:
        client, name = container.rsplit(maxsplit=1)
        await processes.run([client, "rm", "--force", name])
        processes.forget(folder / "container")


def _identity_in_docker(folder: Path) -> tuple[int, int]:
    """Ours, so that we can remove what the container writes. Not root's: the image would become another user itself."""
    if os.getuid():
        return os.getuid(), os.getgid()
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return nobody.pw_uid, nobody.pw_gid


async def _wait_until_ready(node: Node, log: Path) -> None:
    """Waits for a real answer: the protocol header is refused or answered only by a broker that has booted."""
    deadline = time.monotonic() + START_SECONDS
    while processes.running(node.pid):
        if await asyncio.to_thread(_speaks_amqp, node.port):
            return
        if time.monotonic() > deadline:
            message = f"RabbitMQ did not become ready within {START_SECONDS:.0f} s; see {log}."
            raise LocalError(message)
        await asyncio.sleep(2 * processes.POLL_SECONDS)
    message = f"RabbitMQ ended at its start. The last lines of {log}:\n{processes.last_lines(log)}"
    raise LocalError(message)


def _speaks_amqp(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(connection.recv(1))
    except OSError:
        return False


async def _wait_for_port(port: int, pid: int, log: Path) -> None:
    while processes.running(pid):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            await asyncio.sleep(processes.POLL_SECONDS / 5)
        else:
            return
    message = f"Erlang's epmd ended at its start. The last lines of {log}:\n{processes.last_lines(log)}"
    raise LocalError(message)
