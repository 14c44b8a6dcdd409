"""The HTTP server: uvicorn, which on a signal finishes what it has begun, and ends with status 0."""

import socket
from typing import Any, Final

import uvicorn

from console.gate import ConsoleProtocol
from runtime.http_protocol import KEEP_ALIVE_SECONDS, accept_pending

STOP_SECONDS: Final = 5


class Server(uvicorn.Server):
    """uvicorn's server with our protocol."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(
            app,
            http=ConsoleProtocol,
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002 - uvicorn's signature
        """First signal: finish what was begun. Next: exit. uvicorn's own would raise the signal again at the end."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn at the end: answer who has come, and close."""
        await accept_pending()
        await super().shutdown(sockets)
