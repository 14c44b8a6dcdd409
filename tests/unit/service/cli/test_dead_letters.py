"""Reading what should not have been sent: a dead letter's reason, age and text, and what is said about a selection."""

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic

from contracts.commands import CommandType
from runtime.dead_letters.letter import MAX_SHOWN_BYTES, Letter, one_line
from runtime.process_settings import BrokerSettings
from service.cli import dead_letters
from service.cli.dead_letters.listing import line_of, page_of
from service.cli.dead_letters.selection import Selection, selection_of
from service.cli.parser import parser
from service.settings import OperatorSettings
from tests.kit.clock import NOW
from tests.kit.service import QUICK

HOUR = timedelta(hours=1)


def a_letter(
    body: bytes = b"{}", *, number: int = 1, command: str = "checkout.create", headers: Any = None, **properties: Any
) -> Letter:
    return Letter(
        command=CommandType(command),
        number=number,
        tag=number,
        properties=Basic.Properties(headers=headers, **properties),
        body=body,
    )


def a_death(**changes: Any) -> list[Any]:
    return [{"reason": "expired", "queue": "q", "count": 1, "time": NOW - HOUR} | changes, {"reason": "rejected"}]


REASONS: list[tuple[Any, str]] = [
    (None, "unknown"),
    ({"x-reason": "refused"}, "refused"),
    ({"x-reason": "exhausted", "x-death": a_death()}, "exhausted"),
    ({"x-death": a_death()}, "expired"),
    ({"x-death": a_death(reason="delivery_limit")}, "delivery_limit"),
    ({"x-death": []}, "unknown"),
    ({"x-death": "expired"}, "unknown"),
    ({"x-death": [None]}, "unknown"),
    ({"x-reason": 7}, "unknown"),
    ({"x-reason": "a\x1bb"}, r"a\x1bb"),
]


@pytest.mark.parametrize(("headers", "reason"), REASONS)
def test_the_reason_is_ours_or_else_the_brokers_latest(headers: Any, reason: str) -> None:
    assert a_letter(headers=headers).reason == reason


AGES: list[tuple[Any, datetime | None, timedelta | None]] = [
    (None, None, None),
    (None, NOW - HOUR, HOUR),
    (None, NOW + HOUR, timedelta(0)),
    ({"x-death": a_death()}, NOW - 2 * HOUR, HOUR),
    ({"x-reason": "exhausted", "x-death": a_death(), "x-last-failed-at": "2026-03-02T09:00:00+00:00"}, NOW, 3 * HOUR),
    ({"x-reason": "exhausted", "x-last-failed-at": "2026-03-02T09:00:00"}, NOW, 3 * HOUR),
    ({"x-reason": "exhausted", "x-last-failed-at": "yesterday"}, NOW - HOUR, HOUR),
    ({"x-reason": "invalid", "x-death": a_death()}, NOW - 2 * HOUR, 2 * HOUR),
]


@pytest.mark.parametrize(("headers", "timestamp", "age"), AGES)
def test_the_age_counts_from_the_latest_time_that_can_be_believed(
    headers: Any, timestamp: datetime | None, age: timedelta | None
) -> None:
    assert a_letter(headers=headers, timestamp=timestamp).age(NOW) == age


PRINTED_AGES = {59: "59s", 60: "1m", 3599: "59m", 3600: "1h", 86_399: "23h", 86_400: "1d", 864_000: "10d"}


@pytest.mark.parametrize(("seconds", "printed"), PRINTED_AGES.items())
def test_an_age_is_printed_in_its_largest_unit(seconds: int, printed: str) -> None:
    letter = a_letter(timestamp=NOW - timedelta(seconds=seconds))
    assert line_of(letter, NOW).split()[0] == printed


@QUICK
@given(st.text(), st.text())
def test_a_line_is_printable_and_two_texts_never_look_the_same(first: str, second: str) -> None:
    assert one_line(first).isprintable()
    assert (one_line(first) == one_line(second)) == (first == second)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.datetimes() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["x-reason", "x-reason-text", "x-death", "x-attempts", "x-last-failed-at"]) | st.text()


@QUICK
@given(st.dictionaries(NAMES, ANYTHING), st.binary() | st.text().map(str.encode), st.text())
def test_whatever_was_sent_a_terminal_gets_printable_lines(headers: dict[str, Any], body: bytes, text: str) -> None:
    letter = a_letter(body, headers=headers, message_id=text, message_type=text, reply_to=text)
    assert line_of(letter, NOW).isprintable()
    assert all(line.isprintable() for line in page_of(letter, NOW).split("\n"))


BODIES = {
    b'{"amount":449.97,"n":1e400}': '{"amount":449.97,"n":1e400}',
    b'{"amount":449.97,"name":"\xc3\xbc"}': '{\n  "amount": 449.97,\n  "name": "ü"\n}',
    b'{"amount":449.970000000000000000001}': '{"amount":449.970000000000000000001}',
    b'{"a":1,"a":2}': '{"a":1,"a":2}',
    b"{": "{",
    b"\xff\x1b[0m": r"\xff\x1b[0m",
    b'"\xc2\x9b2J"': r'"\x9b2J"',
    b"": "",
}


@pytest.mark.parametrize(("body", "shown"), BODIES.items())
def test_a_body_says_what_was_sent(body: bytes, shown: str) -> None:
    assert a_letter(body).shown_body() == shown


@pytest.mark.parametrize("body", [b"x" * 5000, b"\x00" * 4096, "ü".encode() * 4000, b"[" * 4096, b"[1," * 1300 + b"1"])
def test_a_body_is_shown_up_to_four_kilobytes(body: bytes) -> None:
    shown, _, cut = a_letter(body).shown_body().partition("\n(cut here)")
    assert 0 < len(shown.encode()) <= MAX_SHOWN_BYTES
    assert (len(body) > MAX_SHOWN_BYTES) <= a_letter(body).shown_body().endswith("(cut here)")
    assert cut == ""


def test_a_letter_without_an_id_is_called_by_its_number_and_no_id_selects_it() -> None:
    letter = a_letter(number=3)
    assert letter.name == "#3"
    assert not Selection(ids=frozenset({"#3"})).matches(letter, NOW)


def test_an_odd_message_id_is_typed_as_it_is_printed() -> None:
    letter = a_letter(message_id="a\\b \x1b[31m")
    assert letter.name == r"a\\b \x1b[31m"
    assert selection_of(parsed("drop", letter.name)).matches(letter, NOW)


def test_a_letter_of_unknown_age_is_never_old_enough() -> None:
    assert not Selection(older_than=timedelta(0)).matches(a_letter(), NOW)


def parsed(*words: str) -> argparse.Namespace:
    return parser().parse_args(["dead-letters", *words])


LENGTHS = {"45s": timedelta(seconds=45), "30m": timedelta(minutes=30), "1h": HOUR, "2d": timedelta(days=2)}


@pytest.mark.parametrize(("text", "length"), LENGTHS.items())
def test_lengths_of_time_are_read(text: str, length: timedelta) -> None:
    assert selection_of(parsed("list", "--older-than", text)) == Selection(older_than=length)


@pytest.mark.parametrize(
    "words",
    [
        *(("list", "--older-than", text) for text in ("", "1", "h", "-1h", "1.5h", "1w", "1h30m", "9999999d", "१h")),
        *(("list", "--limit", text) for text in ("0", "-1", "x", "१")),
        ("list", "--queue", "x"),
        ("drop", "--actor", " "),
    ],
)
def test_words_that_mean_nothing_are_refused_by_name(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*words)
    assert ended.value.code == 2
    assert words[1] in capsys.readouterr().err


LETTERS = {
    "m-1": ("checkout.create", "invalid", 1),
    "m-2": ("checkout.create", "refused", 2),
    "m-3": ("checkout.verify", "refused", 1),
}
SELECTIONS = [
    (["--all"], {"m-1", "m-2", "m-3"}),
    (["m-1", "m-3"], {"m-1", "m-3"}),
    (["--queue", "checkout.verify"], {"m-3"}),
    (["--reason", "refused"], {"m-2", "m-3"}),
    (["--older-than", "90m"], {"m-2"}),
    (["--older-than", "1d"], set()),
    (["m-1", "m-2", "--reason", "refused", "--queue", "checkout.create", "--older-than", "5s"], {"m-2"}),
]


@pytest.mark.parametrize(("words", "meant"), SELECTIONS, ids=lambda value: " ".join(sorted(value)))
def test_a_selection_means_what_fits_all_that_is_said(words: list[str], meant: set[str]) -> None:
    selection = selection_of(parsed("drop", *words))
    letters = [
        a_letter(command=command, message_id=name, headers={"x-reason": reason}, timestamp=NOW - hours * HOUR)
        for name, (command, reason, hours) in LETTERS.items()
    ]
    assert {letter.message_id for letter in letters if selection.matches(letter, NOW)} == meant


ODD = {"x-reason": "refused", "x-attempts": True, "x-last-failed-at": "yesterday", "x-death": ["none"], "": ""}
LINES = [
    (b"{", {"x-reason": "invalid", "x-reason-text": "Not JSON.\nAnd so on"}, "invalid - - m-1 Not JSON."),
    (
        b"x" * 200_000,
        {"x-reason": "too-large", "x-reason-text": "over 65536 bytes"},
        "too-large - - m-1 over 65536 bytes",
    ),
    (b"{}", ODD | {"deep": {"list": [None, {"a": bytearray(b"\xff\x00")}]}, "x-reason-text": 7}, "refused - - m-1"),
]


@pytest.mark.parametrize(("body", "headers", "line"), LINES, ids=lambda each: str(each)[:20])
def test_odd_letters_are_listed_and_shown(body: bytes, headers: dict[str, Any], line: str) -> None:
    letter = a_letter(body, headers=headers, message_id="m-1")
    assert line_of(letter, NOW).split()[2:] == line.split()
    assert len(page_of(letter, NOW).encode()) < 4096 + 3000


def test_only_what_changes_something_needs_the_database() -> None:
    assert dead_letters.needs(parsed("list")) is BrokerSettings
    assert dead_letters.needs(parsed("show", "m")) is BrokerSettings
    assert dead_letters.needs(parsed("drop", "m", "--dry-run")) is BrokerSettings
    assert dead_letters.needs(parsed("replay", "m")) is OperatorSettings
    assert dead_letters.needs(parsed("replay", "m", "--dry-run")) is OperatorSettings  # it says what would be replaced
    assert dead_letters.needs(parsed("drop", "m")) is OperatorSettings


def test_a_replay_keeps_what_the_command_means_and_loses_what_happened_to_it() -> None:
    history = {"x-reason": "a", "x-attempts": 6, "x-death": [], "x-first-death-queue": "q", "CC": ["q"]}
    letter = a_letter(
        headers={"x-caller": "c"} | history, message_id="m", reply_to="r", expiration="1", user_id="u", app_id="a"
    )
    sent = letter.replayed(NOW + timedelta(microseconds=5))
    assert sent.headers == {"x-caller": "c"}
    assert (sent.message_id, sent.app_id, sent.timestamp, sent.delivery_mode) == ("m", "a", NOW, 2)
    assert (sent.reply_to, sent.expiration, sent.user_id) == (None, None, None)
    long_ago = NOW - timedelta(days=3)
    assert a_letter(timestamp=long_ago).replayed(NOW).timestamp == long_ago
    assert a_letter(timestamp=NOW + timedelta(days=3)).replayed(NOW).timestamp == NOW
    assert sent.timestamp is not None
    assert sent.timestamp.tzinfo is UTC
