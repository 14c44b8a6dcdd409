"""A smaller form of `make chaos ARGS="--losses"`."""

import argparse
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.e2e.test_local_stack import left
from tools.chaos import losses
from tools.chaos.outages import KINDS


@pytest.mark.thorough
async def test_after_a_loss_everything_is_served_again_and_no_payment_is_lost(tmp_path: Path) -> None:
    arguments = argparse.Namespace(seed=1, only="PostgreSQL's connections cut", repeat=1)
    said = StringIO()
    figures = await losses.chaos(arguments, tmp_path, Console(file=said))
    assert figures["problem"] == "", said.getvalue()
    assert figures["violations"] == []
    (row,) = figures["faults"]
    assert all(row[kind] < losses.LONGEST_SECONDS for kind in KINDS)
    assert figures["events"] > figures["payments"] > 0
    assert left(tmp_path) == []
