"""A private RabbitMQ node: in one folder, on free ports of 127.0.0.1, with its own epmd, cookie and users.

It shares nothing with another broker of this machine. An installed `rabbitmq-server` or Docker runs it
(`rabbitmq_install`).
"""

import asyncio
import json
import os
import pwd
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from tools.devstack import processes, rabbitmq_files, rabbitmq_install
from tools.devstack.erlang_node import AMQP, SCHEDULERS, START_SECONDS, Erlang, answers
from tools.devstack.rabbitmq_files import USER, Ports
from tools.devstack.rabbitmq_install import Docker, Installed


@dataclass(frozen=True, kw_only=True)
class Node:
    """A running node; all its files are in `folder`."""

    folder: Path
    pid: int
    port: int
    passwords: dict[str, str]
    tls_port: int | None = None

    def url(self, vhost: str = "/", *, user: str = USER) -> str:
        """The AMQP URL of a virtual host, for the administrator or for the user of one part."""
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
    """Starts the node of a folder, creating it first if there is none, and waits until it accepts AMQP.

    Args:
        folder: An absolute path, kept between starts; holds queues, passwords and pids.
        vhosts: The virtual hosts of the node.
        port: A free one if None.
        log: Receives its output; `rabbitmq.log` in the folder if None.
        dies_with_us: End it when this process is killed.
        how: What runs it; found or installed if None.
        tls: Also listen with TLS, on `tls_port`; `tls/ca.pem`, `tls/cert.pem` and `tls/key.pem` are in the folder.

    Raises:
        LocalError: This machine cannot run a broker, or it did not start.
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
    # The node first: when its epmd is gone it starts another one, which would outlive it.
    await processes.stop_recorded(folder / "rabbitmq.pid", mark=str(folder))
    await processes.stop_recorded(folder / "epmd.pid", mark=str(folder))
    await _remove_container(folder)


async def kill(folder: Path) -> None:
    """Crashes the node. Its epmd still runs: call `stop` or `start` afterwards."""
    await _remove_container(folder)
    pid = processes.read_pid(folder / "rabbitmq.pid")
    if pid is not None:
        await processes.kill(pid)


def record(node: Node) -> str:
    """The node as JSON, for another process that uses it."""
    return json.dumps(asdict(node) | {"folder": str(node.folder)})


def recorded(text: str) -> Node:
    """The node from the JSON of `record`."""
    members = json.loads(text)
    return Node(**members | {"folder": Path(members["folder"])})


async def _start_installed(how: Installed, folder: Path, ports: Ports, log: Path, *, dies_with_us: bool) -> int:
    dist, epmd_port = processes.free_ports(2)
    erlang = Erlang(how=how, home=folder / "home", epmd_port=epmd_port, mark=str(folder), dies_with_us=dies_with_us)
    await processes.stop_recorded(folder / "epmd.pid", mark=str(folder))
    await erlang.start_epmd(folder)
    return erlang.spawn_node("bookticket", folder, port=ports.plain, dist_port=dist, log=log)


async def _start_in_docker(how: Docker, folder: Path, ports: Ports, log: Path, *, dies_with_us: bool) -> int:
    """Our process is the container's client, which forwards signals; `--rm` leaves nothing behind."""
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
    """Ends the container of this folder's node, if any: it can outlive its client."""
    container = processes.read_text(folder / "container")
    if container:
        client, name = container.rsplit(maxsplit=1)
        await processes.run([client, "rm", "--force", name])
        processes.remove(folder / "container")


def _identity_in_docker(folder: Path) -> tuple[int, int]:
    """Our uid and gid, so that we can remove what the container writes; not root's, which the image would drop."""
    if os.getuid():
        return os.getuid(), os.getgid()
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return nobody.pw_uid, nobody.pw_gid


async def _wait_until_ready(node: Node, log: Path) -> None:
    """Waits until the broker answers a protocol header, which it does only when it has booted."""

    async def is_ready() -> bool:
        return await asyncio.to_thread(answers, node.port, AMQP)

    await processes.wait_until_ready("RabbitMQ", node.pid, log, is_ready, seconds=START_SECONDS)
