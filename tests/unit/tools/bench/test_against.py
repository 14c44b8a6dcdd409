"""Two commits are measured in alternation, and compared round by round."""

from pathlib import Path
from typing import cast

import pytest

from tools.bench.against import compared, rounds, tree_of
from tools.bench.bench_system import Bench
from tools.bench.figures import Figure, Part
from tools.devstack.processes import LocalError
from tools.devstack.stack import command_path


def a_part(**values: float | None) -> Part:
    figures = [Figure(name, value, "ms") for name, value in values.items()]
    return Part(name="p2", title="Creates", how="", figures=figures)


def test_a_figure_has_the_medians_of_the_rounds_and_the_range_of_their_ratios() -> None:
    pairs = [(a_part(cpu=ours), a_part(cpu=theirs)) for ours, theirs in ((2, 4), (3, 4), (9, 10))]
    (row,) = compared(pairs)
    assert row == {
        "name": "cpu",
        "unit": "ms",
        "value": 3,
        "against": 4,
        "ratio": 0.75,
        "least": 0.5,
        "most": 0.9,
        "rounds": 3,
    }


def test_what_only_one_side_has_or_what_is_nothing_is_not_compared() -> None:
    pairs = [
        (a_part(new=1, errors=0, cpu=None), a_part(old=1, errors=0, cpu=4)),
        (a_part(new=1, errors=0, cpu=2), a_part(old=1, errors=0, cpu=4)),
    ]
    (row,) = compared(pairs)
    assert (row["name"], row["rounds"]) == ("cpu", 1)


class Measured:
    """A bench that is told what was measured on it, and when it was closed."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    async def close(self) -> None:
        self.log.append(f"close {self.name}")


async def test_the_two_are_measured_in_changing_order_a_part_at_a_time() -> None:
    log: list[str] = []
    here, there = (cast("Bench", Measured(name, log)) for name in ("here", "there"))

    async def part(bench: Bench) -> Part:
        name = cast("Measured", bench).name
        log.append(name)
        return a_part(cpu=1 if name == "here" else 2)

    measured = await rounds(here, there, [part], count=2, pause_seconds=0)

    assert log == ["here", "there", "there", "here", "close here", "close there"]
    assert [row["ratio"] for pairs in measured for row in compared(pairs)] == [0.5]


def test_the_commands_of_another_checkout_are_those_of_its_own_environment(tmp_path: Path) -> None:
    assert command_path("payment-service", tree=tmp_path) == str(tmp_path / ".venv/bin/payment-service")


async def test_a_commit_that_does_not_exist_is_named() -> None:
    with pytest.raises(LocalError, match="no-such-commit"):
        async with tree_of("no-such-commit"):
            pass
