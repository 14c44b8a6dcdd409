"""A mark in every secret that tests have, and the search for it wherever a secret must not be.

Whatever secret a test or a server of the tests is given comes from `secret`, so it is found without being known: in
what tests print and log, in what every process writes, in every row and every message (`tests/leaks.py`).
"""

import base64
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import asyncpg

from deploy.local import rabbitmq_files

MARK: Final = "CanaryQ7z"
_AROUND: Final = 60


def secret(name: str) -> str:
    """A new secret; letters and digits, so that it is itself in every URL and every quoting."""
    return f"{MARK}{name}{secrets.token_hex(8)}"


def put_password(folder: Path, *names: str) -> None:
    """Give a server that is made in `folder` passwords of ours instead of its own: it keeps what it finds."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        file = folder / name
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(f"{secret(name.replace('-', ''))}\n")


def put_broker_passwords(folder: Path) -> None:
    """The same for a RabbitMQ node, which has a user for each part."""
    file = folder / "passwords.json"
    if file.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    users = [user["name"] for user in json.loads(rabbitmq_files.ROLES.read_text())["users"]]
    file.touch(mode=0o600)
    file.write_text(json.dumps({name: secret(name.replace("-", "")) for name in (rabbitmq_files.USER, *users)}))


def _encoded(mark: bytes) -> Iterable[str]:
    """As it is, in hexadecimal, and in base64 wherever it begins; what depends on its neighbours is left out."""
    yield mark.decode()
    yield mark.hex()
    for before in range(3):
        padded = base64.b64encode(b"\0" * before + mark).decode().rstrip("=")
        whole = (before + len(mark)) * 8 // 6
        yield padded[-(-before * 8 // 6) : whole]


_FORMS: Final = re.compile("|".join(re.escape(form) for form in _encoded(MARK.encode())))


def leaks(place: str, content: object) -> list[str]:
    """Where in the content a secret stands: a line for each, with what is around it."""
    text = _text(content)
    return [f"{place}: ...{text[max(0, hit.start() - _AROUND) : hit.end()]}..." for hit in _FORMS.finditer(text)]


def leaks_in_files(files: Iterable[Path]) -> list[str]:
    return [leak for file in files if file.is_file() for leak in leaks(str(file), file.read_bytes())]


async def leaks_in_database(url: str) -> list[str]:
    return [leak for table, rows in (await rows_of(url)).items() for leak in leaks(f"table {table}", rows)]


async def rows_of(url: str) -> dict[str, str]:
    """Every table of a database, all columns as text."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) AS name FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        return {
            table["name"]: _text([tuple(row) for row in await connection.fetch(f"SELECT * FROM {table['name']}")])  # noqa: S608
            for table in tables
        }
    finally:
        await connection.close()


def _text(content: object) -> str:
    """Nothing is escaped away: what is found in bytes is found in the same bytes inside a record."""
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content).decode("latin-1")
    if isinstance(content, Mapping):
        return "\n".join(f"{_text(name)}: {_text(value)}" for name, value in content.items())
    if isinstance(content, list | tuple | set):
        return "\n".join(_text(each) for each in content)
    return str(content)


def message_parts(body: bytes, properties: Any) -> list[object]:
    """Everything of an AMQP message that somebody can read."""
    return [body, dict(properties.headers or {}), *(value for _, value in properties if not isinstance(value, dict))]
