"""A transport that is not closed before the other end has read the last answer."""

import asyncio
from collections.abc import Callable
from typing import Any


class LingeringTransport:
    """A connection's transport; `on_close` is called once in the place of its own `close`, which may come later.

    Closed with input unread, or still to come, the system resets the connection, and the other end loses what it has
    not read (RFC 9112 section 9.6). So only our direction is closed at first.
    """

    __slots__ = ("_lingers", "_on_close", "_transport")

    def __init__(self, transport: asyncio.Transport, on_close: Callable[[asyncio.Transport], None]) -> None:
        self._transport = transport
        self._on_close = on_close
        self._lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._lingers or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send it, unless the connection is closing."""
        if not self._lingers:
            self._transport.write(data)

    def close(self) -> None:
        """Close, once what was written has been sent."""
        if not self.is_closing():
            self._lingers = True
            self._on_close(self._transport)
