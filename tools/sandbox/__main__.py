"""``python -m tools.sandbox``: run the sandbox until it is stopped."""

import errno
import gc
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping

from tools.sandbox.sandbox_app import Sandbox
from tools.sandbox.server import build

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 12111
HIGHEST_PORT = 65535


def settings(environ: Mapping[str, str]) -> tuple[str, int, str | None]:
    """Host, port and public URL from ``SANDBOX_HOST``, ``SANDBOX_PORT`` and ``SANDBOX_PUBLIC_URL``.

    Raises:
        ValueError: one sentence with every problem.
    """
    problems: list[str] = []
    host = environ.get("SANDBOX_HOST", DEFAULT_HOST).strip()
    if not host or any(character.isspace() or character in "/:@" for character in host.replace("::", "")):
        problems.append(f"SANDBOX_HOST must be a host name or an address, not {host!r}")
    text = environ.get("SANDBOX_PORT", str(DEFAULT_PORT)).strip()
    port = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(HIGHEST_PORT)) else 0
    if not 1 <= port <= HIGHEST_PORT:
        problems.append(f"SANDBOX_PORT must be a number from 1 to {HIGHEST_PORT}, not {text!r}")
    public_url = environ.get("SANDBOX_PUBLIC_URL", "").strip().rstrip("/") or None
    if public_url is not None and not re.fullmatch(r"https?://[A-Za-z0-9._\-]+(:[0-9]{1,5})?", public_url):
        problems.append(f"SANDBOX_PUBLIC_URL must be like http://127.0.0.1:{DEFAULT_PORT}, not {public_url!r}")
    if problems:
        raise ValueError("The sandbox cannot start: " + "; ".join(problems) + ".")
    return host, port, public_url


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: its text is one sentence.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OSError(f"The sandbox cannot start: the host {host} is unknown ({error.strerror}).") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(4096)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        reason = "another program has that port; choose one with SANDBOX_PORT" if taken else error.strerror
        raise OSError(f"The sandbox cannot listen on {host}:{port}: {reason}.") from error
    return listener


def main() -> int:
    """Run; exit code 2 for bad settings, 1 if the port cannot be had, 0 after a clean stop."""
    try:
        host, port, public_url = settings(os.environ)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        listener = bound_socket(host, port)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    # The sandbox keeps values without cycles; collecting garbage among them took a fifth of a create.
    gc.set_threshold(200_000, 50, 1000)
    server = build(Sandbox(public_url=public_url), host=host, port=port)
    # uvicorn raises the signal again after its shutdown; being stopped is no failure.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: None)
    printed = f"[{host}]" if ":" in host else host
    print(f"The sandbox listens on http://{printed}:{port}", flush=True)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
