"""Addresses: nobody in between, nobody in another's place, and no name that is everybody's (S6, S23)."""

import ssl
from pathlib import Path

import pytest

from contracts import addresses
from contracts.addresses import InsecureAddressError
from tests.tls import write_certificate

HERE = ["127.0.0.1", "127.8.9.10", "localhost", "LOCALHOST", "[::1]"]
ELSEWHERE = ["broker", "10.0.0.7", "localhost.evil.example", "127.0.0.1.evil.example", "[2001:db8::1]", "0.0.0.0"]  # noqa: S104


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tls")
    write_certificate(folder)
    return str(folder / "ca.pem")


def amqp_problems(url: str, *, production: bool = False) -> list[str]:
    try:
        addresses.check_amqp(url, name="AMQP_URL", production=production)
    except InsecureAddressError as refusal:
        return str(refusal).splitlines()
    return []


def database_problems(url: str, *, production: bool = False) -> list[str]:
    try:
        addresses.check_database(url, name="DATABASE_URL", production=production)
    except InsecureAddressError as refusal:
        return str(refusal).splitlines()
    return []


GUEST = "AMQP_URL must name a user of its own beyond this machine: guest is everybody's"
UNCHECKED = "AMQP_URL must not choose whether RabbitMQ's certificate is checked: it always is"


@pytest.mark.parametrize("user", ["guest:guest@", "guest:other@", "guest@", "%67uest:x@", ":guest@", ""])
def test_guest_is_a_user_of_this_machine_alone(user: str) -> None:
    """S6: also where nobody is named, since the client then is guest."""
    for host in HERE:
        assert amqp_problems(f"amqp://{user}{host}:5672/") == []
        assert amqp_problems(f"amqp://{user}{host}:5672/", production=True) == []
    for host in ELSEWHERE:
        assert amqp_problems(f"amqp://{user}{host}:5672/payments") == [GUEST]
        assert amqp_problems(f"amqps://{user}{host}:5671/payments", production=True) == [GUEST]


def test_a_user_of_its_own_may_be_anywhere() -> None:
    for host in HERE + ELSEWHERE:
        assert amqp_problems(f"amqp://payment-bridge:x@{host}/payments") == []
        assert amqp_problems(f"amqps://payment-bridge:x@{host}/payments", production=True) == []
    assert amqp_problems("amqps://broker/payments?auth=EXTERNAL", production=True) == []


@pytest.mark.parametrize(
    "query", ["no_verify_ssl=1", "no_verify_ssl=", "no_verify_ssl=0&no_verify_ssl=1", "verify=no", "verify=verify_none"]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "broker"])
def test_the_check_of_the_brokers_certificate_cannot_be_turned_off(host: str, query: str) -> None:
    assert amqp_problems(f"amqps://u:x@{host}/?{query}") == [UNCHECKED]


def test_a_ca_file_must_hold_certificates(ca: str, tmp_path: Path) -> None:
    assert amqp_problems(f"amqps://u:x@broker/?cafile={ca}") == []
    assert database_problems(f"postgresql://u:x@db/p?sslmode=verify-full&sslrootcert={ca}", production=True) == []
    (tmp_path / "empty").touch()
    for file in (tmp_path / "missing", tmp_path / "empty", tmp_path):
        told = amqp_problems(f"amqps://u:x@broker/?cafile={file}")
        assert told == ["AMQP_URL names a cafile from which no certificate can be read"]
        told = database_problems(f"postgresql://u:x@db/p?sslmode=verify-full&sslrootcert={file}")
        assert told == ["DATABASE_URL must name in sslrootcert a file from which certificates can be read"]


def test_plain_text_leaves_this_machine_in_development_only() -> None:
    for host in ELSEWHERE:
        assert amqp_problems(f"amqp://u:x@{host}/", production=True) == [
            "AMQP_URL must begin with amqps:// beyond this machine in production"
        ]
        for mode in ("", "?sslmode=disable"):
            assert database_problems(f"postgresql://u:x@{host}/p{mode}") == []
            assert database_problems(f"postgresql://u:x@{host}/p{mode}", production=True) == [
                "DATABASE_URL must have sslmode=verify-full beyond this machine in production"
            ]
            assert addresses.is_plain_text(f"postgresql://u:x@{host}/p{mode}")
        assert addresses.is_plain_text(f"amqp://u:x@{host}/")
        assert not addresses.is_plain_text(f"amqps://u:x@{host}/")
        assert not addresses.is_plain_text(f"postgresql://u:x@{host}/p?sslmode=verify-full")
    for host in HERE:
        assert not addresses.is_plain_text(f"amqp://u:x@{host}/")
        assert not addresses.is_plain_text(f"postgresql://u:x@{host}/p")


@pytest.mark.parametrize("mode", ["require", "prefer", "allow", "verify-ca"])
@pytest.mark.parametrize("production", [True, False])
def test_a_mode_of_tls_that_does_not_check_who_answers_is_for_this_machine_alone(
    mode: str, *, production: bool
) -> None:
    told = database_problems(f"postgresql://u:x@db/p?sslmode={mode}", production=production)
    assert told == ["DATABASE_URL must have sslmode=verify-full: the other modes do not check who answers"]
    assert database_problems(f"postgresql://u:x@127.0.0.1/p?sslmode={mode}", production=production) == []


@pytest.mark.parametrize("query", ["ssl=require", "ssl=false", "sslmode=full", "sslmode=VERIFY-FULL"])
def test_a_way_to_ask_for_tls_that_the_driver_does_not_know_is_refused(query: str) -> None:
    told = database_problems(f"postgresql://u:x@127.0.0.1/p?{query}")
    assert told == ["DATABASE_URL must ask for TLS by sslmode=verify-full&sslrootcert=<file>"]


@pytest.mark.parametrize(
    ("host", "elsewhere"),
    [
        ("/run/postgresql", False),
        ("127.0.0.1", False),
        ("db.example", True),
        ("127.0.0.1,db.example", True),
        ("/run/postgresql,db.example", True),
        ("", False),
    ],
)
def test_a_database_host_in_the_query_counts(host: str, *, elsewhere: bool) -> None:
    assert addresses.is_plain_text(f"postgresql:///payments?host={host}") is elsewhere


@pytest.mark.parametrize(
    ("url", "user"),
    [
        ("amqp://payment-bridge:x@broker/", "payment-bridge"),
        ("amqp://a%40b%20c:x@broker/", "a@b c"),
        ("amqp://guest:guest@127.0.0.1/", "guest"),
        ("amqp://127.0.0.1/", None),
        ("amqps://u:x@broker/?auth=EXTERNAL", None),
        ("amqps://u:x@broker/?auth=external", None),
        ("amqps://u:x@broker/?auth=plain", "u"),
    ],
)
def test_the_user_is_the_one_that_logs_in_and_is_not_invented(url: str, user: str | None) -> None:
    assert addresses.amqp_user(url) == user


def test_distrust_is_found_behind_whatever_a_client_raises() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "unable to get local issuer certificate."
    wrapped = ConnectionError("lost")
    wrapped.__cause__ = error
    told = "shows a certificate that is not trusted (unable to get local issuer certificate)"
    assert addresses.distrust(error) == addresses.distrust(wrapped) == told
    assert addresses.distrust(ConnectionError("refused")) is None
    assert addresses.distrust(ssl.SSLError(1, "wrong version number")) is None


def test_errors_that_are_each_others_cause_come_to_an_end() -> None:
    lost, closed = ConnectionError("lost"), ConnectionError("closed")
    lost.__cause__, closed.__context__ = closed, lost
    assert addresses.distrust(lost) is None
