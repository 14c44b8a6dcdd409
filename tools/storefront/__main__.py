"""`python -m tools.storefront`: serves the pages until it is stopped, on this machine only unless told otherwise."""

import os

import uvicorn

from tools.storefront.bridge_client import Bridge
from tools.storefront.shop import shop

if __name__ == "__main__":
    uvicorn.run(
        shop(Bridge(url=os.environ.get("BRIDGE_URL") or "http://127.0.0.1:8085")),
        host=os.environ.get("STOREFRONT_HOST") or "127.0.0.1",
        port=int(os.environ.get("STOREFRONT_PORT") or 8084),
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
