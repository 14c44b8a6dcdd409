"""The length of a queue as Kubernetes' API for external metrics tells it: what KEDA does, without a queue."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import trustme
import uvicorn

from tests.kit.until import until
from tests.kit.web import listening
from tests.kubernetes.chart import Manifest
from tests.kubernetes.cluster import Cluster

_API: Final = "/apis/external.metrics.k8s.io/v1beta1"


class QueueLengths:
    """The ASGI application. `lengths` by the metric's name; what is not there is 0."""

    def __init__(self) -> None:
        self.lengths: dict[str, int] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 - ASGI
        path = scope["path"].rstrip("/")
        body = self._list() if path == _API else self._value(path)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200 if body else 404, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body or {}).encode()})

    @staticmethod
    def _list() -> dict[str, Any]:
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": _API.removeprefix("/apis/"),
            "resources": [],
        }

    def _value(self, path: str) -> dict[str, Any] | None:
        if not path.startswith(f"{_API}/namespaces/"):
            return None
        name = path.rpartition("/")[2]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        item = {"metricName": name, "metricLabels": {}, "timestamp": now, "value": str(self.lengths.get(name, 0))}
        api = _API.removeprefix("/apis/")
        return {"kind": "ExternalMetricValueList", "apiVersion": api, "metadata": {}, "items": [item]}


@asynccontextmanager
async def told_to(cluster: Cluster, folder: Path) -> AsyncIterator[QueueLengths]:
    """The lengths, as the cluster's autoscaler reads them."""
    lengths = QueueLengths()
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "metrics.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "metrics.pem")
    config = uvicorn.Config(lengths, host="127.0.0.1", port=0, lifespan="off", log_config=None)
    config.load()
    config.ssl = context
    async with listening(config) as port:
        # A Service without pods, which leads out of the cluster: to this process.
        service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
        await cluster.api.create(
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "queue-lengths"}, "spec": service}
        )
        group, _, version = _API.removeprefix("/apis/").partition("/")
        registration = {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"namespace": "default", "name": "queue-lengths", "port": port},
        }
        name = f"{version}.{group}"
        await cluster.api.create(
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": name},
                "spec": registration,
            }
        )
        await until(lambda: cluster.has(_API), every=0.2)
        yield lengths


def autoscaler(scaled: Manifest) -> Manifest:
    """The HorizontalPodAutoscaler that KEDA makes of a ScaledObject: one external metric per trigger."""
    spec = scaled["spec"]
    metrics = [
        {
            "type": "External",
            "external": {
                "metric": {"name": metric_name(number, trigger)},
                "target": {"type": "AverageValue", "averageValue": trigger["metadata"]["value"]},
            },
        }
        for number, trigger in enumerate(spec["triggers"])
    ]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": f"keda-hpa-{scaled['metadata']['name']}"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", **spec["scaleTargetRef"]},
            "minReplicas": spec["minReplicaCount"],
            "maxReplicas": spec["maxReplicaCount"],
            "metrics": metrics,
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    }


def metric_name(number: int, trigger: Manifest) -> str:
    """What KEDA calls the metric of a trigger."""
    return f"s{number}-{trigger['type']}-{trigger['metadata']['queueName'].replace('.', '-')}"
