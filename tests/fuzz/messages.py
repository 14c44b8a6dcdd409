"""Odd commands, drawn by hypothesis together with the disposition that each must get.

The disposition follows from what was changed, by the rules of docs/messages.md, not from the service itself.
"""

import gzip
import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from contracts import envelope
from contracts.commands import CommandType
from tests.integration.service.messages import raw
from tests.integration.service.messages.rig import CREATE, STATUS, VERIFY

REFUSED: Final = "refused by the broker"
"""RabbitMQ closes the sender's channel; such a message never reaches the service."""
REPLY_QUEUE: Final = f"{envelope.REPLY_QUEUE_PREFIX}fuzz"
UNKNOWN_SESSION: Final = "cs_test_unknown1"
LIMIT: Final = envelope.MAX_MESSAGE_BYTES
MB: Final = 10**6


@dataclass(frozen=True, kw_only=True)
class Oddity:
    """One change of a message. `reasons`: why it may be dead-lettered; empty if the change must do no harm."""

    reasons: frozenset[str] = frozenset()
    body: bytes | None = None
    members: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    told: bool = True
    """Whether a waiting sender can get a fault."""
    size: int = 0
    """The length to which blanks fill the body."""


@dataclass(frozen=True, kw_only=True)
class Odd:
    """A message: its command, its reply address, and its oddities."""

    command: CommandType
    reply_to: str | None
    oddities: tuple[Oddity, ...]

    @property
    def reasons(self) -> frozenset[str]:
        """It must be dead-lettered with one of these; with none of them it must be understood."""
        return frozenset[str]().union(*(each.reasons for each in self.oddities))

    @property
    def told(self) -> bool:
        return self.reply_to is not None and all(each.told for each in self.oddities)

    def body(self, members: dict[str, Any]) -> bytes:
        for each in self.oddities:
            members = members | each.members
        bodies = [each.body for each in self.oddities if each.body is not None]
        body = bodies[0] if bodies else json.dumps(members).encode()
        return body.ljust(max(each.size for each in self.oddities)) if self.oddities else body

    def properties(self) -> dict[str, Any]:
        properties: dict[str, Any] = {"reply_to": self.reply_to}
        for each in self.oddities:
            properties |= each.properties
        return properties


def _flaws(reason: str, values: SearchStrategy[Any], *, told: bool = True) -> SearchStrategy[Oddity]:
    """Each value as a change of properties that gets the message dead-lettered."""
    return values.map(lambda changes: Oddity(reasons=frozenset(reason.split("|")), properties=changes, told=told))


def _of(name: str, values: SearchStrategy[Any]) -> SearchStrategy[dict[str, Any]]:
    return values.map(lambda value: {name: value})


# --- bodies (B1-B9 and B16 as messages, B23) --------------------------------------------------------------------------

_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_NO_ID: Final = _JSON.filter(lambda value: isinstance(value, bool) or not isinstance(value, int | float))
_HOSTILE: Final = st.one_of(
    st.binary(max_size=300),
    _JSON.filter(lambda value: not isinstance(value, dict)).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [b"", b"null", b"[]", b"{}", b"{", b"\xef\xbb\xbf{}", b"NaN", b'"\\ud800"', b"\x00", b"\xff\xfe{\x00}\x00"]
    ),
    st.integers(1, 30_000).map(lambda depth: b"[" * depth),
    st.integers(1, 4_500).map(lambda depth: b'{"bookingId":' * depth + b"1" + b"}" * depth),
    st.integers(1, 5 * MB).map(lambda size: gzip.compress(bytes(size), 1)),
    st.integers(65, 60_000).map(lambda digits: b'{"bookingId":' + b"9" * digits + b"}"),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "1e400", "-0", "1E+999999999", "0x1", "1_0", "\u0661"]).map(
        lambda number: f'{{"bookingId":1,"userId":2,"amount":{number}}}'.encode()
    ),
    st.text(max_size=10).map(
        lambda name: json.dumps({name: 1})[:-1].encode() + b"," + json.dumps({name: 1})[1:].encode()
    ),
    st.dictionaries(st.text(max_size=12), _JSON, max_size=5).map(lambda members: json.dumps(members).encode()),
    st.just(json.dumps({"sessionId": UNKNOWN_SESSION, "transactionId": UNKNOWN_SESSION, "bookingId": 1})).map(
        lambda text: text.encode("utf-16")
    ),
).map(lambda body: Oddity(reasons=frozenset({"invalid"}), body=body))
_WRONG_MEMBERS: Final = st.one_of(
    st.text(min_size=1, max_size=20)
    .filter(lambda name: name not in {"sessionId", "transactionId"})
    .map(lambda name: {name + "\u2028x": 1}),
    _NO_ID.map(lambda value: {"bookingId": value, "sessionId": None, "transactionId": None}),
    st.sampled_from(["\ud800", "\x00", "cs_test_", "cs_live_\n", "pi_1", "cs_test_" + "a" * 300]).map(
        lambda text: {"sessionId": text, "transactionId": text, "currency": text}
    ),
).map(lambda members: Oddity(reasons=frozenset({"invalid"}), members=members))
_TOO_LARGE: Final = st.sampled_from([LIMIT + 1, LIMIT + 2, 100_000, MB, MB]).map(
    lambda size: Oddity(reasons=frozenset({"too-large"}), body=b"[", size=size)
)

# --- properties (B17, B18, B20, B21, B24) -----------------------------------------------------------------------------

_UNREADABLE: Final = "invalid"
"""The service is told of a property that the client library cannot parse."""
_NO_UTF8: Final = st.sampled_from([b"\xff", b"\xff\xfe", b"a\x80", b"\xed\xa0\x80"])
_NOT_PRINTABLE: Final = st.sampled_from(
    ["", "a\r\nb", "\x00", "a\tb", "\u2028", "\x1b[2J", "\x85", "\u200b", "\u202e", "\n{"]
)
_NOW: Final = int(time.time())
_TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda text: len(text.encode()) <= 255
)
_PROPERTIES: Final = st.one_of(
    _flaws("unknown-type", _of("type", st.none() | _TEXT.filter(lambda text: text not in {*CommandType}))),
    _flaws("invalid", _of("message_id", st.none() | _NOT_PRINTABLE)),
    _flaws("invalid", _of("correlation_id", st.none() | st.just("")), told=False),
    _flaws("invalid", _of("correlation_id", _NOT_PRINTABLE.filter(bool))),
    _flaws("invalid", _of("content_type", st.none() | _TEXT.filter(lambda text: not envelope.is_json(text)))),
    _flaws(
        "invalid",
        _of(
            "content_encoding",
            st.sampled_from(["gzip", "deflate", "utf-16"])
            | _TEXT.filter(lambda text: not envelope.is_uncompressed(text)),
        ),
    ),
    _flaws("invalid", _of("timestamp", st.none())),
    _flaws("invalid", _of("timestamp", st.integers(2**32, 2**64 - 1))),
    _flaws("expired", st.integers(0, _NOW - 3600).map(lambda at: {"timestamp": at, "expiration": "60000"}), told=False),
    _flaws(
        "invalid",
        _of(
            "reply_to",
            st.sampled_from(
                [
                    # Not the empty one: RabbitMQ 4 takes it for none.
                    *("victim", "payments.events", "payments.checkout.create", "payments.reply", "\u202e", "a" * 255),
                    *("x|payments.events", "payments.reply.x|payments.events", "payments.reply.\n", "PAYMENTS.REPLY.x"),
                ]
            ),
        ),
        told=False,
    ),
    _flaws(
        _UNREADABLE,
        st.one_of(
            *(_of(name, _NO_UTF8) for name in ("content_type", "content_encoding", "message_id", "type")),
            st.just({"timestamp": _NOW * 1_000_000}),
        ),
        told=False,
    ),
    _flaws(_UNREADABLE, _of("correlation_id", _NO_UTF8), told=False),
    _flaws(REFUSED, _of("expiration", st.sampled_from(["", "x", "-1", "1.5", "1e3", "99999999999999999999", "\n"]))),
    _flaws(REFUSED, _of("user_id", st.sampled_from(["nobody", "\n", "a" * 255]))),
)

# --- headers (B22) ----------------------------------------------------------------------------------------------------

_NAME: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(lambda text: f"h{text}")
_VALUE: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)  # without them: RabbitMQ itself ends the connection
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    | st.binary(max_size=40).map(bytearray),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAME, inner, max_size=4),
    max_leaves=12,
)
_INJECTION: Final = st.sampled_from(
    [
        *("a\r\nb", '\n{"level":"ERROR"}', "\u2028", "\x1b[2J", "x" * 129, "", "\u202e", "a b"),
        *("00-xyz", "%s%n", "${jndi:x}"),
    ]
)
_WRONG: Final = _VALUE.filter(lambda value: value is not None and not isinstance(value, str))
_BAD_HEADERS: Final = st.one_of(
    st.sampled_from([64, 65, 100, 1000]).map(lambda count: {f"h{number}": number for number in range(count)}),
    _of("idempotency-key", st.sampled_from(["", "a\nb", "\u00e9", "k" * 256]) | _WRONG),
    _of("x-caller", st.sampled_from(["7\nadmin", "a b", "\u00e9", "c" * 129]) | _WRONG),
).map(lambda headers: Oddity(reasons=frozenset({"invalid"}), properties={"headers": headers}))
_UNREADABLE_HEADERS: Final = st.sampled_from(
    [raw.table(raw.field(b"\xff", b"t", b"\x01")), raw.table(raw.field(b"a", b"T", b"\x40" + bytes(7)))]
).map(lambda table: Oddity(reasons=frozenset({_UNREADABLE}), properties={"headers": table}, told=False))
_HARMLESS: Final = st.one_of(
    st.dictionaries(_NAME, _VALUE, max_size=50).map(lambda headers: {"headers": headers}),
    st.just({"headers": raw.table(raw.field(b"a", b"S", b"\x00\x00\x00\x02\xff\xff"))}),
    st.dictionaries(
        st.sampled_from(["x-request-id", "traceparent", "x-attempts", "x-first-failed-at", "x-reason", "x-death", ""]),
        _INJECTION | _VALUE,
        max_size=4,
    ).map(lambda headers: {"headers": headers}),
    _of("priority", st.integers(0, 255)),
    _of("app_id", _TEXT | _NOT_PRINTABLE | _NO_UTF8),
    _of("delivery_mode", st.sampled_from([1, 2])),
    _of("expiration", st.sampled_from(["60000", "4294967295"])),
    _of("content_encoding", st.just("")),
    _of("timestamp", st.integers(_NOW + 3600, _NOW + 10**8)),  # no later than it came
).map(lambda properties: Oddity(properties=properties)) | st.just(Oddity(size=LIMIT))


@st.composite
def odd_messages(draw: st.DrawFn) -> Odd:
    """Up to two changes, each of another kind: harmless, of the body, of a property, of the headers."""
    kinds = [  # the harmless first: what comes later replaces it
        _HARMLESS,
        st.one_of(_HOSTILE, _HOSTILE, _WRONG_MEMBERS, _TOO_LARGE),
        _PROPERTIES,
        st.one_of(_BAD_HEADERS, _BAD_HEADERS, _UNREADABLE_HEADERS),
    ]
    chosen = draw(st.sets(st.sampled_from(range(len(kinds))), max_size=2))
    return Odd(
        command=draw(st.sampled_from([CREATE, VERIFY, STATUS])),
        reply_to=draw(st.sampled_from([None, envelope.DIRECT_REPLY_TO, REPLY_QUEUE])),
        oddities=tuple(draw(kinds[kind]) for kind in sorted(chosen)),
    )


def drawn(*, seed: int, count: int) -> list[Odd]:
    """`count` messages, the same ones for the same seed.

    Call it before anything else runs: hypothesis refuses random numbers that others draw meanwhile.
    """
    messages: list[Odd] = []

    @seeded(seed)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    @given(odd_messages())
    def draw(odd: Odd) -> None:
        messages.append(odd)

    draw()
    return messages
