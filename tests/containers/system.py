"""The system of `docker-compose.yml` as testcontainers starts it, what people do with it, and what breaks it."""

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from testcontainers.compose import DockerCompose

from tests.containers import docker
from tools.devstack.processes import free_ports
from tools.devstack.stack_settings import CHECKOUT, DEFAULT_PORTS

PATIENCE_SECONDS = 180
"""Ends a hang."""
HEADERS = {"X-User-Id": "7", "X-User-Roles": "USER,SERVICE_ACCOUNT"}


def described() -> dict[str, Any]:
    """The file itself."""
    document: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
    return document


def needed_images() -> None:
    """Skips the test where an image of others cannot be had; those of a profile are not started."""
    for service in described()["services"].values():
        if not service["image"].startswith("bookticket/") and "profiles" not in service:
            docker.needed(service["image"].rpartition(":-")[2].rstrip("}"))


@dataclass(frozen=True, kw_only=True)
class System:
    """A project of its own on ports of its own."""

    compose: DockerCompose
    project: str
    ports: dict[str, int]

    @classmethod
    def of(cls, folder: Path, *, tag: str, **settings: str) -> "System":
        """One that is not started."""
        project = f"bookticket-test-{secrets.token_hex(4)}"
        ports = dict(zip(DEFAULT_PORTS, free_ports(len(DEFAULT_PORTS)), strict=True))
        lines = {"COMPOSE_PROJECT_NAME": project, "PAYMENT_TAG": tag, **settings} | {
            k: str(v) for k, v in ports.items()
        }
        env = folder / "env"
        env.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        return cls(compose=DockerCompose(CHECKOUT, env_file=str(env), wait=True), project=project, ports=ports)

    @contextmanager
    def up(self) -> Iterator["System"]:
        """Started, and with its volumes taken away in the end."""
        try:
            with self.compose:
                yield self
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"{error.stdout.decode()} {error.stderr.decode()}") from None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of compose's; its status is the caller's to look at."""
        return docker.docker(*self.compose.docker_compose_command()[1:], *arguments)

    def do(self, *arguments: str) -> str:
        """The same, which has to succeed."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def sql(self, query: str) -> str:
        """What the database answers its administrator."""
        psql = ("psql", "--username", "postgres", "--no-align", "--tuples-only", "--dbname", "payments", "-c", query)
        return self.do("exec", "-T", "postgres", *psql).strip()

    def left(self) -> Any:
        return docker.left(f"com.docker.compose.project={self.project}")

    def inspected(self, service: str) -> list[dict[str, Any]]:
        """Every container of a service, one that has ended too."""
        ids = self.do("ps", "--all", "--quiet", service).split()
        found: list[dict[str, Any]] = json.loads(docker.said("inspect", *ids))
        return found

    def url(self, port: str = "BRIDGE_PORT") -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    # --- what people do ---------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, **content: Any) -> httpx.Response:
        url = f"{self.url()}/api/v1/internal/payments{path}"
        return httpx.request(method, url, headers=HEADERS, timeout=30, trust_env=False, **content)

    def create(self, booking: int) -> str:
        """The session of a new checkout."""
        answer = self.call("POST", "/checkout/create", json={"bookingId": booking, "userId": 7, "amount": 449.97})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["sessionId"])

    def pay(self, session: str) -> None:
        url = f"{self.url('SANDBOX_PORT')}/_sandbox/sessions/{session}/pay"
        answer = httpx.post(url, json={"card": "4242 4242 4242 4242"}, timeout=30, trust_env=False)
        assert answer.status_code == 200, answer.text

    def status(self, session: str) -> str:
        """From the database alone."""
        return str(self.call("GET", f"/status/{session}").json()["paymentStatus"])

    def buy(self) -> str:
        """The session of a payment that is complete."""
        session = self.create(booking=time.time_ns() // 1000)
        self.pay(session)
        self.until(lambda: self.call("GET", f"/checkout/verify/{session}").json()["paymentStatus"] == "COMPLETED")
        return session

    # --- what breaks it ---------------------------------------------------------------------------------------------

    def kill(self, service: str) -> None:
        """`kill -9` from outside: `docker kill` would count as a stop that somebody wants, and restart nothing."""
        [container] = self.inspected(service)
        try:
            os.kill(container["State"]["Pid"], signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pytest.skip("the engine's processes are not this machine's, or not ours to kill")

    @staticmethod
    def until(condition: Callable[[], object]) -> float:
        """The seconds after which the condition held; it may fail meanwhile."""
        began = time.monotonic()
        while True:
            try:
                if condition():
                    return time.monotonic() - began
            except (httpx.HTTPError, KeyError, ValueError, AssertionError):
                if time.monotonic() - began > PATIENCE_SECONDS:
                    raise
            assert time.monotonic() - began < PATIENCE_SECONDS
            time.sleep(0.2)
