"""Fail points: nothing at all unless armed, and then the end without a last word."""

import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from service.failpoints import FailPoint, hit, parse

SERVICE = Path(__file__).parents[3] / "service"


def test_every_point_stands_in_the_code_once() -> None:
    code = "".join(file.read_text() for file in SERVICE.rglob("*.py"))
    assert Counter(re.findall(r"\bhit\(FailPoint\.(\w+)\)", code)) == Counter(FailPoint.__members__.keys())


@pytest.mark.parametrize("point", FailPoint)
def test_an_unarmed_point_does_nothing(point: FailPoint) -> None:
    for _ in range(1000):
        hit(point)


def _lived(arming: str, reached: list[FailPoint]) -> tuple[int, list[str]]:
    """Exit status and what was reached by a process armed so."""
    lines = [f"print({point.value!r}, flush=True); hit(FailPoint({point.value!r}))" for point in reached]
    program = ["from service.failpoints import *", f"arm({arming!r})", *lines]
    ended = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], capture_output=True, text=True, check=False, cwd=SERVICE.parent
    )
    assert ended.stderr == ""
    return ended.returncode, ended.stdout.split()


def test_an_armed_point_ends_the_process_at_its_time_and_no_other_point_does() -> None:
    way = [FailPoint.NOT_REPLIED, FailPoint.NOT_ACKED] * 2 + [FailPoint.NOT_REPLIED]
    assert _lived("not-acked:1", way) == (-signal.SIGKILL, way[:2])
    assert _lived("not-acked:2", way) == (-signal.SIGKILL, way[:4])
    assert _lived("not-acked:3", way) == (0, way)
    assert _lived("answer-lost:1", way) == (0, way)


def test_an_arming_is_read_from_its_name_and_number() -> None:
    assert parse("answer-lost:12") == (FailPoint.ANSWER_LOST, 12)


@pytest.mark.parametrize("text", ["", ":", "not-acked", "not-acked:0", "not-acked:1:2", "not-acked:\u0663", "x:1"])
def test_anything_else_is_no_arming(text: str) -> None:
    with pytest.raises(ValueError, match=r"no number of times|not a valid FailPoint"):
        parse(text)
