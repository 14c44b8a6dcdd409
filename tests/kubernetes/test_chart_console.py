"""The console in the chart: off until it is wanted, with a role, a user and people of its own."""

from typing import Any

import pytest

from console.settings import Settings
from service.settings import MigrateSettings
from tests.kubernetes.chart import Manifest, containers, environment, one, pod, refusal, rendered, template
from tests.kubernetes.test_chart_values import SCHEMA

COMPONENT = "app.kubernetes.io/component"
PROXY = "--set=console.settings.CONSOLE_AUTH=proxy,secrets.consoleProxySecret.existingSecret=payments-console"
WAY = "--set=networkPolicy.console[0].podSelector.matchLabels.app=oauth2-proxy"


def of_the_console(manifests: tuple[Manifest, ...]) -> set[str]:
    return {each["kind"] for each in manifests if each["metadata"]["labels"][COMPONENT] == "console"}


def test_it_is_off_until_it_is_wanted() -> None:
    assert of_the_console(rendered("smallest")) == set()
    assert of_the_console(rendered("console")) == {"Deployment", "Service", "NetworkPolicy"}


def test_its_secrets_are_its_own() -> None:
    for container in containers(pod(rendered("production"), "console")):
        names = {
            name: value["secretKeyRef"]["name"]
            for name, value in environment(container).items()
            if "secretKeyRef" in value
        }
        assert names == {
            "AMQP_URL": "payments-console-broker",
            "DATABASE_URL": "payments-console-database",
            "CONSOLE_PROXY_SECRET": "payments-console-proxy",
        }


def test_it_is_asked_at_the_port_where_it_listens() -> None:
    spec = one(rendered("console"), "Service", "console")["spec"]
    template = pod(rendered("console"), "console")
    assert spec["selector"].items() <= template["metadata"]["labels"].items()
    (listening,) = template["spec"]["containers"][0]["ports"]
    assert listening == {"name": "http", "containerPort": Settings.model_fields["console_port"].default}
    assert spec["ports"] == [{"name": "http", "port": listening["containerPort"], "targetPort": "http"}]


def test_prometheus_looks_at_every_process_that_has_a_service() -> None:
    (expression,) = one(rendered("production"), "ServiceMonitor", "")["spec"]["selector"]["matchExpressions"]
    assert (expression["key"], expression["operator"]) == (COMPONENT, "In")
    services = [each for each in rendered("production") if each["kind"] == "Service"]
    assert set(expression["values"]) == {each["metadata"]["labels"][COMPONENT] for each in services}


def role_of_the_migration(*options: str, use: str = "console") -> Any:
    return environment(containers(pod(rendered(use, *options), "migrate"))[0]).get("CONSOLE_DATABASE_ROLE")


def test_the_migration_grants_its_role_what_it_needs_where_there_is_a_console() -> None:
    assert role_of_the_migration() == "payment_console"
    assert role_of_the_migration("--set=console.databaseRole=reader") == "reader"
    assert role_of_the_migration("--set=console.databaseRole=") is None
    assert role_of_the_migration(use="smallest") is None
    described = SCHEMA["properties"]["console"]["properties"]["databaseRole"]["pattern"]
    (pattern,) = MigrateSettings.model_fields["console_database_role"].metadata
    assert described == f"^({pattern.pattern.strip('^$')})?$"


def test_all_that_the_console_lacks_is_said_at_once() -> None:
    said = refusal("smallest", "--set=console.enabled=true")
    for name in ("consoleDatabase", "consoleBroker"):
        assert f"secrets.{name}.existingSecret is not set: name the Secret in which the console finds" in said
    assert "console.settings.CONSOLE_AUTH is not set: choose password" in said


@pytest.mark.parametrize(
    ("auth", "secret", "key"),
    [("password", "consoleUsers", "CONSOLE_USERS"), ("proxy", "consoleProxySecret", "CONSOLE_PROXY_SECRET")],
)
def test_a_way_to_know_people_needs_its_secret(auth: str, secret: str, key: str) -> None:
    said = refusal("smallest", f"--set=console.enabled=true,console.settings.CONSOLE_AUTH={auth}")
    assert f"secrets.{secret}.existingSecret is not set: name the Secret in which the console finds {key}" in said


def test_there_is_one_where_people_log_in_and_may_be_more_behind_a_proxy() -> None:
    two = "--set=console.replicas=2"
    assert "console.replicas is larger than 1" in refusal("console", two)
    assert one(rendered("console"), "Deployment", "console")["spec"]["replicas"] == 1
    assert one(rendered("console", two, PROXY, WAY), "Deployment", "console")["spec"]["replicas"] == 2


def test_a_proxy_needs_a_way_to_the_console() -> None:
    assert "networkPolicy.console is empty" in refusal("console", PROXY)
    assert rendered("console", PROXY, "--set=networkPolicy.enabled=false")


def test_what_is_wrong_with_a_console_that_is_off_is_nobodys_trouble() -> None:
    assert template("smallest", "--set=console.replicas=2").returncode == 0
