"""What every act asks of a person: who it is and why. Without both nothing is done."""

from dataclasses import dataclass
from typing import Final

from console.forms import Form
from console.identity import Person, is_name
from contracts.fields import holds_card_number

MAX_REASON_LENGTH: Final = 200


@dataclass(frozen=True, kw_only=True)
class ActForm:
    """Who acts, and why."""

    by: str
    why: str


def act_form(form: Form, person: Person) -> ActForm | str:
    """What the form says, or what is wrong with it in a sentence. Who has logged in needs and gets no other name."""
    by, why = (person.name or form.get("by", "")).strip(), form.get("why", "").strip()
    if not is_name(by):
        return "Say who you are: 1 to 128 printable characters."
    if not why or not why.isprintable() or len(why) > MAX_REASON_LENGTH or holds_card_number(why):
        return f"Say why: 1 to {MAX_REASON_LENGTH} printable characters, without a card number."
    if form.get("sure") != "yes":
        return "Confirm it."
    return ActForm(by=by, why=why)
