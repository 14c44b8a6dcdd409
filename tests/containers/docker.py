"""Docker for these tests: whether an engine answers, which images there are, and its command."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from typing import Final

import pytest

from tools.devstack.stack_settings import CHECKOUT

POSTGRES: Final = ("postgres:15", "postgres:16", "postgres:17", "postgres:18")
RABBITMQ: Final = ("rabbitmq:3.13", "rabbitmq:4.0", "rabbitmq:4.1", "rabbitmq:4.2")
"""What the ports are shown on; `docker-compose.yml` uses one of each."""

BUILD_SECONDS: Final = 1200
PULL_SECONDS: Final = 300
COMMAND_SECONDS: Final = 300


@cache
def why_no_engine() -> str | None:
    if shutil.which("docker") is None:
        return "there is no Docker on this machine"
    ended = subprocess.run(["docker", "version"], capture_output=True, timeout=60, check=False)
    return "no Docker engine answers on this machine" if ended.returncode else None


def docker(*arguments: str, seconds: int = COMMAND_SECONDS) -> subprocess.CompletedProcess[str]:
    """The command `docker`, in the checkout; both outputs are texts, its status is the caller's to look at."""
    return subprocess.run(
        ["docker", *arguments],
        cwd=CHECKOUT,
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def said(*arguments: str) -> str:
    """What a command that has to succeed prints."""
    ended = docker(*arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.strip()


@cache
def have(image: str) -> str | None:
    """None if the image is here or can be pulled, otherwise the reason why not."""
    if docker("image", "inspect", image).returncode == 0:
        return None
    pulled = docker("pull", "--quiet", image, seconds=PULL_SECONDS)
    return None if pulled.returncode == 0 else f"the image {image} cannot be had: {pulled.stderr.strip()[-200:]}"


def needed(image: str) -> str:
    """The image, or the test is skipped with the reason."""
    if reason := have(image):
        pytest.skip(reason)
    return image


def left(label: str) -> Mapping[str, str]:
    """What is left of containers, volumes and networks with a label."""
    kinds = {"ps": ("ps", "--all"), "volume": ("volume", "ls"), "network": ("network", "ls")}
    found = {kind: said(*command, "--quiet", "--filter", f"label={label}") for kind, command in kinds.items()}
    return {kind: names for kind, names in found.items() if names}
