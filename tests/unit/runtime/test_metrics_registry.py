import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.health import Build
from runtime.metrics_registry import MetricsRegistry, Values

BUILD = Build(name="payment-thing", version="1.2.3", commit="90b07ff")


@pytest.fixture
def registry() -> MetricsRegistry:
    return MetricsRegistry("thing", BUILD)


def samples(registry: MetricsRegistry) -> dict[str, float]:
    """Every sample of the page, written as Prometheus shows it."""
    families = text_string_to_metric_families(registry.page().decode())
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_page_names_the_build_and_the_process(registry: MetricsRegistry) -> None:
    page = samples(registry)
    assert page["thing_build_info commit=90b07ff version=1.2.3"] == 1
    assert page["process_cpu_seconds_total"] > 0


def test_counters_and_histograms_count_by_their_labels(registry: MetricsRegistry) -> None:
    calls, plain = registry.counter("calls", "Calls.", "kind", "result"), registry.counter("plain", "Plain.")
    seconds, size = registry.histogram("seconds", "Time.", "kind"), registry.histogram("size", "Size.")
    calls("a", "good").inc()
    calls("a", "good").inc()
    calls("b", "bad")
    plain().inc()
    seconds("a").observe(3)
    size().observe(1)
    page = samples(registry)
    assert page["thing_calls_total kind=a result=good"] == registry.value("calls_total", kind="a", result="good") == 2
    assert page["thing_calls_total kind=b result=bad"] == 0
    assert page["thing_plain_total"] == 1
    assert (page["thing_seconds_sum kind=a"], page["thing_size_count"]) == (3, 1)
    assert not [name for name in page if "_created" in name]
    assert registry.value("calls_total", kind="c", result="good") == 0


def test_what_others_know_is_read_whenever_the_page_is_asked_for(registry: MetricsRegistry) -> None:
    known: dict[str, Values | None] = {"limit": 1, "state": [(("a",), 2), (("b",), 0)]}
    registry.read_gauge("limit", "Limit.", read=lambda: known["limit"])
    registry.read_gauge("state", "State.", "endpoint", read=lambda: known["state"])
    page = samples(registry)
    assert page["thing_limit"] == 1
    assert (page["thing_state endpoint=a"], page["thing_state endpoint=b"]) == (2, 0)
    known["limit"], known["state"] = 5, None
    page = samples(registry)
    assert page["thing_limit"] == 5
    assert not [name for name in page if name.startswith("thing_state")], "unknown is not 0"


def test_a_name_is_taken_once_and_nothing_is_read_for_that(registry: MetricsRegistry) -> None:
    def read() -> float:
        raise AssertionError

    registry.read_gauge("limit", "Limit.", read=read)
    with pytest.raises(ValueError, match="thing_limit"):
        registry.read_gauge("limit", "Limit.", read=lambda: 1)
