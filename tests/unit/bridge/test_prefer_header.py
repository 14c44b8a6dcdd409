import pytest

from bridge.prefer_header import wait_seconds


def waits(*given: str) -> int:
    return wait_seconds([(b"prefer", value.encode("latin-1", errors="replace")) for value in given])


@pytest.mark.parametrize(
    "given",
    [
        *(["wait=10"], ["WAIT = 10"], ['wait="10"'], ["wait=10; slowly=please"], ["respond-async, wait=10"]),
        *(["respond-async;a=b,,  wait=10,"], ["respond-async", "wait=10"], ["=, ;, =wait, wait=10"]),
        *(['foo="a, wait=5; \\" wait=6", wait=10'], ["waiting=5, x-wait=6, wait=10"]),
        *(["return=minimal; wait=5, wait=10"], ["wait=10, wait=5"], ["wait=10", "Wait=5"]),
    ],
)
def test_a_preference_to_wait_is_found_and_of_two_the_first_counts(given: list[str]) -> None:
    assert waits(*given) == 10


def test_nobody_waits_longer_than_a_minute() -> None:
    assert [waits(f"wait={seconds}") for seconds in (60, 61, 999_999_999)] == [60, 60, 60]


@pytest.mark.parametrize(
    "given",
    [
        *" wait wait= wait=0 wait=-1 wait=+1 wait=1.5 wait=1e1 wait=ten wait=10s respond-async".split(" "),
        *("wait=10 20", "wait=\u0661\u0660", "wait=10\x00", "wait=ten, wait=10", 'foo="wait=10', 'wait="10'),
        *(f"wait={'9' * 8000}", '"' * 4001, 'a="\\' * 2000),
    ],
)
def test_what_is_no_such_preference_is_ignored(given: str) -> None:
    assert waits(given) == 0


def test_other_headers_say_nothing() -> None:
    assert wait_seconds([(b"x-prefer", b"wait=10"), (b"accept", b"*/*")]) == 0
