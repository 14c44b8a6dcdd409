"""The HTML of the hosted page, without scripts and external resources; every text of a caller is escaped."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from html import escape

from tools.sandbox import amounts, cards
from tools.sandbox.asgi import Response
from tools.sandbox.object_store import Json
from tools.sandbox.objects import MERCHANT

OFFERED = tuple(card for card in cards.TEST_CARDS if card.label)


@dataclass(frozen=True, kw_only=True)
class Entries:
    """The fields of the form. Expiry, CVC and name have defaults because this is a test page."""

    card: str = ""
    expiry: str = "12 / 34"
    cvc: str = "123"
    email: str = ""
    name: str = "Test Payer"
    line1: str = "12 Test Street"
    country: str = "IN"


class Pages:
    """Builds pages around one stylesheet."""

    def __init__(self, css: str) -> None:
        self._css = css
        digest = b64encode(sha256(css.encode()).digest()).decode()
        # No form-action: browsers also apply it to the redirect to the merchant after the form.
        policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
        )
        self._headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", policy),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
        ]

    def checkout(
        self,
        session: Json,
        lines: list[Json],
        entries: Entries,
        *,
        problem: str | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> Response:
        """The payment form; 422 with remarks at its fields."""
        body = f'<div class="split">{_summary(session, lines)}{_form(session, entries, problem, fields or {})}</div>'
        return self._page(422 if fields else 200, "Checkout", body)

    def challenge(self, session: Json, card: cards.Card) -> Response:
        """The bank's 3-D Secure step."""
        bank = f'<div class="bank">{SHIELD}<span>Test bank</span></div>'
        text = f"""<p>Your bank wants to know that it is you. {escape(MERCHANT)} asks for
  <strong>{_amount(session)}</strong> from the card ending in <strong>{escape(card.number[-4:])}</strong>.</p>
  <p class="quiet">This is a test page. Choose how the step ends.</p>
  <form method="post" class="pair">
    <button class="primary" name="outcome" value="complete">Complete</button>
    <button class="plain" name="outcome" value="fail">Fail</button>
  </form>"""
        return self._notice(200, "3-D Secure", bank, "3-D Secure", text)

    def complete(self, session: Json, success_url: str) -> Response:
        """The session has been paid."""
        text = f"""<p>{escape(MERCHANT)} received <strong>{_amount(session)}</strong>.
  You will not be charged again.</p>
  <p><a class="button" href="{escape(success_url)}">Continue to {escape(MERCHANT)}</a></p>"""
        return self._notice(200, "Already paid", f'<div class="badge good">{TICK}</div>', "You have already paid", text)

    def expired(self, session: Json) -> Response:
        """The session has expired: 410."""
        back = session["cancel_url"]
        link = f'<p><a class="button" href="{escape(back)}">Back to {escape(MERCHANT)}</a></p>' if back else ""
        text = f"""<p>You have not been charged. Go back to {escape(MERCHANT)} and start again if you still want your
  tickets.</p>{link}"""
        return self._notice(410, "Expired", f'<div class="badge">{CLOCK}</div>', "This checkout has expired", text)

    def unknown(self) -> Response:
        """No such page: 404."""
        text = """<p>We found no checkout at this address. The link may be cut short, or the sandbox was started anew
  since.</p>"""
        return self._notice(404, "Not found", f'<div class="badge">{QUESTION}</div>', "Something is missing here", text)

    def wrong_method(self) -> Response:
        """405."""
        return Response(status=405, body=b"", headers=[("Allow", "GET, HEAD, POST")])

    def _notice(self, status: int, title: str, mark: str, heading: str, text: str) -> Response:
        """A page of one card in the middle."""
        body = f"""<div class="stage">
<main class="card" aria-labelledby="title">
  {mark}
  <h1 id="title">{heading}</h1>
  {text}
</main></div>"""
        return self._page(status, title, body)

    def _page(self, status: int, title: str, body: str) -> Response:
        html = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{escape(title)} · {escape(MERCHANT)}</title>
<link rel="icon" href="data:,">
<style>{self._css}</style>
</head>
<body>
{body}
<footer>Sandbox: no real card is charged and no money moves.</footer>
</body>
</html>
"""
        return Response(status=status, body=html.encode(), headers=self._headers)


def _amount(session: Json) -> str:
    return escape(amounts.text(session["amount_total"], session["currency"]))


def _summary(session: Json, lines: list[Json]) -> str:
    currency, amount = session["currency"], _amount(session)
    back = session["cancel_url"]
    link = f'<a class="back" href="{escape(back)}">{ARROW}<span>Back to {escape(MERCHANT)}</span></a>' if back else ""
    items = "".join(_item(line, currency) for line in lines)
    return f"""
<section class="summary" aria-label="Order summary">
  <header class="merchant">{TICKET}<span>{escape(MERCHANT)}</span><span class="mode">Test mode</span></header>
  {link}
  <p class="quiet">Amount due</p>
  <p class="amount">{amount}</p>
  <ul class="items">{items}</ul>
  <p class="total"><span>Total due</span><span>{amount}</span></p>
</section>"""


def _item(line: Json, currency: str) -> str:
    total = escape(amounts.text(line["amount_total"], currency))
    quantity = f'<span class="quiet">Qty {line["quantity"]}</span>' if line["quantity"] > 1 else ""
    return f"<li><span>{escape(line['description'])}{quantity}</span><span>{total}</span></li>"


def _form(session: Json, entries: Entries, problem: str | None, remarks: Mapping[str, str]) -> str:
    shown = problem or " ".join(remarks.values())
    alert = f'<p class="alert" role="alert">{WARNING}<span>{escape(shown)}</span></p>' if shown else ""
    # An e-mail address that the shop has given cannot be changed, as on Stripe's page.
    email = 'type="email" autocomplete="email"' + (" readonly" if session["customer_email"] else "")
    return f"""
<main class="payment" aria-labelledby="title">
  <h1 id="title">Card details</h1>
  {alert}
  <form method="post" action="/c/pay/{session["id"]}" novalidate>
    {_field("email", "Email", entries.email, remarks, email)}
    <fieldset>
      <legend>Card information</legend>
      {_field("card", "Card number", entries.card, remarks, CARD_FIELD)}
      <div class="pair">
        {_field("expiry", "Expiry", entries.expiry, remarks, EXPIRY_FIELD)}
        {_field("cvc", "CVC", entries.cvc, remarks, CVC_FIELD)}
      </div>
    </fieldset>
    {_field("name", "Cardholder name", entries.name, remarks, 'autocomplete="cc-name"')}
    {_address(session, entries, remarks)}
    <button class="primary" type="submit">Pay {_amount(session)}</button>
  </form>
  {_test_cards(session["id"])}
</main>"""


def _address(session: Json, entries: Entries, remarks: Mapping[str, str]) -> str:
    """The payer's address, if the shop asks for it: those two of Stripe's fields that every country has."""
    if session["billing_address_collection"] != "required":
        return ""
    line1 = _field("line1", "Billing address", entries.line1, remarks, 'autocomplete="billing address-line1"')
    country = _field("country", "Country code", entries.country, remarks, COUNTRY_FIELD)
    return f'<div class="pair">{line1}{country}</div>'


COUNTRY_FIELD = 'autocomplete="billing country" maxlength="2" autocapitalize="characters"'
CARD_FIELD = 'inputmode="numeric" autocomplete="cc-number" placeholder="1234 1234 1234 1234" maxlength="24" autofocus'
EXPIRY_FIELD = 'inputmode="numeric" autocomplete="cc-exp" placeholder="MM / YY"'
CVC_FIELD = 'inputmode="numeric" autocomplete="cc-csc" placeholder="CVC"'


def _field(name: str, label: str, value: str, remarks: Mapping[str, str], attributes: str) -> str:
    remark = remarks.get(name)
    invalid = f' aria-invalid="true" aria-describedby="{name}-remark"' if remark else ""
    note = f'<span class="remark" id="{name}-remark">{escape(remark)}</span>' if remark else ""
    return (
        f'<div class="field"><label for="{name}">{label}</label>'
        f'<input id="{name}" name="{name}" value="{escape(value)}" required {attributes}{invalid}>{note}</div>'
    )


def _outcome(card: cards.Card) -> str:
    if card.authenticates:
        return "asks"
    return "pays" if card.decline is None else "declines"


def _test_cards(identifier: str) -> str:
    buttons = "".join(
        f'<button class="{_outcome(card)}" name="card" value="{card.number}"><span>{escape(card.label)}</span>'
        f"<code>{cards.grouped(card.number)}</code></button>"
        for card in OFFERED
    )
    return f"""
<section class="test-cards" aria-labelledby="cards">
  <h2 id="cards">Test cards</h2>
  <p class="quiet">Choose one to fill in the form.</p>
  <form method="get" action="/c/pay/{identifier}">{buttons}</form>
</section>"""


def _icon(paths: str, size: int = 20) -> str:
    return (
        f'<svg width="{size}" height="{size}" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8" '
        f'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{paths}</svg>'
    )


TICKET = _icon('<path d="M3 9V6h18v3a3 3 0 0 0 0 6v3H3v-3a3 3 0 0 0 0-6Z"/><path d="M14 6v2M14 11v2M14 16v2"/>', 24)
ARROW = _icon('<path d="M19 12H5M11 6l-6 6 6 6"/>', 16)
SHIELD = _icon('<path d="M12 3 5 6v5c0 5 3 8 7 10 4-2 7-5 7-10V6Z"/><path d="m9 12 2 2 4-4"/>', 24)
TICK = _icon('<path d="m5 13 4 4L19 7"/>', 28)
CLOCK = _icon('<circle cx="12" cy="12" r="9"/><path d="M12 7v5l3 2"/>', 28)
QUESTION = _icon('<path d="M9 9a3 3 0 1 1 4 3c-1 .6-1 1.2-1 2M12 18h.01"/>', 28)
WARNING = _icon('<circle cx="12" cy="12" r="9"/><path d="M12 7v6M12 16.5h.01"/>', 18)
