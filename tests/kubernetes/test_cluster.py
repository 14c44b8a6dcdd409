"""The chart in a real Kubernetes: every object by its own rules, rollouts, evictions and scaling by its controllers.

All in one file, because a file's tests share one cluster.
"""

import copy
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.kit.until import until
from tests.kubernetes import queue_lengths
from tests.kubernetes.chart import PODS, USES, Manifest, one, pod, rendered
from tests.kubernetes.cluster import Answer, Cluster
from tests.kubernetes.release import Release

pytestmark = pytest.mark.asyncio(loop_scope="module")

TYPOS: dict[str, tuple[str | int, ...]] = {
    "Deployment": ("spec", "template", "spec", "containers", 0, "readinessProbe"),
    "HorizontalPodAutoscaler": ("spec", "behavior", "scaleDown"),
    "Job": ("spec", "activeDeadlineSeconds"),
    "NetworkPolicy": ("spec", "policyTypes"),
    "PodDisruptionBudget": ("spec", "maxUnavailable"),
    "PrometheusRule": ("spec", "groups", 0, "rules", 0, "expr"),
    "ScaledObject": ("spec", "maxReplicaCount"),
    "Service": ("spec", "selector"),
    "ServiceAccount": ("automountServiceAccountToken",),
    "ServiceMonitor": ("spec", "endpoints", 0, "interval"),
    "TriggerAuthentication": ("spec", "secretTargetRef"),
}
"""By kind, the member whose name is misspelt."""
SERVICES, BRIDGES = 4, 3
SIZES = f"--set=service.replicas={SERVICES},bridge.replicas={BRIDGES}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def namespace(cluster: Cluster) -> str:
    return await cluster.new_namespace("payments")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def release(cluster: Cluster) -> Release:
    """Installed by Helm, and up."""
    release = Release(cluster=cluster, namespace=await cluster.new_namespace("installed"))
    await release.make_secrets()
    status, said = await release.helm("install", "smallest", SIZES, "--wait", "--timeout=5m")
    assert status == 0, said
    assert "1. Wait for it:" in said
    return release


@pytest.mark.parametrize("use", USES)
async def test_every_object_is_taken_as_it_is(cluster: Cluster, namespace: str, use: str) -> None:
    for manifest in rendered(use):
        answer = await cluster.api.apply(manifest, namespace, dry_run=True)
        assert answer.status in {200, 201}, (manifest["kind"], answer.message)
        assert not answer.warnings, (manifest["kind"], answer.warnings)


@pytest.mark.parametrize(("use", "half"), PODS)
async def test_every_pod_passes_the_restricted_standard(cluster: Cluster, namespace: str, use: str, half: str) -> None:
    answer = await try_pod(cluster, namespace, pod(rendered(use), half))
    assert answer.status == 201, answer.message


@pytest.mark.parametrize(
    ("where", "member", "value"),
    [
        ("pod", "runAsNonRoot", False),
        ("pod", "seccompProfile", {"type": "Unconfined"}),
        ("container", "allowPrivilegeEscalation", True),
        ("container", "capabilities", {"drop": []}),
    ],
)
async def test_a_pod_that_asks_for_more_is_refused(
    cluster: Cluster, namespace: str, where: str, member: str, value: Any
) -> None:
    template = copy.deepcopy(pod(rendered("smallest"), "service"))
    spec = template["spec"] if where == "pod" else template["spec"]["containers"][0]
    spec["securityContext"][member] = value
    answer = await try_pod(cluster, namespace, template)
    assert answer.status == 403
    assert 'violates PodSecurity "restricted' in answer.message


async def try_pod(cluster: Cluster, namespace: str, template: Manifest) -> Answer:
    """A pod as a controller would make it; Kubernetes holds pods to the standard, not what makes them."""
    # The chart's own account is not there: nothing is kept of a trial.
    spec = template["spec"] | {"serviceAccountName": "default"}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "trial"}, "spec": spec}
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict"
    return await cluster.api.ask("POST", path, manifest)


async def test_a_typo_is_planted_in_every_kind() -> None:
    assert set(TYPOS) == {each["kind"] for use in USES for each in rendered(use)}


@pytest.mark.parametrize("kind", TYPOS)
async def test_a_typo_is_refused(cluster: Cluster, namespace: str, kind: str) -> None:
    manifest = next(each for use in ("keda", "production") for each in rendered(use) if each["kind"] == kind)
    planted = copy.deepcopy(manifest)
    *way, member = TYPOS[kind]
    parent: Any = planted
    for step in way:
        parent = parent[step]
    parent[f"{member}z"] = parent.pop(member)
    answer = await cluster.api.apply(planted, namespace, dry_run=True)
    assert answer.status >= 400
    assert f"{member}z" in answer.message


async def test_a_missing_secret_is_said_before_anything_is_installed(cluster: Cluster) -> None:
    release = Release(cluster=cluster, namespace=await cluster.new_namespace("unprepared"))
    status, said = await release.helm("install", "smallest")
    assert status != 0
    assert "secrets.stripe: there is no Secret payments in the namespace unprepared" in said
    await release.make_secret("payments", ("STRIPE_API_KEY", "DATABASE_URL", "AMQP_URL"))
    status, said = await release.helm("install", "smallest")
    assert status != 0
    assert "secrets.bridgeBroker: the Secret payments has no key BRIDGE_AMQP_URL" in said
    assert "secrets.stripe" not in said
    assert not await release.pods("service")


async def test_whatever_a_pod_would_wait_for_is_said_before_anything_is_installed(cluster: Cluster) -> None:
    """A pod without a ConfigMap that it mounts stays in its creation, and says nothing."""
    release = Release(cluster=cluster, namespace=await cluster.new_namespace("bare"))
    maps = {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "our-authority"},
        "data": {"authority.crt": "x"},
    }
    await cluster.api.create(maps, release.namespace)
    status, said = await release.helm("install", "production")
    assert status != 0
    for sentence in (
        "trust.existingConfigMap: the ConfigMap our-authority has no key ca.crt",
        "bridge.jwks.existingConfigMap: there is no ConfigMap service-token-keys in the namespace bare",
        "image.pullSecrets: there is no Secret registry in the namespace bare",
        "secrets.migration: there is no Secret payments-database-owner in the namespace bare",
    ):
        assert sentence in said
    status, said = await release.helm("install", "smallest", "--set=trust.existingSecret=our-own")
    assert "trust.existingSecret: there is no Secret our-own in the namespace bare" in said
    assert "ConfigMap" not in said


async def test_installing_migrates_first_and_leaves_no_job(release: Release) -> None:
    jobs = await release.cluster.api.get(f"/apis/batch/v1/namespaces/{release.namespace}/jobs")
    events = await release.cluster.api.get(f"/api/v1/namespaces/{release.namespace}/events")
    reasons = {(each["involvedObject"]["kind"], each["reason"]) for each in events["items"]}
    assert ("Job", "Completed") in reasons
    assert not jobs["items"]
    assert (await release.ready("service"), await release.ready("bridge")) == (SERVICES, BRIDGES)


async def test_a_rollout_never_goes_below_what_may_be_missing(release: Release) -> None:
    async with release.counting_ready("service") as services, release.counting_ready("bridge") as bridges:
        upgrade = ("--set=image.tag=2.0.0", "--wait", "--timeout=5m")
        status, said = await release.helm("upgrade", "smallest", SIZES, *upgrade)
    assert status == 0, said
    await release.until_ready("service", SERVICES)
    assert await release.images("service") == {"bookticket/payment-service:2.0.0"}
    assert await release.images("bridge") == {"bookticket/payment-bridge:2.0.0"}
    assert (min(services), min(bridges)) == (SERVICES, BRIDGES)


async def test_a_rollout_that_takes_all_pods_at_once_would_be_seen(release: Release) -> None:
    """What the test before would not notice proves nothing."""
    path = release.deployment("service")
    image = {"name": "service", "image": "bookticket/payment-service:2.0.1"}
    careless = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "100%"}}
    async with release.counting_ready("service") as services:
        template = (await release.cluster.api.get(path))["spec"]["template"]
        template["spec"]["containers"][0] |= image
        await release.patch(path, {"spec": {"strategy": careless, "template": template}})
        await until(lambda: min(services) < SERVICES - 1)
    status, said = await release.helm("upgrade", "smallest", SIZES, "--wait", "--timeout=5m")
    assert status == 0, said


async def test_a_migration_that_fails_stops_the_upgrade_before_any_pod_is_replaced(release: Release) -> None:
    before = await release.pods("service"), await release.pods("bridge")
    short = "--set=migrate.deadlineSeconds=30"
    status, said = await release.helm("upgrade", "smallest", SIZES, "--set=image.tag=fails", short, "--timeout=5m")
    assert status != 0
    assert "pre-upgrade hooks failed" in said
    after = await release.pods("service"), await release.pods("bridge")
    assert list(map(names, after)) == list(map(names, before))
    jobs = await release.cluster.api.get(f"/apis/batch/v1/namespaces/{release.namespace}/jobs")
    assert [each["metadata"]["name"] for each in jobs["items"]] == ["demo-payments-migrate"]
    status, said = await release.helm("upgrade", "smallest", SIZES, "--wait", "--timeout=5m")
    assert status == 0, said  # the next one repairs it


def names(pods: list[Manifest]) -> set[str]:
    return {each["metadata"]["name"] for each in pods}


async def test_an_image_that_cannot_start_replaces_nobody_and_is_taken_back(release: Release) -> None:
    await release.until_ready("bridge", BRIDGES)
    before = await release.images("bridge")
    broken = '--set-json=bridge.podAnnotations={"tests/never-ready": "yes"}'
    async with release.counting_ready("bridge") as bridges:
        status, said = await release.helm("upgrade", "smallest", SIZES, broken, "--set=image.tag=9.9.9")
        assert status == 0, said  # without --wait Helm only hands it over
        replaced = {*before, "bookticket/payment-bridge:9.9.9"}
        await until(lambda: has_images(release, replaced), every=0.1)
        looks = len(bridges)
        await until(lambda: len(bridges) > looks + 100)
        assert await release.images("bridge") == replaced
        status, said = await release.helm_rollback()
        assert status == 0, said
        await release.until_ready("bridge", BRIDGES)
    assert min(bridges) == BRIDGES
    assert await release.images("bridge") == before


async def has_images(release: Release, images: set[str]) -> bool:
    return await release.images("bridge") == images


@pytest.mark.parametrize(("half", "count"), [("service", SERVICES), ("bridge", BRIDGES)])
async def test_a_second_eviction_is_refused_until_the_first_pod_is_replaced(
    release: Release, half: str, count: int
) -> None:
    await release.until_ready(half, count)
    first, second, *_ = await release.pods(half)
    os.kill(release.cluster.machines, signal.SIGSTOP)
    try:
        assert await until(lambda: taken(release, first), every=0.2)
        refused = await release.evict(second)
        assert refused.status == 429
        assert "disruption" in refused.message
    finally:
        os.kill(release.cluster.machines, signal.SIGCONT)
    await release.until_ready(half, count)
    assert await until(lambda: taken(release, second), every=0.2)


async def taken(release: Release, evicted: Manifest) -> bool:
    return (await release.evict(evicted)).status == 201


async def test_the_service_follows_the_length_of_its_queue(cluster: Cluster, tmp_path: Path) -> None:
    release = Release(cluster=cluster, namespace=await cluster.new_namespace("scaled"))
    await release.make_secrets()
    # The bridge's own autoscaler has no metrics of processors here; it stays at its least number of replicas.
    at_once = "--set=service.autoscaling.scaleDownSeconds=0"
    status, said = await release.helm("install", "keda", at_once, "--timeout=5m")
    assert status == 0, said
    scaled = one(rendered("keda", at_once), "ScaledObject", "service")
    create, verify, _ = (queue_lengths.metric_name(*each) for each in enumerate(scaled["spec"]["triggers"]))
    async with queue_lengths.told_to(cluster, tmp_path) as lengths:
        await cluster.api.create(queue_lengths.autoscaler(scaled), release.namespace)
        await release.until_ready("service", 2)
        lengths.lengths[create] = 350
        await release.until_ready("service", 4)
        lengths.lengths[verify] = 100_000
        await release.until_ready("service", 6)
        lengths.lengths.clear()
        await release.until_ready("service", 2)
