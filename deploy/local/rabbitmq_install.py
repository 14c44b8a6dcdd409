"""Finds what can run a RabbitMQ node here: an installed one, Docker, or the distribution's package, in this order."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local import processes
from deploy.local.processes import LocalError

IMAGE: Final = "rabbitmq:4"
CHOICES: Final = (
    "There is no RabbitMQ here. Choose one: set AMQP_URL to a broker that you name; install rabbitmq-server "
    "(Debian/Ubuntu: apt-get install rabbitmq-server, macOS: brew install rabbitmq); start Docker; "
    "or run this as root or with password-free sudo on Debian/Ubuntu, which installs it."
)
# Not the wrapper in /usr/sbin, which becomes the user `rabbitmq` and works in the system broker's folders.
SERVERS: Final = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/usr/local/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/rabbitmq/sbin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
)
POLICY: Final = Path("/usr/sbin/policy-rc.d")


@dataclass(frozen=True, kw_only=True)
class Installed:
    """RabbitMQ's own start script, and Erlang's name server."""

    server: Path
    epmd: Path


@dataclass(frozen=True, kw_only=True)
class Docker:
    """A Docker client whose engine answers and has the image."""

    client: Path
    image: str


def _ignore(_: str) -> None:
    """Nobody listens."""


async def find_or_install(tell: Callable[[str], None] = _ignore) -> Installed | Docker:
    """What will run the node.

    Args:
        tell: Told in a few words what takes long.

    Raises:
        LocalError: Nothing can; lists the choices.
    """
    found = installed() or await _docker(tell)
    if found is None and await _apt_install(tell):
        found = installed()
    if found is None:
        raise LocalError(CHOICES)
    return found


def installed() -> Installed | None:
    """RabbitMQ as a package manager puts it."""
    epmd = shutil.which("epmd") or next(map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None)
    server = next((Path(each) for each in SERVERS if Path(each).exists()), None)
    return Installed(server=server, epmd=Path(epmd)) if server and epmd else None


async def _docker(tell: Callable[[str], None]) -> Docker | None:
    client = shutil.which("docker")
    if client is None or (await processes.run([client, "version", "--format", "{{.Server.Version}}"]))[0]:
        return None
    if (await processes.run([client, "image", "inspect", IMAGE]))[0]:
        tell(f"pulling the image {IMAGE}")
        if (await processes.run([client, "pull", "--quiet", IMAGE]))[0]:
            return None
    return Docker(client=Path(client), image=IMAGE)


async def _apt_install(tell: Callable[[str], None]) -> bool:
    """Installs the package without starting the system's own broker; False where that cannot be done."""
    if shutil.which("apt-get") is None:
        return False
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if as_root and (shutil.which("sudo") is None or (await processes.run([*as_root, "true"]))[0]):
        return False
    apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    tell("installing rabbitmq-server by apt-get")
    await processes.run([*apt, "update"])
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "install"
        script.write_text(_INSTALL)
        status, said = await processes.run([*as_root, "sh", script, str(POLICY)])
    if status:
        message = f"apt-get could not install rabbitmq-server: {said.strip()[-600:]}\n{CHOICES}"
        raise LocalError(message)
    return True


# Debian starts a service as soon as its package is configured, unless policy-rc.d says 101; what was there comes back.
# A broker that is installed for our private node only should not come up at the next boot either.
_INSTALL: Final = """
set -e
policy=$1
[ ! -e "$policy" ] || mv "$policy" "$policy.kept-by-bookticket"
back() { rm -f "$policy"; [ ! -e "$policy.kept-by-bookticket" ] || mv "$policy.kept-by-bookticket" "$policy"; }
trap back EXIT
trap 'exit 143' INT TERM HUP
printf '#!/bin/sh\\nexit 101\\n' > "$policy"
chmod 755 "$policy"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -y -o DPkg::Lock::Timeout=120 install --no-install-recommends rabbitmq-server < /dev/null
if command -v systemctl > /dev/null; then systemctl disable rabbitmq-server > /dev/null 2>&1 || true; fi
"""
