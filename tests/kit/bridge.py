"""Parts of the bridge as tests mean them: without limits, with callers by header, and every change by keyword."""

import time
from typing import Any, Final

from fastapi import FastAPI

from bridge.app import Lifecycle, create_app
from bridge.auth import HeaderAuth
from bridge.metrics import Metrics
from bridge.rate_limit import RateLimit, RateLimits
from bridge.rpc_client import RpcClient
from runtime.health import Build

UNLIMITED: Final = RateLimit(per_second=0, burst=1)


def an_rpc_client(amqp_url: str, **changes: Any) -> RpcClient:
    """Not connected yet; it counts in metrics of its own."""
    metrics = Metrics(Build.installed("payment-bridge", commit=None))
    parts: dict[str, Any] = {"observer": metrics, "timeout_seconds": 5, "max_in_flight": 10, "max_long_polls": 10_000}
    rpc_client = RpcClient(amqp_url=amqp_url, **parts | changes)
    metrics.watch(rpc_client)
    return rpc_client


def metrics_of(rpc_client: RpcClient) -> Metrics:
    """Where it counts."""
    assert isinstance(rpc_client.observer, Metrics)
    return rpc_client.observer


def calls(rpc_client: RpcClient, *results: str) -> list[int]:
    """How many of its calls ended with each of these results."""
    totals = metrics_of(rpc_client).calls()
    return [totals[result] for result in results]


def rate_limits(*, callers: RateLimit = UNLIMITED, bookings: RateLimit = UNLIMITED) -> RateLimits:
    """Without limits unless given."""
    return RateLimits(callers=callers, bookings=bookings)


def an_app(rpc_client: RpcClient, *, commit: str | None = None, **changes: Any) -> FastAPI:
    """The application over an RPC client, with its metrics."""
    members: dict[str, Any] = {
        "authenticator": HeaderAuth(),
        "rate_limits": rate_limits(),
        "lifecycle": Lifecycle(),
        "build": Build.installed("payment-bridge", commit=commit),
    }
    return create_app(rpc_client=rpc_client, metrics=metrics_of(rpc_client), **members | changes)


class MachineClock:
    """The time by which tokens are judged where no service tells it: this machine's, `ahead` by some seconds."""

    def __init__(self, ahead: float = 0) -> None:
        self._ahead = ahead

    def now(self) -> float:
        return time.time() + self._ahead

    async def asked(self) -> float:
        return self.now()
