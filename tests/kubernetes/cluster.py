"""A real Kubernetes control plane on this machine. Its machines are played by kwok: no container runs anywhere."""

import asyncio
import json
import os
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.kit.until import until
from tests.kubernetes import programs
from tests.kubernetes.chart import Manifest
from tools.devstack import processes

NODES: Final = ("machine-1", "machine-2", "machine-3")
_START_SECONDS: Final = 300.0
_MACHINES: Final = Path(__file__).parent / "machines.yaml"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the API server said."""

    status: int
    body: Any
    warnings: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """Its words, if it refused."""
        return str(self.body.get("message", ""))


@dataclass(frozen=True, kw_only=True)
class Api:
    """The API server, to somebody who may do everything."""

    client: httpx.AsyncClient
    _plurals: dict[str, dict[str, tuple[str, bool]]] = field(default_factory=dict)

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        content = None if body is None else json.dumps(body)
        answer = await self.client.request(method, path, content=content, **options)
        is_json = "json" in answer.headers.get("content-type", "")
        return Answer(
            status=answer.status_code,
            body=answer.json() if is_json else {"message": answer.text},
            warnings=tuple(answer.headers.get_list("warning")),
        )

    async def get(self, path: str) -> Any:
        answer = await self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.body

    async def create(self, manifest: Manifest, namespace: str = "default") -> Any:
        answer = await self.ask("POST", await self.place(manifest, namespace), manifest)
        assert answer.status == 201, answer
        return answer.body

    async def apply(self, manifest: Manifest, namespace: str, *, dry_run: bool) -> Answer:
        """Server-side apply, with strict validation of every field."""
        path = f"{await self.place(manifest, namespace)}/{manifest['metadata']['name']}"
        query = "fieldManager=tests&force=true&fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        headers = {"content-type": "application/apply-patch+yaml"}
        return await self.ask("PATCH", f"{path}?{query}", manifest, headers=headers)

    async def place(self, manifest: Manifest, namespace: str) -> str:
        """The path at which objects of its kind are."""
        version = manifest["apiVersion"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if manifest["kind"] not in self._plurals.setdefault(version, {}):
            for each in (await self.get(base))["resources"]:
                if "/" not in each["name"]:
                    self._plurals[version][each["kind"]] = each["name"], each["namespaced"]
        plural, is_namespaced = self._plurals[version][manifest["kind"]]
        return f"{base}/namespaces/{namespace}/{plural}" if is_namespaced else f"{base}/{plural}"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The API server and what belongs to it."""

    api: Api
    folder: Path
    kubeconfig: Path
    machines: int
    """kwok's process: stopped (SIGSTOP), no pod becomes ready or goes."""

    async def new_namespace(self, name: str) -> str:
        """One in which pods must pass the standard `restricted`."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
        await self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        await until(lambda: self.has(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
        return name

    async def has(self, path: str) -> bool:
        return (await self.api.ask("GET", path)).status == 200

    async def define(self, definition: Manifest) -> None:
        """Teach it a kind of somebody else's (a CustomResourceDefinition), and wait until it knows it."""
        await self.api.create(definition)
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"

        async def is_known() -> bool:
            conditions = (await self.api.get(path)).get("status", {}).get("conditions") or ()
            return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

        await until(is_known, every=0.1)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Cluster]:
    """All of it, from an empty store to machines that are ready; nothing of it is left afterwards."""
    kwok, kubernetes = programs.kwok(), programs.control_plane()
    store, store_peer, port, manager_port, scheduler_port, kwok_port = processes.free_ports(6)
    here, token = "--bind-address=127.0.0.1", secrets.token_hex(16)
    kubeconfig, key, certificate = folder / "kubeconfig", folder / "accounts.key", folder / "tls" / "apiserver.crt"
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    key.write_bytes(_private_key())
    kubeconfig.write_text(json.dumps(_kubeconfig(port, certificate, token)))
    at_store, at_peer = f"http://127.0.0.1:{store}", f"http://127.0.0.1:{store_peer}"
    async with AsyncExitStack() as stack:

        def start(name: str, program: Path, *arguments: str) -> int:
            pid = processes.spawn(
                [program, *arguments],
                env={**os.environ, "HOME": str(folder)},
                log=folder / f"{name}.log",
                pid_file=folder / f"{name}.pid",
                dies_with_us=SIGKILL,
            )
            stack.push_async_callback(processes.kill, pid)
            return pid

        start(
            "etcd", kubernetes, "etcd", f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={at_store}",
            f"--advertise-client-urls={at_store}", f"--listen-peer-urls={at_peer}",
            f"--initial-advertise-peer-urls={at_peer}", f"--initial-cluster=default={at_peer}",
            "--unsafe-no-fsync",
        )  # fmt: skip
        server = start(
            "apiserver", kubernetes, "apiserver", here, f"--secure-port={port}", "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none", f"--etcd-servers={at_store}", f"--cert-dir={folder / 'tls'}",
            f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16",
        )  # fmt: skip
        api = await stack.enter_async_context(_api(port, certificate, token, server, folder / "apiserver.log"))
        start(
            "manager", kubernetes, "controller-manager", here, f"--secure-port={manager_port}",
            f"--kubeconfig={kubeconfig}", "--leader-elect=false", f"--service-account-private-key-file={key}",
            f"--root-ca-file={certificate}", "--horizontal-pod-autoscaler-sync-period=1s",
        )  # fmt: skip
        start(
            "scheduler", kubernetes, "scheduler", here, f"--secure-port={scheduler_port}",
            f"--kubeconfig={kubeconfig}", "--leader-elect=false",
        )  # fmt: skip
        machines = start(
            "kwok", kwok, f"--kubeconfig={kubeconfig}", f"--config={_MACHINES}", "--manage-all-nodes",
            f"--server-address=127.0.0.1:{kwok_port}", "--node-lease-duration-seconds=40",
        )  # fmt: skip
        cluster = Cluster(api=api, folder=folder, kubeconfig=kubeconfig, machines=machines)
        for name in NODES:
            labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-of-{name}"}
            await api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
        yield cluster


@asynccontextmanager
async def _api(port: int, certificate: Path, token: str, pid: int, log: Path) -> AsyncIterator[Api]:
    """The API server, as soon as it is ready."""

    def has_certificate() -> bool:
        assert processes.running(pid), processes.last_lines(log)
        return certificate.exists()

    await until(has_certificate, _START_SECONDS)
    await asyncio.sleep(0.2)  # it is written in one go, and not atomically
    client = httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{port}",
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        verify=ssl.create_default_context(cafile=str(certificate)),
        timeout=60,
        trust_env=False,
    )
    async with client:

        async def is_ready() -> bool:
            assert processes.running(pid), processes.last_lines(log)
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(is_ready, _START_SECONDS, every=0.2)
        yield Api(client=client)


def _private_key() -> bytes:
    """What signs the tokens of service accounts."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _kubeconfig(port: int, certificate: Path, token: str) -> Mapping[str, Any]:
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificate)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin"}}],
        "current-context": "tests",
    }
