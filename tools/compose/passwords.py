"""`python -m tools.compose.passwords`: makes the passwords of a first start, and each container's files with them.

Each container has a folder (a volume) of its own, so that none can read another's secrets: `postgres`, `rabbitmq`,
`migrate`, `service`, `bridge`, `console`, `grafana`. The folder `made` keeps the passwords themselves; no other
container has it. A start with passwords writes the same files again. `--renew NAME` makes a new one for a role or user,
`--show console` prints the one with which a person logs in to the console.
"""

import argparse
import base64
import hashlib
import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from argon2 import PasswordHasher

BROKER_USERS: Final = ("payment-bridge", "payment-service", "payment-subscriber", "payment-operator", "payment-console")
OWNER: Final = "payment_owner"
APPLICATION: Final = "payment_service"
CONSOLE: Final = "payment_console"
PERSON: Final = "operator"
NAMES: Final = ("postgres", OWNER, APPLICATION, CONSOLE, *BROKER_USERS, "console", "grafana", "stripe")
"""Whose passwords there are: roles of PostgreSQL, users of RabbitMQ; of the sandbox it is the key."""
EVERYBODYS: Final = "guest"


class PasswordsError(Exception):
    """No file can be written, or must not be; the text is one sentence."""


def files(passwords: Mapping[str, str], definitions: Mapping[str, Any]) -> dict[str, str]:
    """What is in each file, by its path in the folder of all secrets.

    Raises:
        PasswordsError: see there.
    """

    def database(role: str) -> str:
        return f"postgresql://{role}:{passwords[role]}@postgres:5432/payments"

    def amqp(user: str) -> str:
        return f"amqp://{user}:{passwords[user]}@rabbitmq:5672/payments"

    return {
        "postgres/superuser": passwords["postgres"],
        f"postgres/{OWNER}": passwords[OWNER],
        f"postgres/{APPLICATION}": passwords[APPLICATION],
        f"postgres/{CONSOLE}": passwords[CONSOLE],
        "rabbitmq/definitions.json": json.dumps(with_passwords(definitions, passwords), indent=2),
        "migrate/migration-database-url": database(OWNER),
        "migrate/database-url": database(APPLICATION),
        "service/database-url": database(APPLICATION),
        "service/amqp-url": amqp("payment-service"),
        "service/stripe-api-key": f"sk_test_{passwords['stripe']}",
        "bridge/amqp-url": amqp("payment-bridge"),
        "console/database-url": database(CONSOLE),
        "console/amqp-url": amqp("payment-console"),
        "console/users": f"{PERSON}:operator:{_argon2(passwords['console'])}",
        "grafana/admin": passwords["grafana"],
        "made/subscriber-amqp-url": amqp("payment-subscriber"),
        "made/operator-amqp-url": amqp("payment-operator"),
    }


def with_passwords(definitions: Mapping[str, Any], passwords: Mapping[str, str]) -> dict[str, Any]:
    """The broker's definitions with the hashes of the users' passwords.

    Raises:
        PasswordsError: a user in them is everybody's, or has no password here.
    """
    names = [user["name"] for user in definitions["users"]]
    if EVERYBODYS in names:
        message = f"The definitions have the user {EVERYBODYS}, whose password everybody knows: remove it."
        raise PasswordsError(message)
    if strangers := sorted(set(names) - set(passwords)):
        message = f"The definitions have users for whom no password is made here: {', '.join(strangers)}."
        raise PasswordsError(message)
    users = [{**user, "password_hash": _hashed(passwords[user["name"]])} for user in definitions["users"]]
    return {**definitions, "users": users}


def _hashed(password: str) -> str:
    """As RabbitMQ keeps it. The salt comes from the password, which is random: the same file at each start."""
    salt = hashlib.sha256(f"salt of {password}".encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _argon2(password: str) -> str:
    """The hash of a person's password, as the console checks it; with a salt as above."""
    salt = hashlib.sha256(f"salt of {password}".encode()).digest()[:16]
    return PasswordHasher().hash(password, salt=salt)


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 and one sentence for what must not or cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m tools.compose.passwords")
    parser.add_argument("--folder", type=Path, default=Path("/secrets"), help="of all secrets")
    parser.add_argument("--definitions", type=Path, default=Path("/definitions.json"), help="of RabbitMQ")
    parser.add_argument("--renew", action="append", default=[], choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--show", choices=("console",), help="only print it")
    given = parser.parse_args(arguments)
    record = given.folder / "made" / "passwords.json"
    try:
        known = _known(record)
        if given.show:
            return _show(known.get(given.show))
        kept = {name: password for name, password in known.items() if name not in given.renew}
        passwords = {name: kept.get(name) or secrets.token_hex(20) for name in NAMES}
        written = files(passwords, _read(given.definitions))
        _write(record, json.dumps(passwords, indent=2))
        for path, text in written.items():
            _write(given.folder / path, text)
    except PasswordsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print(f"passwords: {len(NAMES) - len(known)} made, {len(given.renew)} renewed")
    return 0


def _show(password: str | None) -> int:
    if password is None:
        sys.stderr.write("No password is made yet: that is done by the first start.\n")
        return 1
    print(password)
    return 0


def _known(record: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    except (OSError, ValueError):
        # New ones would fit no role and no user that is there.
        raise PasswordsError(f"{record} cannot be read: nothing is written until it is put back, or removed.") from None
    return known


def _read(file: Path) -> Mapping[str, Any]:
    try:
        definitions: Mapping[str, Any] = json.loads(file.read_text())
        _ = [user["name"] for user in definitions["users"]]
    except (OSError, ValueError, TypeError, KeyError):
        raise PasswordsError(f"{file} cannot be read, or is no file of RabbitMQ's definitions.") from None
    return definitions


def _write(file: Path, text: str) -> None:
    """At once and readable for whatever user its container has: who else may read it is decided by the volume."""
    new = file.with_suffix(".new")
    try:
        new.write_text(text)
        new.chmod(0o444)
        new.rename(file)
    except OSError as error:
        raise PasswordsError(f"{file} cannot be written: {error.strerror}.") from None


if __name__ == "__main__":
    sys.exit(main())
