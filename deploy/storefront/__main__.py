"""`python -m deploy.storefront`: serves the pages until it is told to stop."""

import os
import signal
import sys
from http.server import ThreadingHTTPServer
from types import FrameType

from deploy.storefront.bridge import Bridge
from deploy.storefront.server import handler

DEFAULT_PORT = "8084"


def main() -> int:
    """Serves on 127.0.0.1; returns the exit status."""
    port = int(os.environ.get("STOREFRONT_PORT") or DEFAULT_PORT)
    bridge = Bridge(url=os.environ.get("BRIDGE_URL") or "http://127.0.0.1:8085")
    signal.signal(signal.SIGTERM, _leave)
    try:
        with ThreadingHTTPServer(("127.0.0.1", port), handler(bridge)) as server:
            print(f"The storefront listens on http://127.0.0.1:{port}", flush=True)
            server.serve_forever()
    except OSError as error:
        print(f"The storefront cannot listen on port {port}: {error.strerror}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
