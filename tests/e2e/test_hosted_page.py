"""The hosted page in a real browser: what a payer sees, clicks and reads, on a desk and on a phone."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Request, Route, async_playwright, expect

from tests.integration.sandbox.harness import Running, line, running_sandbox

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
WIDTHS = {"desk": (1280, 900), "phone": (390, 844)}
SHOP = "https://booking.test"


@dataclass(kw_only=True)
class Payer:
    page: Page
    sandbox: Running
    asked_for: list[str] = field(default_factory=list)

    async def opens(self, **changes: Any) -> str:
        client = self.sandbox.client()
        session = await client.v1.checkout.sessions.create_async(self.sandbox.create_params(**changes))
        await self.page.goto(session.url or "")
        return session.id

    async def pays_with(self, card: str) -> None:
        await self.page.locator("[autocomplete=cc-number]").fill(card)
        await self.page.get_by_role("button", name="Pay").click()

    async def status(self, session_id: str) -> str:
        status, _, body = await self.sandbox.raw("GET", f"/v1/checkout/sessions/{session_id}")
        assert status == 200
        return str(body["status"])


@pytest.fixture(params=WIDTHS)
async def payer(request: pytest.FixtureRequest) -> AsyncIterator[Payer]:
    width, height = WIDTHS[request.param]
    async with running_sandbox() as sandbox, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context(
            viewport={"width": width, "height": height}, java_script_enabled=False, base_url=sandbox.url
        )
        page = await context.new_page()
        payer = Payer(page=page, sandbox=sandbox)

        async def shop(route: Route) -> None:
            await route.fulfill(status=200, content_type="text/html", body="<title>Shop</title><h1>Thank you</h1>")

        def note(asked: Request) -> None:
            payer.asked_for.append(asked.url)

        await context.route(f"{SHOP}/**", shop)
        page.on("request", note)
        yield payer
        await context.close()
        await browser.close()
        here = urlsplit(sandbox.url).netloc
        strangers = [url for url in payer.asked_for if urlsplit(url).netloc not in {here, "booking.test", ""}]
        assert strangers == [], "the page asked somebody else for something"


async def test_a_payer_pays_with_a_card_and_is_sent_to_the_shop(payer: Payer) -> None:
    session_id = await payer.opens()
    await expect(payer.page.get_by_text("₹449.97").first).to_be_visible()
    await expect(payer.page.get_by_text("3 seats")).to_be_visible()
    assert await payer.page.get_by_role("button", name="Pay").count() == 1
    await payer.pays_with("4242 4242 4242 4242")
    await payer.page.wait_for_url(f"{SHOP}/done?session={session_id}")
    assert await payer.status(session_id) == "complete"


async def test_a_payer_reads_why_a_card_was_declined_and_pays_with_another(payer: Payer) -> None:
    session_id = await payer.opens()
    await payer.pays_with("4000000000009995")
    alert = payer.page.get_by_role("alert")
    await expect(alert).to_have_text("Your card has insufficient funds.")
    assert await payer.status(session_id) == "open"
    await payer.page.reload()
    await expect(alert).to_be_visible()
    assert len([url for url in payer.asked_for if "declined" in url]) == 2
    await payer.pays_with("4242424242424242")
    await payer.page.wait_for_url(f"{SHOP}/**")
    assert await payer.status(session_id) == "complete"


@pytest.mark.parametrize("outcome", ["Complete", "Fail"])
async def test_a_bank_asks_for_3d_secure(payer: Payer, outcome: str) -> None:
    session_id = await payer.opens()
    await payer.pays_with("4000 0000 0000 3220")
    await expect(payer.page.get_by_role("heading", name="3-D Secure")).to_be_visible()
    assert await payer.status(session_id) == "open"
    await payer.page.get_by_role("button", name=outcome, exact=True).click()
    if outcome == "Complete":
        await payer.page.wait_for_url(f"{SHOP}/done?session={session_id}")
        assert await payer.status(session_id) == "complete"
    else:
        await expect(payer.page.get_by_role("alert")).to_contain_text("unable to authenticate")
        assert await payer.status(session_id) == "open"


async def test_a_test_card_is_chosen_with_one_click(payer: Payer) -> None:
    session_id = await payer.opens()
    await payer.page.get_by_role("button", name="Declined 4000 0000 0000 0002").click()
    await expect(payer.page.get_by_label("Card number")).to_have_value("4000 0000 0000 0002")
    await payer.page.get_by_role("button", name="Pay").click()
    await expect(payer.page.get_by_role("alert")).to_have_text("Your card was declined.")
    assert await payer.status(session_id) == "open"


async def test_a_mistake_in_the_form_is_told_at_its_field(payer: Payer) -> None:
    session_id = await payer.opens()
    await payer.page.get_by_label("Expiry").fill("01/20")
    await payer.page.get_by_label("CVC").fill("1")
    await payer.pays_with("4242")
    await expect(payer.page.get_by_label("Card number")).to_have_attribute("aria-invalid", "true")
    for remark in ("Your card number is incomplete.", "date is in the past.", "security code is incomplete."):
        await expect(payer.page.locator(".remark", has_text=remark)).to_be_visible()
    assert await payer.status(session_id) == "open"


async def test_the_way_back_is_there_only_if_there_is_one(payer: Payer) -> None:
    await payer.opens()
    await payer.page.get_by_role("link", name="Back to BookTicket").click()
    await payer.page.wait_for_url(f"{SHOP}/back")
    params = payer.sandbox.create_params()
    del params["cancel_url"]
    session = await payer.sandbox.client().v1.checkout.sessions.create_async(params)
    await payer.page.goto(session.url or "")
    assert await payer.page.get_by_role("link").count() == 0


async def test_a_page_whose_time_is_over_says_so(payer: Payer) -> None:
    session_id = await payer.opens()
    await payer.sandbox.control("clock", {"advance_seconds": 7200})
    await payer.pays_with("4242424242424242")
    await expect(payer.page.get_by_role("heading", name="This checkout has expired")).to_be_visible()
    assert await payer.status(session_id) == "expired"


async def test_a_paid_page_takes_no_second_payment(payer: Payer) -> None:
    session_id = await payer.opens()
    address = payer.page.url
    await payer.sandbox.pay(session_id)
    await payer.pays_with("4242424242424242")  # the form was open in this tab all the time
    await payer.page.wait_for_url(f"{SHOP}/done?session={session_id}")
    await payer.page.goto(address)
    await expect(payer.page.get_by_role("heading", name="You have already paid")).to_be_visible()
    _, _, events = await payer.sandbox.raw("GET", "/v1/events?type=payment_intent.succeeded")
    assert len(events["data"]) == 1


async def test_nothing_from_a_caller_becomes_markup(payer: Payer) -> None:
    await payer.opens(
        line_items=[line(name='<img src=x onerror="alert(1)">')], cancel_url="https://booking.test/?a=1&b='"
    )
    await expect(payer.page.get_by_text('<img src=x onerror="alert(1)">')).to_be_visible()
    assert await payer.page.locator("img").count() == 0


async def test_the_page_fits_its_screen(payer: Payer) -> None:
    await payer.opens(line_items=[line(9_999_999, name="Averylongnamewithoutanyspace" * 8)])
    width = (payer.page.viewport_size or {"width": 0})["width"]
    for locator in await payer.page.locator("main, section, button, input").all():
        box = await locator.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
