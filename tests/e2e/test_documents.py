"""The pages of the two documents in a browser show everything, and ask no other machine for anything."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from faststream.asgi import AsgiFastStream
from playwright.async_api import Browser, Page, expect

from service.entrypoints import docs_page
from tests.e2e.conftest import PATIENCE_MILLISECONDS, asked_of, strangers
from tests.integration.bridge.conftest import served
from tests.kit.bridge import an_app, an_rpc_client
from tools.documents.files import FOLDER, parsed

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
WIDTHS = (1280, 390)
"""A desk's and a phone's."""


@asynccontextmanager
async def shown(browser: Browser, app: Any, address: str) -> AsyncIterator[Page]:
    """The page at an address. It fits its screen, asks no other machine for anything, and the console is silent."""
    async with served(app) as port:
        page = await browser.new_page(viewport={"width": WIDTHS[0], "height": 900})
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        asked, said = asked_of(page), list[str]()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        await page.goto(f"http://127.0.0.1:{port}{address}")
        yield page
        for width in WIDTHS:
            await page.set_viewport_size({"width": width, "height": 900})
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
        await page.close()
    assert len(asked) > 3
    assert strangers(asked, f"127.0.0.1:{port}") == []
    # The console names a refused call as well.
    assert [each for each in said if "401 (Unauthorized)" not in each] == []


async def test_swagger_ui_shows_every_operation_and_status_and_calls_the_bridge(browser: Browser) -> None:
    document = parsed((FOLDER / "openapi.json").read_text())
    operations = {
        f"operations-payments-{operation['operationId']}": operation
        for path in document["paths"].values()
        for operation in path.values()
    }
    app = an_app(an_rpc_client("amqp://localhost"))
    async with shown(browser, app, "/docs") as page:
        await expect(page.locator(".opblock")).to_have_count(len(operations))
        found = await page.locator(".opblock").evaluate_all("blocks => blocks.map(block => block.id)")
        assert set(found) == set(operations)
        for name, operation in operations.items():
            await page.locator(f"#{name} .opblock-summary-control").click()
            statuses = page.locator(f"#{name} .response-col_status:not(.col_header)")
            await expect(statuses).to_have_count(len(operation["responses"]))
            shown_statuses = [text.split()[0] for text in await statuses.all_text_contents()]
            assert shown_statuses == list(operation["responses"])
        block = page.locator("#operations-payments-getPaymentStatus")
        await block.get_by_role("button", name="Try it out").click()
        await block.get_by_role("button", name="Execute").click()
        answer = block.locator(".live-responses-table .response-col_status:not(.col_header)")
        await expect(answer).to_have_text("401")  # nobody said who calls


async def test_the_viewer_shows_every_operation_message_and_channel_and_sends_nothing(browser: Browser) -> None:
    document = parsed((FOLDER / "asyncapi.yaml").read_text())
    app = AsgiFastStream(asgi_routes=docs_page.routes(), logger=None)
    async with shown(browser, app, "/asyncapi") as page:
        viewer = page.locator("asyncapi-viewer")
        await expect(viewer.get_by_role("heading", name="Schemas")).to_be_attached(timeout=PATIENCE_MILLISECONDS)
        sections = {
            "servers": document["servers"],
            "operations": document["operations"],
            "messages": document["components"]["messages"],
            "schemas": document["components"]["schemas"],
        }
        expected = {f"asyncapi-viewer-1--{section}--{name}" for section, names in sections.items() for name in names}
        found = await viewer.locator("[id]").evaluate_all("elements => elements.map(element => element.id)")
        assert expected <= set(found)
        for name, operation in document["operations"].items():
            told = await viewer.locator(f'[id="asyncapi-viewer-1--operations--{name}"]').text_content() or ""
            for answer in operation.get("reply", {}).get("messages", ()):
                assert answer["$ref"].rpartition("/")[2] in told
        text = await page.evaluate("document.querySelector('asyncapi-viewer').shadowRoot.textContent")
        for channel in document["channels"].values():
            assert channel["address"] is None or channel["address"] in text
        for promise in ("Retries and dead letters", "Evolution", "payments.reply.", "correlation_id"):
            assert promise in text
        assert "try it" not in text.lower()
        assert await viewer.locator("form, [type=submit]").count() == 0
