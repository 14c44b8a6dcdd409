"""The chart, rendered by Helm as a deployer's `helm template` does it."""

import functools
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from tests.kubernetes import programs

CHART: Final = Path(__file__).parents[2] / "deploy" / "helm" / "payments"
USES: Final = tuple(sorted(file.name.removesuffix("-values.yaml") for file in (CHART / "ci").glob("*-values.yaml")))
"""The ways of using the chart for which it has an example."""
HALVES: Final = "service", "bridge", "console", "migrate"
RELEASE: Final = "demo"
NAME: Final = "demo-payments"

Manifest = dict[str, Any]


def values_file(use: str) -> Path:
    """The example of one use."""
    return CHART / "ci" / f"{use}-values.yaml"


def has_console(use: str) -> bool:
    """Whether the example of a use switches the console on."""
    values = yaml.safe_load(values_file(use).read_text())
    return bool(values.get("console", {}).get("enabled"))


PODS: Final = tuple((use, half) for use in USES for half in HALVES if half != "console" or has_console(use))
"""Every use with each kind of pod that it has."""


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Helm."""
    return subprocess.run([programs.helm(), *arguments], capture_output=True, text=True, check=False)


def template(use: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What Helm says to the example of a use and to what is set on top of it."""
    # A Helm that Go built does not know for which Kubernetes it is.
    options = ["--namespace", "payments", "--kube-version", programs.KUBERNETES]
    values = ["--values", str(values_file(use))] if use else []
    return helm("template", RELEASE, CHART, *options, *values, *arguments)


@functools.cache
def rendered(use: str, *arguments: str) -> tuple[Manifest, ...]:
    """All objects of one use, in the order in which Helm sends them."""
    done = template(use, *arguments)
    assert done.returncode == 0, done.stderr
    return tuple(each for each in yaml.safe_load_all(done.stdout) if each)


def refusal(use: str | None, *arguments: str) -> str:
    """What Helm says as it refuses."""
    done = template(use, *arguments)
    assert done.returncode != 0, f"Helm took {arguments}"
    return done.stderr


def one(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    """The object of a kind whose name is the release's and, unless it is empty, `name`."""
    full = f"{NAME}-{name}" if name else NAME
    found = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == full]
    assert len(found) == 1, f"{kind} {full}: {[(each['kind'], each['metadata']['name']) for each in manifests]}"
    return found[0]


def pod(manifests: tuple[Manifest, ...], half: str) -> Manifest:
    """The template of the pods of a half."""
    kind = "Job" if half == "migrate" else "Deployment"
    template: Manifest = one(manifests, kind, half)["spec"]["template"]
    return template


def containers(template: Manifest) -> list[Manifest]:
    """All of them, those that prepare too."""
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]


def environment(container: Manifest) -> dict[str, Any]:
    """Its variables: the value, or where it comes from."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}
