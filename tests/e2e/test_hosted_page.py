"""The hosted page in a browser, on a desk and on a phone; `tests/unit/tools/sandbox` reads its HTML in every state."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.e2e.conftest import PATIENCE_MILLISECONDS, SCREENS, asked_of, barriers, strangers
from tests.integration.sandbox.harness import Running, running_sandbox
from tests.unit.tools.sandbox.caller import line
from tools.storefront import shop_pages
from tools.storefront.bridge_client import Payment

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
SIZES = {"phone": (390, 844), "desk": (1280, 900)}
HTML = "text/html; charset=utf-8"
STATES = ("COMPLETED", "PENDING", "FAILED")
LONG = "Averylongnamewithoutanyspace" * 8
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


@pytest_asyncio.fixture(loop_scope="session", params=["phone", pytest.param("desk", marks=pytest.mark.thorough)])
async def payer(request: pytest.FixtureRequest, browser: Browser) -> AsyncIterator[Payer]:
    """On each screen, without JavaScript; the page may ask the sandbox and the shop only."""
    width, height = SIZES[request.param]
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
    session_id = await payer.opens(line_items=[line(44997, name=LONG)])
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


async def test_who_pays_twice_or_goes_back_is_charged_once(payer: Payer) -> None:
    page = payer.page
    thanks = f"{payer.sandbox.url}/thanks"
    session_id = await payer.opens(customer_email=None, success_url=thanks)
    await page.get_by_label("Email").fill("me@example.com")
    await payer.pays_with("4000 0000 0000 0002")
    await expect(page.get_by_label("Email")).to_have_value("me@example.com")
    await page.locator("[autocomplete=cc-number]").fill("4242 4242 4242 4242")
    await page.get_by_role("button", name="Pay").dblclick()
    await page.wait_for_url(thanks)
    await page.go_back()
    await expect(page.get_by_role("heading", name="You have already paid")).to_be_visible()
    await page.get_by_role("link", name="Continue to BookTicket").click()
    await page.wait_for_url(thanks)
    session = await payer.sandbox.raw("GET", f"/v1/checkout/sessions/{session_id}")
    assert session["customer_details"]["email"] == "me@example.com"


async def test_a_shop_that_wants_an_address_gets_it(payer: Payer) -> None:
    session_id = await payer.opens(billing_address_collection="required", success_url=f"{payer.sandbox.url}/thanks")
    await payer.page.get_by_label("Billing address").fill("")
    await payer.pays_with("4242 4242 4242 4242")
    await expect(payer.page.locator(".remark", has_text="Your address is incomplete.")).to_be_visible()
    await payer.page.get_by_label("Billing address").fill("1 Long Road")
    await payer.page.get_by_label("Country code").fill("de")
    await payer.pays_with("4242 4242 4242 4242")
    await payer.page.wait_for_url(f"{payer.sandbox.url}/thanks")
    session = await payer.sandbox.raw("GET", f"/v1/checkout/sessions/{session_id}")
    address = session["customer_details"]["address"]
    assert (address["line1"], address["country"]) == ("1 Long Road", "DE")


def showing(html: str) -> Any:
    return lambda route: route.fulfill(body=html, content_type=HTML)


@pytest.mark.parametrize("screen", SCREENS, ids=str)
async def test_nothing_keeps_a_payer_from_using_any_page(browser: Browser, screen: tuple[int, Any]) -> None:
    """axe-core, on the hosted page in its states and on the shop's. A page that waits without a script must reload."""
    width, theme = screen
    async with running_sandbox() as sandbox:
        context = await browser.new_context(viewport={"width": width, "height": 844}, color_scheme=theme)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        payer = Payer(page=(page := await context.new_page()), sandbox=sandbox)

        async def check(name: str) -> None:
            found = [each for each in await barriers(page) if not each.startswith("meta-refresh")]
            too_wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert (found, too_wide) == ([], 0), name

        session_id = await payer.opens(line_items=[line(44997, name=LONG)])
        await check("checkout")
        await payer.pays_with("4242")
        await check("mistake")
        await payer.pays_with("4000 0000 0000 0002")
        await check("declined")
        await payer.pays_with("4000 0000 0000 3220")
        await check("3-D Secure")
        await sandbox.client().v1.checkout.sessions.expire_async(session_id)
        await page.goto(f"{sandbox.url}/c/pay/{session_id}")
        await check("expired")
        await page.goto(f"{sandbox.url}/c/pay/cs_test_nothing")
        await check("unknown")
        states = [Payment(status=each, amount="449.97", booking_id="7" * 18, message=LONG) for each in STATES]
        pages = [shop_pages.start(problem=LONG), shop_pages.cancelled(), *map(shop_pages.payment, states)]
        for number, html in enumerate([*pages, shop_pages.sorry(LONG)]):
            await context.route(f"{SHOP}/{number}", showing(html))
            await page.goto(f"{SHOP}/{number}")
            await check(f"page {number} of the shop")
        await context.close()
