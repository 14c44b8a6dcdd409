"""A faulty network link: a TCP proxy that can refuse, hold, cut or delay traffic."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum
from typing import TypeVar
from urllib.parse import urlsplit

CHUNK = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # linger for 0 s: closing sends RST instead of FIN


class Mode(Enum):
    """How a link behaves."""

    NORMAL = "forwards"
    DOWN = "refuses connections and has cut those it had"
    BLACK_HOLE = "accepts everything and delivers nothing; what it holds arrives once it forwards again"
    SLOW = "delivers every piece late"


class Proxy:
    """One link. A black hole holds bytes and loses none, as TCP retransmits after a partition."""

    def __init__(self, name: str, target_port: int, *, target_host: str = "127.0.0.1") -> None:
        self.name = name
        self.port = 0
        self.most_connections = 0
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._delay_seconds = 0.0
        self._open = asyncio.Event()
        self._open.set()
        self._links: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._links)

    async def start(self) -> None:
        """Listens, on a free port the first time and on the same one afterwards."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuses connections and ends the open ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        for writer in list(self._writers):  # a link that was cancelled before it began has closed nothing
            writer.close()
        self._writers.clear()

    async def set(self, mode: Mode, *, delay_seconds: float = 0.3) -> None:
        """Changes the mode, for open connections and for new ones."""
        if mode is Mode.BLACK_HOLE:
            self._open.clear()
        else:
            self._open.set()
        self._delay_seconds = delay_seconds if mode is Mode.SLOW else 0.0
        if mode is Mode.DOWN:
            await self.stop()
        elif self._server is None:
            await self.start()

    def reset(self) -> None:
        """Cuts every open connection by RST and loses bytes in flight; accepts new ones."""
        for writer in list(self._writers):
            end = writer.get_extra_info("socket")
            if end is not None:  # else it was closed already
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # it was accepted while the proxy stopped
            writer.close()
            return
        self._writers.add(writer)
        link = asyncio.create_task(self._serve(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        self.most_connections = max(self.most_connections, len(self._links))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                await self._open.wait()
                await self._forward(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection(*self._target, limit=CHUNK)
        self._writers.add(target_writer)
        pumps = [
            asyncio.create_task(self._pump(reader, target_writer)),
            asyncio.create_task(self._pump(target_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers.discard(target_writer)
            target_writer.close()  # first: `stop` may cancel this task while it waits for the pumps
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(CHUNK):
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                await self._open.wait()
                writer.write(piece)
                await writer.drain()
            await self._open.wait()  # a black hole holds the end of a stream too


AProxy = TypeVar("AProxy", bound=Proxy)


def behind_proxy(url: str) -> AbstractAsyncContextManager[tuple[Proxy, str]]:
    """A proxy before the URL's server: the proxy, and the URL that leads through it."""
    return behind(Proxy, url)


@asynccontextmanager
async def behind(kind: type[AProxy], url: str) -> AsyncIterator[tuple[AProxy, str]]:
    """The same with a proxy of another kind."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ValueError("A proxied URL must name host and port.")
    proxy = kind(parts.scheme, parts.port, target_host=parts.hostname)
    await proxy.start()
    credentials, at, _ = parts.netloc.rpartition("@")
    try:
        yield proxy, parts._replace(netloc=f"{credentials}{at}127.0.0.1:{proxy.port}").geturl()
    finally:
        await proxy.stop()
