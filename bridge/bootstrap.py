"""Builds the bridge from its settings."""

import contextlib
import importlib.metadata
import math
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.app import Lifecycle, create_app
from bridge.auth import Authenticator, HeaderAuth
from bridge.metrics import Metrics
from bridge.rate_limit import RateLimit, RateLimits
from bridge.rpc_client import RpcClient
from bridge.server import Server
from bridge.settings import Settings
from runtime.health import Build

if TYPE_CHECKING:
    from bridge.eureka import EurekaRegistration


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """What the process runs, and what it reports at its end."""

    server: Server
    rpc_client: RpcClient
    metrics: Metrics


@contextlib.asynccontextmanager
async def bridge(settings: Settings, listener: socket.socket) -> AsyncIterator[Bridge]:
    """The bridge, connecting to RabbitMQ; `listener` is the socket that it will serve."""
    build = Build.installed("payment-bridge", commit=settings.git_commit)
    metrics, lifecycle = Metrics(build), Lifecycle()
    rpc_client = RpcClient(
        amqp_url=settings.amqp_url.get_secret_value(),
        timeout_seconds=settings.bridge_timeout_seconds,
        max_in_flight=settings.bridge_max_in_flight,
        max_long_polls=settings.bridge_max_held,
        observer=metrics,
    )
    metrics.watch(rpc_client)
    async with rpc_client, _authenticator(settings, rpc_client) as authenticator:
        app = create_app(
            rpc_client=rpc_client,
            authenticator=authenticator,
            rate_limits=_rate_limits(settings),
            lifecycle=lifecycle,
            build=build,
            metrics=metrics,
        )
        server = Server(
            app,
            request_seconds=settings.bridge_timeout_seconds,
            lifecycle=lifecycle,
            rpc_client=rpc_client,
            registration=_registration(settings, listener),
            drain_seconds=settings.drain_seconds,
        )
        yield Bridge(server=server, rpc_client=rpc_client, metrics=metrics)


@contextlib.asynccontextmanager
async def _authenticator(settings: Settings, rpc_client: RpcClient) -> AsyncIterator[Authenticator]:
    if settings.bridge_auth != "jwt":
        yield HeaderAuth()
        return
    from bridge.jwks import JwksCache, source_at  # noqa: PLC0415 - 20 MB that only this mode needs
    from bridge.jwt_auth import JwtAuth  # noqa: PLC0415
    from bridge.token_clock import TokenClock  # noqa: PLC0415

    async with JwksCache(source_at(settings.bridge_jwt_jwks)) as cache:
        yield JwtAuth(
            cache,
            issuer=settings.bridge_jwt_issuer,
            audience=settings.bridge_jwt_audience,
            clock=TokenClock(rpc_client=rpc_client),
        )


def _rate_limits(settings: Settings) -> RateLimits:
    per_second, per_minute = settings.bridge_caller_requests_per_second, settings.bridge_booking_creates_per_minute
    burst = settings.bridge_caller_burst or max(1, math.ceil(per_second))  # one second's worth
    return RateLimits(
        callers=RateLimit(per_second=per_second, burst=burst),
        bookings=RateLimit(per_second=per_minute / 60, burst=max(1, per_minute)),
    )


def _registration(settings: Settings, listener: socket.socket) -> "EurekaRegistration | None":
    if not settings.eureka_peers:
        return None
    from bridge.eureka import EurekaRegistration  # noqa: PLC0415 - 10 MB that only a registration needs

    return EurekaRegistration(
        peers=settings.eureka_peers,
        app_name=settings.eureka_app_name.lower(),
        host=settings.instance_host,
        listens_at=listener.getsockname()[:2],
        version=importlib.metadata.version("bookticket-payment-service"),
    )
