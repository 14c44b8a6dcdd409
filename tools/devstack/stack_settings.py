"""The settings of the local stack, from the environment."""

import contextlib
import os
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.devstack import processes
from tools.devstack.processes import LocalError

CHECKOUT: Final = Path(__file__).resolve().parents[2]
DEFAULT_PORTS: Final = {
    "BRIDGE_PORT": 8085,
    "SERVICE_PORT": 8086,
    "CONSOLE_PORT": 8087,
    "SANDBOX_PORT": 12111,
    "STOREFRONT_PORT": 8084,
}
HIGHEST_PORT: Final = 65535


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Folder, ports and external parts; None for a part that the stack starts itself."""

    folder: Path
    bridge_port: int
    service_port: int
    console_port: int
    sandbox_port: int
    storefront_port: int
    stripe_api_key: str
    sandbox: bool
    amqp_url: str | None
    database_url: str | None

    @property
    def bridge(self) -> str:
        return f"http://127.0.0.1:{self.bridge_port}"

    @property
    def service(self) -> str:
        return f"http://127.0.0.1:{self.service_port}"

    @property
    def console(self) -> str:
        return f"http://127.0.0.1:{self.console_port}"

    @property
    def sandbox_url(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def storefront(self) -> str:
        return f"http://127.0.0.1:{self.storefront_port}"


def load(environ: Mapping[str, str]) -> Settings:
    """The validated settings; every port is free at this moment.

    Raises:
        LocalError: A setting is wrong; one sentence.
    """
    key = environ.get("STRIPE_API_KEY", "").strip()
    _refuse_wrong_key(key)
    ports = {name: _port(environ, name) for name in DEFAULT_PORTS if name != "SANDBOX_PORT" or not key}
    named = [name for name in ports if environ.get(name)]
    # Callers expect bridge and service on their ports; the web shop may move unless its port was chosen.
    if "STOREFRONT_PORT" not in named and (
        not processes.is_free(ports["STOREFRONT_PORT"]) or _twice(ports, "STOREFRONT_PORT")
    ):
        (ports["STOREFRONT_PORT"],) = processes.free_ports(1)
    _refuse_taken(ports)
    return Settings(
        folder=folder(environ),
        bridge_port=ports["BRIDGE_PORT"],
        service_port=ports["SERVICE_PORT"],
        console_port=ports["CONSOLE_PORT"],
        sandbox_port=ports.get("SANDBOX_PORT", DEFAULT_PORTS["SANDBOX_PORT"]),
        storefront_port=ports["STOREFRONT_PORT"],
        stripe_api_key=key or f"sk_test_{secrets.token_hex(12)}",
        sandbox=not key,
        amqp_url=environ.get("AMQP_URL") or None,
        database_url=environ.get("DATABASE_URL") or None,
    )


def folder(environ: Mapping[str, str]) -> Path:
    """The folder of all the stack's files."""
    return Path(environ.get("STACK_DIR") or CHECKOUT / ".stack").resolve()


def own_environment() -> dict[str, str]:
    """The environment, which the parts inherit: log level, telemetry and payment settings reach them."""
    return dict(os.environ)


def commit() -> str:
    """The commit of the checkout, as an image build passes it; empty without git."""
    with contextlib.suppress(OSError):
        command = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip()
    return ""


def _refuse_wrong_key(key: str) -> None:
    if key.startswith(("sk_live_", "rk_live_")):
        message = "STRIPE_API_KEY is a live key, which would move real money: the local stack takes test keys only."
        raise LocalError(message)
    if key and not key.startswith(("sk_test_", "rk_test_")):
        message = "STRIPE_API_KEY must begin with sk_test_ or rk_test_; unset it to pay in the sandbox."
        raise LocalError(message)


def _port(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name) or str(DEFAULT_PORTS[name])
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= HIGHEST_PORT):
        message = f"{name} must be a number from 1 to {HIGHEST_PORT}, not {text!r}."
        raise LocalError(message)
    return int(text)


def _refuse_taken(ports: Mapping[str, int]) -> None:
    for name, port in ports.items():
        if _twice(ports, name):
            both = " and ".join(other for other in ports if ports[other] == port)
            message = f"{both} are the same port {port}: give each its own."
            raise LocalError(message)
        if not processes.is_free(port):
            message = f"Port {port} is taken by another program: end it, or set {name} to a free port."
            raise LocalError(message)


def _twice(ports: Mapping[str, int], name: str) -> bool:
    return list(ports.values()).count(ports[name]) > 1
