"""`deploy/ha`: the manifests, which nothing here can run, say what those files say that `make cluster` runs."""

from typing import Any

import yaml

from tools.devstack.stack_settings import CHECKOUT

FOLDER = CHECKOUT / "deploy" / "ha"


def settings_of(text: str) -> dict[str, str]:
    """The lines of a rabbitmq.conf, without those by which the nodes find each other."""
    lines = (line.partition("=") for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in lines if not name.startswith("cluster_formation.")}


def document(name: str) -> dict[str, Any]:
    return next(iter(yaml.safe_load_all((FOLDER / name).read_text())))


def test_the_operators_rabbitmq_has_the_settings_of_the_nodes_on_machines() -> None:
    spec = document("rabbitmq-cluster-operator.yml")["spec"]
    assert settings_of(spec["rabbitmq"]["additionalConfig"]) == settings_of((FOLDER / "rabbitmq.conf").read_text())
    advanced = [
        line for line in (FOLDER / "advanced.config").read_text().splitlines() if not line.lstrip().startswith("%%")
    ]
    assert "".join(spec["rabbitmq"]["advancedConfig"].split()) == "".join("".join(advanced).split())
    assert spec["replicas"] == 3


def test_the_operators_postgresql_has_the_settings_of_the_servers_under_patroni() -> None:
    spec = document("cloudnative-pg.yml")["spec"]
    patroni = document("patroni.yml")["bootstrap"]["dcs"]
    parameters = {name: str(value) for name, value in patroni["postgresql"]["parameters"].items()}
    assert spec["postgresql"]["parameters"] == parameters
    assert patroni["synchronous_mode"] == "quorum"
    assert spec["postgresql"]["synchronous"] == {
        "method": "any",
        "number": patroni["synchronous_node_count"],
        "dataDurability": "required",
    }
    assert spec["instances"] == 3
