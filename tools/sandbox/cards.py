"""Stripe's test cards as data (https://docs.stripe.com/testing), valid with any future expiry and any CVC."""

from dataclasses import dataclass

AUTHENTICATION_FAILED = "payment_intent_authentication_failure"


@dataclass(frozen=True, kw_only=True)
class Decline:
    """The reason of a decline: Stripe's ``code``, the issuer's ``decline_code`` and the message for the payer."""

    code: str
    message: str
    decline_code: str | None = None


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card number and its outcome; ``label`` is its name on the hosted page."""

    number: str
    label: str = ""
    brand: str = "visa"
    decline: Decline | None = None
    authenticates: bool = False


GENERIC = Decline(code="card_declined", decline_code="generic_decline", message="Your card was declined.")
INSUFFICIENT = Decline(
    code="card_declined", decline_code="insufficient_funds", message="Your card has insufficient funds."
)
LOST = Decline(code="card_declined", decline_code="lost_card", message="Your card was declined.")
STOLEN = Decline(code="card_declined", decline_code="stolen_card", message="Your card was declined.")
EXPIRED = Decline(code="expired_card", message="Your card has expired.")
WRONG_CVC = Decline(code="incorrect_cvc", message="Your card's security code is incorrect.")
PROCESSING = Decline(
    code="processing_error", message="An error occurred while processing your card. Try again in a little bit."
)
WRONG_NUMBER = Decline(code="incorrect_number", message="Your card number is incorrect.")
NOT_A_TEST_CARD = Decline(
    code="card_declined",
    decline_code="test_mode_live_card",
    message="Your card was declined. Your request was in test mode, but used a non test card. For a list of valid test "
    "cards, visit: https://stripe.com/docs/testing.",
)
NOT_AUTHENTICATED = Decline(
    code=AUTHENTICATION_FAILED,
    message="We are unable to authenticate your payment method. Please choose a different payment method and try "
    "again.",
)

TEST_CARDS = (
    Card(number="4242424242424242", label="Succeeds"),
    Card(number="5555555555554444", label="Mastercard", brand="mastercard"),
    Card(number="378282246310005", label="American Express", brand="amex"),
    Card(number="4000000000000002", label="Declined", decline=GENERIC),
    Card(number="4000000000009995", label="Insufficient funds", decline=INSUFFICIENT),
    Card(number="4000000000009987", label="Lost card", decline=LOST),
    Card(number="4000000000009979", label="Stolen card", decline=STOLEN),
    Card(number="4000000000000069", label="Expired card", decline=EXPIRED),
    Card(number="4000000000000127", label="Wrong CVC", decline=WRONG_CVC),
    Card(number="4000000000000119", label="Processing error", decline=PROCESSING),
    Card(number="4242424242424241", label="Wrong number", decline=WRONG_NUMBER),
    Card(number="4000000000003220", label="3-D Secure", authenticates=True),
    Card(number="4000002500003155", label="3-D Secure, set up", authenticates=True),
    Card(number="4000002760003184", label="3-D Secure, always", authenticates=True),
    Card(number="4000008400001629", label="3-D Secure, then declined", authenticates=True, decline=GENERIC),
    Card(number="4000008260003178", label="3-D Secure, then no funds", authenticates=True, decline=INSUFFICIENT),
)
BY_NUMBER = {card.number: card for card in TEST_CARDS}


def digits(number: str) -> str | None:
    """The digits of a typed card number, or ``None`` if it cannot be one."""
    bare = number.replace(" ", "").replace("-", "")
    return bare if bare.isascii() and bare.isdecimal() and 12 <= len(bare) <= 19 else None  # noqa: PLR2004 - ISO 7812


def find(number: str) -> Card:
    """The test card with these digits; any other card is declined, as in Stripe's test mode."""
    known = BY_NUMBER.get(number)
    if known is not None:
        return known
    return Card(number=number, decline=NOT_A_TEST_CARD if passes_luhn(number) else WRONG_NUMBER)


def passes_luhn(number: str) -> bool:
    """The check digit of ISO 7812."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(number)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0  # noqa: PLR2004 - digits


def grouped(number: str) -> str:
    """Digits grouped as on a card: 4-4-4-4, or 4-6-5 for American Express."""
    if len(number) == 15:  # noqa: PLR2004 - American Express
        return f"{number[:4]} {number[4:10]} {number[10:]}"
    return " ".join(number[start : start + 4] for start in range(0, len(number), 4))
