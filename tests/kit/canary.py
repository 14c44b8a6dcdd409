"""A mark in every secret of the tests, and the search for it wherever a secret must not be.

Every secret of a test or a server comes from `secret`, so a search finds it without knowing it: in what tests print
and log, in what processes write, in every row and every message (`tests/kit/leaks.py`).
"""

import base64
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import asyncpg

from tools.devstack import rabbitmq_files

MARK: Final = "CanaryQ7z"
_AROUND: Final = 60


def secret(name: str) -> str:
    """A new secret of letters and digits, which every URL and quoting leaves as it is."""
    return f"{MARK}{name}{secrets.token_hex(8)}"


def put_password(folder: Path, *names: str) -> None:
    """Write our passwords into the folder of a server before its first start: it keeps what it finds."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        file = folder / name
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(f"{secret(name.replace('-', ''))}\n")


def put_broker_passwords(folder: Path) -> None:
    """The same for a RabbitMQ node, with a user for each part."""
    file = folder / "passwords.json"
    if file.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    users = [user["name"] for user in json.loads(rabbitmq_files.ROLES.read_text())["users"]]
    file.touch(mode=0o600)
    file.write_text(json.dumps({name: secret(name.replace("-", "")) for name in (rabbitmq_files.USER, *users)}))


def _encoded(mark: bytes) -> Iterable[str]:
    """The mark as it is, in hexadecimal, and in base64 at each offset, without the digits that depend on neighbours."""
    yield mark.decode()
    yield mark.hex()
    for before in range(3):
        padded = base64.b64encode(b"\0" * before + mark).decode().rstrip("=")
        whole = (before + len(mark)) * 8 // 6
        yield padded[-(-before * 8 // 6) : whole]


_MARKS: Final = tuple(_encoded(MARK.encode()))
_FORMS: Final = re.compile("|".join(map(re.escape, _MARKS)))
_IN_ROWS: Final = [f"%{form}%" for mark in _MARKS for form in (mark, mark.encode().hex())]
"""The same for PostgreSQL, which shows bytes in hexadecimal."""


def leaks(place: str, content: object) -> list[str]:
    """The secrets in the content: a line for each, with its surroundings."""
    text = _text(content)
    return [f"{place}: ...{text[max(0, hit.start() - _AROUND) : hit.end()]}..." for hit in _FORMS.finditer(text)]


def leaks_in_files(files: Iterable[Path]) -> list[str]:
    return [leak for file in files if file.is_file() for leak in leaks(str(file), file.read_bytes())]


async def leaks_in_database(url: str) -> list[str]:
    """PostgreSQL searches its rows, which may be a hundred thousand: only those with a secret come here."""
    return [leak for table, rows in (await rows_of(url, *_IN_ROWS)).items() for leak in leaks(f"table {table}", rows)]


async def rows_of(url: str, *patterns: str) -> dict[str, str]:
    """Every table of a database, all columns as text, of all rows or of those that are like a pattern of SQL."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) AS name FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        found = {}
        for (name,) in tables:
            query = f"SELECT * FROM {name} AS record WHERE record::text LIKE ANY ($1)"  # noqa: S608
            found[name] = _text([tuple(row) for row in await connection.fetch(query, patterns or ["%"])])
        return found
    finally:
        await connection.close()


def _text(content: object) -> str:
    """Unescaped, so that bytes inside a record are found like bytes alone."""
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content).decode("latin-1")
    if isinstance(content, Mapping):
        return "\n".join(f"{_text(name)}: {_text(value)}" for name, value in content.items())
    if isinstance(content, list | tuple | set):
        return "\n".join(_text(each) for each in content)
    return str(content)


def message_parts(body: bytes, properties: Any) -> list[object]:
    """Every readable part of an AMQP message."""
    return [body, dict(properties.headers or {}), *(value for _, value in properties if not isinstance(value, dict))]
