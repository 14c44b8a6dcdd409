"""The sandbox on a socket: uvicorn with uvloop and httptools, no access log."""

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tools.sandbox.sandbox_app import CUT, Sandbox


class CuttableProtocol(HttpToolsProtocol):
    """HTTP whose application can cut the connection without an answer, for which ASGI has no message."""

    def on_message_begin(self) -> None:
        """Gives the application the function that cuts."""
        super().on_message_begin()
        self.scope["extensions"] = {CUT: {}}
        self.scope["extensions"][CUT] = self.transport.abort  # type: ignore[assignment]


def build(sandbox: Sandbox, *, host: str, port: int) -> uvicorn.Server:
    """A server, not yet started."""
    config = uvicorn.Config(
        sandbox,
        host=host,
        port=port,
        http=CuttableProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,  # the answers have the sandbox's own
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        backlog=4096,
    )
    return uvicorn.Server(config)
