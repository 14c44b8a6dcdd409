"""No request, however odd, makes the sandbox fail with a 500."""

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tools.sandbox.caller import Caller, create_params
from tools.sandbox import parameter_schemas
from tools.sandbox.parameters import Hash, Items


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


NAMES = [
    name
    for kind in (parameter_schemas.CREATE_SESSION, parameter_schemas.LIST_SESSIONS, parameter_schemas.LIST_EVENTS)
    for name in _names(kind)
]
ODD_VALUES = ["", "0", "-1", "9" * 30, "1e9", "NaN", "1.5", "true", "card", "\0", "😀", "٣", "payment_intent", "a[b]"]
FIELDS = st.lists(
    st.tuples(st.sampled_from(NAMES) | st.text(max_size=8), st.sampled_from(ODD_VALUES) | st.text(max_size=8)),
    max_size=4,
)
BODIES = st.sampled_from(
    [b"", b"[]", b"null", b"\xff", b"[" * 5000, b'{"card": "4242"}', b'{"latency_ms": NaN}', b"{}"]
)
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
    "/_sandbox/sessions/{id}/settle",
    "/_sandbox/sessions/{id}/refund",
    "/_sandbox/sessions/{id}/dispute",
    "/v1/account",
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["GET", "POST", "PUT"]), st.sampled_from(PATHS), FIELDS, BODIES, st.booleans())
async def test_no_request_makes_the_sandbox_fail(
    method: str,
    path: str,
    fields: list[tuple[str, str]],
    body: bytes,
    good: bool,  # noqa: FBT001
) -> None:
    caller = Caller()
    identifier = (await caller.create())["id"]
    sent = {**(create_params() if good else {}), **dict(fields)}
    control = path.startswith("/_sandbox/")
    answer = await caller.call(method, path.format(id=identifier), sent, body=body if control else b"")
    assert 200 <= answer.status < 500
