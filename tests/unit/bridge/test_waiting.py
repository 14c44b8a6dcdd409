import pytest

from bridge.waiting import wait_seconds


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (["wait=10"], 10),
        (["WAIT = 10"], 10),
        (['wait="10"'], 10),
        (["wait=10; slowly=please"], 10),
        (["respond-async, wait=10"], 10),
        (["respond-async;a=b,,  wait=10,"], 10),
        (["respond-async", "wait=10"], 10),
        (['foo="a, wait=5; \\" wait=6", wait=10'], 10),
        (["waiting=5, x-wait=6, wait=10"], 10),
        (["return=minimal; wait=5, wait=10"], 10),
        (["=, ;, =wait, wait=10"], 10),
        (["wait=60"], 60),
        (["wait=61"], 60),
        (["wait=999999999"], 60),
    ],
)
def test_a_preference_to_wait_is_found(given: list[str], seconds: int) -> None:
    assert wait_seconds([(b"prefer", value.encode()) for value in given]) == seconds


@pytest.mark.parametrize("given", [["wait=5, wait=10"], ["wait=5", "Wait=10"]])
def test_of_two_the_first_counts(given: list[str]) -> None:
    assert wait_seconds([(b"prefer", value.encode()) for value in given]) == 5


@pytest.mark.parametrize(
    "given",
    [
        "",
        "wait",
        "wait=",
        "wait=0",
        "wait=-1",
        "wait=+1",
        "wait=1.5",
        "wait=1e1",
        "wait=ten",
        "wait=10s",
        "wait=10 20",
        "wait=\u0661\u0660",
        f"wait={'9' * 8000}",
        "wait=ten, wait=10",
        "respond-async",
        'foo="wait=10',
        'wait="10',
        '"' * 4001,
        'a="\\' * 2000,
        "wait=10\x00",
    ],
)
def test_what_is_no_such_preference_is_passed_over(given: str) -> None:
    assert wait_seconds([(b"prefer", given.encode("latin-1", errors="replace"))]) == 0


def test_other_headers_say_nothing() -> None:
    assert wait_seconds([(b"x-prefer", b"wait=10"), (b"accept", b"*/*")]) == 0
