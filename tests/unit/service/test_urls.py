"""Where a payer may be sent: 60 and more ways to leave the shop, all closed."""

import pytest

from service.domain import urls
from service.domain.errors import InvalidRequestError
from tests.service_support import SHOP

ORIGINS = frozenset({"https://shop.example:443", "http://127.0.0.1:8084", "http://[::1]:8084"})

HOSTILE = [
    "https://evil.example/",
    "https://evil.example/https://shop.example/",
    "https://evil.example?https://shop.example/",
    "https://evil.example#https://shop.example/",
    "https://shop.example.evil.example/",
    "https://shop.example-evil.example/",
    "https://evilshop.example/",
    "https://www.shop.example/",
    "https://shop.exampl/",
    "https://shop.example./",
    "https://.shop.example/",
    "https://shop..example/",
    "https://shop.example:444/",
    "https://shop.example:0443x/",
    "https://shop.example:/",
    "https://shop.example:-443/",
    "https://shop.example:443443/",
    "https://shop.example:443:443/",
    "https://shop.example:443@evil.example/",
    "https://shop.example@evil.example/",
    "https://shop.example%40evil.example/",
    "https://user@shop.example/",
    "https://user:password@shop.example/",
    "https://@shop.example/",
    "https://shop.example\\@evil.example/",
    "https://shop.example\\.evil.example/",
    "https://evil.example\\.shop.example/",
    "https:\\\\shop.example/",
    "https:/\\shop.example/",
    "https://shop.example/\\evil.example",
    "http://shop.example/",
    "http://shop.example:443/",
    "ftp://shop.example/",
    "ws://shop.example/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "javascript://shop.example/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "blob:https://shop.example/1",
    "view-source:https://shop.example/",
    "//shop.example/",
    "//evil.example/",
    "///evil.example/",
    "/done",
    "done",
    "",
    "https:evil.example",
    "https:shop.example/",
    "https:/shop.example/",
    "https:///shop.example/",
    "https://",
    "https:///",
    "https://?shop.example",
    "https://#shop.example",
    " https://shop.example/",
    "https://shop.example/ ",
    "https://shop.example/a b",
    "https://shop.example /",
    "https://shop.example/\n",
    "\thttps://shop.example/",
    "https://shop.ex\tample/",
    "https://shop.example/\x00",
    "https://shop.example\x00.evil.example/",
    "https://shop.example/\r\nLocation: https://evil.example",
    "https://shop%2eexample/",
    "https://%73hop.example/",
    "https://sh\u043ep.example/",
    "https://shop\u3002example/",
    "https://shop.example\uff0fevil.example/",
    "https://xn--shp-9cd.example/",
    "https://\u202eshop.example/",
    "https://shop.example/\u00fc",
    "https://shop_example/",
    'https://shop.example/"',
    "https://shop.example/<script>",
    "https://shop.example/?a>b",
    "https://127.0.0.1:8084/",
    "http://127.1:8084/",
    "http://2130706433:8084/",
    "http://0x7f.0.0.1:8084/",
    "http://0177.0.0.1:8084/",
    "http://localhost:8084/",
    "http://[::ffff:127.0.0.1]:8084/",
    "http://[0:0:0:0:0:0:0:1]:8084/",
    "http://[::1%25lo]:8084/",
    "http://[::1]evil.example:8084/",
    "http://127.0.0.1:8085/",
    "http://127.0.0.1/",
]

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
def test_the_shops_own_urls_are_taken_letter_by_letter(url: str) -> None:
    assert urls.allowed(url, field="cancelUrl", origins=ORIGINS) == url


def test_nothing_is_allowed_where_no_origin_is() -> None:
    with pytest.raises(InvalidRequestError):
        urls.allowed(SHOP, field="successUrl", origins=frozenset())


def test_an_origin_is_scheme_host_and_port() -> None:
    assert urls.origin("HTTPS://Shop.Example") == "https://shop.example:443"
    assert urls.origin("http://shop.example/x") == "http://shop.example:80"
    assert urls.origin("http://[::1]:8084") == "http://[::1]:8084"
