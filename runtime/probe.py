"""`python -m runtime.probe SERVICE_PORT /actuator/health/liveness`: a container's check of the process in it.

The first argument is the variable that holds the port. Nothing but sockets is imported: it runs every few seconds.
"""

import os
import socket
import sys
from typing import Final

SECONDS: Final = 5.0
"""More than a page's own checks may take."""


def main() -> int:
    """0 if the page answers 200, otherwise 1 and what it answered."""
    _, variable, path = sys.argv
    try:
        said = _ask(int(os.environ[variable]), path)
    except OSError as error:
        said = error.strerror or "no answer"
    sys.stdout.write(f"{said}\n")
    return 0 if said.split()[1:2] == ["200"] else 1


def _ask(port: int, path: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    return f"{head.splitlines()[0]} {body}" if head else "no answer"


if __name__ == "__main__":
    sys.exit(main())
