from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families


@asynccontextmanager
async def pages(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the pages of an application in this process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app/actuator/") as client:
        yield client


def pages_at(url: str) -> httpx.AsyncClient:
    """A client of the pages of a process; `url` ends with a slash."""
    return httpx.AsyncClient(base_url=url, timeout=60)


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(client: httpx.AsyncClient) -> Samples:
    """Every sample of the page as Prometheus' own parser loads it; none twice."""
    answer = await client.get("prometheus")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families: Iterable[Any] = text_string_to_metric_families(answer.text)
    samples = [
        (sample.name, frozenset(sample.labels.items()), sample.value) for each in families for sample in each.samples
    ]
    found = {(name, labels): value for name, labels, value in samples}
    assert len(found) == len(samples)
    return found


def counted(before: Samples, after: Samples, name: str) -> dict[tuple[str, ...], float]:
    """What a family counted in between, by the values of its labels in the order of their names."""
    grown = {}
    for (sample, labels), value in after.items():
        more = value - before.get((sample, labels), 0)
        if sample == name and more:
            grown[tuple(value for _, value in sorted(labels))] = more
    return grown


def gauge(samples: Samples, name: str) -> float:
    """A value without labels."""
    return samples[name, frozenset()]
