"""Work that no command asked for: it has a request id and a trace of its own, linked to the payment's."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from contracts import envelope
from runtime import logs, tracing
from service.application.ports import CommandContext, Store
from service.domain.errors import StoreUnavailableError
from service.domain.payment import Payment


@asynccontextmanager
async def own_work(
    name: str, *, request_id: str, store: Store, payment: Payment | None = None
) -> AsyncGenerator[CommandContext]:
    """The context of work on a payment, if it is known beforehand; every line that is logged inside says so."""
    links = await _links(store, payment) if tracing.is_on() else []
    ids: dict[str, Any] = {"request_id": request_id}
    if payment is not None:
        ids |= {"payment_id": payment.id, "booking_id": payment.booking_id}
    with tracing.span(name, "internal", {f"payment.{each}": value for each, value in ids.items()}, links=links) as span:
        trace_parent = span.trace_parent or envelope.new_trace_parent()
        with logs.context(**ids, **envelope.trace_ids(trace_parent)):
            yield CommandContext(message_id="", request_id=request_id, trace_parent=trace_parent)


async def _links(store: Store, payment: Payment | None) -> list[str]:
    """The trace in which the payment was begun; without a database the work goes on with no link."""
    try:
        begun_in = None if payment is None else await store.trace_parent_of(payment.id)
    except StoreUnavailableError:
        return []
    return [begun_in] if envelope.is_trace_parent(begun_in) and begun_in is not None else []
