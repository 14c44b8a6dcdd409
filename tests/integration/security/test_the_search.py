"""The search for secrets finds planted ones: only then does an empty result show anything."""

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import aiormq
import pytest

from contracts import topology
from service.entrypoints import broker
from tests.integration.service.messages.rig import around
from tests.kit import canary
from tests.kit.servers import run
from tools.devstack import postgres_server
from tools.devstack.stack_settings import CHECKOUT

SECRET = canary.secret("planted")


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "password="])
def test_a_secret_is_found_in_every_form(before: str) -> None:
    written = f"{before}{SECRET} and more".encode()
    for form in (written, written.decode(), base64.b64encode(written), written.hex(), [{"a": (1, written)}]):
        assert canary.leaks("here", form), form
    assert canary.leaks("here", repr(written))
    assert not canary.leaks("here", base64.b64encode(b"nothing of the kind, however long it is"))


def test_a_secret_in_a_table_is_found_whatever_the_columns_type(new_database: Callable[[], str]) -> None:
    url = new_database()
    for kind, value in (
        ("text", f"'{SECRET}'"),
        ("bytea", f"'a{SECRET}'::bytea"),
        ("bytea", f"'{base64.b64encode(SECRET.encode()).decode()}'"),
        ("jsonb", f'\'{{"a": "{SECRET}"}}\''),
    ):
        run(postgres_server.execute(url, f"CREATE TABLE planted AS SELECT {value}::{kind} AS it"))
        assert run(canary.leaks_in_database(url)), kind
        run(postgres_server.execute(url, "DROP TABLE planted"))
    assert not run(canary.leaks_in_database(url))


async def test_a_secret_in_a_message_is_found_wherever_it_lies(amqp_url: str, migrated_url: str) -> None:
    await broker.declare(amqp_url)
    properties = aiormq.spec.Basic.Properties
    planted = [
        (SECRET.encode(), properties()),
        (b"{}", properties(headers={"x-any": SECRET})),
        (b"{}", properties(headers={"x-any": {"deep": [SECRET]}})),
        (b"{}", properties(correlation_id=SECRET)),
    ]
    async with around(amqp_url, migrated_url) as rig:
        for queue in (topology.QUEUES[0], topology.QUEUES[-1]):
            for body, with_properties in planted:
                await rig.channel.basic_publish(body, routing_key=queue.name, properties=with_properties)
                assert await rig.leaks()
        assert not await rig.leaks()


TEST = """
import logging, sys
from tests.kit import canary

def test_prints():
    print(canary.secret("x"))

def test_logs():
    logging.getLogger("any").warning(canary.secret("x"))

def test_says_nothing():
    pass

def test_writes(tmp_path):
    (tmp_path / "a.log").write_text(canary.secret("x"))
"""


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """Outside this run's own files, where a planted secret would fail the run."""
    with tempfile.TemporaryDirectory(prefix="bookticket-search-") as folder:
        yield Path(folder)


def test_a_run_that_lets_a_secret_out_fails(elsewhere: Path) -> None:
    """A run that lets none out passes: this one."""
    (elsewhere / "conftest.py").write_text(
        "from tests.kit.leaks import pytest_runtest_makereport, pytest_sessionfinish\n"
    )
    (elsewhere / "test_it.py").write_text(TEST)
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [*pytest_here, "--rootdir", elsewhere, "--basetemp", elsewhere / "base", elsewhere],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT), "PYTEST_ADDOPTS": ""},
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout
    assert "2 errors" in ended.stdout, ended.stdout
    assert "A secret was written to a log" in ended.stdout, ended.stdout
