"""The hosted page in a browser, on a desk and on a phone; `tests/unit/tools/sandbox` reads its HTML in every state."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.e2e.conftest import PATIENCE_MILLISECONDS, asked_of, strangers
from tests.integration.sandbox.harness import Running, running_sandbox
from tests.unit.tools.sandbox.caller import line

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
WIDTHS = {"desk": (1280, 900), "phone": (390, 844)}
SHOP = "https://booking.test"


@dataclass(kw_only=True)
class Payer:
    page: Page
    sandbox: Running

    async def opens(self, **changes: Any) -> str:
        client = self.sandbox.client()
        session = await client.v1.checkout.sessions.create_async(self.sandbox.create_params(**changes))
        await self.page.goto(session.url or "")
        return session.id

    async def pays_with(self, card: str) -> None:
        await self.page.locator("[autocomplete=cc-number]").fill(card)
        await self.page.get_by_role("button", name="Pay").click()

    async def status(self, session_id: str) -> str:
        session = await self.sandbox.raw("GET", f"/v1/checkout/sessions/{session_id}")
        return str(session["status"])


@pytest_asyncio.fixture(loop_scope="session", params=WIDTHS)
async def payer(request: pytest.FixtureRequest, browser: Browser) -> AsyncIterator[Payer]:
    """On each screen, without JavaScript; the page may ask the sandbox and the shop only."""
    width, height = WIDTHS[request.param]
    async with running_sandbox() as sandbox:
        context = await browser.new_context(viewport={"width": width, "height": height}, java_script_enabled=False)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        await context.route(f"{SHOP}/**", lambda route: route.fulfill(content_type="text/html", body="Thank you"))
        page = await context.new_page()
        asked = asked_of(page)
        yield Payer(page=page, sandbox=sandbox)
        await context.close()
        assert strangers(asked, urlsplit(sandbox.url).netloc, urlsplit(SHOP).netloc, "") == []


async def test_a_payer_chooses_a_card_that_is_declined_and_pays_with_another(payer: Payer) -> None:
    page = payer.page
    session_id = await payer.opens(line_items=[line(44997, name="Averylongnamewithoutanyspace" * 8)])
    await expect(page.get_by_text("₹449.97").first).to_be_visible()
    for locator in await page.locator("main, section, button, input").all():
        box = await locator.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= (page.viewport_size or {"width": 0})["width"]
    await page.get_by_role("button", name="Declined 4000 0000 0000 0002").click()
    await expect(page.get_by_label("Card number")).to_have_value("4000 0000 0000 0002")
    await page.get_by_role("button", name="Pay").click()
    await expect(page.get_by_role("alert")).to_have_text("Your card was declined.")
    assert await payer.status(session_id) == "open"
    await payer.pays_with("4242 4242 4242 4242")
    await page.wait_for_url(f"{SHOP}/done?session={session_id}")
    assert await payer.status(session_id) == "complete"


@pytest.mark.parametrize("outcome", ["Complete", "Fail"])
async def test_a_bank_asks_for_3d_secure(payer: Payer, outcome: str) -> None:
    session_id = await payer.opens()
    await payer.pays_with("4000 0000 0000 3220")
    await expect(payer.page.get_by_role("heading", name="3-D Secure")).to_be_visible()
    await payer.page.get_by_role("button", name=outcome, exact=True).click()
    if outcome == "Complete":
        await payer.page.wait_for_url(f"{SHOP}/done?session={session_id}")
    else:
        await expect(payer.page.get_by_role("alert")).to_contain_text("unable to authenticate")
    assert await payer.status(session_id) == ("complete" if outcome == "Complete" else "open")


async def test_a_mistake_is_named_at_its_field_and_a_link_leads_back(payer: Payer) -> None:
    await payer.opens()
    await payer.pays_with("4242")
    await expect(payer.page.get_by_label("Card number")).to_have_attribute("aria-invalid", "true")
    await expect(payer.page.locator(".remark", has_text="Your card number is incomplete.")).to_be_visible()
    await payer.page.get_by_role("link", name="Back to BookTicket").click()
    await payer.page.wait_for_url(f"{SHOP}/back")
