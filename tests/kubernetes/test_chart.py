"""What the chart renders, for each way of using it."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts import topology
from runtime import command_start
from tests.kubernetes.chart import CHART, PODS, USES, containers, environment, one, pod, rendered

PROCESSES = "service", "bridge", "console"
SECRET_SETTINGS = {
    "service": {"AMQP_URL", "DATABASE_URL", "STRIPE_API_KEY"},
    "bridge": {"AMQP_URL"},
    "console": {"AMQP_URL", "DATABASE_URL"},
    "migrate": {"DATABASE_URL"},
}
ROOT = Path(__file__).parents[2]


def test_there_are_examples_of_six_uses() -> None:
    assert USES == ("console", "eureka", "keda", "production", "random-uid", "smallest")


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("use", USES)
def test_no_object_is_rendered_twice_nor_without_its_release(use: str) -> None:
    manifests = rendered(use)
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(names) == len(set(names))
    assert {each["metadata"]["labels"]["app.kubernetes.io/instance"] for each in manifests} == {"demo"}


@pytest.mark.parametrize(("use", "half"), PODS)
def test_each_half_gets_its_own_secrets_and_no_other(use: str, half: str) -> None:
    extra = {
        "bridge": {"eureka": {"EUREKA_URL"}},
        "console": {"console": {"CONSOLE_USERS"}, "production": {"CONSOLE_PROXY_SECRET"}},
        "migrate": {"production": {"MIGRATION_DATABASE_URL"}},
    }
    for container in containers(pod(rendered(use), half)):
        secret = {name for name, value in environment(container).items() if "secretKeyRef" in value}
        assert secret == SECRET_SETTINGS[half] | extra.get(half, {}).get(use, set())


@pytest.mark.parametrize("use", USES)
def test_no_secret_is_made_or_mounted(use: str) -> None:
    assert not [each for each in rendered(use) if each["kind"] == "Secret"]
    for half in [half for each, half in PODS if each == use]:
        assert not [each for each in pod(rendered(use), half)["spec"]["volumes"] if "secret" in each]


@pytest.mark.parametrize("half", PROCESSES)
def test_the_init_step_checks_what_the_process_will_run_with(half: str) -> None:
    spec = pod(rendered("production"), half)["spec"]
    (check,), (run,) = spec["initContainers"], spec["containers"]
    assert (check["args"], run["args"]) == (["check"], ["run"])
    for member in ("image", "env", "volumeMounts", "securityContext", "resources"):
        assert check[member] == run[member]
    assert check["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_the_migration_runs_before_installs_and_upgrades_and_before_no_rollback() -> None:
    annotations = one(rendered("smallest"), "Job", "migrate")["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert containers(pod(rendered("smallest"), "migrate"))[0]["args"] == ["migrate"]


@pytest.mark.parametrize("use", USES)
def test_a_migration_with_wrong_settings_is_not_repeated(use: str) -> None:
    job = one(rendered(use), "Job", "migrate")["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    (container,) = containers(job["template"])
    wrong_settings = {"containerName": container["name"], "operator": "In", "values": [command_start.EXIT_USAGE]}
    assert rule["onExitCodes"] == wrong_settings
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # Kubernetes takes the policy with no other


def test_the_migration_may_reach_the_database_before_it_starts() -> None:
    weights = {
        each["kind"]: int(each["metadata"]["annotations"]["helm.sh/hook-weight"])
        for each in rendered("smallest")
        if "helm.sh/hook" in each["metadata"].get("annotations", {})
    }
    assert weights["NetworkPolicy"] < weights["Job"]


@pytest.mark.parametrize(("use", "half"), PODS)
def test_only_a_platform_that_chooses_uids_gets_none(use: str, half: str) -> None:
    security = pod(rendered(use), half)["spec"]["securityContext"]
    uids = {security.get(member) for member in ("runAsUser", "runAsGroup", "fsGroup")}
    assert uids == ({None} if use == "random-uid" else {10001})
    assert security["runAsNonRoot"] is True


@pytest.mark.parametrize(
    ("use", "settings", "seconds"),
    [
        ("smallest", {}, 10 + 0 + 10 + 10),
        ("eureka", {}, 10 + 95 + 10 + 10),
        ("eureka", {"BRIDGE_DRAIN_SECONDS": 30}, 10 + 30 + 10 + 10),
        ("eureka", {"BRIDGE_DRAIN_SECONDS": 0}, 10 + 0 + 10 + 10),
        ("smallest", {"BRIDGE_TIMEOUT_SECONDS": 2.5}, 10 + 0 + 3 + 10),
        ("production", {}, 10 + 0 + 8 + 10),
    ],
)
def test_the_bridge_has_the_grace_that_its_drain_needs(use: str, settings: dict[str, float], seconds: int) -> None:
    options = [f"--set-json=bridge.settings.{name}={value}" for name, value in settings.items()]
    assert pod(rendered(use, *options), "bridge")["spec"]["terminationGracePeriodSeconds"] == seconds


def test_the_bridge_serves_on_while_the_cluster_learns_that_it_leaves() -> None:
    (bridge,) = pod(rendered("smallest"), "bridge")["spec"]["containers"]
    assert bridge["lifecycle"]["preStop"] == {"sleep": {"seconds": 10}}
    (without,) = pod(rendered("smallest", "--set=bridge.preStopSeconds=0"), "bridge")["spec"]["containers"]
    assert "lifecycle" not in without


def test_with_eureka_each_bridge_is_found_at_its_own_address() -> None:
    (bridge,) = pod(rendered("eureka"), "bridge")["spec"]["containers"]
    assert environment(bridge)["INSTANCE_HOST"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    named = rendered("eureka", "--set=bridge.settings.INSTANCE_HOST=payments.example.com")
    (bridge,) = pod(named, "bridge")["spec"]["containers"]
    assert [each["value"] for each in bridge["env"] if each["name"] == "INSTANCE_HOST"] == ["payments.example.com"]


@pytest.mark.parametrize("half", PROCESSES)
def test_probes_wait_as_long_as_health_may_take_and_a_restart_is_for_the_process_alone(half: str) -> None:
    (process,) = pod(rendered("console"), half)["spec"]["containers"]
    assert process["readinessProbe"]["httpGet"]["path"] == "/actuator/health/readiness"
    assert process["readinessProbe"]["timeoutSeconds"] > 5  # docs/operating.md: an answer takes at most 5 s
    for probe in ("startupProbe", "livenessProbe"):
        assert process[probe]["httpGet"]["path"] == "/actuator/health/liveness"


@pytest.mark.parametrize("half", ["service", "bridge"])
def test_what_scales_by_itself_has_no_number_of_replicas(half: str) -> None:
    assert one(rendered("smallest"), "Deployment", half)["spec"]["replicas"] == 1
    assert "replicas" not in one(rendered("keda"), "Deployment", half)["spec"]
    assert "replicas" not in one(rendered("production"), "Deployment", half)["spec"]


@pytest.mark.parametrize("half", ["service", "bridge"])
def test_another_pod_comes_when_the_one_core_of_a_process_is_used_by_six_tenths(half: str) -> None:
    (metric,) = one(rendered("production"), "HorizontalPodAutoscaler", half)["spec"]["metrics"]
    request = pod(rendered("production"), half)["spec"]["containers"][0]["resources"]["requests"]["cpu"]
    millicores = int(request.removesuffix("m")) * metric["resource"]["target"]["averageUtilization"] / 100
    assert millicores == 600


@pytest.mark.parametrize("half", PROCESSES)
def test_a_rollout_takes_no_pod_before_another_is_ready(half: str) -> None:
    strategy = one(rendered("production"), "Deployment", half)["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("half", ["service", "bridge"])
def test_one_pod_may_be_missing_while_machines_are_emptied(half: str) -> None:
    assert one(rendered("production"), "PodDisruptionBudget", half)["spec"]["maxUnavailable"] == 1


def test_keda_looks_at_each_command_queue() -> None:
    triggers = one(rendered("keda"), "ScaledObject", "service")["spec"]["triggers"]
    commands = {queue.name for queue in topology.COMMAND_QUEUES.values()}
    assert {each["metadata"]["queueName"] for each in triggers} == commands
    assert {each["authenticationRef"]["name"] for each in triggers} == {"demo-payments-service"}
    ours = rendered("keda", "--set=service.autoscaling.triggerAuthentication=ours")
    assert not [each for each in ours if each["kind"] == "TriggerAuthentication"]


def test_numbers_stay_numbers_of_people() -> None:
    settings = '{"PAYMENT_WINDOW_SECONDS": 82800, "STRIPE_REQUESTS_PER_SECOND": 0.5, "STRIPE_CONCURRENCY": 1e3}'
    (service,) = pod(rendered("smallest", f"--set-json=service.settings={settings}"), "service")["spec"]["containers"]
    found = environment(service)
    assert found["PAYMENT_WINDOW_SECONDS"] == "82800"
    assert found["STRIPE_REQUESTS_PER_SECOND"] == "0.5"
    assert found["STRIPE_CONCURRENCY"] == "1000"


def test_images_are_named_by_registry_tag_and_digest() -> None:
    def image(*options: str) -> Any:
        return pod(rendered("smallest", *options), "service")["spec"]["containers"][0]["image"]

    digest = "sha256:" + "a" * 64
    assert image() == "bookticket/payment-service:1.0.0"
    assert image("--set=image.registry=images.example.com,image.tag=1.2.3") == (
        "images.example.com/bookticket/payment-service:1.2.3"
    )
    assert image(f"--set=service.image.digest={digest}") == f"bookticket/payment-service@{digest}"


def test_the_alerts_are_those_of_the_file() -> None:
    """What they may name is in `tests/architecture/test_observability.py`."""
    alerts = yaml.safe_load((ROOT / "deploy/observability/alerts.yml").read_text())
    assert one(rendered("production"), "PrometheusRule", "")["spec"] == alerts
