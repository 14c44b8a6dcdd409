"""What a person asks the service to do with a payment: written down with name and reason, answered by the service."""

from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console.acts import ActForm, act_form
from console.forms import Form, post_route
from console.metrics import Metrics
from console.rendering import Renderer
from console.sessions import FormTokens
from console.story import now_of
from service.adapters.postgres import PostgresActs, PostgresStore
from service.application.ports.operator_acts import ActKind
from service.domain.payment import Payment, PaymentStatus

SHOWN: Final = 10
DOES: Final = {
    ActKind.VERIFY: "The service asks Stripe how the session stands, and does what follows from that.",
    ActKind.CLOSE: "Ends a payment that cannot end by itself, at Stripe first, or attention that you have dealt with. "
    "Its booking is free then. It sends no money back: refund at Stripe before. What is paid as asked is not closed.",
    ActKind.RECONCILE: "The service holds all of Stripe's sessions of half an hour before and after it against the "
    "payments here, both ways, and mends what may be mended.",
    ActKind.RESEND: "The newest event is published once more, with the same id: subscribers that have it ignore it.",
}
WORDS: Final = {
    ActKind.VERIFY: "Verify now",
    ActKind.CLOSE: "Close",
    ActKind.RECONCILE: "Reconcile",
    ActKind.RESEND: "Resend the event",
}


class PaymentActs:
    """The forms of a payment, and what became of what was asked."""

    def __init__(
        self,
        *,
        acts: PostgresActs,
        store: PostgresStore,
        renderer: Renderer,
        tokens: FormTokens,
        metrics: Metrics,
    ) -> None:
        self._acts = acts
        self._store = store
        self._renderer = renderer
        self._tokens = tokens
        self._metrics = metrics

    @property
    def routes(self) -> list[Route]:
        """By path."""
        return [
            Route("/payments/{id:int}/acts", self.part),
            Route("/payments/{id:int}/act/{kind}", self.confirm),
            post_route("/payments/{id:int}/act/{kind}", self.ask, tokens=self._tokens),
        ]

    async def part(self, request: Request) -> Response:
        """What was asked of a payment, which a script reads again until it is answered."""
        acts = await self._acts.of_payment(request.path_params["id"], limit=SHOWN)
        return self._renderer.page(request, "asked.html", acts=acts)

    async def confirm(self, request: Request) -> Response:
        """The page on which a person confirms."""
        return await self._confirm(request, problem="", given={})

    async def ask(self, request: Request, form: Form) -> Response:
        """Write it down."""
        found = await self._found(request)
        if found is None:
            return self._nothing(request)
        payment, kind = found
        checked = act_form(form, request.state.person)
        if not isinstance(checked, ActForm):
            return await self._confirm(request, problem=checked, given=form)
        await self._acts.ask(kind, payment.id, actor=checked.by, why=checked.why)
        self._metrics.on_act(kind, "asked")
        return RedirectResponse(f"/payments/{payment.id}", HTTPStatus.SEE_OTHER)

    async def _confirm(self, request: Request, *, problem: str, given: Form) -> Response:
        found = await self._found(request)
        if found is None:
            return self._nothing(request)
        payment, kind = found
        return self._renderer.page(
            request,
            "confirm.html",
            status=HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK,
            payment=payment,
            sentence=now_of(payment, self._renderer.now()),
            kind=kind,
            does=DOES[kind],
            word=WORDS[kind],
            problem=problem,
            given=given,
        )

    async def _found(self, request: Request) -> tuple[Payment, ActKind] | None:
        payment_id, kind = request.path_params["id"], request.path_params["kind"]
        if kind not in set(ActKind) or not 0 < payment_id < 2**63:
            return None
        payment = await self._store.payment(payment_id)
        return None if payment is None else (payment, ActKind(kind))

    def _nothing(self, request: Request) -> Response:
        text = "There is no such payment, or no such act."
        return self._renderer.page(request, "message.html", status=HTTPStatus.NOT_FOUND, title="Not found", text=text)


def possible(payment: Payment) -> list[tuple[ActKind, str]]:
    """The acts that may change something about the payment, with their words."""
    kinds = [ActKind.RESEND] if payment.version else []
    if payment.status is PaymentStatus.PENDING and payment.session_id is not None:
        kinds.insert(0, ActKind.VERIFY)
    if payment.status is PaymentStatus.PENDING or payment.open_attention is not None:
        kinds.append(ActKind.CLOSE)
    kinds.append(ActKind.RECONCILE)
    return [(kind, WORDS[kind]) for kind in kinds]
