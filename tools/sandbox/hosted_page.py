"""The hosted page at a session's ``url``: requests of the browser and their effects.

Every attempt ends in a redirect (303), so that a reload repeats nothing; after completion a second click leads to the
success page and is not charged again.
"""

import re
from datetime import UTC, datetime
from urllib.parse import quote

from tools.sandbox import cards, form_encoding
from tools.sandbox.account import Account, AuthenticationNeededError, NotOpenError
from tools.sandbox.accounts import Accounts
from tools.sandbox.asgi import Request, Response
from tools.sandbox.hosted_html import Entries, Pages
from tools.sandbox.object_store import Json
from tools.sandbox.stripe_errors import ApiError

PLACEHOLDER = "{CHECKOUT_SESSION_ID}"
AMEX_DIGITS = 15


class HostedPage:
    """The hosted pages of all accounts' sessions."""

    def __init__(self, accounts: Accounts, pages: Pages) -> None:
        self._accounts = accounts
        self._pages = pages

    def answer(self, request: Request) -> Response:
        """The answer to any request outside the APIs."""
        self._accounts.expire_due()
        matched = re.fullmatch(r"/c/pay/([A-Za-z0-9_]{1,255})(/authenticate)?", request.path)
        account = self._accounts.holding("" if matched is None else matched[1])
        session = None if matched is None else account.sessions.get(matched[1])
        if matched is None or session is None:
            return self._pages.unknown()
        if request.method not in {"GET", "HEAD", "POST"}:
            return self._pages.wrong_method()
        posted = request.method == "POST"
        entered = _form(request.body.decode("utf-8", "replace") if posted else request.query)
        if session["status"] == "expired":
            return self._expired(account, session, entered, kept=not posted and matched[2] is None)
        if session["status"] == "complete":
            return _redirect(_success_url(session)) if posted else self._pages.complete(session, _success_url(session))
        if matched[2]:
            return self._authenticate(account, session, entered, posted=posted)
        return self._pay(account, session, entered) if posted else self._show(account, session, entered)

    def _expired(self, account: Account, session: Json, entered: dict[str, str], *, kept: bool) -> Response:
        """A page that is open when its session expires stays as it was until the payer pays; loaded later, it says so.

        Observed: https://github.com/stripe/stripe-node/issues/2462.
        """
        notes = account.notes(session["id"])
        if kept and notes.page_is_open:
            return self._show(account, session, entered)
        notes.page_is_open = False
        return self._pages.expired(session)

    def _show(self, account: Account, session: Json, entered: dict[str, str]) -> Response:
        """The payment form; ``?card=`` fills in a test card, ``?declined`` shows why the last attempt failed."""
        account.notes(session["id"]).page_is_open = True
        chosen, before = cards.digits(entered.get("card", "")), account.notes(session["id"]).payer
        entries = Entries(
            card=cards.grouped(chosen) if chosen else "",
            cvc="1234" if chosen and len(chosen) == AMEX_DIGITS else "123",
            email=session["customer_email"] or before.get("email") or "payer@example.com",
            name=before.get("name") or Entries.name,
        )
        problem = _last_decline(account, session) if "declined" in entered else None
        return self._pages.checkout(session, account.notes(session["id"]).line_items, entries, problem=problem)

    def _pay(self, account: Account, session: Json, entered: dict[str, str]) -> Response:
        entries = Entries(**{name: entered.get(name, "").strip()[:200] for name in Entries.__dataclass_fields__})
        asks_address = session["billing_address_collection"] == "required"
        problems = {} if session["amount_total"] == 0 else _problems(entries, account.now())
        if asks_address:
            problems |= _address_problems(entries)
        if problems:
            return self._pages.checkout(session, account.notes(session["id"]).line_items, entries, fields=problems)
        number = cards.digits(entries.card) or ""
        payer: Json = {"email": entries.email, "name": entries.name}
        if asks_address:
            payer["address"] = {"line1": entries.line1, "country": entries.country.upper()}
        return self._attempt(account, session["id"], cards.find(number), payer)

    def _authenticate(self, account: Account, session: Json, entered: dict[str, str], *, posted: bool) -> Response:
        """The bank's 3-D Secure step."""
        notes = account.notes(session["id"])
        if notes.challenged is None:
            return _redirect(f"/c/pay/{session['id']}")
        outcome = entered.get("outcome")
        if not posted or outcome not in {"complete", "fail"}:
            return self._pages.challenge(session, notes.challenged)
        return self._attempt(account, session["id"], notes.challenged, notes.payer, authenticated=outcome == "complete")

    def _attempt(
        self, account: Account, identifier: str, card: cards.Card, payer: Json, *, authenticated: bool | None = None
    ) -> Response:
        try:
            session = account.pay(identifier, card, payer, authenticated=authenticated)
        except AuthenticationNeededError:
            return _redirect(f"/c/pay/{identifier}/authenticate")
        except NotOpenError:
            return _redirect(f"/c/pay/{identifier}")
        if session["status"] == "complete":
            return _redirect(_success_url(session))
        return _redirect(f"/c/pay/{identifier}?declined=1")


def _last_decline(account: Account, session: Json) -> str | None:
    if session["payment_intent"] is None:
        return None
    error = account.intent(session["payment_intent"])["last_payment_error"]
    return None if error is None else error["message"]


def _form(encoded: str) -> dict[str, str]:
    try:
        return dict(form_encoding.pairs(encoded))
    except ApiError:
        return {}


def _problems(entries: Entries, now: int) -> dict[str, str]:
    """The mistakes of a form by field, in the words of Stripe's page."""
    problems: dict[str, str] = {}
    number = cards.digits(entries.card)
    if number is None:
        problems["card"] = "Your card number is incomplete."
    expiry = re.fullmatch(r"(0?[1-9]|1[0-2])\s*[/-]?\s*(?:20)?(\d\d)", entries.expiry)
    if expiry is None:
        problems["expiry"] = "Your card's expiration date is incomplete."
    else:
        today = datetime.fromtimestamp(now, UTC)
        if (2000 + int(expiry[2]), int(expiry[1])) < (today.year, today.month):
            problems["expiry"] = "Your card's expiration date is in the past."
    lengths = r"\d{3,4}" if number is not None and len(number) == AMEX_DIGITS else r"\d{3}"
    if re.fullmatch(lengths, entries.cvc, re.ASCII) is None:
        problems["cvc"] = "Your card's security code is incomplete."
    if re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]+", entries.email) is None:
        problems["email"] = "Your email is incomplete."
    if not entries.name:
        problems["name"] = "Your cardholder name is incomplete."
    return problems


def _address_problems(entries: Entries) -> dict[str, str]:
    problems = {} if entries.line1 else {"line1": "Your address is incomplete."}
    is_code = re.fullmatch(r"[A-Za-z]{2}", entries.country, re.ASCII) is not None
    return problems if is_code else {**problems, "country": "Your country is incomplete."}


def _success_url(session: Json) -> str:
    url: str = session["success_url"].replace(PLACEHOLDER, session["id"])
    return quote(url, safe="!#$%&'()*+,/:;=?@[]~{}|^`")


def _redirect(url: str) -> Response:
    """303: the browser follows with a GET, and a reload repeats only that."""
    headers = [("Location", url), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")]
    return Response(status=303, body=b"", headers=headers)
