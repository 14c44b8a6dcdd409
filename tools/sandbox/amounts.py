"""Stripe's currencies: decimals, steps, minimum and maximum amounts, and the sandbox's exchange rates.

Source: https://docs.stripe.com/currencies (zero-decimal, special cases, minimum and maximum charge amounts).
Amounts are integers in Stripe's minor unit, as they travel on the wire.
"""

from decimal import ROUND_HALF_UP, Decimal

CURRENCIES = frozenset(
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf clp"
    " cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr"
    " isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn"
    " myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle"
    " sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd xcg xof xpf yer zar"
    " zmw".split()
)
ZERO_DECIMAL = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())
THREE_DECIMAL = frozenset("bhd jod kwd omr tnd".split())
WHOLE_UNITS = frozenset({"isk", "ugx"})
"""Sent with two decimals that must be 00."""

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
DIGITS = {"cop": 10, "idr": 12, "inr": 9}
MOST_DIGITS = 8
"""Of the largest amount that every payment method takes; Stripe's refusals name 999,999.99 (observed)."""
CARD_DIGITS = 12
"""Of the largest amount that cards take, where a session allows nothing else."""

SUBUNITS = {"gbp": "pence", "inr": "paise", "pln": "grosz"}
"""How Stripe calls minor units; ``cents`` also those of others (observed for HKD), pence and grosz observed."""

RATES = {
    code: Decimal(rate)
    for code, _, rate in (
        pair.partition("=")
        for pair in (
            "aed=3.67 afn=70 all=92 amd=390 ang=1.79 aoa=915 ars=1000 aud=1.5 awg=1.79 azn=1.7 bam=1.8 bbd=2 bdt=120"
            " bhd=0.376 bif=2900 bmd=1 bnd=1.35 bob=6.9 brl=5.5 bsd=1 bwp=13.5 byn=3.27 bzd=2 cad=1.37 cdf=2800"
            " chf=0.9 clp=950 cny=7.2 cop=4100 crc=510 cve=102 czk=23 djf=178 dkk=6.9 dop=60 dzd=134 egp=49 etb=125"
            " eur=0.92 fjd=2.25 fkp=0.78 gbp=0.78 gel=2.7 gip=0.78 gmd=70 gnf=8600 gtq=7.7 gyd=209 hkd=7.8 hnl=25"
            " htg=132 huf=365 idr=16000 ils=3.7 inr=84 isk=138 jmd=158 jod=0.709 jpy=150 kes=129 kgs=86 khr=4050"
            " kmf=450 krw=1380 kwd=0.307 kyd=0.83 kzt=490 lak=21800 lbp=89500 lkr=295 lrd=190 lsl=18 mad=10 mdl=17.8"
            " mga=4600 mkd=57 mmk=2100 mnt=3400 mop=8 mur=46 mvr=15.4 mwk=1735 mxn=19.5 myr=4.4 mzn=64 nad=18"
            " ngn=1600 nio=36.8 nok=11 npr=134 nzd=1.7 omr=0.385 pab=1 pen=3.75 pgk=4 php=58 pkr=278 pln=4 pyg=7800"
            " qar=3.64 ron=4.6 rsd=108 rub=95 rwf=1380 sar=3.75 sbd=8.4 scr=14 sek=10.8 sgd=1.34 shp=0.78 sle=22.7"
            " sos=571 srd=35 std=22500 szl=18 thb=34 tjs=10.8 tnd=3.15 top=2.38 try=35 ttd=6.8 twd=32 tzs=2600"
            " uah=41.5 ugx=3700 usd=1 uyu=42 uzs=12800 vnd=25000 vuv=119 wst=2.75 xaf=605 xcd=2.7 xcg=1.79 xof=605"
            " xpf=110 yer=250 zar=18 zmw=27"
        ).split()
    )
}
"""Units for a US dollar: about those of 2025, and fixed, so that an answer can be repeated."""

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
    """The decimals of the minor unit on the wire: 0, 2 or 3."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def step(currency: str) -> int:
    """Amounts must be a multiple of this many minor units."""
    if currency in WHOLE_UNITS:
        return 100
    return 10 if currency in THREE_DECIMAL else 1


def maximum(currency: str, *, cards_only: bool = False) -> int:
    """The largest total in minor units that can be charged."""
    limit: int = 10 ** (CARD_DIGITS if cards_only else DIGITS.get(currency, MOST_DIGITS))
    return limit - step(currency)


def converted(amount: int, currency: str, settlement: str) -> int:
    """An amount in minor units of the settlement currency, at the sandbox's rates."""
    value = Decimal(amount).scaleb(-decimals(currency)) * RATES[settlement] / RATES[currency]
    return int(value.scaleb(decimals(settlement)).to_integral_value(ROUND_HALF_UP))


def least(currency: str) -> str:
    """The minimum of a settlement currency as Stripe writes it beside a converted amount: ``50 cents``, ``¥50``."""
    amount = MINIMUM[currency]
    return f"{amount} {SUBUNITS.get(currency, 'cents')}" if decimals(currency) else text(amount, currency)


def text(amount: int, currency: str) -> str:
    """An amount for people: ``₹449.97``, ``¥500``, ``CHF 12.00``, ``ISK 5``."""
    places = decimals(currency)
    value = Decimal(amount).scaleb(-places)
    shown = 0 if currency in WHOLE_UNITS else places
    return f"{SYMBOLS.get(currency, currency.upper() + chr(0xA0))}{value:,.{shown}f}"
