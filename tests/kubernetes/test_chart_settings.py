"""The processes accept the environment that the chart gives them."""

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa

from bridge import settings as of_bridge
from console import settings as of_console
from console.identity import Role
from console.users import user_line
from runtime.process_settings import load
from service import settings as of_service
from tests.kubernetes.chart import PODS, containers, environment, pod, rendered

SETTINGS: dict[str, Any] = {
    "service": of_service.Settings,
    "bridge": of_bridge.Settings,
    "console": of_console.Settings,
    "migrate": of_service.MigrateSettings,
}


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The file to which the secret URLs lead."""
    file = tmp_path / "ca.crt"
    trustme.CA().cert_pem.write_to_path(file)
    return file


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file with a public key for tokens."""
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(public)) | {"kid": "one", "use": "sig", "alg": "RS256"}
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [key]}))
    return file


@pytest.mark.parametrize(("use", "half"), PODS)
def test_a_process_starts_with_what_the_chart_sets(
    half: str, use: str, authority: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = f"payments:x@db.example.com/payments?sslmode=verify-full&sslrootcert={authority}"
    secrets = {
        "STRIPE_API_KEY": f"sk_{'live' if use == 'production' else 'test'}_12345678",
        "DATABASE_URL": f"postgresql://{database}",
        "MIGRATION_DATABASE_URL": f"postgresql://owner.{database}",
        "AMQP_URL": f"amqps://payment-{half}:x@mq.example.com/payments?cafile={authority}",
        "CONSOLE_PROXY_SECRET": "s" * of_console.MIN_SECRET_LENGTH,
        "CONSOLE_USERS": user_line("asha", Role.OPERATOR, "a long password"),
        "EUREKA_URL": "http://eureka.example.com:8761/eureka/",
        "INSTANCE_HOST": "10.244.1.7",
    }
    (*_, process) = containers(pod(rendered(use), half))
    for name, value in environment(process).items():
        monkeypatch.setenv(name, value if isinstance(value, str) else secrets[name])
    if "BRIDGE_JWT_JWKS" in environment(process):
        mounts = {each["mountPath"] for each in process["volumeMounts"]}
        assert str(Path(environment(process)["BRIDGE_JWT_JWKS"]).parent) in mounts
        monkeypatch.setenv("BRIDGE_JWT_JWKS", str(keys))
    settings = load(SETTINGS[half])
    if half != "migrate":
        assert getattr(settings, f"{half}_host") == "0.0.0.0"  # noqa: S104 - in its pod it must be reached
        assert getattr(settings, f"{half}_port") == process["ports"][0]["containerPort"]


def test_the_grace_counts_the_drain_that_the_bridge_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = pod(rendered("eureka"), "bridge")["spec"]
    for name, value in environment(spec["containers"][0]).items():
        monkeypatch.setenv(name, value if isinstance(value, str) else "10.244.1.7")
    monkeypatch.setenv("AMQP_URL", "amqp://payment-bridge:x@mq.example.com/payments")
    monkeypatch.setenv("EUREKA_URL", "http://eureka.example.com:8761/eureka/")
    settings = load(of_bridge.Settings)
    needed = 10 + settings.drain_seconds + settings.bridge_timeout_seconds + 10
    assert spec["terminationGracePeriodSeconds"] == needed


def test_the_migration_knows_the_currency_of_the_service() -> None:
    changes = ("--set", "service.settings.PAYMENT_CURRENCY=eur", "--set", "settings.LOG_LEVEL=debug")
    manifests = rendered("smallest", *changes)
    for half in ("service", "migrate"):
        (*_, process) = containers(pod(manifests, half))
        told = environment(process)
        assert (told["PAYMENT_CURRENCY"], told["LOG_LEVEL"]) == ("eur", "debug"), half
