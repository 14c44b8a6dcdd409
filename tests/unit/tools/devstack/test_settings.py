"""The settings of the local stack, and the sentence for each wrong one."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.devstack import stack_settings
from tools.devstack.processes import LocalError, free_ports

PORTS = ("BRIDGE_PORT", "SERVICE_PORT", "CONSOLE_PORT", "SANDBOX_PORT", "STOREFRONT_PORT")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    return ports | {"STACK_DIR": str(tmp_path)}


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


def test_a_test_key_means_stripe_itself_and_no_key_the_sandbox(environ: dict[str, str]) -> None:
    chosen = stack_settings.load(environ)
    assert (chosen.sandbox, chosen.stripe_api_key[:8]) == (True, "sk_test_")
    for key in ("sk_test_1", "rk_test_1"):
        chosen = stack_settings.load(environ | {"STRIPE_API_KEY": key})
        assert (chosen.sandbox, chosen.stripe_api_key) == (False, key)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(({"STRIPE_API_KEY": f"{kind}_live_hidden"}, "STRIPE_API_KEY is a live key") for kind in ("sk", "rk")),
        *(({"STRIPE_API_KEY": key}, "STRIPE_API_KEY must begin with") for key in ("pk_test_hidden", "hidden")),
        *(({"BRIDGE_PORT": text}, "BRIDGE_PORT must be a number") for text in ("0", "65536", "-1", "http", "٨٠")),
        *(({name: "{taken}"}, f"^Port {{taken}} is taken by another program.*{name}") for name in PORTS),
        ({"BRIDGE_PORT": "{service}"}, "BRIDGE_PORT and SERVICE_PORT are the same port"),
    ],
)
def test_a_wrong_setting_is_named_in_a_sentence_that_never_shows_a_key(
    environ: dict[str, str], taken: str, changes: dict[str, str], words: str
) -> None:
    given = {name: text.format(taken=taken, service=environ["SERVICE_PORT"]) for name, text in changes.items()}
    with pytest.raises(LocalError, match=words.format(taken=taken)) as refused:
        stack_settings.load(environ | given)
    assert "hidden" not in str(refused.value)


def test_the_web_shop_moves_when_nobody_chose_its_port(
    environ: dict[str, str], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stack_settings.DEFAULT_PORTS, "STOREFRONT_PORT", int(taken))
    del environ["STOREFRONT_PORT"]
    assert stack_settings.load(environ).storefront_port != int(taken)


def test_servers_that_are_named_are_used(environ: dict[str, str]) -> None:
    chosen = stack_settings.load(
        environ | {"AMQP_URL": "amqp://elsewhere/", "DATABASE_URL": "postgresql://elsewhere/db"}
    )
    assert (chosen.amqp_url, chosen.database_url) == ("amqp://elsewhere/", "postgresql://elsewhere/db")
