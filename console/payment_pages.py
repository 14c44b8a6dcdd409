"""Search, its export, and the page of a payment."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from console import query, story
from console.payment_acts import SHOWN, possible
from console.query import MistypedError
from console.rendering import Renderer, filled, iso
from contracts.envelope import is_trace_parent, trace_ids
from service.adapters.postgres import PostgresActs, PostgresSearch, PostgresStore
from service.application.ports.search import FoundPayment, Wanted
from service.domain.errors import SearchTooLongError
from service.domain.payment import Payment

PAGE_SIZE: Final = 50
EXPORT_SIZE: Final = 1_000
MAX_EXPORTED: Final = 1_000_000
_TOO_LONG: Final = HTTPStatus.SERVICE_UNAVAILABLE
_COLUMNS: Final = (
    "payment booking user amount currency status reason attention session refundedMinor dispute createdAt updatedAt"
).split()


@dataclass(frozen=True, kw_only=True)
class Links:
    """Where else something is to be seen, as templates of addresses; empty: nowhere."""

    trace: str = ""
    logs: str = ""


class PaymentPages:
    """What is read of payments."""

    def __init__(
        self, *, search: PostgresSearch, store: PostgresStore, acts: PostgresActs, renderer: Renderer, links: Links
    ) -> None:
        self._search = search
        self._acts = acts
        self._store = store
        self._renderer = renderer
        self._links = links

    @property
    def routes(self) -> list[Route]:
        """By path."""
        return [
            Route("/search", self.search),
            Route("/find", self.find),
            Route("/export.{kind:str}", self.export),
            Route("/payments/{id:int}", self.payment),
        ]

    async def find(self, request: Request) -> Response:
        """The one field: to the payment if there is one, else to the list."""
        text = request.query_params.get("q", "").strip()
        if not text:
            return RedirectResponse("/search", HTTPStatus.SEE_OTHER)
        try:
            found = [
                each
                for wanted in query.anything(text)
                for each in await self._search.page(wanted, after=None, limit=PAGE_SIZE)
            ]
        except MistypedError as error:
            return self._list(request, {}, [], problem=str(error), text=text)
        except SearchTooLongError:
            return self._list(request, {}, [], problem=query.narrower({}), text=text, status=_TOO_LONG)
        if len(found) == 1:
            return RedirectResponse(f"/payments/{found[0].id}", HTTPStatus.SEE_OTHER)
        return self._list(request, {}, found, text=text)

    async def search(self, request: Request) -> Response:
        """The form and a page of what matches."""
        fields = dict(request.query_params)
        try:
            wanted, after = query.wanted(fields), query.place(fields.get("after", ""))
        except MistypedError as error:
            return self._list(request, fields, [], problem=str(error))
        try:
            found = await self._search.page(wanted, after=after, limit=PAGE_SIZE + 1)
        except SearchTooLongError:
            return self._list(request, fields, [], problem=query.narrower(fields), status=_TOO_LONG)
        shown = found[:PAGE_SIZE]
        more = query.address(shown[-1].place) if len(found) > PAGE_SIZE else ""
        return self._list(request, fields, shown, more=more)

    def _list(
        self,
        request: Request,
        fields: dict[str, str],
        found: Iterable[FoundPayment],
        *,
        more: str = "",
        problem: str = "",
        text: str = "",
        status: HTTPStatus = HTTPStatus.BAD_REQUEST,
    ) -> Response:
        """A page of what was found, or the problem with its status."""
        kept = {name: value for name, value in fields.items() if value and name != "after"}
        return self._renderer.page(
            request,
            "search.html",
            status=status if problem else HTTPStatus.OK,
            fields=fields,
            choices=query.CHOICES,
            found=list(found),
            problem=problem,
            query=text,
            is_first="after" not in fields,
            next_page=urlencode({**kept, "after": more}) if more else "",
            exported=urlencode(kept),
            kept=kept,
        )

    async def export(self, request: Request) -> Response:
        """All that matches, as it is read."""
        kind = request.path_params["kind"]
        if kind not in {"csv", "json"}:
            return Response("There is nothing at this address.\n", HTTPStatus.NOT_FOUND, media_type="text/plain")
        fields = dict(request.query_params)
        try:
            wanted = query.wanted(fields)
        except MistypedError as error:
            return Response(f"{error}\n", HTTPStatus.BAD_REQUEST, media_type="text/plain")
        try:
            first = await self._search.page(wanted, after=None, limit=EXPORT_SIZE)
        except SearchTooLongError:
            return Response(f"{query.narrower(fields)}\n", _TOO_LONG, media_type="text/plain")
        name = f"payments-{self._renderer.now():%Y%m%d-%H%M%S}.{kind}"
        found = self._all(wanted, first)
        lines = _csv(found) if kind == "csv" else _json(found)
        media_type = "text/csv; charset=utf-8" if kind == "csv" else "application/json"
        return StreamingResponse(
            lines, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'}
        )

    async def _all(self, wanted: Wanted, found: Sequence[FoundPayment]) -> AsyncIterator[list[dict[str, Any]]]:
        """All pages, of which the first was read before the answer began."""
        for _ in range(MAX_EXPORTED // EXPORT_SIZE):
            if found:
                yield [_exported(each) for each in found]
            if len(found) < EXPORT_SIZE:
                return
            found = await self._search.page(wanted, after=found[-1].place, limit=EXPORT_SIZE)

    async def payment(self, request: Request) -> Response:
        """All about one."""
        payment_id = request.path_params["id"]
        payment = await self._store.payment(payment_id) if 0 < payment_id < 2**63 else None
        if payment is None:
            return self._renderer.page(
                request,
                "message.html",
                status=HTTPStatus.NOT_FOUND,
                title="No such payment",
                text=f"There is no payment {payment_id} here.",
            )
        journal = await self._store.journal(payment.id)
        events = await self._search.events(payment.id)
        siblings = await self._search.page(Wanted(booking_id=payment.booking_id), after=None, limit=PAGE_SIZE)
        now = self._renderer.now()
        return self._renderer.page(
            request,
            "payment.html",
            payment=payment,
            sentence=story.now_of(payment, now),
            history=story.history(payment, journal, events, now),
            unsent=[event for event in events if event.sent_at is None],
            acts=await self._acts.of_payment(payment.id, limit=SHOWN),
            possible=possible(payment),
            siblings=[each for each in siblings if each.id != payment.id],
            sent_to_stripe=json.dumps(payment.gateway_request, indent=2, ensure_ascii=False),
            stripe_url=_stripe_url(payment),
            dashboard=_dashboard(payment),
            logs_url=filled(self._links.logs, {"payment_id": str(payment.id), "request_id": _first(journal)}),
            trace_url=filled(self._links.trace, {"trace_id": _trace_id(events)}),
        )


def _dashboard(payment: Payment) -> str:
    return "https://dashboard.stripe.com" + ("" if payment.livemode else "/test")


def _stripe_url(payment: Payment) -> str:
    return f"{_dashboard(payment)}/search?query={payment.session_id}" if payment.session_id else ""


def _first(journal: Any) -> str:
    return str(journal[0].request_id) if journal else ""


def _trace_id(events: Any) -> str:
    found = [each.trace_parent for each in events if is_trace_parent(each.trace_parent)]
    return trace_ids(found[0])["trace_id"] if found else ""


def _exported(found: FoundPayment) -> dict[str, Any]:
    values = (
        *(found.id, found.booking_id, found.user_id, str(found.money.major), found.money.currency, found.status),
        *(found.reason, found.attention, found.session_id, found.refunded_minor, found.dispute),
        *(iso(found.created_at), iso(found.updated_at)),
    )
    return dict(zip(_COLUMNS, values, strict=True))


async def _csv(pages: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[str]:
    """Every value is a number, a word of ours or an id of Stripe's: none begins a formula of a spreadsheet."""
    yield ",".join(_COLUMNS) + "\r\n"
    async for page in pages:
        text = io.StringIO()
        csv.DictWriter(text, _COLUMNS).writerows(page)
        yield text.getvalue()


async def _json(pages: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[str]:
    before = "["
    async for page in pages:
        yield before + ",\n".join(json.dumps(each) for each in page)
        before = ",\n"
    yield "[]\n" if before == "[" else "]\n"
