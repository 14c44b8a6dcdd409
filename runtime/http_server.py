"""The HTTP server of a process of ours: uvicorn, which on a signal finishes what it has begun; exit status 0."""

import socket
from types import FrameType
from typing import Any

import uvicorn

from runtime.command_start import CannotStartError
from runtime.http_protocol import KEEP_ALIVE_SECONDS, HttpProtocol, accept_pending

BACKLOG = 2048


def listening(host: str, port: int, *, settings: str) -> socket.socket:
    """A socket that listens there, where the variables named in `settings` say; CannotStartError if none can."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = (error.strerror or "not possible").partition(" (")[0]  # Python repeats the address there
        raise CannotStartError(f"It cannot listen on {host} port {port} ({settings}): {reason}.") from None


class HttpServer(uvicorn.Server):
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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn at the end: answer who has come, and close."""
        await accept_pending()
        await super().shutdown(sockets)
