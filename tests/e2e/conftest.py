"""A local stack as a person starts it, one Chromium, and its screens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

from tools.devstack.processes import free_ports
from tools.devstack.stack_settings import CHECKOUT, DEFAULT_PORTS

PATIENCE_MILLISECONDS = 60_000
expect.set_options(timeout=PATIENCE_MILLISECONDS)
# Both end a hang and judge no speed.
UP_SECONDS = 280
NO_OMNIBOX = ("--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup",)
"""Each new context would load two pages of the browser's own, which take more of a processor than ours."""
END_SECONDS = 60
PHONE, DESK = (390, "light"), (1280, "dark")
SCREENS = [
    PHONE,
    DESK,
    *(
        pytest.param(each, marks=pytest.mark.thorough)
        for each in ((390, "dark"), (1280, "light"), (1920, "light"), (1920, "dark"))
    ),
]
"""Widths and themes: each theme once in `make test`."""


@dataclass(frozen=True, kw_only=True)
class LocalStack:
    """`python -m tools.devstack`, in a folder and on ports of its own."""

    folder: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, command: str, folder: Path, **settings: str) -> "LocalStack":
        ports = {name: str(port) for name, port in zip(DEFAULT_PORTS, free_ports(len(DEFAULT_PORTS)), strict=True)}
        environment = {name: value for name, value in os.environ.items() if name not in {"AMQP_URL", "DATABASE_URL"}}
        with folder.with_suffix(".txt").open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "tools.devstack", command],
                cwd=CHECKOUT,
                env=environment | ports | {"STACK_DIR": str(folder)} | settings,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        return cls(folder=folder, process=process)

    @property
    def said(self) -> str:
        return self.folder.with_suffix(".txt").read_text()

    @property
    def where(self) -> dict[str, Any]:
        """The addresses and pids that it writes for other programs."""
        addresses: dict[str, Any] = json.loads((self.folder / "stack.json").read_text())
        return addresses

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + UP_SECONDS
        while words not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Its exit status after the signal, or after it has ended by itself."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=END_SECONDS)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for a worker; its tests run in the session's loop, each in a context of its own."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox", *NO_OMNIBOX])
        yield browser
        await browser.close()


def asked_of(page: Page) -> list[str]:
    """Every address that the page asks for, from here on."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    return asked


def strangers(asked: list[str], *known: str) -> list[str]:
    """The addresses of other hosts than those known."""
    addresses = ((url, urlsplit(url)) for url in asked)
    return [url for url, address in addresses if address.netloc not in known and address.scheme != "data"]


async def barriers(page: Page) -> list[str]:
    """What axe-core finds that keeps somebody from using the page: the rule, and where."""
    found = (await Axe().run(page)).response["violations"]
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]
