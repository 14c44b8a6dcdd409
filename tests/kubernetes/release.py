"""The chart, installed by Helm in the real cluster, and what its pods do meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.kit.until import until
from tests.kubernetes import programs
from tests.kubernetes.chart import CHART, NAME, RELEASE, Manifest, values_file
from tests.kubernetes.cluster import Answer, Cluster
from tools.devstack import processes

SECRETS: Final = {
    "payments": ("STRIPE_API_KEY", "DATABASE_URL", "AMQP_URL", "BRIDGE_AMQP_URL"),
    "payments-autoscaler": ("RABBITMQ_URL",),
}
"""What the examples name, and what is in it."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """One namespace, into which the chart is installed."""

    cluster: Cluster
    namespace: str

    async def helm(self, command: str, use: str, *arguments: str) -> tuple[int, str]:
        """Run `helm install` or `helm upgrade` with the example of a use; its exit status and its words."""
        values = ["--values", str(values_file(use)), *arguments]
        return await processes.run([programs.helm(), command, RELEASE, CHART, *self._here(), *values])

    async def helm_rollback(self) -> tuple[int, str]:
        """Back to what was before, until that is up."""
        return await processes.run([programs.helm(), "rollback", RELEASE, "--wait", *self._here()])

    def _here(self) -> tuple[str, ...]:
        return f"--namespace={self.namespace}", f"--kubeconfig={self.cluster.kubeconfig}"

    async def make_secret(self, name: str, keys: tuple[str, ...]) -> None:
        values = dict.fromkeys(keys, "a value that nobody reads")
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
        await self.cluster.api.create(secret, self.namespace)

    async def make_secrets(self) -> None:
        for name, keys in SECRETS.items():
            await self.make_secret(name, keys)

    def deployment(self, half: str) -> str:
        """The path of a half's Deployment."""
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{NAME}-{half}"

    async def pods(self, half: str) -> list[Manifest]:
        """The pods of a half that are not about to go."""
        query = f"labelSelector=app.kubernetes.io/component={half}"
        found = await self.cluster.api.get(f"/api/v1/namespaces/{self.namespace}/pods?{query}")
        return [each for each in found["items"] if "deletionTimestamp" not in each["metadata"]]

    async def ready(self, half: str) -> int:
        """How many of them can serve."""
        return sum(map(_is_ready, await self.pods(half)))

    async def images(self, half: str) -> set[str]:
        return {each["spec"]["containers"][0]["image"] for each in await self.pods(half)}

    async def until_ready(self, half: str, count: int) -> None:
        """Until a half has exactly so many pods, and all can serve."""

        async def all_ready() -> bool:
            pods = await self.pods(half)
            return len(pods) == count and all(map(_is_ready, pods))

        await until(all_ready, every=0.1)

    async def patch(self, path: str, change: Mapping[str, Any]) -> None:
        headers = {"content-type": "application/merge-patch+json"}
        answer = await self.cluster.api.ask("PATCH", path, change, headers=headers)
        assert answer.status == 200, answer

    async def evict(self, pod: Manifest) -> Answer:
        """Ask for a pod to go, as whoever empties a machine does."""
        name = pod["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/eviction"
        return await self.cluster.api.ask("POST", path, eviction)

    @asynccontextmanager
    async def counting_ready(self, half: str) -> AsyncIterator[list[int]]:
        """How many pods of a half could serve, looked at all the time."""
        seen: list[int] = []
        enough = asyncio.Event()

        async def look() -> None:
            while not enough.is_set():
                seen.append(await self.ready(half))
                await asyncio.sleep(0.02)

        looking = asyncio.create_task(look())
        try:
            await until(lambda: seen)
            yield seen
        finally:
            enough.set()  # cancelled within a request, httpx would leave its connection open
            await looking


def _is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
