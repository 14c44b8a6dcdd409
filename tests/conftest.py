"""The options, markers and order of the tests. What they share is in `tests/kit`.

PostgreSQL and RabbitMQ are real and started once for a run, by the first test that needs them; AMQP_URL and
DATABASE_URL name other servers. Each worker has a virtual host and databases of its own.
"""

import gc
from collections.abc import Generator

import pytest

pytest_plugins = ("tests.kit.leaks", "tests.kit.servers", "tests.kit.brokers", "tests.kit.databases")

COSTLY = {
    "crash": 1800,
    "mutants": 600,
    "interop": 1800,
    "fuzz": 3600,
    "containers": 3600,
    "kubernetes": 3600,
    "observability": 900,
    "packaging": 1200,
    "cluster": 1800,
}
"""Folders whose tests carry the folder's name as their marker, and the seconds after which a test there hangs."""

LONG = {"interop", "kubernetes", "crash", "e2e", "faults", "test_secrets.py", "test_state_machine.py", "test_stripe.py"}
"""Folders and files that take long begin first, so that no worker does one of them alone in the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--crash-runs",
        type=int,
        default=1,
        help="how often each fail point kills a service; beyond 4 also the number of rolling restarts",
    )
    parser.addoption("--guesses", type=int, default=100, help="how many ids of payments somebody guesses")
    parser.addoption(
        "--cases", type=int, default=120, help="how many requests and how many messages `tests/fuzz` draws"
    )
    parser.addoption("--seed", type=int, default=1, help="what `tests/fuzz` draws them from")
    parser.addoption(
        "--histories",
        type=int,
        default=150,
        help="how many histories the state machine on fakes draws; on real parts a tenth of them",
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among what stays until the end: that took a fifth of the time, in each worker."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Below the checkout only: its own folder may have any name.
        for cost in COSTLY.keys() & set(item.path.relative_to(item.config.rootpath).parts):
            item.add_marker(cost)
            item.add_marker(pytest.mark.timeout(COSTLY[cost]))
    items.sort(key=lambda item: not LONG & {*item.path.parts, item.path.name})
