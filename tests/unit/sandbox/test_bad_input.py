"""No request, however odd, makes the sandbox fail: it refuses what it cannot use."""

from collections.abc import Iterator
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.sandbox import schemas
from deploy.sandbox.app import Sandbox
from deploy.sandbox.parameters import Hash, Items
from deploy.sandbox.web import Request

GOOD = {
    "mode": "payment",
    "success_url": "https://a.test",
    "line_items[0][quantity]": "1",
    "line_items[0][price_data][currency]": "inr",
    "line_items[0][price_data][unit_amount]": "44997",
    "line_items[0][price_data][product_data][name]": "n",
}


def _names(kind: Hash, prefix: str = "") -> Iterator[str]:
    for name, inner in kind.fields.items():
        place = f"{prefix}[{name}]" if prefix else name
        yield place
        if isinstance(inner, Hash):
            yield from _names(inner, place)
        if isinstance(inner, Items):
            for index in ("[0]", "[]", "[x]", "[99999999999]"):
                yield place + index
                if isinstance(inner.of, Hash):
                    yield from _names(inner.of, place + index)


NAMES = [name for kind in (schemas.CREATE_SESSION, schemas.LIST_SESSIONS, schemas.LIST_EVENTS) for name in _names(kind)]
ODD_VALUES = ["", "0", "-1", "9" * 30, "1e9", "NaN", "1.5", "true", "card", "\0", "😀", "٣", "payment_intent", "a[b]"]
FIELDS = st.lists(
    st.tuples(st.sampled_from(NAMES) | st.text(max_size=8), st.sampled_from(ODD_VALUES) | st.text(max_size=8)),
    max_size=4,
)
BODIES = st.sampled_from([b"", b"[]", b"null", b"\xff", b"[" * 5000, b'{"card": "4242"}', b'{"latency_ms": NaN}'])
PATHS = [
    "/v1/checkout/sessions",
    "/v1/checkout/sessions/{id}",
    "/v1/checkout/sessions/{id}/expire",
    "/v1/events",
    "/v1//",
    "/c/pay/{id}",
    "/c/pay/{id}/authenticate",
    "/_sandbox/config",
    "/_sandbox/clock",
    "/_sandbox/sessions/{id}/pay",
]


def _request(method: str, path: str, fields: dict[str, str], body: bytes = b"") -> Request:
    headers = {"authorization": "Bearer sk_test_1", "content-type": "application/x-www-form-urlencoded"}
    encoded = urlencode(fields)
    query, form = ("", encoded.encode()) if method == "POST" else (encoded, b"")
    return Request(method=method, path=path, query=query, headers=headers, body=body or form, base_url="http://h")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["GET", "POST", "PUT"]), st.sampled_from(PATHS), FIELDS, BODIES, st.booleans())
async def test_no_request_makes_the_sandbox_fail(
    method: str,
    path: str,
    fields: list[tuple[str, str]],
    body: bytes,
    good: bool,  # noqa: FBT001
) -> None:
    sandbox = Sandbox()
    await sandbox.answer(_request("POST", "/v1/checkout/sessions", GOOD))
    session_id = sandbox.account.sessions.bodies[0]["id"]
    sent = {**(GOOD if good else {}), **dict(fields)}
    control = path.startswith("/_sandbox/")
    response = await sandbox.answer(_request(method, path.format(id=session_id), sent, body if control else b""))
    assert 200 <= response.status < 500
