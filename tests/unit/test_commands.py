"""The command lines: quick where nothing is done, and one meaning for each exit status."""

import subprocess
import sys

import pytest

from console.__main__ import ROLES
from console.identity import Role
from contracts.commands import CommandType
from service.cli.parser import ATTENTION, QUEUES, REASONS, STATUSES, parser
from service.domain.payment import AttentionReason, FailureReason, PaymentStatus
from tools.devstack.stack_settings import CHECKOUT

SLOW = set("sqlalchemy asyncpg stripe faststream aio_pika aiormq fastapi pydantic uvloop asyncio".split())
"""Packages of which each takes a tenth of a second or more to import."""
COMMANDS = {
    "service": (
        *("run", "migrate", "check", "move-account", "show", "list", "events", "close", "reconcile", "dead-letters"),
    ),
    "bridge": ("run", "check"),
    "console": ("run", "check", "user"),
}


def started(program: str) -> subprocess.CompletedProcess[str]:
    """Python anew with this program, in an empty environment."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=CHECKOUT, env={}, capture_output=True, text=True, check=True, timeout=60)


def imported(half: str, *words: str) -> tuple[int, str, set[str]]:
    """The exit status of a command, what it says, and the packages that it imported."""
    program = (
        f"import sys\nsys.argv = ['{half}', *{words!r}]\nfrom {half}.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    status = end.code\n"
        "print(); print(status, *{name.partition('.')[0] for name in sys.modules})"
    )
    said = started(program)
    out, _, last = said.stdout.strip().rpartition("\n")
    status, *packages = last.split()
    return int(status or 0), out + said.stderr, set(packages)


@pytest.mark.parametrize("half", COMMANDS)
@pytest.mark.parametrize(("words", "status"), [(["--help"], 0), (["--version"], 0), ([], 2), (["flee"], 2)])
def test_help_version_and_wrong_usage_wait_for_no_import(half: str, words: list[str], status: int) -> None:
    ended_with, said, packages = imported(half, *words)
    assert ended_with == status
    assert said
    assert packages & SLOW == set()


@pytest.mark.parametrize("half", COMMANDS)
def test_the_help_names_every_command(half: str) -> None:
    _, said, _ = imported(half, "--help")
    assert [name for name in COMMANDS[half] if name not in said] == []
    for name in COMMANDS[half]:
        status, said, packages = imported(half, name, "--help")
        assert (status, packages & SLOW) == (0, set()), name
        assert f"payment-{half} {name}" in said


@pytest.mark.parametrize(
    ("modules", "needless"),
    [
        pytest.param(
            "bridge.check, bridge.serve", {"httpx", "jwt", "cryptography", "py_eureka_client"}, id="bridge, no tokens"
        ),
        pytest.param(
            "service.bootstrap", {"httpx", "requests"}, id="service: the SDK has other HTTP libraries at hand"
        ),
    ],
)
def test_a_process_does_not_import_what_it_does_not_use(modules: str, needless: set[str]) -> None:
    program = f"import sys; import {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    assert set(started(program).stdout.split()) & needless == set()


def test_the_choices_of_the_command_line_are_those_of_the_contract() -> None:
    assert set(ROLES) == set(Role)
    assert set(QUEUES) == {command.value for command in CommandType}
    assert set(STATUSES) == {status.value for status in PaymentStatus}
    assert set(REASONS) == {reason.value for reason in FailureReason}
    assert set(ATTENTION) == {"any", *(reason.value for reason in AttentionReason)}


@pytest.mark.parametrize(
    "words",
    [
        ("list", "--booking", "0"),
        ("list", "--amount", "-1"),
        ("list", "--amount", "1.2345"),
        ("list", "--status", "paid"),
        ("list", "--reason", "expird"),
        ("list", "--attention", "paid"),
        ("list", "--currency", "rupees"),
        ("list", "--since", "yesterday"),
        ("list", "--limit", "0"),
        ("list", "--after", "cs_test_1"),
        ("close", "7"),
        ("close", "7", "--reason", "4242 4242 4242 4242"),
        ("show",),
        ("events", "--limit", "x"),
    ],
)
def test_wrong_usage_is_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        parser().parse_args(words)
    assert capsys.readouterr().err.startswith("usage: payment-service")


@pytest.mark.parametrize("command", ["run", "list"])
def test_wrong_settings_are_2(command: str) -> None:
    status, said, _ = imported("service", command)
    assert status == 2
    assert said.startswith("payment-service cannot start:\nDATABASE_URL is not set")
