from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.sandbox import form_encoding, parameters
from tools.sandbox.stripe_errors import ApiError


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("", {}),
        ("a=1&b=", {"a": "1", "b": ""}),
        ("a[b][c]=1&a[b][d]=2", {"a": {"b": {"c": "1", "d": "2"}}}),
        ("a[0]=x&a[1]=y", {"a": {"0": "x", "1": "y"}}),
        ("a[]=x&a[]=y", {"a": ["x", "y"]}),
        ("a[][b]=1&a[][c]=2&a[][b]=3", {"a": [{"b": "1", "c": "2"}, {"b": "3"}]}),
        ("a[][b][c]=1&a[][b][d]=2&a[][b][c]=3", {"a": [{"b": {"c": "1", "d": "2"}}, {"b": {"c": "3"}}]}),
        ("a%5Bb%5D=c%20d+e", {"a": {"b": "c d e"}}),
        ("a[b=1", {"a[b": "1"}),
        ("[a]=1", {"[a]": "1"}),
        ("a=1&a=2", {"a": "2"}),
    ],
)
def test_a_form_becomes_a_tree(form: str, expected: Any) -> None:
    assert form_encoding.tree(form_encoding.pairs(form)) == expected


@pytest.mark.parametrize("form", ["a=1&a[b]=2", "a[b]=1&a[]=2", "a[]=1&a[b]=2", "a=%ff", "&".join(["a=1"] * 3001)])
def test_what_cannot_be_a_tree_is_refused(form: str) -> None:
    with pytest.raises(ApiError) as refused:
        form_encoding.tree(form_encoding.pairs(form))
    assert refused.value.status == 400


@given(st.lists(st.tuples(st.text(min_size=1), st.text())))
def test_forms_are_decoded_as_the_standard_library_does(fields: list[tuple[str, str]]) -> None:
    form = urlencode(fields)
    assert form_encoding.pairs(form) == parse_qsl(form, keep_blank_values=True)


@given(st.text(max_size=60))
def test_no_form_breaks_the_reader(form: str) -> None:
    with suppress(ApiError):
        form_encoding.tree(form_encoding.pairs(form))


URL, WHOLE, FRACTION = parameters.Url(), parameters.Whole(), parameters.Fraction()


@pytest.mark.parametrize(
    "value", ["https://a.test", "http://127.0.0.1:8085/x?y={Z}#f", "HTTPS://A.test/ü", "http://[::1]/"]
)
def test_absolute_web_addresses_are_taken_as_they_are(value: str) -> None:
    assert URL.parse(value, "url") == value


REFUSED: dict[parameters.Kind, list[Any]] = {
    URL: ["", "a", "//a.test", "ftp://a.test", "http://", "http:///x", "http://[::1/", "http://a\r\nb", "data:,x", {}],
    WHOLE: ["", "1.5", "0x1", "1e3", "٣", " 1", "9" * 21, {}, []],
    FRACTION: ["", "-1", "1.0000000000001", "NaN", "1e2", "x"],
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in REFUSED.items() for value in values])
def test_what_is_no_url_integer_or_decimal_is_refused(kind: parameters.Kind, value: Any) -> None:
    with pytest.raises(ApiError):
        kind.parse(value, "name")
