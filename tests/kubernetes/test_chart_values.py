"""Values that cannot be: each is refused by a sentence that names it, before anything reaches a cluster."""

import json
from typing import Any

import pytest

from bridge.settings import Settings as BridgeSettings
from console.settings import Settings as ConsoleSettings
from service.settings import MigrateSettings
from service.settings import Settings as ServiceSettings
from tests.kubernetes.chart import CHART, refusal, rendered, template

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
BOTH = {"PAYMENT_ENVIRONMENT", "LOG_LEVEL", "LOG_FORMAT"}
TRACES = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"}
"""OpenTelemetry's own variables: no settings of ours."""
SECRET = {
    "AMQP_URL", "CONSOLE_PROXY_SECRET", "CONSOLE_USERS", "DATABASE_LISTEN_URL", "DATABASE_URL", "EUREKA_URL",
    "MIGRATION_DATABASE_URL", "STRIPE_API_KEY",
}  # fmt: skip
CHOSEN = {f"{half}_{member}" for half in ("SERVICE", "BRIDGE", "CONSOLE") for member in ("HOST", "PORT")}
NOT_FOR_PODS = {"FAILPOINT", "GIT_COMMIT"}
"""A test's, and the image's own."""
MODELS = {"service": ServiceSettings, "bridge": BridgeSettings, "console": ConsoleSettings}

REFUSED = [
    ("service.replicaz=2", "at '/service': additional properties 'replicaz' not allowed"),
    ("servise.replicas=2", "additional properties 'servise' not allowed"),
    ("service.replicas=-1", "at '/service/replicas': minimum: got -1, want 0"),
    ("service.replicas=two", "at '/service/replicas': got string, want integer"),
    ("service.settings.STRIPE_CONCURENCY=5", "additional properties 'STRIPE_CONCURENCY' not allowed"),
    ("service.settings.STRIPE_CONCURRENCY=0", "'/service/settings/STRIPE_CONCURRENCY': minimum: got 0, want 1"),
    ("service.settings.STRIPE_API_KEY=sk_test_12345678", "additional properties 'STRIPE_API_KEY' not allowed"),
    ("service.settings.FAILPOINT=x:1", "additional properties 'FAILPOINT' not allowed"),
    ("service.settings.PAYMENT_SUCCESS_URL=paid.html", "'/service/settings/PAYMENT_SUCCESS_URL': 'paid.html' does"),
    ("service.settings.BRIDGE_AUTH=jwt", "at '/service/settings': additional properties 'BRIDGE_AUTH' not allowed"),
    ("service.autoscaling.mode=gpu", "at '/service/autoscaling/mode': value must be one of 'none', 'cpu', 'keda'"),
    ("bridge.autoscaling.mode=keda", "at '/bridge/autoscaling/mode': value must be one of 'none', 'cpu'"),
    ("bridge.autoscaling.queueLength=5", "at '/bridge/autoscaling': additional properties 'queueLength' not allowed"),
    ("bridge.settings.BRIDGE_AUTH=none", "at '/bridge/settings/BRIDGE_AUTH': value must be one of 'headers', 'jwt'"),
    ("bridge.settings.AMQP_URL=amqp://x", "at '/bridge/settings': additional properties 'AMQP_URL' not allowed"),
    ("bridge.settings.BRIDGE_DRAIN_SECONDS=-1", "'/bridge/settings/BRIDGE_DRAIN_SECONDS': minimum: got -1, want 0"),
    ("bridge.preStopSeconds=301", "at '/bridge/preStopSeconds': maximum: got 301, want 300"),
    ("console.settings.CONSOLE_AUTH=none", "/CONSOLE_AUTH': value must be one of 'password', 'proxy'"),
    ("console.settings.CONSOLE_USERS=a:b:c", "additional properties 'CONSOLE_USERS' not allowed"),
    ("console.settings.CONSOLE_SESSION_SECONDS=59", "CONSOLE_SESSION_SECONDS': minimum: got 59, want 60"),
    ("console.settings.CONSOLE_TRACE_URL=https://x.example/", "/CONSOLE_TRACE_URL': 'https://x.example/' does not"),
    ("console.settings.CONSOLE_HOSTS=a b", "'/console/settings/CONSOLE_HOSTS': 'a b' does not match pattern"),
    ("console.databaseRole=a;b", "at '/console/databaseRole': 'a;b' does not match pattern"),
    ("console.enabled=perhaps", "at '/console/enabled': got string, want boolean"),
    ("networkPolicy.console[0].podSelectr.a=b", "additional properties 'podSelectr' not allowed"),
    ("settings.PAYMENT_ENVIRONMENT=staging", "value must be one of 'production', 'development'"),
    ("settings.LOG_LEVEL=loud", "at '/settings/LOG_LEVEL': value must be one of"),
    ("secrets.stripe.value=sk_live_x", "at '/secrets/stripe': additional properties 'value' not allowed"),
    ("secrets.stripe.existingSecret=My_Secret", "at '/secrets/stripe/existingSecret': 'My_Secret' does not match"),
    ("security.runAsUser=0", "at '/security/runAsUser': minimum: got 0, want 1"),
    ("image.tag=a b", "at '/image/tag': 'a b' does not match pattern"),
    ("image.pullPolicy=Sometimes", "at '/image/pullPolicy': value must be one of"),
    ("service.image.digest=sha256:12", "at '/service/image/digest': 'sha256:12' does not match pattern"),
    ("service.pdb.maxUnavailable=0", "at '/service/pdb/maxUnavailable': minimum: got 0, want 1"),
    ("service.resources.limit.memory=1Gi", "at '/service/resources': additional properties 'limit' not allowed"),
    ("service.resources.limits.memory=much", "'/service/resources/limits/memory': 'much' does not match pattern"),
    ("networkPolicy.broker.ports[0]=0", "at '/networkPolicy/broker/ports/0': minimum: got 0, want 1"),
    ("networkPolicy.platform[0].podSelectr.a=b", "additional properties 'podSelectr' not allowed"),
    ("image.tag=latest", "image.tag is latest, which changes its meaning"),
    ("networkPolicy.broker.ports[0]=443", "networkPolicy.broker.to is empty, and its ports have 443"),
    ("networkPolicy.jwks.ports[0]=443", "networkPolicy.jwks.to is empty, and its ports have 443"),
    ("networkPolicy.platform=null", "networkPolicy.platform is empty"),
    ("service.autoscaling.minReplicas=9", "service.autoscaling.minReplicas is larger than maxReplicas"),
    ("service.autoscaling.mode=keda", "secrets.autoscaler.existingSecret is not set: name the Secret in which KEDA"),
    ("bridge.settings.BRIDGE_AUTH=jwt", "bridge.settings.BRIDGE_JWT_ISSUER is not set: BRIDGE_AUTH=jwt needs it"),
    ("bridge.settings.BRIDGE_AUTH=jwt", "bridge.jwks.existingConfigMap and bridge.settings.BRIDGE_JWT_JWKS are not"),
    ("trust.existingSecret=a,trust.existingConfigMap=b", "trust.existingSecret and trust.existingConfigMap are both"),
]


@pytest.mark.parametrize(("given", "sentence"), REFUSED, ids=[each[0] for each in REFUSED])
def test_a_wrong_value_is_refused_by_name(given: str, sentence: str) -> None:
    assert sentence in refusal("smallest", f"--set={given}")


def test_all_that_is_missing_is_said_at_once() -> None:
    said = refusal(None)
    for name in ("stripe", "database", "serviceBroker", "bridgeBroker"):
        assert f"secrets.{name}.existingSecret is not set" in said
    assert "bridge.settings.BRIDGE_AUTH is not set: choose headers" in said


def test_autoscaling_by_cpu_needs_a_request_of_cpu() -> None:
    options = "--set=bridge.autoscaling.mode=cpu", "--set=bridge.resources.requests.cpu=null"
    assert "bridge.resources.requests.cpu is not set" in refusal("smallest", *options)


def test_keys_from_an_address_need_a_way_to_it() -> None:
    address = "bridge.settings.BRIDGE_JWT_JWKS=https://login.example.com/keys"
    settings = '{"BRIDGE_AUTH": "jwt", "BRIDGE_JWT_ISSUER": "a", "BRIDGE_JWT_AUDIENCE": "b"}'
    tokens = f"--set-json=bridge.settings={settings}"
    assert "networkPolicy.jwks.ports is empty" in refusal("smallest", tokens, f"--set={address}")
    way = "--set=networkPolicy.jwks.ports[0]=443,networkPolicy.jwks.to[0].ipBlock.cidr=192.0.2.0/24"
    assert rendered("smallest", tokens, f"--set={address}", way)
    both = refusal("production", f"--set={address}", way)
    assert "bridge.jwks.existingConfigMap and bridge.settings.BRIDGE_JWT_JWKS are both set" in both


def test_an_older_kubernetes_is_refused() -> None:
    assert "incompatible with Kubernetes v1.29.0" in template("smallest", "--kube-version", "1.29.0").stderr


@pytest.mark.parametrize(("half", "model"), MODELS.items(), ids=MODELS)
def test_every_setting_can_be_set_and_no_other(half: str, model: Any) -> None:
    own = SCHEMA["properties"][half]["properties"]["settings"]["properties"]
    of_both = SCHEMA["properties"]["settings"]["properties"]
    expected = {name.upper() for name in model.model_fields} - SECRET - CHOSEN - NOT_FOR_PODS
    assert set(of_both) == BOTH | TRACES
    assert set(own) | BOTH == expected, "values.schema.json has a list of each half's settings"


def test_every_setting_of_the_migration_is_given_by_the_chart() -> None:
    own = {name.upper() for name in MigrateSettings.model_fields} - SECRET - BOTH
    assert own == {"CONSOLE_DATABASE_ROLE", "PAYMENT_CURRENCY"}


@pytest.mark.parametrize(("half", "model"), MODELS.items(), ids=MODELS)
def test_a_setting_has_the_bounds_that_the_process_has(half: str, model: Any) -> None:
    schema = model.model_json_schema()["properties"]
    bounds = 0
    for name, described in SCHEMA["properties"][half]["properties"]["settings"]["properties"].items():
        field = schema[name.lower()]
        field = field.get("anyOf", [field])[0]
        for bound in ("minimum", "maximum"):
            assert described.get(bound) == field.get(bound), name
            bounds += bound in described
        assert "pattern" not in field or described["pattern"] == field["pattern"], name
    assert bounds
