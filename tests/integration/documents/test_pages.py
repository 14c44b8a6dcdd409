"""The pages of the documents: what is served, and a policy that keeps browsers from loading anything else."""

from collections.abc import AsyncIterator

import httpx
import pytest
from faststream.asgi import AsgiFastStream

from service.entrypoints import docs_page
from tests.kit.bridge import an_app, an_rpc_client
from tools.documents.files import FOLDER, parsed

BRIDGE = {
    "/docs": "text/html; charset=utf-8",
    "/docs/page.css": "text/css; charset=utf-8",
    "/docs/page.js": "text/javascript; charset=utf-8",
    "/docs/swagger-ui.css": "text/css; charset=utf-8",
    "/docs/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "/docs/favicon.png": "image/png",
    "/v3/api-docs": "application/json",
}
SERVICE = {
    "/asyncapi": "text/html; charset=utf-8",
    "/asyncapi/page.css": "text/css",
    "/asyncapi/viewer.js": "text/javascript",
    "/asyncapi.yaml": "application/yaml",
}
PLACES = [("bridge", address) for address in BRIDGE] + [("service", address) for address in SERVICE]


@pytest.fixture
async def clients() -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Callers without an identity of the two processes' applications; neither has a broker."""
    bridge = an_app(an_rpc_client("amqp://localhost", timeout_seconds=1, max_in_flight=1))
    service = AsgiFastStream(asgi_routes=docs_page.routes(), logger=None)
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(bridge), base_url="http://bridge") as to_bridge,
        httpx.AsyncClient(transport=httpx.ASGITransport(service), base_url="http://service") as to_service,
    ):
        yield {"bridge": to_bridge, "service": to_service}


@pytest.mark.parametrize(("process", "address"), PLACES)
async def test_a_page_and_its_files_are_only_read_and_forbid_everything_from_elsewhere(
    clients: dict[str, httpx.AsyncClient], process: str, address: str
) -> None:
    answer = await clients[process].get(address)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == (BRIDGE | SERVICE)[address]
    assert answer.content
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    sources = {source for sources in policy.values() for source in sources.split()}
    assert sources <= {"'none'", "'self'", "'unsafe-inline'", "data:"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] in {"no-cache", "public, max-age=3600"}
    assert (await clients[process].head(address)).status_code == 200
    assert (await clients[process].post(address)).status_code == 405


@pytest.mark.parametrize(
    ("process", "address"),
    [
        ("bridge", "/docs/redoc.standalone.js"),
        ("bridge", "/docs/..%2fapp.py"),
        ("bridge", "/docs/index.html"),
        ("service", "/asyncapi/index.html"),
        ("service", "/asyncapi/..%2fpages.py"),
        ("service", "/openapi.json"),
    ],
)
async def test_nothing_else_lies_there(clients: dict[str, httpx.AsyncClient], process: str, address: str) -> None:
    assert (await clients[process].get(address)).status_code == 404


async def test_what_is_served_is_what_is_committed(clients: dict[str, httpx.AsyncClient]) -> None:
    served = await clients["bridge"].get("/v3/api-docs")
    assert served.json() == parsed((FOLDER / "openapi.json").read_text())
    served = await clients["service"].get("/asyncapi.yaml")
    assert served.content == (FOLDER / "asyncapi.yaml").read_bytes()
