"""Prometheus' own tool runs the tests of the alerts, and reads every expression of the dashboards."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.architecture.test_observability import FOLDER, panels

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool on this machine")


def promtool_says(*arguments: str | Path) -> str:
    said = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=600, cwd=FOLDER
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


def test_alerts_fire_and_stay_quiet() -> None:
    assert "SUCCESS" in promtool_says("test", "rules", "alerts_test.yml")


def test_the_expressions_of_the_dashboards_can_be_read(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, (_, _, expression) in enumerate(panels())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert "SUCCESS" in promtool_says("check", "rules", file)
