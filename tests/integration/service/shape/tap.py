"""What goes over the wire between the service and its neighbours, counted: AMQP's methods, PostgreSQL's statements."""

import asyncio
from collections import Counter
from collections.abc import Generator

from tools.chaos.proxy import CHUNK, Proxy

Parser = Generator[int, bytes]
"""Yields how many bytes it wants next, and is sent just those."""

_SSL_REQUEST = 80877103
_METHOD_FRAME = 1
# No confirms: one of RabbitMQ's may stand for several publications.
_METHODS = {(60, 40, True): "publish", (60, 60, False): "deliver", (60, 80, True): "ack"}


class Tap(Proxy):
    """Forwards a link, and counts in `seen` what passes."""

    def __init__(self, protocol: str, target_port: int, *, target_host: str) -> None:
        super().__init__(protocol, target_port, target_host=target_host)
        self.seen: Counter[str] = Counter()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = self._parser(to_server=writer.get_extra_info("peername")[1] == self._target[1])
        wanted, held = next(parser), b""
        while piece := await reader.read(CHUNK):
            held += piece
            while len(held) >= wanted:
                taken, held = held[:wanted], held[wanted:]
                wanted = parser.send(taken)
            writer.write(piece)
            await writer.drain()

    def _parser(self, *, to_server: bool) -> Parser:
        if self.name == "amqp":
            return self._methods(to_server=to_server)
        return self._statements() if to_server else _nothing()

    def _methods(self, *, to_server: bool) -> Parser:
        """AMQP 0-9-1 §4.2: the client's greeting, then frames."""
        if to_server:
            yield 8
        while True:
            head = yield 7
            payload = yield int.from_bytes(head[3:]) + 1
            if head[0] == _METHOD_FRAME:
                method = int.from_bytes(payload[:2]), int.from_bytes(payload[2:4]), to_server
                if method in _METHODS:
                    self.seen[_METHODS[method]] += 1

    def _statements(self) -> Parser:
        """PostgreSQL's protocol 3.0, extended query: a statement is parsed once, and bound and executed each time."""
        code = _SSL_REQUEST
        while code == _SSL_REQUEST:
            head = yield 8
            code = int.from_bytes(head[4:])
            yield int.from_bytes(head[:4]) - 8
        parsed: dict[bytes, str] = {}
        bound = ""
        while True:
            head = yield 5
            content = yield int.from_bytes(head[1:]) - 4
            match head[:1]:
                case b"P":
                    name, text = content.split(b"\0")[:2]
                    parsed[name] = text.decode()
                case b"B":
                    bound = parsed[content.split(b"\0", 2)[1]]
                case b"E":
                    self.seen[bound] += 1
                case b"Q":
                    self.seen[content[:-1].decode()] += 1


def _nothing() -> Parser:
    while True:
        yield 1 << 10
