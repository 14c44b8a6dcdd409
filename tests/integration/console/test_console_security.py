"""Nobody acts but an operator, from our own page, under a name; and nothing that others wrote runs in a page."""

import itertools
from http import HTTPStatus

import httpx
import pytest
from starlette.routing import Route

from console.identity import Role
from console.sessions import COOKIE
from service.adapters.postgres import Database, PostgresActs, PostgresStore
from tests.integration.console.conftest import EVIL, ORIGIN, PASSWORDS, PROXY_SECRET, SURE, Browser, Browsers, logged_in
from tests.integration.service.ports.test_store import begun, opened
from tests.kit.databases import Migrated
from tests.kit.lifetimes import closing
from tests.kit.service import a_draft
from tests.kit.until import until

PAGES = ["/", "/search", "/letters", "/acts", "/export.csv", "/export.json", "/payments/1", "/find?q=1"]


BOOKINGS = itertools.count(100)


async def a_payment(migrated: Migrated) -> int:
    """Opened, of a booking of its own."""
    async with closing(Database(migrated.application)) as database:
        return (await opened(PostgresStore(database), next(BOOKINGS))).id


async def asked(console_url: str, payment_id: int) -> list[tuple[str, str, str]]:
    async with closing(Database(console_url)) as database:
        acts = await PostgresActs(database).of_payment(payment_id, limit=10)
    return [(act.kind, act.actor, act.why) for act in acts]


async def test_every_answer_forbids_frames_foreign_scripts_and_keeping(browser: Browser) -> None:
    for path in [*PAGES, "/nothing", "/static/console.css", "/actuator/health"]:
        headers = (await browser.get(path)).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'", path
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
        assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")
        assert headers["cache-control"] == "no-store"


async def test_a_form_counts_only_from_our_own_page_in_the_same_browser(
    browser: Browser, browsers: Browsers, migrated: Migrated, console_url: str
) -> None:
    payment_id = await a_payment(migrated)
    path = f"/payments/{payment_id}/act/close"
    token = await browser.token(path)
    for origin in (None, "null", "http://evil.example", "http://127.0.0.1:9999"):
        assert (await browser.post(path, SURE, token=token, origin=origin)).status_code == HTTPStatus.FORBIDDEN
    for wrong in ("", "0" * 64, token[:-1]):
        assert (await browser.post(path, SURE, token=wrong)).status_code == HTTPStatus.FORBIDDEN
    async with browsers() as another:  # its token is not this browser's
        assert (await browser.post(path, SURE, token=await another.token(path))).status_code == HTTPStatus.FORBIDDEN
    assert await asked(console_url, payment_id) == []
    assert (await browser.post(path, SURE, token=token)).status_code == HTTPStatus.SEE_OTHER
    assert await asked(console_url, payment_id) == [("close", "asha", "a test")]


async def test_every_route_that_changes_something_wants_a_token(browsers: Browsers, users: str) -> None:
    async with browsers(console_auth="password", console_users=users) as browser:
        await logged_in(browser, Role.OPERATOR)
        routes = browser.client._transport.app._app.routes
        changing = [route for route in routes if isinstance(route, Route) and "POST" in (route.methods or ())]
        assert len(changing) >= 4
        for route in changing:
            path = route.path.replace("{id:int}", "1").replace("{kind}", "close").replace("{act}", "drop")
            path = path.replace("{command}", "checkout.create").replace("{key}", "0" * 20)
            assert (await browser.post(path, SURE, token="")).status_code == HTTPStatus.FORBIDDEN, path


@pytest.mark.parametrize(
    "changes",
    [
        *({"by": text} for text in ("", " ", "x\ny", "x" * 129)),
        *({"why": text} for text in ("", "x" * 201, "card 4242 4242 4242 4242")),
        {"sure": ""},
    ],
)
async def test_nothing_is_done_without_a_persons_name_a_reason_and_a_confirmation(
    browser: Browser, migrated: Migrated, console_url: str, changes: dict[str, str]
) -> None:
    payment_id = await a_payment(migrated)
    path = f"/payments/{payment_id}/act/verify"
    answer = await browser.post(path, SURE | changes, token=await browser.token(path))
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert 'role="alert"' in answer.text
    assert await asked(console_url, payment_id) == []


async def test_what_callers_and_senders_wrote_is_text_in_every_page(
    browser: Browser, migrated: Migrated, dead_letter: str
) -> None:
    async with closing(Database(migrated.application)) as database:
        store = PostgresStore(database)
        draft = a_draft(booking_id=next(BOOKINGS), success_url=EVIL, cancel_url=EVIL, gateway_request={"name": EVIL})
        payment = (await begun(store, draft)).payment
    async with closing(Database(migrated.owner)) as owner, owner.transaction() as connection:
        line = "INSERT INTO journal (payment_id, version, kind, status, detail, request_id, at) VALUES"
        await connection.exec_driver_sql(
            f"{line} ({payment.id}, 1, 'x<b>', 'PENDING', $1, $2, now())",
            ({"<i>": EVIL, "gateway_call": "create", "gateway_request_id": EVIL, "gateway_event": EVIL}, EVIL),
        )
    letters = await browser.text("/letters")
    (path,) = {part.partition('"')[0] for part in letters.split('href="')[1:] if part.startswith("/letters/")}
    pages = [f"/payments/{payment.id}", "/letters", path, f"/payments/{payment.id}/act/close"]
    for page in [*pages, f"/search?session_id={EVIL}", f"/find?q={EVIL}", f"/search?after={EVIL}"]:
        text = (await browser.get(page)).text
        assert "<script>alert" not in text, page
        assert "<img" not in text, page
        assert "javascript:" not in text
    shown = await browser.text(path)
    assert dead_letter.partition("<")[0] in shown
    answer = await browser.post(f"{path}/drop", {**SURE, "why": EVIL, "by": EVIL}, token=await browser.token(path))
    assert answer.status_code == HTTPStatus.SEE_OTHER
    assert "<img" not in await browser.text("/acts")


@pytest.mark.parametrize(
    "text", ["' OR 1=1 --", "1; DROP TABLE payments", "1) OR (1=1", "%", "\\", "0", "-1", "9" * 30, "\u0661"]
)
async def test_sql_in_the_search_finds_nothing_and_breaks_nothing(browser: Browser, text: str) -> None:
    names = "booking_id payment_id user_id session_id request_id status reason attention amount currency since after"
    for name in names.split():
        answer = await browser.get("/search", params={name: text})
        assert answer.status_code in {HTTPStatus.OK, HTTPStatus.BAD_REQUEST}
        assert (await browser.get("/export.csv", params={name: text})).status_code in {200, 400}
    assert (await browser.get("/find", params={"q": text})).status_code in {200, 303, 400}
    assert (await browser.get("/search")).status_code == HTTPStatus.OK


async def test_an_address_breaks_no_line_of_the_log(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="console.access"):
        await browser.get("/nothing%0d%0a2026 ERROR forged")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "console.access"]
    assert line == "GET /nothing%0d%0a2026%20ERROR%20forged"


# --- who ------------------------------------------------------------------------------------------------------------


async def test_without_a_login_nothing_is_shown_but_health(browsers: Browsers, users: str) -> None:
    async with browsers(console_auth="password", console_users=users) as browser:
        for path in (*PAGES, "/now"):
            answer = await browser.get(path)
            assert (answer.status_code, answer.headers["location"]) == (HTTPStatus.SEE_OTHER, "/login"), path
        assert (await browser.get("/actuator/health/liveness")).status_code == HTTPStatus.OK
        assert (await browser.post("/letters/a/b/drop", SURE, token="")).status_code == HTTPStatus.FORBIDDEN


async def test_a_login_has_a_new_session_and_a_logout_ends_it(browsers: Browsers, users: str) -> None:
    """Session fixation: an id that somebody has put into the browser logs nobody in."""
    async with browsers(console_auth="password", console_users=users) as browser:
        browser.client.cookies.set(COOKIE, "chosen-by-somebody", domain="127.0.0.1", path="/")
        answer = await logged_in(browser, Role.VIEWER)
        assert answer.status_code == HTTPStatus.SEE_OTHER
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        session_id = cookie.partition("=")[2].partition(";")[0]
        assert session_id != "chosen-by-somebody"
        old = {"cookie": f"{COOKIE}=chosen-by-somebody"}
        browser.client.cookies.clear()
        assert (await browser.get("/search", headers=old)).status_code == HTTPStatus.SEE_OTHER
        now = {"cookie": f"{COOKIE}={session_id}"}
        page = await browser.get("/search", headers=now)
        assert page.status_code == HTTPStatus.OK
        token = page.text.partition('name="token" value="')[2].partition('"')[0]
        headers = {**now, "origin": ORIGIN}
        answer = await browser.client.post("/logout", data={"token": token}, headers=headers)
        assert answer.headers["location"] == "/login"
        assert (await browser.get("/search", headers=now)).status_code == HTTPStatus.SEE_OTHER


async def test_beyond_this_machine_the_cookie_is_for_https_only(browsers: Browsers, users: str) -> None:
    async with browsers(console_auth="password", console_users=users) as browser:
        answer = await browser.get("/login", headers={"host": "console.example"})
        assert "; Secure" in answer.headers["set-cookie"]


async def test_guessing_passwords_is_slowed_down_by_name_and_by_address(browsers: Browsers, users: str) -> None:
    async with browsers(console_auth="password", console_users=users) as browser:

        async def guess() -> int:
            form = {"name": "a-operator", "password": "wrong" * 4}
            return (await browser.post("/login", form, token=await browser.token("/login"))).status_code

        async def another_has_to_wait() -> httpx.Response | None:
            """Each guess doubles how long, so that in the end it is longer than a login takes."""
            while await guess() != HTTPStatus.TOO_MANY_REQUESTS:
                pass
            answer = await logged_in(browser, Role.VIEWER)  # another name, from the same address
            browser.client.cookies.clear()
            return answer if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS else None

        assert [await guess() for _ in range(5)] == [HTTPStatus.FORBIDDEN] * 5
        throttled = await until(another_has_to_wait)
        assert int(throttled.headers["retry-after"]) >= 1
        assert PASSWORDS[Role.VIEWER] not in throttled.text


async def test_a_viewer_sees_everything_and_does_nothing(
    browsers: Browsers, users: str, migrated: Migrated, console_url: str, dead_letter: str
) -> None:
    payment_id = await a_payment(migrated)
    async with browsers(console_auth="password", console_users=users) as browser:
        await logged_in(browser, Role.VIEWER)
        page = await browser.text(f"/payments/{payment_id}")
        assert "/act/" not in page
        token = page.partition('name="token" value="')[2].partition('"')[0]
        letters = await browser.text("/letters")
        path = "/letters/" + letters.partition('href="/letters/')[2].partition('"')[0]
        for act in (f"/payments/{payment_id}/act/close", f"{path}/drop", f"{path}/replay"):
            assert (await browser.post(act, SURE, token=token)).status_code == HTTPStatus.FORBIDDEN
        assert dead_letter.partition("<")[0] in await browser.text("/letters")
    assert await asked(console_url, payment_id) == []


async def test_who_has_logged_in_acts_under_no_other_name(
    browsers: Browsers, users: str, migrated: Migrated, console_url: str
) -> None:
    payment_id = await a_payment(migrated)
    path = f"/payments/{payment_id}/act/resend"
    async with browsers(console_auth="password", console_users=users) as browser:
        await logged_in(browser, Role.OPERATOR)
        await browser.post(path, {**SURE, "by": "somebody else"}, token=await browser.token(path))
    assert await asked(console_url, payment_id) == [("resend", "a-operator", "a test")]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-console-proxy-secret": PROXY_SECRET, "x-forwarded-user": "asha", "x-forwarded-groups": "viewer"}, 200),
        ({"x-console-proxy-secret": "x" * 40, "x-forwarded-user": "asha", "x-forwarded-groups": "operator"}, 403),
        ({"x-forwarded-user": "asha", "x-forwarded-groups": "operator"}, 403),
        ({"x-console-proxy-secret": PROXY_SECRET, "x-forwarded-groups": "operator"}, 403),
        ({"x-console-proxy-secret": PROXY_SECRET, "x-forwarded-user": "asha", "x-forwarded-groups": "others"}, 403),
        ({"x-console-proxy-secret": PROXY_SECRET, "x-forwarded-user": "asha"}, 403),
    ],
)
async def test_a_proxy_is_believed_by_its_secret(browsers: Browsers, headers: dict[str, str], status: int) -> None:
    async with browsers(console_auth="proxy", console_proxy_secret=PROXY_SECRET) as browser:
        assert (await browser.get("/search", headers=headers)).status_code == status


async def test_a_header_that_comes_twice_is_believed_of_nobody(browsers: Browsers) -> None:
    async with browsers(console_auth="proxy", console_proxy_secret=PROXY_SECRET) as browser:
        once = [("x-console-proxy-secret", PROXY_SECRET), ("x-forwarded-groups", "operator")]
        names = [("x-forwarded-user", "asha"), ("x-forwarded-user", "eve")]
        request = httpx.Request("GET", f"{ORIGIN}/search", headers=[*once, *names, ("host", "127.0.0.1:8087")])
        assert (await browser.client.send(request)).status_code == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8087", "127.0.0.1.evil.example", ""])
async def test_a_page_of_another_site_whose_name_leads_here_sees_nothing(browser: Browser, host: str) -> None:
    """DNS rebinding."""
    assert (await browser.get("/search", headers={"host": host})).status_code == HTTPStatus.MISDIRECTED_REQUEST


async def test_a_console_with_a_name_answers_to_no_other(browsers: Browsers, users: str) -> None:
    async with browsers(console_auth="password", console_users=users, console_hosts="console.example") as browser:
        assert (await browser.get("/login", headers={"host": "console.example"})).status_code == HTTPStatus.OK
        assert (await browser.get("/login", headers={"host": "other.example"})).status_code == 421


async def test_behind_a_proxy_a_form_of_one_console_counts_at_another(browsers: Browsers, migrated: Migrated) -> None:
    path = f"/payments/{await a_payment(migrated)}/act/close"
    proxy = {"console_auth": "proxy", "console_proxy_secret": PROXY_SECRET}
    person = {"x-console-proxy-secret": PROXY_SECRET, "x-forwarded-user": "asha", "x-forwarded-groups": "operator"}
    async with browsers(**proxy) as one, browsers(**proxy) as another:
        for browser in (one, another):
            browser.client.headers.update(person)
        token = await one.token(path)
        assert (await another.post(path, SURE, token=token)).status_code == HTTPStatus.FORBIDDEN
        another.client.cookies.update(one.client.cookies)
        assert (await another.post(path, SURE, token=token)).status_code == HTTPStatus.SEE_OTHER
