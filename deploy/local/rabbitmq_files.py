"""What a private RabbitMQ node reads when it starts: configuration, definitions, plugins, cookie."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.settings import CHECKOUT

USER: Final = "bookticket"
"""May do everything on every virtual host."""
BRIDGE: Final = "payment-bridge"
SERVICE: Final = "payment-service"
ROLES: Final = CHECKOUT / "deploy" / "rabbitmq" / "definitions.json"
"""The users of the parts, and what each may do: here on every virtual host of the node."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where a node listens."""

    plain: int
    tls: int | None


def write(folder: Path, vhosts: Sequence[str], ports: Ports) -> dict[str, str]:
    """The node's configuration, definitions, plugins and cookie; returns the users' passwords."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    cookie = home / ".erlang.cookie"
    if not cookie.exists():
        cookie.touch(mode=0o600)
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
    passwords_file = folder / "passwords.json"
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
    }
    definitions_file = folder / "definitions.json"
    definitions_file.touch(mode=0o600)
    definitions_file.write_text(json.dumps(definitions, indent=2))
    (folder / "enabled_plugins").write_text("[].\n")
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.local = 127.0.0.1:{ports.plain}\n"
        f"{_tls_listener(folder, ports.tls) if ports.tls else ''}"
        f"load_definitions = {definitions_file}\n"
        "log.file = false\n"
        "log.console = true\n"
        # A laptop's nearly full disk must not block every publisher without a word.
        "disk_free_limit.absolute = 50MB\n"
        # Half a gigabyte otherwise, in memory too.
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
