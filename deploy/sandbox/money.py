"""Stripe's currencies: how many decimals, which steps, what is too little and what is too much.

Source: https://docs.stripe.com/currencies (zero-decimal, special cases, minimum and maximum charge amounts).
Amounts are integers in Stripe's minor unit, as they travel on the wire.
"""

from decimal import Decimal

CURRENCIES = frozenset(
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf clp"
    " cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr"
    " isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn"
    " myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle"
    " sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd xcg xof xpf yer zar"
    " zmw".split()
)
ZERO_DECIMAL = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())
THREE_DECIMAL = frozenset("bhd jod kwd omr tnd".split())
WHOLE_UNITS = frozenset({"isk", "ugx"})
"""Sent with two decimals, which must be 00."""

MINIMUM = {
    **dict.fromkeys("ars aud brl cad chf cop eur idr ils inr nzd php rub sgd usd zar".split(), 50),
    "aed": 200,
    "czk": 1500,
    "dkk": 250,
    "gbp": 30,
    "hkd": 400,
    "huf": 17500,
    "jpy": 50,
    "krw": 50,
    "mxn": 1000,
    "myr": 200,
    "nok": 300,
    "pln": 200,
    "ron": 200,
    "sek": 300,
    "thb": 1000,
}
MAXIMUM = 99_999_999
"""The largest total that every payment method takes; Stripe names 999,999.99 in its refusals (observed)."""

SYMBOLS = {
    "aud": "A$",
    "brl": "R$",
    "cad": "CA$",
    "cny": "CN¥",
    "eur": "€",
    "gbp": "£",
    "hkd": "HK$",
    "ils": "₪",
    "inr": "₹",
    "jpy": "¥",
    "krw": "₩",
    "mxn": "MX$",
    "nzd": "NZ$",
    "php": "₱",
    "twd": "NT$",
    "usd": "$",
    "vnd": "₫",
    "xaf": "FCFA ",
    "xof": "F CFA ",
    "xpf": "CFPF ",
}


def decimals(currency: str) -> int:
    """Decimals of the minor unit on the wire: 0, 2 or 3."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def step(currency: str) -> int:
    """Amounts must be a multiple of this many minor units."""
    if currency in WHOLE_UNITS:
        return 100
    return 10 if currency in THREE_DECIMAL else 1


def minimum(currency: str) -> int:
    """The least that may be charged, in minor units.

    Stripe converts at the day's rate into the settlement currency. The sandbox has no rates: it settles every
    currency in itself, and takes half a unit where Stripe's table has no line.
    """
    half_a_unit = {0: 1, 2: 50, 3: 500}[decimals(currency)]
    return MINIMUM.get(currency, max(half_a_unit, step(currency)))


def text(amount: int, currency: str) -> str:
    """Minor units as a person reads them: ``₹449.97``, ``¥500``, ``CHF 12.00``, ``ISK 5``."""
    places = decimals(currency)
    value = Decimal(amount).scaleb(-places)
    shown = 0 if currency in WHOLE_UNITS else places
    return f"{SYMBOLS.get(currency, currency.upper() + chr(0xA0))}{value:,.{shown}f}"
