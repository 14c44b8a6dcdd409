"""The wheel in bare virtual environments: its commands work with their extra, and without it say which is missing."""

import subprocess
import sys
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import pytest

from service.adapters.postgres import newest_revision
from tests.kit.databases import NewDatabase
from tools.devstack.stack_settings import CHECKOUT

SECONDS: Final = 900
OFFLINE: Final = ("dns error", "Failed to fetch", "Could not connect", "tcp connect error")
COMMANDS: Final = {extra: f"payment-{extra}" for extra in ("service", "bridge", "console")}


def ran(*command: str | Path, folder: Path = CHECKOUT, **environment: str) -> subprocess.CompletedProcess[str]:
    """With nothing of this checkout on the path."""
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **environment}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=bare, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def uv(*arguments: str | Path) -> None:
    """Run uv with this machine's own settings of package indexes."""
    command = [sys.executable, "-m", "uv", "--quiet", *map(str, arguments)]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=SECONDS, check=False)
    if any(words in ended.stderr for words in OFFLINE):
        pytest.skip(f"packages cannot be fetched: {ended.stderr.strip()[-200:]}")
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--out-dir", folder)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and one extra, which is the folder's name."""
    environment = tmp_path_factory.mktemp("venv") / request.param
    uv("venv", "--python", sys.executable, environment)
    python = environment / "bin" / "python"
    uv("pip", "install", "--python", python, f"bookticket-payment-service[{request.param}] @ {wheel.as_uri()}")
    return environment


def test_a_wheel_has_what_is_deployed_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    folders = {name.partition("/")[0] for name in names}
    assert {name for name in folders if not name.endswith(".dist-info")} == {
        "console",
        "contracts",
        "runtime",
        "service",
        "bridge",
    }
    assert {"contracts/openapi.json", "contracts/asyncapi.yaml"} <= set(names)


def test_its_command_works(installed: Path, tmp_path: Path) -> None:
    command = installed / "bin" / COMMANDS[installed.name]
    helped = ran(command, "--help", folder=tmp_path)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "check" in helped.stdout
    checked = ran(command, "check", folder=tmp_path, LOG_LEVEL="loud")
    assert checked.returncode == 2
    assert "LOG_LEVEL" in checked.stderr


def test_another_command_says_which_extra_is_missing(installed: Path, tmp_path: Path) -> None:
    for extra in COMMANDS.keys() - {installed.name}:
        ended = ran(installed / "bin" / COMMANDS[extra], "check", folder=tmp_path)
        assert ended.returncode == 2
        assert ended.stderr == (
            f"{COMMANDS[extra]} needs the extra '{extra}', which is not installed here:"
            f" pip install 'bookticket-payment-service[{extra}]'\n"
        )


def test_the_migrations_are_in_the_wheel(installed: Path, new_database: NewDatabase, tmp_path: Path) -> None:
    if installed.name != "service":
        pytest.skip("only the service migrates")
    ended = ran(installed / "bin" / "payment-service", "migrate", folder=tmp_path, DATABASE_URL=new_database())
    assert (ended.returncode, ended.stdout) == (0, f"The database is at revision {newest_revision()}.\n")
