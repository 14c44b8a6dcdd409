"""The page a payer sees at a session's ``url``: what the browser asks for, and what happens then.

Every attempt ends in a redirect (303), so that a reload repeats nothing, and a session that is complete sends a second
click to the success page instead of taking money again.
"""

import re
from datetime import UTC, datetime
from urllib.parse import quote

from deploy.sandbox import cards, form
from deploy.sandbox.errors import ApiError
from deploy.sandbox.pages import Entries, Pages
from deploy.sandbox.shelf import Json
from deploy.sandbox.state import Account, AuthenticationNeededError, NotOpenError
from deploy.sandbox.web import Request, Response

PLACEHOLDER = "{CHECKOUT_SESSION_ID}"
AMEX_DIGITS = 15


class HostedPage:
    """The pages of one account's sessions."""

    def __init__(self, account: Account, pages: Pages) -> None:
        self._account = account
        self._pages = pages

    def answer(self, request: Request) -> Response:
        """The answer to whatever a browser asks for."""
        self._account.expire_due()
        matched = re.fullmatch(r"/c/pay/([A-Za-z0-9_]{1,255})(/authenticate)?", request.path)
        session = None if matched is None else self._account.sessions.get(matched[1])
        if session is None:
            return self._pages.unknown()
        if request.method not in {"GET", "HEAD", "POST"}:
            return self._pages.wrong_method()
        posted = request.method == "POST"
        if session["status"] == "expired":
            return self._pages.expired(session)
        if session["status"] == "complete":
            return _redirect(_success_url(session)) if posted else self._pages.complete(session, _success_url(session))
        entered = _form(request.body.decode("utf-8", "replace") if posted else request.query)
        if matched is not None and matched[2]:
            return self._authenticate(session, entered, posted=posted)
        return self._pay(session, entered) if posted else self._show(session, entered)

    def _show(self, session: Json, entered: dict[str, str]) -> Response:
        """The payment form; ``?card=`` fills in a test card, ``?declined`` tells why the last attempt failed."""
        chosen = cards.digits(entered.get("card", ""))
        entries = Entries(
            card=cards.grouped(chosen) if chosen else "",
            cvc="1234" if chosen and len(chosen) == AMEX_DIGITS else "123",
            email=session["customer_email"] or "payer@example.com",
        )
        problem = self._last_decline(session) if "declined" in entered else None
        return self._pages.checkout(session, self._lines(session), entries, problem=problem)

    def _pay(self, session: Json, entered: dict[str, str]) -> Response:
        entries = Entries(**{name: entered.get(name, "").strip()[:200] for name in Entries.names()})
        problems = {} if session["amount_total"] == 0 else _problems(entries, self._account.now())
        if problems:
            return self._pages.checkout(session, self._lines(session), entries, fields=problems)
        number = cards.digits(entries.card) or ""
        return self._attempt(session["id"], cards.find(number), {"email": entries.email, "name": entries.name})

    def _authenticate(self, session: Json, entered: dict[str, str], *, posted: bool) -> Response:
        """The 3-D Secure step, as the bank would show it."""
        notes = self._account.notes(session["id"])
        if notes.challenged is None:
            return _redirect(f"/c/pay/{session['id']}")
        outcome = entered.get("outcome")
        if not posted or outcome not in {"complete", "fail"}:
            return self._pages.challenge(session, notes.challenged)
        return self._attempt(session["id"], notes.challenged, notes.payer, authenticated=outcome == "complete")

    def _attempt(
        self, identifier: str, card: cards.Card, payer: Json, *, authenticated: bool | None = None
    ) -> Response:
        try:
            session = self._account.pay(identifier, card, payer, authenticated=authenticated)
        except AuthenticationNeededError:
            return _redirect(f"/c/pay/{identifier}/authenticate")
        except NotOpenError:
            return _redirect(f"/c/pay/{identifier}")
        if session["status"] == "complete":
            return _redirect(_success_url(session))
        return _redirect(f"/c/pay/{identifier}?declined=1")

    def _last_decline(self, session: Json) -> str | None:
        if session["payment_intent"] is None:
            return None
        error = self._account.intent(session["payment_intent"])["last_payment_error"]
        return None if error is None else error["message"]

    def _lines(self, session: Json) -> list[Json]:
        return self._account.notes(session["id"]).line_items


def _form(encoded: str) -> dict[str, str]:
    try:
        return dict(form.pairs(encoded))
    except ApiError:
        return {}


def _problems(entries: Entries, now: int) -> dict[str, str]:
    """What is wrong with the form, by field, in the words of Stripe's page."""
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


def _success_url(session: Json) -> str:
    url: str = session["success_url"].replace(PLACEHOLDER, session["id"])
    return quote(url, safe="!#$%&'()*+,/:;=?@[]~{}|^`")


def _redirect(url: str) -> Response:
    """303: the browser asks for the new address with GET, and a reload repeats that alone."""
    headers = [("Location", url), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")]
    return Response(status=303, body=b"", headers=headers)
