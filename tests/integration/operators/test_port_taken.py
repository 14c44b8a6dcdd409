"""A port that somebody has is one sentence, before anything else is looked for."""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.kit.programs import ended

NOWHERE = {"DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x", "STRIPE_API_KEY": "sk_test_checkcheck"}

WRONG = {"service": ("PAYMENT_WINDOW_SECOND", "PAYMENT_WINDOW_SECONDS"), "bridge": ("BRIDGE_HOSTS", "BRIDGE_HOST")}


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("half", "name", "heading"), [("service", "SERVICE", "payment-service"), ("bridge", "BRIDGE", "The bridge")]
)
async def test_a_port_that_is_taken_is_one_sentence_and_status_1(
    half: str, name: str, heading: str, taken: str
) -> None:
    said = await ended("-m", half, "run", **NOWHERE, **{f"{name}_PORT": taken})
    sentence = f"It cannot listen on 127.0.0.1 port {taken} ({name}_HOST, {name}_PORT): "
    assert said.status == 1
    first, last = said.said.strip().rsplit("\n", 2)[-2:]
    assert (first, last.lower()) == (f"{heading} cannot start:", f"{sentence}address already in use.".lower())
    assert "Traceback" not in said.said


@pytest.mark.parametrize("half", ["service", "bridge"])
async def test_a_misspelt_variable_is_told_at_the_start_and_refuses_nothing(half: str, taken: str) -> None:
    ports = {"SERVICE_PORT": taken, "BRIDGE_PORT": taken}
    wrong = {
        "service": ("PAYMENT_WINDOW_SECOND", "PAYMENT_WINDOW_SECONDS"),
        "bridge": ("BRIDGE_MAX_HOLD", "BRIDGE_MAX_HELD"),
    }
    name, meant = wrong[half]
    said = await ended("-m", half, "run", **NOWHERE, **ports, **{name: "1"})
    lines = [json.loads(line) for line in said.said.splitlines() if line.startswith("{")]
    assert [(line["level"], line["message"]) for line in lines] == [
        ("WARNING", f"{name} is not a setting: is {meant} meant?")
    ]
