"""The programs that the tests of the chart run, built by Go from their own modules and kept outside of the repository.

Which proxy Go asks is Go's own setting (GOPROXY); nothing here names one.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

HELM: Final = "helm.sh/helm/v3", "v3.22.0", "cmd/helm"
KWOK: Final = "sigs.k8s.io/kwok", "v0.8.0", "cmd/kwok"
KEDA: Final = "github.com/kedacore/keda/v2", "v2.21.0"
PROMETHEUS_OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator", "v0.85.0"
KUBERNETES: Final = "1.36.3"

_CONTROL_PLANE: Final = Path(__file__).parent / "controlplane"
_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bookticket-payment-service"
_NOT_HERE: Final = (
    "dial tcp", "no such host", "i/o timeout", "connection refused", "module lookup disabled", "requires go >=",
    "toolchain not available", "TLS handshake timeout",
)  # fmt: skip
"""What Go says where a module, or a newer Go, cannot be had: no fault of the chart."""


def helm() -> Path:
    """Helm, which renders the chart and installs it."""
    return _installed(*HELM)


def kwok() -> Path:
    """The controller that plays the machines: it makes pods ready and takes them away."""
    return _installed(*KWOK)


def control_plane() -> Path:
    """etcd, API server, controller manager and scheduler: minutes for the first time, nothing after."""
    sources = [_CONTROL_PLANE / name for name in ("go.mod", "go.sum", "main.go")]
    mark = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    major, minor, _ = KUBERNETES.split(".")
    version = "-X k8s.io/component-base/version.git"

    def build(target: Path) -> None:
        flags = f"-s -w {version}Version=v{KUBERNETES} {version}Major={major} {version}Minor={minor}"
        _go("build", "-trimpath", "-ldflags", flags, "-o", target, ".", folder=_CONTROL_PLANE)

    return _cached(f"controlplane-{KUBERNETES}-{mark}", build)


def module_folder(module: str, version: str) -> Path:
    """The source of a module, as Go keeps it."""
    said = _go("mod", "download", "-json", f"{module}@{version}", folder=Path("/"))
    return Path(json.loads(said)["Dir"])


def _installed(module: str, version: str, package: str) -> Path:
    def build(target: Path) -> None:
        folder = target.with_name(f"{target.name}.bin")
        _go("install", "-ldflags", "-s -w", f"{module}/{package}@{version}", env={"GOBIN": str(folder)})
        (folder / Path(package).name).replace(target)
        folder.rmdir()

    return _cached(f"{Path(package).name}-{version}", build)


def _cached(name: str, build: Callable[[Path], None]) -> Path:
    """The program, built unless it is there; several processes of a test run build it once."""
    target = _CACHE / "kubernetes" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f"{name}.lock")):
        if not target.exists():
            unfinished = target.with_name(f"{name}.unfinished")
            build(unfinished)
            unfinished.replace(target)
    return target


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _go(*arguments: str | Path, folder: Path = Path("/"), env: Mapping[str, str] | None = None) -> str:
    """Run Go, politely; skip the test, with the reason, where it is missing or cannot get what it needs."""
    if shutil.which("go") is None:
        pytest.skip("Helm and Kubernetes are built by Go, and there is no go on this machine")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", **(env or {})}
    command = ["nice", "-n", "10", "go", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    said = (done.stderr + done.stdout).splitlines()
    reason = next((line for line in said if any(word in line for word in _NOT_HERE)), None)
    if done.returncode and reason is not None:
        pytest.skip(f"Go cannot get what the tests of the chart are built from: {reason[:300]}")
    assert done.returncode == 0, said
    return done.stdout
