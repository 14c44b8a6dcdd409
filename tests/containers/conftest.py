"""The images, built once for a run, and the system of `docker-compose.yml` in a project and on ports of its own."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID

from tests.containers.docker import BUILD_SECONDS, docker, left, said, why_no_engine
from tests.containers.system import System, needed_images

PARTS = ("service", "bridge", "console", "tools")


@pytest.fixture(scope="session", autouse=True)
def _engine() -> Iterator[None]:
    """Skips what needs an engine where there is none; in the end nothing that testcontainers started is left.

    Its own helper for that, Ryuk, is an image that cannot be had everywhere, and is not needed.
    """
    if reason := why_no_engine():
        pytest.skip(reason)
    testcontainers_config.ryuk_disabled = True
    yield
    assert left(f"{LABEL_SESSION_ID}={SESSION_ID}") == {}


@pytest.fixture(scope="session")
def images() -> Iterator[dict[str, str]]:
    """The names of the images by part, built one after the other with a warm cache, as `make images` does."""
    tag = f"test-{secrets.token_hex(4)}"
    names = {part: f"bookticket/payment-{part}:{tag}" for part in PARTS}
    commit = "0123456789abcdef0123456789abcdef01234567"
    for part, name in names.items():
        arguments = ("--build-arg", f"GIT_COMMIT={commit}", "--build-arg", "VERSION=9.8.7")
        built = docker("build", "--quiet", "--target", part, "--tag", name, *arguments, ".", seconds=BUILD_SECONDS)
        if "failed to resolve" in built.stderr or "dial tcp" in built.stderr:
            pytest.skip(f"what the images are built on cannot be had: {built.stderr.strip()[-300:]}")
        assert built.returncode == 0, built.stderr
    yield names
    said("image", "rm", "--force", *names.values())


@pytest.fixture(scope="module")
def system(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The whole system, up and healthy; afterwards nothing of it is left."""
    needed_images()
    folder: Path = tmp_path_factory.mktemp("compose")
    with System.of(folder, tag=images["service"].rpartition(":")[2]).up() as system:
        yield system
    assert system.left() == {}
