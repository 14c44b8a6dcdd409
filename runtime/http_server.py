"""The HTTP server of a process of ours: uvicorn, which on a signal finishes what it has begun; exit status 0."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Generator
from types import FrameType
from typing import Any, Final

import uvicorn

from runtime.command_start import CannotStartError
from runtime.http_protocol import KEEP_ALIVE_SECONDS, HttpProtocol

BACKLOG = 2048
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
ONE_INTERRUPT_SECONDS: Final = 0.5
"""SIGINTs within this time are one: a terminal sends Ctrl-C to the whole group, and who started us may pass it on."""

ACCEPT_SECONDS: Final = 0.2
"""How long a stop still accepts who has connected."""


def cancel_on_signals() -> None:
    """Until a server takes the signals, the first one cancels the current task, which may wait for other servers."""
    loop, starting = asyncio.get_running_loop(), asyncio.current_task()

    def cancel() -> None:
        if starting is not None and not starting.cancelling():  # a second one would cut off what is being closed
            starting.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, cancel)


def listening(host: str, port: int, *, settings: str) -> socket.socket:
    """A socket that listens there, where the variables named in `settings` say; CannotStartError if none can."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = (error.strerror or "not possible").partition(" (")[0]  # Python repeats the address there
        raise CannotStartError(f"It cannot listen on {host} port {port} ({settings}): {reason}.") from None


class BaseServer(uvicorn.Server):
    """uvicorn's server, which does not repeat a signal at its end, and answers who has come by then."""

    _interrupted_at = -ONE_INTERRUPT_SECONDS

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Called by uvicorn around all that it does."""
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            if loop.time() - self._interrupted_at >= ONE_INTERRUPT_SECONDS:
                self._interrupted_at = loop.time()
                self.handle_exit(signal.SIGINT, None)

        loop.add_signal_handler(signal.SIGINT, interrupt)
        loop.add_signal_handler(signal.SIGTERM, self.handle_exit, signal.SIGTERM, None)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn at the end: answer who has come, and close."""
        # Who has connected would be reset with the socket. The loop looks at it, makes each connection, begins to read.
        await asyncio.sleep(ACCEPT_SECONDS)
        await super().shutdown(sockets)


class HttpServer(BaseServer):
    """uvicorn's server with our protocol."""

    def __init__(self, app: Any, *, protocol: type[HttpProtocol], stop_seconds: int) -> None:
        """`stop_seconds`: how long what has begun may take to its end after a signal."""
        config = uvicorn.Config(
            app,
            http=protocol,
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=stop_seconds,
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """First signal: finish what was begun. Next: exit. uvicorn's own would raise the signal again at the end."""
        self.stop()

    def stop(self) -> None:
        """Refuse what is new and finish what was begun; the second time, end at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
