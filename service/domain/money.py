"""Money: integer minor units and an ISO 4217 code, with Stripe's rule for each currency.

Source of every rule: Stripe's "Supported currencies" page (zero-decimal, special and three-decimal currencies, minimum
and maximum charge amounts).
"""

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from service.domain.errors import InvalidRequestError

MAX_MINOR: Final = 999_999_999_999
"""Twelve digits: more than any payment method accepts. Stripe decides, with each method's and currency's own limit."""

# As Stripe lists them, ended ones too while it does; tools/sandbox/amounts.py has the same.
CURRENCIES: Final = frozenset(
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf"
    " clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr"
    " ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur"
    " mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr"
    " sek sgd shp sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd xcg"
    " xof xpf yer zar zmw".split()
)
ENDED: Final = {
    "ang": (date(2025, 7, 1), "xcg"),
    "bgn": (date(2026, 1, 1), "eur"),
    "hrk": (date(2023, 1, 1), "eur"),
    "sll": (date(2024, 4, 1), "sle"),
}
"""Currency -> the day (UTC) from which it is no money any more, and what took its place."""
ZERO_DECIMAL: Final = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())
THREE_DECIMAL: Final = frozenset("bhd jod kwd omr tnd".split())
WHOLE_UNITS: Final = frozenset("isk ugx".split())
"""Sent with two decimals that must be 00."""

MINIMUM_MINOR: Final = (
    dict.fromkeys("usd ars aud brl cad chf cop eur idr ils inr nzd php rub sgd zar".split(), 50)
    | {"aed": 200, "czk": 1500, "dkk": 250, "gbp": 30, "hkd": 400, "huf": 17500, "jpy": 50, "krw": 50, "mxn": 1000}
    | {"myr": 200, "nok": 300, "pln": 200, "ron": 200, "sek": 300, "thb": 1000}
)
"""A first check: Stripe applies the minimum in the account's settlement currency and decides."""

# A double has an error of about 1e-16 of its value, and sums of doubles a little more. Anything larger is intended.
_FLOAT_NOISE = Decimal("1e-9")
_MINOR_NOISE = Decimal("0.01")
_DOUBLE_NOISE = Decimal("1e-15")
"""The share of a binary double that a calculation or two may change: beyond 10^10 the larger of the two bounds."""
_EXACT = Context(prec=120)
_FINEST = Decimal("0.001")
"""The minor unit of the currencies that have most decimals."""


@dataclass(frozen=True)
class Money:
    """An amount of one currency. `minor` counts its smallest units as Stripe does, `currency` is lower case."""

    minor: int
    currency: str

    @classmethod
    def from_major(cls, amount: Decimal, currency: str) -> "Money":
        """Money for an amount in major units, tolerating the noise of binary floats; otherwise InvalidRequestError."""
        if currency not in CURRENCIES:
            raise InvalidRequestError("currency is not one that can be charged.")
        exact = _EXACT.scaleb(amount, exponent(currency))
        minor = exact.to_integral_value(ROUND_HALF_EVEN, _EXACT)
        noise = abs(_EXACT.subtract(exact, minor))
        step = 100 if currency in WHOLE_UNITS else 10 if currency in THREE_DECIMAL else 1
        units = int(minor)
        if noise > min(_EXACT.multiply(exact, _FLOAT_NOISE), _MINOR_NOISE) or units % step:
            raise InvalidRequestError("amount has more decimals than the currency allows.")
        if units < MINIMUM_MINOR.get(currency, 1):
            raise InvalidRequestError("amount is below the minimum for the currency.")
        if units > MAX_MINOR:
            raise InvalidRequestError("amount is above the maximum for the currency.")
        return cls(units, currency)

    @property
    def major(self) -> Decimal:
        """The amount in major units, exact."""
        return Decimal(self.minor).scaleb(-exponent(self.currency))

    def __str__(self) -> str:
        return f"{self.major} {self.currency.upper()}"


def as_sent(amount: Decimal) -> str:
    """The amount as its sender means it, in whatever currency: without the noise of binary floats and without zeros.

    449.97, 449.970 and 449.97000000000003 are one amount; 449.9701 is another one, which no currency has.
    """
    meant = amount.quantize(_FINEST, ROUND_HALF_EVEN, _EXACT)
    most = max(_FINEST * _MINOR_NOISE, _EXACT.multiply(amount, _DOUBLE_NOISE))
    is_noise = abs(_EXACT.subtract(amount, meant)) <= min(_EXACT.multiply(amount, _FLOAT_NOISE), most)
    return format((meant if is_noise else amount).normalize(_EXACT), "f")


def check_charged(currency: str, *, on: date) -> None:
    """InvalidRequestError if the currency is no money any more on that day (UTC)."""
    if currency not in ENDED:
        return
    ended_on, successor = ENDED[currency]
    if on >= ended_on:
        raise InvalidRequestError(f"currency {currency} ended on {ended_on}; please use {successor}.")


def exponent(currency: str) -> int:
    """The number of decimals of Stripe's minor unit."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2
