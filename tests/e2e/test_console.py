"""The console in a browser: at every width, in both themes, by keyboard, without scripts, and with nothing foreign."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiormq
import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Browser, Page, expect

from console import bootstrap
from console.settings import Settings
from service.adapters.postgres import Database, PostgresStore
from service.entrypoints import broker as brokers
from tests.e2e.conftest import DESK, PATIENCE_MILLISECONDS, SCREENS, asked_of, barriers, strangers
from tests.integration.console.conftest import park
from tests.integration.service.ports.test_store import an_opening, begun, changed, fitting
from tests.kit.databases import Migrated
from tests.kit.lifetimes import closing
from tests.kit.service import a_draft
from tests.kit.web import listening

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
LONG = "https://shop.example/" + "averylongpathwithoutanyblank" * 20


@dataclass(frozen=True, kw_only=True)
class Console:
    url: str
    payment_id: int


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def console(migrated: Migrated, amqp_url: str) -> AsyncIterator[Console]:
    """With a paid payment and a pending one, of one booking's user."""
    await brokers.declare(amqp_url)
    async with closing(Database(migrated.application)) as database:
        store = PostgresStore(database)
        payment = (await begun(store, a_draft(booking_id=7, success_url=LONG))).payment
        payment = await changed(store, await changed(store, payment, an_opening()), fitting(payment))
        await begun(store, a_draft(booking_id=8))
    async with await aiormq.connect(amqp_url) as connection:
        dead = {"bookingId": 7, "userId": 5, "amount": "449.97", "note": "averylongword" * 40}
        await park(await connection.channel(), dead, headers={"x-reason": "invalid", "x-reason-text": LONG})
    # The owner may do what the console's role may: what that is has tests of its own.
    settings = Settings(database_url=migrated.owner, amqp_url=amqp_url)
    async with bootstrap.console(settings) as server:
        config = uvicorn.Config(server.config.app, lifespan="off", log_config=None, ws="none", proxy_headers=False)
        config.port = 0
        async with listening(config) as port:
            yield Console(url=f"http://127.0.0.1:{port}", payment_id=payment.id)


@pytest_asyncio.fixture(loop_scope="session")
async def page(request: pytest.FixtureRequest, browser: Browser, console: Console) -> AsyncIterator[Page]:
    """A page on a screen, which may ask the console alone and complain of nothing."""
    width, theme = getattr(request, "param", DESK)
    context = await browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, base_url=console.url
    )
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    page = await context.new_page()
    asked, complaints = asked_of(page), list[str]()
    page.on("console", lambda message: complaints.append(message.text))
    yield page
    await context.close()
    assert strangers(asked, console.url.removeprefix("http://")) == []
    assert complaints == []


@pytest.mark.parametrize("page", SCREENS, indirect=True, ids=str)
async def test_every_page_fits_the_screen_and_names_what_can_be_used(page: Page, console: Console) -> None:
    one = f"/payments/{console.payment_id}"
    await page.goto("/letters")
    letter = await page.get_by_role("link", name="checkout.create").first.get_attribute("href") or ""
    for path in ("/", "/search", one, f"{one}/act/resend", "/letters", letter, "/acts", "/search?booking_id=999"):
        await page.goto(path)
        await expect(page.get_by_role("heading", level=1)).to_have_count(1)
        too_wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert too_wide <= 0, path
        nameless = await page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
            ".filter(each => !each.labels.length).map(each => each.outerHTML)"
        )
        assert nameless == [], path
        ids = await page.evaluate("[...document.querySelectorAll('[id]')].map(each => each.id)")
        assert len(ids) == len(set(ids)), path
        assert await barriers(page) == [], path


async def test_a_booking_is_found_and_an_act_is_asked_for_by_keyboard(page: Page, console: Console) -> None:
    await page.goto("/")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.get_by_label("Find a booking, payment, session or request").focus()
    await page.keyboard.type("booking:7")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/payments/{console.payment_id}")
    await expect(page.get_by_text("Paid. Nothing is waited for.")).to_be_visible()
    await page.get_by_role("link", name="Resend the event").click()
    await page.get_by_label("Who you are").fill("asha")
    await page.get_by_label("Why").fill("a subscriber lost it")
    await page.get_by_label("I am sure").focus()
    await page.keyboard.press("Space")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/payments/{console.payment_id}")
    await expect(page.get_by_text("a subscriber lost it").first).to_be_visible()


async def test_the_first_page_stays_current_by_itself(page: Page, migrated: Migrated) -> None:
    await page.goto("/")
    booking: Any = await page.evaluate("Date.now()")
    async with closing(Database(migrated.application)) as database:
        await begun(PostgresStore(database), a_draft(booking_id=booking, created_at=datetime.now(UTC)))
    await expect(page.get_by_role("link", name=str(booking))).to_be_visible()
