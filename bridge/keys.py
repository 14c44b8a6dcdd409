"""The public keys that service tokens are signed with: a JSON Web Key Set (RFC 7517) in a file or at an address.

One task keeps them fresh. It alone reads the source and rests after each time, so that no flood of tokens with made-up
key ids can make it read more often.
"""

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httptools
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from bridge.errors import NoKeysError

_log = logging.getLogger(__name__)

ALGORITHMS: Final = ("RS256", "ES256")
MAX_BYTES: Final = 64 * 1024
READ_SECONDS: Final = 3.0
REST_SECONDS: Final = 5.0
"""Between two looks at the source, whatever comes in."""
FRESH_SECONDS: Final = 300.0
"""Without an unknown key id; so a key that was withdrawn is trusted no longer than that."""

Source = Callable[[], Awaitable[bytes]]
"""Reads the key set's text, or raises whatever hinders it."""


class InvalidKeysError(ValueError):
    """The source has no key that could be used; the text names neither the source nor its content."""


def parse(document: bytes) -> dict[str, PyJWK]:
    """The usable keys by key id: public RSA keys of 2048 bits or more and P-256 keys, meant for signatures.

    Raises:
        InvalidKeysError: it is not a key set, or no key in it is usable.
    """
    try:
        content = json.loads(document)
    except (ValueError, RecursionError):
        raise InvalidKeysError("it is not JSON") from None
    members = content.get("keys") if isinstance(content, dict) else None
    found: dict[str, PyJWK] = {}
    for member in members if isinstance(members, list) else ():
        key = _usable(member) if isinstance(member, dict) else None
        if key is not None and key.key_id:
            found.setdefault(key.key_id, key)
    if not found:
        raise InvalidKeysError("it holds no usable key")
    return found


def _usable(member: dict[str, Any]) -> PyJWK | None:
    """A private key (`d`) or a shared one is a mistake or a trap, and says nothing about who signed."""
    is_for_signatures = member.get("use", "sig") == "sig" and "verify" in (member.get("key_ops") or ["verify"])
    if not is_for_signatures or "d" in member or not isinstance(member.get("kid"), str):
        return None
    try:
        key = PyJWK(member)
    except (PyJWTError, ValueError, TypeError):
        return None
    return key if key.algorithm_name in ALGORITHMS and not key.Algorithm.check_key_length(key.key) else None


async def read_file(path: Path) -> bytes:
    """The file's content."""
    return await asyncio.to_thread(read_file_now, path)


def read_file_now(path: Path) -> bytes:
    """The file's content, for the start, when nobody is kept waiting.

    Raises:
        OSError: it cannot be read.
        InvalidKeysError: it is no file, or over `MAX_BYTES`.
    """
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise InvalidKeysError("it is no file, or too large")
    return path.read_bytes()


async def read_address(url: str, tls: ssl.SSLContext | None) -> bytes:
    """The answer to a GET: 200, within `MAX_BYTES` and `READ_SECONDS` altogether. Redirects and proxies: none."""
    parts = urlsplit(url)
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    port = parts.port or (443 if tls else 80)
    async with asyncio.timeout(READ_SECONDS):
        reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls)
        try:
            writer.write(request.encode("ascii"))
            received = 0
            while not answer.is_complete and (data := await reader.read(MAX_BYTES)):
                received += len(data)
                if received > MAX_BYTES:
                    raise InvalidKeysError("it is too large")
                parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise InvalidKeysError("it does not speak HTTP") from None
        finally:
            writer.transport.abort()
    if parser.get_status_code() != 200:  # noqa: PLR2004 - OK
        raise InvalidKeysError("it does not answer 200")
    return bytes(answer.content)


class _Answer:
    """What httptools' parser tells of an answer."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.is_complete = False

    def on_body(self, data: bytes) -> None:
        self.content += data

    def on_message_complete(self) -> None:
        self.is_complete = True


class KeyRing:
    """The keys at hand; an async context manager that keeps them fresh.

    While the source cannot be read, or has no usable key, those known stay.
    """

    def __init__(self, source: Source, *, rest_seconds: float = REST_SECONDS) -> None:
        self._source = source
        self._rest_seconds = rest_seconds
        self._document: bytes | None = None
        self._failure: str | None = None
        self._is_resting = False
        self._wanted = asyncio.Event()
        self._next_look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.keys: Mapping[str, PyJWK] = {}
        """By key id; another object whenever they have changed."""

    async def __aenter__(self) -> Self:
        """Looks at the source once, and then starts whether or not there were keys."""
        await self._look()
        self._is_resting = True  # not only from the task's first turn on: whoever asks before would wait in vain
        self._task = asyncio.create_task(self._stay_fresh(), name="key-ring")
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Whoever still waits for a look goes on without."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._is_resting = True
        self._next_look.set()

    async def find(self, key_id: str) -> PyJWK | None:
        """The key; None if there is none of this id. An unknown id has the source looked at, unless it just was.

        Raises:
            NoKeysError: there has never been any key.
        """
        if key_id not in self.keys:
            self._wanted.set()
            if not self._is_resting:
                await self._next_look.wait()
        if not self.keys:
            raise NoKeysError
        return self.keys.get(key_id)

    async def _stay_fresh(self) -> None:
        while True:
            self._is_resting = True
            await asyncio.sleep(self._rest_seconds)
            self._is_resting = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0 if self._failure else FRESH_SECONDS):
                    await self._wanted.wait()
            self._wanted.clear()
            await self._look()
            self._next_look.set()
            self._next_look = asyncio.Event()

    async def _look(self) -> None:
        """One line in the log per change."""
        try:
            document = await self._source()
            if document != self._document:
                self.keys = parse(document)
                self._document = document
        except Exception as error:  # noqa: BLE001 - whatever it was, without this task no new key is ever known
            reason = str(error) if isinstance(error, InvalidKeysError) else type(error).__name__
            if self._failure is None:
                _log.warning("The keys of service tokens cannot be read: %s. Known so far: %d.", reason, len(self.keys))
            self._failure = reason
        else:
            if self._failure is not None:
                _log.info("The keys of service tokens can be read again: %d.", len(self.keys))
            self._failure = None


def source_at(location: str) -> Source:
    """The reader for a file's path or a URL."""
    if not is_url(location):
        return lambda: read_file(Path(location))
    tls = ssl.create_default_context() if location.startswith("https:") else None
    return lambda: read_address(location, tls)


def is_url(location: str) -> bool:
    """Whether the location of a key set is an address rather than a path."""
    return "://" in location
