"""Addresses: nobody in between, nobody in another's place, and no name that is everybody's (S6, S23)."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from runtime import connection_urls
from runtime.connection_urls import InsecureAddressError
from tests.kit.tls import write_certificate

HERE = ["127.0.0.1", "127.8.9.10", "localhost", "LOCALHOST", "[::1]"]
ELSEWHERE = ["broker", "10.0.0.7", "localhost.evil.example", "127.0.0.1.evil.example", "[2001:db8::1]", "0.0.0.0"]  # noqa: S104


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tls")
    write_certificate(folder)
    return str(folder / "ca.pem")


def problems(url: str, *, production: bool = False) -> list[str]:
    amqp = url.startswith("amqp")
    check = connection_urls.check_amqp if amqp else connection_urls.check_database
    try:
        check(url, name="AMQP_URL" if amqp else "DATABASE_URL", production=production)
    except InsecureAddressError as refusal:
        return str(refusal).splitlines()
    return []


GUEST = "AMQP_URL must name a user of its own beyond this machine: guest is everybody's"
UNCHECKED = "AMQP_URL must not choose whether RabbitMQ's certificate is checked: it always is"


@pytest.mark.parametrize("user", ["guest:guest@", "guest:other@", "guest@", "%67uest:x@", ":guest@", ""])
def test_guest_is_a_user_of_this_machine_alone(user: str) -> None:
    """S6: also where nobody is named, since the client then is guest."""
    for host in HERE:
        assert problems(f"amqp://{user}{host}:5672/") == []
        assert problems(f"amqp://{user}{host}:5672/", production=True) == []
    for host in ELSEWHERE:
        assert problems(f"amqp://{user}{host}:5672/payments") == [GUEST]
        assert problems(f"amqps://{user}{host}:5671/payments", production=True) == [GUEST]


def test_a_user_of_its_own_may_be_anywhere() -> None:
    for host in HERE + ELSEWHERE:
        assert problems(f"amqp://payment-bridge:x@{host}/payments") == []
        assert problems(f"amqps://payment-bridge:x@{host}/payments", production=True) == []
    assert problems("amqps://broker/payments?auth=EXTERNAL", production=True) == []


@pytest.mark.parametrize(
    "query", ["no_verify_ssl=1", "no_verify_ssl=", "no_verify_ssl=0&no_verify_ssl=1", "verify=no", "verify=verify_none"]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "broker"])
def test_the_check_of_the_brokers_certificate_cannot_be_turned_off(host: str, query: str) -> None:
    assert problems(f"amqps://u:x@{host}/?{query}") == [UNCHECKED]


def test_a_ca_file_must_hold_certificates(ca: str, tmp_path: Path) -> None:
    assert problems(f"amqps://u:x@broker/?cafile={ca}") == []
    assert problems(f"postgresql://u:x@db/p?sslmode=verify-full&sslrootcert={ca}", production=True) == []
    (tmp_path / "empty").touch()
    for file in (tmp_path / "missing", tmp_path / "empty", tmp_path):
        said = problems(f"amqps://u:x@broker/?cafile={file}")
        assert said == ["AMQP_URL names a cafile from which no certificate can be read"]
        said = problems(f"postgresql://u:x@db/p?sslmode=verify-full&sslrootcert={file}")
        assert said == ["DATABASE_URL must name in sslrootcert a file from which certificates can be read"]


def test_plain_text_leaves_this_machine_in_development_only() -> None:
    for host in ELSEWHERE:
        assert problems(f"amqp://u:x@{host}/", production=True) == [
            "AMQP_URL must begin with amqps:// beyond this machine in production"
        ]
        for mode in ("", "?sslmode=disable"):
            assert problems(f"postgresql://u:x@{host}/p{mode}") == []
            assert problems(f"postgresql://u:x@{host}/p{mode}", production=True) == [
                "DATABASE_URL must have sslmode=verify-full beyond this machine in production"
            ]
            assert connection_urls.is_plain_text(f"postgresql://u:x@{host}/p{mode}")
        assert connection_urls.is_plain_text(f"amqp://u:x@{host}/")
        assert not connection_urls.is_plain_text(f"amqps://u:x@{host}/")
        assert not connection_urls.is_plain_text(f"postgresql://u:x@{host}/p?sslmode=verify-full")
    for host in HERE:
        assert not connection_urls.is_plain_text(f"amqp://u:x@{host}/")
        assert not connection_urls.is_plain_text(f"postgresql://u:x@{host}/p")


@pytest.mark.parametrize("mode", ["require", "prefer", "allow", "verify-ca"])
@pytest.mark.parametrize("production", [True, False])
def test_a_mode_of_tls_that_does_not_check_who_answers_is_for_this_machine_alone(
    mode: str, *, production: bool
) -> None:
    said = problems(f"postgresql://u:x@db/p?sslmode={mode}", production=production)
    assert said == ["DATABASE_URL must have sslmode=verify-full: the other modes do not check who answers"]
    assert problems(f"postgresql://u:x@127.0.0.1/p?sslmode={mode}", production=production) == []


@pytest.mark.parametrize("query", ["ssl=require", "ssl=false", "sslmode=full", "sslmode=VERIFY-FULL"])
def test_a_way_to_ask_for_tls_that_the_driver_does_not_know_is_refused(query: str) -> None:
    said = problems(f"postgresql://u:x@127.0.0.1/p?{query}")
    assert said == ["DATABASE_URL must ask for TLS by sslmode=verify-full&sslrootcert=<file>"]


def test_a_database_host_in_the_query_counts() -> None:
    for host in ("/run/postgresql", "127.0.0.1", ""):
        assert not connection_urls.is_plain_text(f"postgresql:///payments?host={host}")
    for host in ("db.example", "127.0.0.1,db.example", "/run/postgresql,db.example"):
        assert connection_urls.is_plain_text(f"postgresql:///payments?host={host}")


SEVERAL = {
    "postgresql://u:p@a:5433,b:5434/n": [("a", 5433), ("b", 5434)],
    "postgres://u:p@a,b:5434/n?sslmode=disable": [("a", 5432), ("b", 5434)],
    "postgresql+asyncpg://u:p@[::1]:5433,[2001:db8::2],c/n": [("::1", 5433), ("2001:db8::2", 5432), ("c", 5432)],
    "postgresql://a,[::1]:1/n": [("a", 5432), ("::1", 1)],
    "postgresql:///n?host=a,b&port=1,2": [("a", 1), ("b", 2)],
    "postgresql://u:p@/n?port=6000&host=a,b,::1": [("a", 6000), ("b", 6000), ("::1", 6000)],
    "postgresql:///n?host=/run/postgresql,b:7": [("/run/postgresql", 5432), ("b", 7)],
    "postgresql://u@%2Frun%2Fpostgresql/n": [("/run/postgresql", 5432)],
    "postgresql://u:p@a/n?host=ignored": [("a", 5432)],
    "postgresql:///n": [],
    "postgresql:///n?host=": [],
}


@pytest.mark.parametrize(("url", "hosts"), SEVERAL.items())
def test_a_database_may_have_several_hosts(url: str, hosts: list[tuple[str, int]]) -> None:
    """T17 Each with its own port, in both spellings."""
    assert connection_urls.database_hosts(url) == hosts
    bare = connection_urls.without_database_hosts(url)
    assert connection_urls.database_hosts(bare) == []
    assert urlsplit(bare).path == "/n"
    assert ("u" in bare.partition("@")[0].partition("://")[2]) == ("//u" in url)
    assert ("sslmode=disable" in bare) == ("sslmode=disable" in url)


@pytest.mark.parametrize(
    "hosts",
    ["a,", ",a", "a,,b", "a:", "a:x", "a:0", "a:65536", "a:5432,b:5432:1", "[::1", "[a]", "[::1]x", "a b", "a:-1,b"],
)
def test_a_list_of_hosts_with_one_that_is_none_is_refused(hosts: str) -> None:
    with pytest.raises(ValueError, match="host or port"):
        connection_urls.database_hosts(f"postgresql://u:p@{hosts}/n")


def test_every_port_of_a_list_belongs_to_a_host() -> None:
    with pytest.raises(ValueError, match="host or port"):
        connection_urls.database_hosts("postgresql:///n?host=a,b,c&port=1,2")


def test_every_host_of_a_list_is_checked(ca: str) -> None:
    for hosts in ("127.0.0.1,db.example", "db.example:5433,127.0.0.1:5432", "[::1]:5432,[2001:db8::1]:5432"):
        for url in (f"postgresql://u:x@{hosts}/p", f"postgresql://u:x@/p?host={hosts}"):
            assert connection_urls.is_plain_text(url)
            assert problems(url) == []
            assert problems(url, production=True) == [
                "DATABASE_URL must have sslmode=verify-full beyond this machine in production"
            ]
            mark = "&" if "?" in url else "?"
            assert problems(f"{url}{mark}sslmode=require") == [
                "DATABASE_URL must have sslmode=verify-full: the other modes do not check who answers"
            ]
            assert problems(f"{url}{mark}sslmode=verify-full&sslrootcert={ca}", production=True) == []
    assert problems("postgresql://u:x@127.0.0.1:5432,[::1]:5433,localhost/p", production=True) == []


USERS = {
    "amqp://payment-bridge:x@broker/": "payment-bridge",
    "amqp://a%40b%20c:x@broker/": "a@b c",
    "amqp://guest:guest@127.0.0.1/": "guest",
    "amqp://127.0.0.1/": None,
    "amqps://u:x@broker/?auth=EXTERNAL": None,
    "amqps://u:x@broker/?auth=external": None,
    "amqps://u:x@broker/?auth=plain": "u",
}


def test_the_user_is_the_one_that_logs_in_and_is_not_invented() -> None:
    assert {url: connection_urls.amqp_user(url) for url in USERS} == USERS


def test_distrust_is_found_behind_whatever_a_client_raises() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "unable to get local issuer certificate."
    wrapped = ConnectionError("lost")
    wrapped.__cause__ = error
    said = "shows a certificate that is not trusted (unable to get local issuer certificate)"
    assert connection_urls.distrust(error) == connection_urls.distrust(wrapped) == said
    assert connection_urls.distrust(ConnectionError("refused")) is None
    assert connection_urls.distrust(ssl.SSLError(1, "wrong version number")) is None
    # Errors that are each other's cause come to an end, too.
    lost, closed = ConnectionError("lost"), ConnectionError("closed")
    lost.__cause__, closed.__context__ = closed, lost
    assert connection_urls.distrust(lost) is None
