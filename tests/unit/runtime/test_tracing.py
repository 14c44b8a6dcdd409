"""Off, traces cost nothing and import nothing; on, they need their extra."""

import subprocess
import sys
from pathlib import Path

import pytest

from runtime import tracing
from runtime.command_start import CannotStartError

ROOT = Path(__file__).parents[3]
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
OFF = """
import sys
import bridge.serve, service.cli.run
from runtime import tracing
tracing.start("a-process")
with tracing.span("a", "server", parent="00-%s-%s-01") as span, tracing.child("b", "client") as below:
    assert span is below is tracing.current() is tracing.NOTHING
assert not tracing.is_on()
dear = ("opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf")
print([name for name in sys.modules if name.startswith(dear)])
"""


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    code = OFF % ("a" * 32, "b" * 16)
    bare = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_a_span_of_nobody_changes_no_message() -> None:
    headers = {"traceparent": "as it came"}
    assert tracing.NOTHING.carried(headers) is headers
    assert tracing.NOTHING.trace_parent is None


def test_who_names_a_collector_without_the_extra_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.delitem(sys.modules, "runtime.otel", raising=False)
    monkeypatch.delattr("runtime.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(CannotStartError, match=r"needs the extra 'otel'.*bookticket-payment-service\[otel\]"):
        tracing.start("a-process")
    assert not tracing.is_on()
