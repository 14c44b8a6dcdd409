r"""Where a payer may be sent: more than 80 ways to leave the shop, all closed.

A line of the corpus holds several URLs; an escape such as `\x20` or `\t` stands for the character itself.
"""

import pytest

from service.domain import urls
from service.domain.errors import InvalidRequestError
from tests.kit.service import SHOP

ORIGINS = frozenset({"https://shop.example:443", "http://127.0.0.1:8084", "http://[::1]:8084"})

ANOTHER_HOST = r"""
    https://evil.example/  https://evil.example/https://shop.example/  https://evil.example?https://shop.example/
    https://evil.example#https://shop.example/  https://shop.example.evil.example/  https://shop.example-evil.example/
    https://evilshop.example/  https://www.shop.example/  https://shop.exampl/  https://shop.example./
    https://.shop.example/  https://shop..example/  https://shop_example/  https://127.0.0.1:8084/
    http://127.1:8084/  http://2130706433:8084/  http://0x7f.0.0.1:8084/  http://0177.0.0.1:8084/
    http://localhost:8084/  http://[::ffff:127.0.0.1]:8084/  http://[0:0:0:0:0:0:0:1]:8084/  http://[::1%25lo]:8084/
    http://[::1]evil.example:8084/
"""
ANOTHER_PORT = r"""
    https://shop.example:444/  https://shop.example:0443x/  https://shop.example:/  https://shop.example:-443/
    https://shop.example:443443/  https://shop.example:443:443/  http://127.0.0.1:8085/  http://127.0.0.1/
"""
USERS_AND_BACKSLASHES = r"""
    https://shop.example:443@evil.example/  https://shop.example@evil.example/  https://shop.example%40evil.example/
    https://user@shop.example/  https://user:password@shop.example/  https://@shop.example/
    https://shop.example\\@evil.example/  https://shop.example\\.evil.example/  https://evil.example\\.shop.example/
    https:\\\\shop.example/  https:/\\shop.example/  https://shop.example/\\evil.example
"""
ANOTHER_SCHEME = r"""
    http://shop.example/  http://shop.example:443/  ftp://shop.example/  ws://shop.example/  file:///etc/passwd
    javascript:alert(1)  javascript://shop.example/%0aalert(1)  data:text/html,<script>alert(1)</script>
    vbscript:msgbox(1)  blob:https://shop.example/1  view-source:https://shop.example/
"""
NOT_ABSOLUTE = r"""
    //shop.example/  //evil.example/  ///evil.example/  /done  done  https:evil.example  https:shop.example/
    https:/shop.example/  https:///shop.example/  https://  https:///  https://?shop.example  https://#shop.example
"""
BLANKS_AND_LETTERS = r"""
    \x20https://shop.example/  https://shop.example/\x20  https://shop.example/a\x20b  https://shop.example\x20/
    https://shop.example/\n  \thttps://shop.example/  https://shop.ex\tample/  https://shop.example/\x00
    https://shop.example\x00.evil.example/  https://shop.example/\r\nLocation:\x20https://evil.example
    https://shop%2eexample/  https://%73hop.example/  https://sh\u043ep.example/  https://shop\u3002example/
    https://shop.example\uff0fevil.example/  https://xn--shp-9cd.example/  https://\u202eshop.example/
    https://shop.example/\u00fc  https://shop.example/"  https://shop.example/<script>  https://shop.example/?a>b
"""
CORPUS = ANOTHER_HOST + ANOTHER_PORT + USERS_AND_BACKSLASHES + ANOTHER_SCHEME + NOT_ABSOLUTE + BLANKS_AND_LETTERS
HOSTILE = ["", *(word.encode("ascii").decode("unicode_escape") for word in CORPUS.split())]

GOOD = [
    SHOP,
    f"{SHOP}/",
    f"{SHOP}:443/done",
    f"{SHOP}:0443/done",
    "HTTPS://SHOP.EXAMPLE/Done",
    f"{SHOP}/done?session_id={{CHECKOUT_SESSION_ID}}",
    f"{SHOP}/done?next=https://evil.example/#here",
    f"{SHOP}?a=b",
    f"{SHOP}#a",
    f"{SHOP}/a%20b/~c;d=e,f!g$h&i'(j)*k+l=m:n@o|p",
    f"{SHOP}//evil.example/",
    "http://127.0.0.1:8084/payments/success",
    "http://[::1]:8084/",
]


def test_the_corpus_is_large_enough() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) >= 60


@pytest.mark.parametrize("url", HOSTILE, ids=ascii)
def test_a_payer_is_never_sent_anywhere_else(url: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        urls.allowed(url, field="successUrl", origins=ORIGINS)
    assert str(refused.value) == "successUrl must be an absolute URL on one of the allowed origins."


@pytest.mark.parametrize("url", GOOD)
def test_the_shops_own_urls_are_accepted_letter_by_letter_where_their_origin_is_allowed(url: str) -> None:
    assert urls.allowed(url, field="successUrl", origins=ORIGINS) == url
    with pytest.raises(InvalidRequestError):
        urls.allowed(url, field="successUrl", origins=frozenset())


PLACE = "{CHECKOUT_SESSION_ID}"
MISSPELT = (
    *("{checkout_session_id}", "{CHECKOUT-SESSION-ID}", "{CHECKOUTSESSIONID}", "%7BCHECKOUT_SESSION_ID%7D"),
    *("{{CHECKOUT_SESSION_ID}}", "${CHECKOUT_SESSION_ID}", "{CHECKOUT_SESSION_ID", "$CHECKOUT_SESSION_ID"),
    *("[CHECKOUT_SESSION_ID]", "%7bCHECKOUT_SESSION_ID}", f"{PLACE}&again={PLACE.lower()}"),
)


@pytest.mark.parametrize("spelt", MISSPELT)
def test_a_session_id_that_stripe_would_not_fill_in_is_refused_by_name(spelt: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^successUrl must spell \{CHECKOUT_SESSION_ID\} exactly so"):
        urls.allowed(f"{SHOP}/done?s={spelt}", field="successUrl", origins=ORIGINS)
    assert urls.success(f"{SHOP}/done?s={spelt}") is None


@pytest.mark.parametrize("spelt", [PLACE, *MISSPELT])
def test_stripe_fills_in_nothing_where_payers_give_up(spelt: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^cancelUrl must not hold \{CHECKOUT_SESSION_ID\}"):
        urls.allowed(f"{SHOP}/back?s={spelt}", field="cancelUrl", origins=ORIGINS)
    assert urls.cancel(f"{SHOP}/back?s={spelt}") is None


def test_a_parameter_of_that_name_is_no_place_for_the_id() -> None:
    for url in (f"{SHOP}/done?checkout_session_id={PLACE}", f"{SHOP}/done?CHECKOUT_SESSION_ID={PLACE}&{{X}}=1"):
        assert urls.allowed(url, field="successUrl", origins=ORIGINS) == url
    assert urls.cancel(f"{SHOP}/back?checkout_session_id=1") is not None


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("HTTPS://Shop.Example", "https://shop.example:443"),
        ("http://shop.example/x", "http://shop.example:80"),
        ("http://[::1]:8084", "http://[::1]:8084"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    assert urls.origin(url) == origin
