"""Finds what can run a RabbitMQ node: an installed server, Docker, or the distribution's package, in this order."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.devstack import package_install, processes
from tools.devstack.processes import LocalError

IMAGE: Final = "rabbitmq:4"
CHOICES: Final = (
    "There is no RabbitMQ here. Choose one: set AMQP_URL to a broker that you name; install rabbitmq-server "
    "(Debian/Ubuntu: apt-get install rabbitmq-server, macOS: brew install rabbitmq); start Docker; "
    "or run this as root or with password-free sudo on Debian/Ubuntu, which installs it."
)
# Not the wrapper in /usr/sbin, which changes to the user `rabbitmq` and uses the system broker's folders.
SERVERS: Final = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/usr/local/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/rabbitmq/sbin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
)


@dataclass(frozen=True, kw_only=True)
class Installed:
    """RabbitMQ's own start script, and Erlang's name server."""

    server: Path
    epmd: Path


@dataclass(frozen=True, kw_only=True)
class Docker:
    """A Docker client with a reachable engine that has the image."""

    client: Path
    image: str


async def find_or_install(on_progress: Callable[[str], object] = str) -> Installed | Docker:
    """What will run the node; `on_progress` receives a line before each step that takes long.

    Raises:
        LocalError: Nothing can; lists the choices.
    """
    found = installed() or await _docker(on_progress)
    try:
        if found is None and await package_install.by_apt("rabbitmq-server", on_progress):
            found = installed()
    except LocalError as error:
        message = f"{error}\n{CHOICES}"
        raise LocalError(message) from None
    if found is None:
        raise LocalError(CHOICES)
    return found


async def installed_or_install(on_progress: Callable[[str], object] = str) -> Installed:
    """The same without Docker: the nodes of a cluster are processes that find each other by Erlang's own means.

    Raises:
        LocalError: There is none, and it cannot be installed.
    """
    found = installed()
    if found is None and await package_install.by_apt("rabbitmq-server", on_progress):
        found = installed()
    if found is None:
        message = (
            "A cluster needs an installed rabbitmq-server, which this cannot install here (Docker is not enough): "
            "apt-get install rabbitmq-server, or brew install rabbitmq."
        )
        raise LocalError(message)
    return found


def installed() -> Installed | None:
    """RabbitMQ where package managers install it."""
    epmd = shutil.which("epmd") or next(map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None)
    server = next((Path(each) for each in SERVERS if Path(each).exists()), None)
    return Installed(server=server, epmd=Path(epmd)) if server and epmd else None


async def _docker(on_progress: Callable[[str], object]) -> Docker | None:
    client = shutil.which("docker")
    if client is None or (await processes.run([client, "version", "--format", "{{.Server.Version}}"]))[0]:
        return None
    if (await processes.run([client, "image", "inspect", IMAGE]))[0]:
        on_progress(f"pulling the image {IMAGE}")
        if (await processes.run([client, "pull", "--quiet", IMAGE]))[0]:
            return None
    return Docker(client=Path(client), image=IMAGE)
