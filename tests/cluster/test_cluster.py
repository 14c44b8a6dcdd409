"""The cluster as a person starts it, and a smaller form of `make chaos ARGS="--cluster"`."""

import argparse
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.e2e.conftest import LocalStack
from tests.e2e.test_local_stack import left
from tools.chaos.cluster import cluster_run
from tools.devstack import rabbitmq_install

BACK_SECONDS = 120
"""Ends a hang: a member is started again after 5 s."""

pytestmark = pytest.mark.skipif(
    rabbitmq_install.installed() is None or shutil.which("etcd") is None,
    reason="a cluster needs an installed rabbitmq-server and etcd: `make cluster` installs them on Debian, as root",
)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


def test_killed_members_come_back_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    stack = LocalStack.start("cluster", tmp_path / "stack")
    try:
        stack.wait_for("Everything is up")
        assert "Paid once, known everywhere." in stack.said
        nodes = stack.where["nodes"]
        assert {kind: len(members) for kind, members in nodes.items()} == {
            "rabbitmq": 3,
            "postgres": 3,
            "service": 2,
            "bridge": 2,
        }
        assert stack.where["database"].count("127.0.0.1:") == 3
        waits = "{application:get_env(kernel, net_setuptime), application:get_env(aten, poll_interval)}."
        looking = f". {stack.folder}/env; patronictl list; rabbitmqctl -q cluster_status; rabbitmqctl eval '{waits}'"
        seen = subprocess.run(["sh", "-c", looking], capture_output=True, text=True, check=True).stdout
        assert "Leader" in seen
        assert "rabbitmq-3@localhost" in seen
        assert "{{ok,1},{ok,1000}}" in seen  # as deploy/ha/advanced.config says, and not as RabbitMQ would have it
        victims = [
            ("rabbitmq", "pid"),
            ("postgres", "pid"),
            ("postgres", "patroni"),
            ("service", "pid"),
            ("bridge", "pid"),
        ]
        before = [nodes[kind][1][member] for kind, member in victims]
        for pid in before:
            os.kill(pid, signal.SIGKILL)

        def now(kind: str, member: str) -> Any:
            return stack.where["nodes"][kind][1][member]

        wait_for(lambda: all(now(*victim) not in {0, pid} for victim, pid in zip(victims, before, strict=True)))
        assert stack.end() == 0
        assert left(tmp_path) == []
        assert not (stack.folder / "stack.json").exists()
    finally:
        stack.end()


async def test_a_broker_node_and_the_primary_die_and_no_payment_is_lost(tmp_path: Path) -> None:
    arguments = argparse.Namespace(seed=1, only="rabbitmq-1 killed,Patroni lives", repeat=1, buyers=10)
    said = StringIO()
    figures = await cluster_run.chaos(arguments, tmp_path / "stack", Console(file=said))
    assert figures["problem"] == "", said.getvalue()
    assert figures["violations"] == []
    assert len(figures["faults"]) == 2
    assert all(row[kind] < BACK_SECONDS for row in figures["faults"] for kind in ("creates", "events", "writes"))
    assert figures["events"] > figures["payments"] > 0
    assert left(tmp_path) == []
