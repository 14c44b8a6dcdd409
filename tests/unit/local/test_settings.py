"""What the person who starts the stack may choose, and the sentence they get when it cannot be."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import settings
from deploy.local.processes import LocalError, free_ports


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    names = ("BRIDGE_PORT", "SERVICE_PORT", "SANDBOX_PORT", "STOREFRONT_PORT")
    ports = dict(zip(names, map(str, free_ports(4)), strict=True))
    return ports | {"STACK_DIR": str(tmp_path)}


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


def test_without_a_key_the_sandbox_is_paid_with_a_test_key(environ: dict[str, str]) -> None:
    chosen = settings.load(environ)
    assert chosen.sandbox
    assert chosen.stripe_api_key.startswith("sk_test_")


@pytest.mark.parametrize("key", ["sk_test_1", "rk_test_1"])
def test_a_test_key_means_stripe_itself(environ: dict[str, str], key: str) -> None:
    chosen = settings.load(environ | {"STRIPE_API_KEY": key})
    assert not chosen.sandbox
    assert chosen.stripe_api_key == key


@pytest.mark.parametrize("key", ["sk_live_secret", "rk_live_secret", "pk_test_secret", "secret"])
def test_any_other_key_is_refused_and_never_shown(environ: dict[str, str], key: str) -> None:
    with pytest.raises(LocalError) as refused:
        settings.load(environ | {"STRIPE_API_KEY": key})
    assert "STRIPE_API_KEY" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["BRIDGE_PORT", "SERVICE_PORT", "SANDBOX_PORT", "STOREFRONT_PORT"])
def test_a_taken_port_is_named_with_its_setting(environ: dict[str, str], taken: str, name: str) -> None:
    with pytest.raises(LocalError, match=f"^Port {taken} is taken by another program.*{name}"):
        settings.load(environ | {name: taken})


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "٨٠"])
def test_a_port_is_a_number_of_a_port(environ: dict[str, str], text: str) -> None:
    with pytest.raises(LocalError, match="BRIDGE_PORT must be a number"):
        settings.load(environ | {"BRIDGE_PORT": text})


def test_two_parts_cannot_share_a_port(environ: dict[str, str]) -> None:
    with pytest.raises(LocalError, match="BRIDGE_PORT and SERVICE_PORT are the same port"):
        settings.load(environ | {"BRIDGE_PORT": environ["SERVICE_PORT"]})


def test_the_web_shop_moves_when_nobody_chose_its_port(
    environ: dict[str, str], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(settings.DEFAULT_PORTS, "STOREFRONT_PORT", int(taken))
    del environ["STOREFRONT_PORT"]
    assert settings.load(environ).storefront_port != int(taken)


def test_servers_that_are_named_are_used(environ: dict[str, str]) -> None:
    chosen = settings.load(environ | {"AMQP_URL": "amqp://elsewhere/", "DATABASE_URL": "postgresql://elsewhere/db"})
    assert (chosen.amqp_url, chosen.database_url) == ("amqp://elsewhere/", "postgresql://elsewhere/db")
