"""Alerts and dashboards name what the processes export, and every alert has its tests and its runbook."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy/observability"
OPERATING: Final = (ROOT / "docs/operating.md").read_text()
RULES: Final = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS: Final = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED: Final = {rule["record"] for rule in RULES if "record" in rule}
DASHBOARDS: Final = sorted((FOLDER / "dashboards").glob("*.json"))
OTHERS: Final = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
"""Metrics that every process has."""


def documented() -> dict[str, set[str]]:
    """Names and labels. `tests/integration/operators/test_one_request.py` holds them against what is exported."""
    rows = re.findall(r"^\| `(payment_\w+)` \| (\w+) \|([^|]*)\|", OPERATING, re.MULTILINE)
    found = dict[str, set[str]]()
    for name, kind, labels in rows:
        for end in ("_bucket", "_count", "_sum") if kind == "histogram" else ("",):
            found[name + end] = set(re.findall(r"`(\w+)`", labels)) | ({"le"} if end == "_bucket" else set())
    return found


def panels() -> Iterator[tuple[str, str, str]]:
    """Dashboard, panel and expression."""
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield file.stem, panel["title"], target["expr"]


EXPRESSIONS: Final = [rule["expr"] for rule in RULES] + [expression for _, _, expression in panels()]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_only_what_is_exported(expression: str) -> None:
    known = documented()
    for name, selector in re.findall(r"\b(payment_\w+|process_\w+)(?:\{([^}]*)\})?", expression):
        assert name in known or name in OTHERS
        labels = set(re.findall(r"(\w+)\s*[=!]", selector or ""))
        assert labels <= known.get(name, set()) | {"job", "instance"}, name
    assert set(re.findall(r"payments:\w+:\w+", expression)) <= RECORDED


def test_there_are_dashboards_for_callers_money_stripe_and_machinery_and_no_metric_is_left_out() -> None:
    assert [file.stem for file in DASHBOARDS] == ["callers", "machinery", "money", "stripe"]
    shown = {name for _, _, expression in panels() for name in re.findall(r"payment_\w+", expression)}
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in documented()}
    limits = {"payment_bridge_long_polls_limit", "payment_service_pending_replies_limit"}
    seen_elsewhere = {"payment_bridge_http_requests_in_flight", "payment_service_gateway_calls_in_flight"}
    assert names - shown <= limits | seen_elsewhere


def test_every_alert_has_a_severity_and_a_runbook() -> None:
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", OPERATING, re.MULTILINE)}
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"critical", "warning"}, name
        assert rule["annotations"]["runbook"] == f"docs/operating.md#{name.lower()}"
        assert name.lower() in headings
    assert {heading for heading in headings if heading.startswith("payments")} == {name.lower() for name in ALERTS}


def test_every_alert_is_tested_to_fire_and_to_stay_quiet() -> None:
    tests: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    assert [test["name"] for test in tests] == [
        f"{name} {does}" for name in ALERTS for does in ("fires", "stays quiet")
    ]
