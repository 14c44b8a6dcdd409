"""Money: integer minor units and an ISO 4217 code, with Stripe's rule for each currency.

Source of every rule: Stripe's "Supported currencies" page (zero-decimal, special and three-decimal currencies, minimum
and maximum charge amounts).
"""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from service.domain.errors import InvalidRequestError

MAX_MINOR: Final = 99_999_999
"""Eight digits: the largest amount that every payment method takes."""

CURRENCIES: Final = frozenset(
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf"
    " clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr"
    " ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur"
    " mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr"
    " sek sgd shp sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd xcg"
    " xof xpf yer zar zmw".split()
)
ZERO_DECIMAL: Final = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())
THREE_DECIMAL: Final = frozenset("bhd jod kwd omr tnd".split())
WHOLE_UNITS: Final = frozenset("isk ugx".split())
"""Sent with two decimals that must be 00."""

MINIMUM_MINOR: Final = (
    dict.fromkeys("usd ars aud brl cad chf cop eur idr ils inr nzd php rub sgd zar".split(), 50)
    | {"aed": 200, "czk": 1500, "dkk": 250, "gbp": 30, "hkd": 400, "huf": 17500, "jpy": 50, "krw": 50, "mxn": 1000}
    | {"myr": 200, "nok": 300, "pln": 200, "ron": 200, "sek": 300, "thb": 1000}
)
"""A first guard: Stripe measures the minimum in the account's settlement currency and has the last word."""

# A double carries an error of about 1e-16 of its value, and sums of doubles a little more. Anything larger was meant.
_FLOAT_NOISE = Decimal("1e-9")
_MINOR_NOISE = Decimal("0.01")
_EXACT = Context(prec=120)


@dataclass(frozen=True)
class Money:
    """An amount of one currency. `minor` counts its smallest units as Stripe does, `currency` is lower case."""

    minor: int
    currency: str

    @classmethod
    def from_major(cls, amount: Decimal, currency: str) -> "Money":
        """Money for an amount in major units, forgiving the noise of binary floats and nothing else.

        Raises:
            InvalidRequestError: a currency that Stripe does not have, more decimals than the currency has, or an
                amount outside the currency's limits.
        """
        if currency not in CURRENCIES:
            raise InvalidRequestError("currency is not one that can be charged.")
        exact = _EXACT.scaleb(amount, exponent(currency))
        minor = exact.to_integral_value(ROUND_HALF_EVEN, _EXACT)
        noise = abs(_EXACT.subtract(exact, minor))
        if noise > min(_EXACT.multiply(exact, _FLOAT_NOISE), _MINOR_NOISE):
            raise InvalidRequestError("amount has more decimals than the currency allows.")
        return cls(int(minor), currency).checked()

    def checked(self) -> "Money":
        """Itself, if the currency's limits allow it; raises InvalidRequestError otherwise."""
        if self.minor % _step(self.currency):
            raise InvalidRequestError("amount has more decimals than the currency allows.")
        if self.minor < MINIMUM_MINOR.get(self.currency, 1):
            raise InvalidRequestError("amount is below the minimum for the currency.")
        if self.minor > MAX_MINOR:
            raise InvalidRequestError("amount is above the maximum for the currency.")
        return self

    @property
    def major(self) -> Decimal:
        """The amount in major units, exact."""
        return Decimal(self.minor).scaleb(-exponent(self.currency))

    def __str__(self) -> str:
        return f"{self.major} {self.currency.upper()}"


def exponent(currency: str) -> int:
    """How many decimals Stripe's minor unit stands for."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def _step(currency: str) -> int:
    if currency in WHOLE_UNITS:
        return 100
    return 10 if currency in THREE_DECIMAL else 1
