"""The public keys that service tokens are signed with: a JSON Web Key Set (RFC 7517) in a file or at a URL.

One task keeps them fresh. It alone reads the source, and rests after each time, so that no flood of tokens with made-up
key ids can make it read more often.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import httpx
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from bridge.errors import NO_KEYS, BridgeError
from runtime.aio import LogOnChange, wait_or_timeout

_log = logging.getLogger(__name__)

ALGORITHMS: Final = ("RS256", "ES256")
MAX_BYTES: Final = 64 * 1024
READ_SECONDS: Final = 3.0
REST_SECONDS: Final = 5.0
"""The pause between two reads of the source, whatever comes in."""
FRESH_SECONDS: Final = 300.0
"""The interval between reads without an unknown key id: a withdrawn key is trusted no longer than that."""

Source = Callable[[], Awaitable[bytes]]
"""Reads the text of the key set, or raises any exception."""


class InvalidKeysError(ValueError):
    """The source has no usable key; the text names neither the source nor its content."""


def parse(document: bytes) -> dict[str, PyJWK]:
    """By id, the public keys for signatures, RSA of 2048 bits or more or P-256; InvalidKeysError if there are none."""
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
    """A private key (`d`) or a shared one is a mistake or a trap, and does not prove who signed."""
    is_for_signatures = member.get("use", "sig") == "sig" and "verify" in (member.get("key_ops") or ["verify"])
    if not is_for_signatures or "d" in member or not isinstance(member.get("kid"), str):
        return None
    try:
        key = PyJWK(member)
    except (PyJWTError, ValueError, TypeError):
        return None
    return key if key.algorithm_name in ALGORITHMS and not key.Algorithm.check_key_length(key.key) else None


def read_file(path: Path) -> bytes:
    """The file's content, or OSError; InvalidKeysError if it is no regular file, or over `MAX_BYTES`."""
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise InvalidKeysError("it is no file, or too large")
    return path.read_bytes()


async def fetch(url: str, tls: ssl.SSLContext) -> bytes:
    """The answer to a GET, without redirects and proxies; InvalidKeysError unless it is 200 within `MAX_BYTES`."""
    content = bytearray()
    async with (
        asyncio.timeout(READ_SECONDS),
        httpx.AsyncClient(verify=tls, trust_env=False, timeout=READ_SECONDS) as client,
        client.stream("GET", url, headers={"Accept": "application/json", "Accept-Encoding": "identity"}) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise InvalidKeysError("it does not answer 200")
        async for piece in answer.aiter_raw():
            content += piece
            if len(content) > MAX_BYTES:
                raise InvalidKeysError("it is too large")
    return bytes(content)


class JwksCache:
    """The known keys; an async context manager that keeps them fresh.

    While the source cannot be read, or has no usable key, the keys known so far stay.
    """

    def __init__(self, source: Source, *, rest_seconds: float = REST_SECONDS) -> None:
        self._source = source
        self._rest_seconds = rest_seconds
        self._document: bytes | None = None
        self._change = LogOnChange(_log)
        self._is_resting = False
        self._wanted = asyncio.Event()
        self._next_read = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.keys: Mapping[str, PyJWK] = {}
        """By key id; another object whenever they have changed."""

    async def __aenter__(self) -> Self:
        """Read the source once, and start whether or not there were keys."""
        await self._read()
        self._is_resting = True  # already before the task's first turn: a caller until then would wait in vain
        self._task = asyncio.create_task(self._stay_fresh(), name="jwks-cache")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop reading; callers who wait for a read go on with the known keys."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._is_resting = True
        self._next_read.set()

    async def has_keys(self) -> bool:
        """Whether any token can be verified."""
        return bool(self.keys)

    async def find(self, key_id: str) -> PyJWK | None:
        """The key, or None: for an unknown id the source is read, unless it just was. BridgeError without any key."""
        if key_id not in self.keys:
            self._wanted.set()
            if not self._is_resting:
                await self._next_read.wait()
        if not self.keys:
            raise BridgeError(NO_KEYS)
        return self.keys.get(key_id)

    async def _stay_fresh(self) -> None:
        while True:
            self._is_resting = True
            await asyncio.sleep(self._rest_seconds)
            self._is_resting = False
            await wait_or_timeout(self._wanted, 0 if self._change.failing else FRESH_SECONDS)
            self._wanted.clear()
            await self._read()
            self._next_read.set()
            self._next_read = asyncio.Event()

    async def _read(self) -> None:
        try:
            document = await self._source()
            if document != self._document:
                self.keys = parse(document)
                self._document = document
        except Exception as error:  # noqa: BLE001 - whatever it was, without this task no new key is ever known
            # An error's own text may name the address.
            reason = str(error) if isinstance(error, InvalidKeysError) else type(error).__name__
            text = "The keys of service tokens cannot be read: %s. Known so far: %d."
            self._change.failed(text, reason, len(self.keys))
        else:
            self._change.works("The keys of service tokens can be read again: %d.", len(self.keys))


def source_at(location: str) -> Source:
    """The reader for a file's path or a URL."""
    if not is_url(location):
        return lambda: asyncio.to_thread(read_file, Path(location))
    tls = ssl.create_default_context()  # of the machine's authorities, not of those that httpx comes with
    return lambda: fetch(location, tls)


def is_url(location: str) -> bool:
    """Whether the location of a key set is a URL rather than a path."""
    return "://" in location
