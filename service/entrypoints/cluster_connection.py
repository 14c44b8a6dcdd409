"""aio-pika's robust connection, led to another node of RabbitMQ at each try. The library knows URLs of one node."""

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from aio_pika import RobustConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from runtime.aio import spread
from runtime.amqp_nodes import RECONNECT_SECONDS, host_and_port, node_urls


class ClusterConnection(RobustConnection):
    """It goes through the nodes in turn, at the start from the first one, after a loss from the next one.

    A test pins the private method that is overridden here.
    """

    def __init__(self, *args: Any, nodes: Sequence[str], **options: Any) -> None:
        """`nodes`: the URLs, which differ in host and port alone."""
        super().__init__(*args, **options)
        self._tries = len(nodes)
        self._nodes = itertools.cycle(map(host_and_port, nodes))

    async def _RobustConnection__connect_transport(self) -> None:  # noqa: N802
        if self.transport is not None:  # the lost one
            await asyncio.sleep(spread(RECONNECT_SECONDS))
        for _ in range(self._tries - 1):
            with contextlib.suppress(*CONNECTION_EXCEPTIONS):
                return await self._try_next()
        return await self._try_next()

    async def _try_next(self) -> None:
        host, port = next(self._nodes)
        self.url = self.url.with_host(host).with_port(port)
        await super()._RobustConnection__connect_transport()  # type: ignore[misc]


def connection_class(url: str) -> Callable[..., ClusterConnection]:
    """What `aio_pika.connect_robust`, and so FastStream, takes as `connection_class`; `url` may name several nodes."""
    return functools.partial(ClusterConnection, nodes=node_urls(url))
