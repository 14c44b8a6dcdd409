"""The pages, as HTML without scripts and external resources. Every variable text is escaped."""

from html import escape
from typing import Final

from tools.storefront.bridge_client import CURRENCY, Payment

REFRESH_SECONDS: Final = 2
STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2433; --soft: #5b6577; --card: #fff; --ground: #eef1f7; --line: #d8deea;
  --accent: #3d4ed8; --good: #13795b; --bad: #b3261e; --wait: #8a5a00 }
@media (prefers-color-scheme: dark) { :root { --ink: #eef1f7; --soft: #a7b0c2; --card: #1b2130; --ground: #11151f;
  --line: #323b50; --accent: #8c99ff; --good: #5fd3ac; --bad: #ff9c94; --wait: #ffc766 } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--ground);
  color: var(--ink); font: 1.05rem/1.55 system-ui, sans-serif }
main { width: 100%; max-width: 27rem; background: var(--card); border: 1px solid var(--line); border-radius: 1rem;
  padding: 2rem; box-shadow: 0 1rem 3rem rgb(20 30 60 / .08) }
header { font-weight: 700; color: var(--accent); letter-spacing: .02em; margin-bottom: 1.5rem }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere }
p { margin: 0 0 1rem; color: var(--soft); overflow-wrap: anywhere }
.good h1 { color: var(--good) } .bad h1 { color: var(--bad) } .wait h1 { color: var(--wait) }
dl { display: grid; grid-template-columns: auto 1fr; gap: .3rem 1.5rem; margin: 0 0 1.5rem; border-top: 1px solid
  var(--line); padding-top: 1rem }
dt { color: var(--soft) }
dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
label { display: block; font-weight: 600; margin-bottom: .4rem }
input, button, .button { font: inherit; width: 100%; border-radius: .6rem; padding: .75rem 1rem }
input { border: 1px solid var(--line); background: var(--ground); color: inherit; margin-bottom: 1rem }
button, .button { display: block; border: 0; background: var(--accent); color: var(--card); font-weight: 700;
  text-align: center; text-decoration: none; cursor: pointer }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
.problem { color: var(--bad) }
"""


def start(*, amount: str = "449.97", problem: str = "") -> str:
    """The form in which a person types an amount to go to the checkout."""
    alert = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    return _page(
        "Two seats, one evening",
        f"""<h1>Two seats, one evening</h1>
<p>A booking to try the payment with. On the next page, take a test card such as 4242&nbsp;4242&nbsp;4242&nbsp;4242.</p>
{alert}
<form method="post" action="/checkout">
<label for="amount">Amount in {CURRENCY.upper()}</label>
<input id="amount" name="amount" inputmode="decimal" autocomplete="off" required maxlength="20"
 value="{escape(amount)}">
<button>Go to the checkout</button>
</form>""",
    )


def payment(state: Payment) -> str:
    """The page after paying; it reloads itself while the outcome is unknown."""
    amount = f"{escape(state.amount)} {CURRENCY.upper()}"
    facts = f"<dl><dt>Booking</dt><dd>{escape(state.booking_id)}</dd><dt>Amount</dt><dd>{amount}</dd></dl>"
    again = '<a class="button" href="/">Book again</a>'
    if state.status == "COMPLETED":
        return _page("Paid", f"<h1>Paid. Thank you!</h1><p>Your seats are yours.</p>{facts}{again}", kind="good")
    if state.status == "FAILED":
        heading = "<h1>This payment has failed</h1>"
        return _page("Not paid", f"{heading}<p>{escape(state.message)}</p>{facts}{again}", kind="bad")
    wait = "<h1>One moment, please</h1><p>We are waiting for your bank. This page asks again by itself.</p>"
    # A payer may leave: the payment is known without this page.
    leave = '<p>You need not stay: your booking hears of it, too.</p><a class="button" href="/">To the start</a>'
    return _page("Waiting for your payment", f"{wait}{facts}{leave}", kind="wait", refresh=True)


def cancelled() -> str:
    """The page after leaving the checkout without paying."""
    return _page(
        "Not paid yet",
        "<h1>You left the checkout</h1><p>Nothing was charged. The checkout is still open for a while: go back to it "
        'with your browser to pay after all.</p><a class="button" href="/">Start over</a>',
        kind="wait",
    )


def sorry(message: str, *, again: bool = False) -> str:
    """An error page; `again` makes it reload itself."""
    body = f'<h1>Sorry</h1><p>{escape(message)}</p><a class="button" href="/">To the start</a>'
    return _page("Sorry", body, kind="bad", refresh=again)


def _page(title: str, body: str, *, kind: str = "", refresh: bool = False) -> str:
    meta = f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">' if refresh else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{meta}<title>{escape(title)} - BookTicket</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body><main class="{kind}"><header>BookTicket</header>
{body}
</main></body>
</html>
"""
