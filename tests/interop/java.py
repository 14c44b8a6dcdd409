"""The Java half: builds the jar of this folder's Maven project and runs its two programs."""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Final

import pytest

from tests.kit.until import until
from tools.devstack import processes

_PROJECT: Final = Path(__file__).parent
_OLDEST_JAVA: Final = 17
_START_SECONDS: Final = 180.0
_QUICK_START: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-Dspring.main.banner-mode=off")
_NO_NETWORK: Final = ("Could not resolve", "Could not transfer", "Non-resolvable", "Unknown host")


@dataclass(frozen=True, kw_only=True)
class Jar:
    """Both programs, and the Java that runs them."""

    java: Path
    file: Path


def build() -> Jar:
    """Build it where a source has changed; skip the test, with the reason, where that is impossible."""
    java = _java()
    command = ["mvn", "-B", "-q", "-f", str(_PROJECT / "pom.xml"), "package"]
    with (_PROJECT / "pom.xml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two workers would take each other's target away
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    said = made.stdout + made.stderr
    if made.returncode and any(reason in said for reason in _NO_NETWORK):
        pytest.skip("the interop tests need Maven's repository, or what they use of it in ~/.m2: neither is there")
    assert made.returncode == 0, said
    return Jar(java=java, file=_PROJECT / "target" / "interop.jar")


def _java() -> Path:
    """The one that Maven uses."""
    if shutil.which("mvn") is None:
        pytest.skip("the interop tests need mvn (Maven) and Java 17 or later, and there is no mvn on this machine")
    said = subprocess.run(["mvn", "-version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Java version: (\d+).*runtime: (\S+)", said)
    if found is None or int(found[1]) < _OLDEST_JAVA:
        version = found[1] if found else "none"
        pytest.skip(f"the interop tests need Maven with Java 17 or later; its Java here is {version}")
    return Path(found[2]) / "bin" / "java"


@dataclass(kw_only=True)
class JavaProgram:
    """`eureka` or `booking`, on a port that it keeps."""

    jar: Jar
    name: str
    port: int
    arguments: Sequence[str]
    folder: Path
    pid: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        log = self.folder / f"{self.name}.log"
        here = ("--server.address=127.0.0.1", f"--server.port={self.port}")
        self.pid = processes.spawn(
            [self.jar.java, *_QUICK_START, "-jar", self.jar.file, self.name, *here, *self.arguments],
            env=os.environ,
            log=log,
            pid_file=self.folder / f"{self.name}.pid",
            dies_with_us=SIGKILL,
        )

        def is_up() -> bool:
            assert self.pid is not None
            assert processes.running(self.pid), processes.last_lines(log)
            return "Started Main" in processes.read_text(log)

        await until(is_up, _START_SECONDS)

    async def kill(self) -> None:
        if self.pid is not None:
            await processes.kill(self.pid)
            self.pid = None
