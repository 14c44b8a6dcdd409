"""How long ago something was: by the database's clock, which dated it."""

import html
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx

from console import bootstrap
from console.settings import Settings
from service.adapters.postgres import Database, PostgresStore
from tests.integration.console.conftest import ORIGIN
from tests.integration.service.ports.test_store import an_opening, begun, changed
from tests.kit.brokers import RoleUrl
from tests.kit.databases import Migrated
from tests.kit.lifetimes import closing
from tests.kit.service import a_draft


async def test_ages_are_right_on_a_machine_whose_clock_is_an_hour_off(
    console_url: str, role_url: RoleUrl, migrated: Migrated
) -> None:
    async with closing(Database(migrated.application)) as database:
        at = datetime.now(UTC)
        draft = a_draft(booking_id=1003, created_at=at, pay_until=at + timedelta(minutes=15))
        store, opening = PostgresStore(database), replace(an_opening(), expires_at=draft.expires_at)
        payment = await changed(store, (await begun(store, draft)).payment, opening)
    settings = Settings(database_url=console_url, amqp_url=role_url("payment-console"))  # type: ignore[arg-type]
    for hours in (-1, 1):
        wrong = timedelta(hours=hours)
        async with bootstrap.console(settings, machine=lambda wrong=wrong: datetime.now(UTC) + wrong) as server:  # type: ignore[misc]
            transport = httpx.ASGITransport(server.config.app)
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
                page = (await client.get(f"/payments/{payment.id}")).text
                listed = (await client.get("/search?booking_id=1003")).text
        assert re.search(r"who can pay until .* UTC \(in 14 min", html.unescape(page)), re.findall(
            r"<main.*?</p>", page, re.DOTALL
        )
        for text in (page, listed):
            assert re.search(r'title="[\d.]+ m?s ago"', text), "begun just now"
