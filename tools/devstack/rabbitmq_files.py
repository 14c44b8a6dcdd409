"""The files that a private RabbitMQ node loads at its start: configuration, definitions, plugins, cookie."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.devstack.stack_settings import CHECKOUT

USER: Final = "bookticket"
"""The administrator, with all rights on every virtual host."""
BRIDGE: Final = "payment-bridge"
SERVICE: Final = "payment-service"
CONSOLE: Final = "payment-console"
ROLES: Final = CHECKOUT / "deploy" / "rabbitmq" / "definitions.json"
"""The users of the parts and their rights, which this node grants on each of its virtual hosts."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The ports that a node listens on."""

    plain: int
    tls: int | None


def write(
    folder: Path, vhosts: Sequence[str], ports: Ports, *, shared: Path | None = None, base: str = ""
) -> dict[str, str]:
    """Writes the node's configuration, definitions, plugins and cookie; returns the users' passwords.

    Args:
        folder: The node's own folder.
        vhosts: Its virtual hosts.
        ports: What it listens on.
        shared: The folder of the cookie and the passwords, which the nodes of a cluster share; `folder` if None.
        base: Configuration that goes before what this adds, and that it overrides.
    """
    shared = shared or folder
    home = shared / "home"
    home.mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    cookie = home / ".erlang.cookie"
    if not cookie.exists():
        cookie.touch(mode=0o600)
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
    passwords_file = shared / "passwords.json"
    passwords_file.touch(mode=0o600)
    passwords = json.loads(passwords_file.read_text() or "{}")
    roles = json.loads(ROLES.read_text())
    users = [{"name": USER, "tags": "administrator"}, *roles["users"]]
    passwords = {user["name"]: passwords.get(user["name"]) or secrets.token_hex(16) for user in users}
    passwords_file.write_text(json.dumps(passwords, indent=2))
    everything = {"user": USER, "configure": ".*", "write": ".*", "read": ".*"}
    definitions = {
        "users": [_with_password(user, passwords[user["name"]]) for user in users],
        "vhosts": [{"name": vhost} for vhost in vhosts],
        "permissions": [
            {**permission, "vhost": vhost} for vhost in vhosts for permission in (everything, *roles["permissions"])
        ],
        "policies": [{**policy, "vhost": vhost} for vhost in vhosts for policy in roles["policies"]],
    }
    definitions_file = folder / "definitions.json"
    definitions_file.touch(mode=0o600)
    definitions_file.write_text(json.dumps(definitions, indent=2))
    (folder / "enabled_plugins").write_text("[].\n")
    (folder / "rabbitmq.conf").write_text(
        f"{base}"
        f"listeners.tcp.local = 127.0.0.1:{ports.plain}\n"
        f"{_tls_listener(folder, ports.tls) if ports.tls else ''}"
        f"load_definitions = {definitions_file}\n"
        "log.file = false\n"
        "log.console = true\n"
        # On a nearly full disk the default would silently block every publisher.
        "disk_free_limit.absolute = 50MB\n"
        # The default is 512 MB, on disk and in memory.
        "raft.wal_max_size_bytes = 33554432\n"
    )
    return passwords


def _with_password(user: dict[str, str], password: str) -> dict[str, str]:
    return {name: value for name, value in user.items() if name != "password_hash"} | {"password": password}


def _tls_listener(folder: Path, port: int) -> str:
    return (
        f"listeners.ssl.local = 127.0.0.1:{port}\n"
        f"ssl_options.cacertfile = {folder}/tls/ca.pem\n"
        f"ssl_options.certfile = {folder}/tls/cert.pem\n"
        f"ssl_options.keyfile = {folder}/tls/key.pem\n"
    )
