"""The sandbox on a socket: uvicorn with uvloop and httptools, no access log."""

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deploy.sandbox.app import CUT, Sandbox


class CuttableProtocol(HttpToolsProtocol):
    """HTTP whose application may end the connection without an answer, which ASGI itself has no word for."""

    def on_message_begin(self) -> None:
        """Hand the application the way to cut."""
        super().on_message_begin()
        self.scope["extensions"] = {CUT: {}}
        self.scope["extensions"][CUT] = self.transport.abort  # type: ignore[assignment]


def build(sandbox: Sandbox, *, host: str, port: int) -> uvicorn.Server:
    """A server that is ready to ``serve()``."""
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
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        backlog=4096,
    )
    return uvicorn.Server(config)
