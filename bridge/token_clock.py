"""The time by which tokens are judged: the service's. This machine's may be wrong, which is no fault of a caller's."""

import asyncio
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from bridge.errors import BridgeError
from bridge.rpc_client import RpcClient
from contracts import body, envelope
from contracts.commands import CommandType, GetPaymentStatus

_OF_NO_PAYMENT: Final = body.write(GetPaymentStatus(transaction_id="cs_test_whattimeisit"))


@dataclass(kw_only=True)
class TokenClock:
    """The service's clock, as the RPC client's replies tell it."""

    rpc_client: RpcClient
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def now(self) -> float:
        """Unix seconds; this machine's while no reply has told the service's."""
        return self.rpc_client.clock.now()[0]

    async def asked(self) -> float:
        """The same, but by the service's clock alone, which is asked for if need be.

        Raises:
            BridgeError: nobody tells it.
        """
        async with self._one_at_a_time:
            if not self._is_known:
                try:
                    request = {envelope.REQUEST_ID: f"generated-{uuid4()}"}
                    await self.rpc_client.call(CommandType.PAYMENT_STATUS, _OF_NO_PAYMENT, request)
                except BridgeError as error:
                    if error.refusal.fault is None:  # a fault is an answer, with its time
                        raise
        return self.now()

    @property
    def _is_known(self) -> bool:
        return self.rpc_client.clock.now()[1]
