"""Dead letters: the list, one of them, and a person's decision about it."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
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
from contracts import body as bodies
from contracts.commands import CommandType
from runtime.dead_letters.changes import LetterAct, change
from runtime.dead_letters.letter import Letter, one_line
from runtime.dead_letters.queues import BrokerError, DeadLetterQueues, UnreplayableError, opened
from service.adapters.postgres import Database, OperatorJournal, PostgresStore, database_now
from service.application.replay_effect import ReplayEffect, effect_of
from service.domain.errors import StoreUnavailableError

MAX_LISTED: Final = 500
MAX_HEADERS: Final = 100
GONE: Final = (
    "This letter cannot be seen: it was replayed or dropped, as Acts then says, or somebody else reads the letters at "
    "this moment. Load the page again to know."
)


class NoConsentError(Exception):
    """A person has not agreed to what a replay would do; the text says what is missing."""


class LetterPages:
    """A letter's address is its queue and the fingerprint of its id and body: two of them never look the same."""

    def __init__(
        self,
        *,
        amqp_url: str,
        database: Database,
        store: PostgresStore,
        renderer: Renderer,
        tokens: FormTokens,
        metrics: Metrics,
    ) -> None:
        self._amqp_url = amqp_url
        self._database = database
        self._journal = OperatorJournal(database)
        self._store = store
        self._renderer = renderer
        self._tokens = tokens
        self._metrics = metrics

    @property
    def routes(self) -> list[Route]:
        """By path."""
        one = "/letters/{command}/{key}"
        return [
            Route("/letters", self.list),
            Route(one, self.show),
            post_route(f"{one}/{{act}}", self.change, tokens=self._tokens),
        ]

    async def list(self, request: Request) -> Response:
        """The oldest of each queue."""
        try:
            async with opened(self._amqp_url, max_held=MAX_LISTED) as queues:
                letters = [letter async for letter in queues.letters(CommandType)]
                unseen = queues.unseen
        except BrokerError as error:
            return self._sorry(request, str(error))
        return self._renderer.page(
            request, "letters.html", letters=[(key_of(each), each, booking_of(each)) for each in letters], unseen=unseen
        )

    async def show(self, request: Request) -> Response:
        """One letter, and the forms to decide about it."""
        return await self._show(request, problem="", given={})

    async def change(self, request: Request, form: Form) -> Response:
        """Replay or drop it."""
        try:
            act = LetterAct(request.path_params["act"])
        except ValueError:
            return self._sorry(request, "There is no such act.", HTTPStatus.NOT_FOUND)
        checked = act_form(form, request.state.person)
        if not isinstance(checked, ActForm):
            return await self._show(request, problem=checked, given=form)
        try:
            async with self._found(request) as (queues, letter):
                if letter is None:
                    return self._sorry(request, GONE, HTTPStatus.NOT_FOUND)
                if act is LetterAct.REPLAY:
                    _check_consent(form, await self._effect(letter))
                now = await database_now(self._database)
                await change(
                    letter, act, queues=queues, journal=self._journal, now=now, actor=checked.by, why=checked.why
                )
        except (UnreplayableError, NoConsentError) as error:
            return await self._show(request, problem=f"Nothing was done: {error}.", given=form)
        except BrokerError as error:
            self._metrics.on_act(act, "failed")
            return self._sorry(request, str(error))
        self._metrics.on_act(act, "done")
        return RedirectResponse("/acts#letters", HTTPStatus.SEE_OTHER)

    async def _show(self, request: Request, *, problem: str, given: Form) -> Response:
        try:
            async with self._found(request) as (_, letter):
                pass
        except BrokerError as error:
            return self._sorry(request, str(error))
        if letter is None:
            return self._sorry(request, GONE, HTTPStatus.NOT_FOUND)
        return self._page(request, letter, await self._effect(letter), problem=problem, given=given)

    async def _effect(self, letter: Letter) -> ReplayEffect | None:
        """What a replay would do; None if the database does not answer, which hides no letter."""
        try:
            return await effect_of(letter, self._store, await database_now(self._database))
        except StoreUnavailableError:
            return None

    def _page(
        self, request: Request, letter: Letter, effect: ReplayEffect | None, *, problem: str, given: Form
    ) -> Response:
        return self._renderer.page(
            request,
            "letter.html",
            status=HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK,
            letter=letter,
            key=key_of(letter),
            booking=booking_of(letter),
            facts=facts_of(letter),
            headers=_headers(letter),
            effect=warning_of(effect),
            is_futile=effect is not None and effect.futile is not None,
            problem=problem,
            given=given,
        )

    @asynccontextmanager
    async def _found(self, request: Request) -> AsyncIterator[tuple[DeadLetterQueues, Letter | None]]:
        """The letter of the address, which nobody else sees until the end."""
        command, key = request.path_params["command"], request.path_params["key"]
        async with opened(self._amqp_url) as queues:
            found = None
            if command in set(CommandType):
                async for letter in queues.letters([CommandType(command)]):
                    if key_of(letter) == key:
                        found = letter
                        break
            yield queues, found

    def _sorry(self, request: Request, text: str, status: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE) -> Response:
        return self._renderer.page(request, "message.html", status=status, title="Dead letters", text=text)


def key_of(letter: Letter) -> str:
    """For its address: ids are the senders' words, and may be the same, or missing."""
    return hashlib.sha256(f"{letter.message_id or ''}\n{letter.body_sha256}".encode()).hexdigest()[:20]


def warning_of(effect: ReplayEffect | None) -> str:
    """What a person should know before a replay; empty if nothing is known."""
    if effect is None:
        return "The database does not answer: nobody can say what a replay would do by now."
    if effect.futile is None:
        return f"As things stand, {effect.text}." if effect.text else ""
    facts = [effect.text] if effect.text.startswith(effect.futile) else filter(None, (effect.futile, effect.text))
    return f"It is of no use: {'; '.join(facts)}."


def _check_consent(form: Form, effect: ReplayEffect | None) -> None:
    """Whether the person knew what a replay would do, and wants it. Raises NoConsentError if not."""
    if form.get("effect", "") != warning_of(effect):
        raise NoConsentError("what a replay would do has changed meanwhile, read it again below")
    if effect is not None and effect.futile is not None and form.get("force") != "yes":
        raise NoConsentError("it is of no use, so say that it is to be sent all the same, or drop it")


def booking_of(letter: Letter) -> int | None:
    """The booking that its body names, if it names one."""
    try:
        found = bodies.loads(letter.body)
    except (ValueError, TypeError, RecursionError):
        return None
    booking = found.get("bookingId") if isinstance(found, dict) else None
    return booking if type(booking) is int and 0 < booking < 2**63 else None


def facts_of(letter: Letter) -> Sequence[tuple[str, str]]:
    """What the letter's properties say, each in one line."""
    properties = letter.properties
    facts = {
        "Message id": properties.message_id,
        "Correlation id": properties.correlation_id,
        "Type": properties.message_type,
        "Content type": properties.content_type,
        "Encoding": properties.content_encoding,
        "Reply to": properties.reply_to,
        "Expiration": properties.expiration,
        "Sender": letter.sender,
        "Application": properties.app_id,
        "Body": f"{len(letter.body)} bytes, sha256 {letter.body_sha256}",
    }
    return [(name, one_line(value)) for name, value in facts.items() if value]


def _headers(letter: Letter) -> Sequence[tuple[str, str]]:
    return [(one_line(name), one_line(value)) for name, value in sorted(letter.headers.items())[:MAX_HEADERS]]
