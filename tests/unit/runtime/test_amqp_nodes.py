"""AMQP_URL with several nodes."""

from typing import Any

import aiormq
import pytest

from runtime import connection_urls
from runtime.amqp_nodes import (
    HEARTBEAT_SECONDS,
    RECONNECT_SECONDS,
    address,
    connect_to_any,
    leave_silent_nodes,
    node_urls,
)
from runtime.connection_urls import InsecureAddressError

LISTS = {
    "amqp://u:x@one:5672,two:5673/vhost?heartbeat=5": [
        "amqp://u:x@one:5672/vhost?heartbeat=5",
        "amqp://u:x@two:5673/vhost?heartbeat=5",
    ],
    "amqps://u:x@one,two": ["amqps://u:x@one", "amqps://u:x@two"],
    "amqp://u:p%40%2C%2Fss@one,two/%2F": ["amqp://u:p%40%2C%2Fss@one/%2F", "amqp://u:p%40%2C%2Fss@two/%2F"],
    "amqp://u:p,@a@one,two/": ["amqp://u:p,@a@one/", "amqp://u:p,@a@two/"],
    "amqp://one,[::1]:5673,127.0.0.1?name=a,b": [
        "amqp://one?name=a,b",
        "amqp://[::1]:5673?name=a,b",
        "amqp://127.0.0.1?name=a,b",
    ],
    "AMQP://One/": ["amqp://One/"],
}


def test_each_node_gets_all_that_the_list_says_once() -> None:
    assert {url: list(node_urls(url)) for url in LISTS} == LISTS


@pytest.mark.parametrize(
    "nodes",
    [
        "",
        "one,",
        ",one",
        "one,,two",
        "one, two",
        "one:,two",
        "one:0",
        "one:65536",
        "one:port",
        "one:5672:5672",
        "[::1",
        "[::::]",
        "::1",
        "one;two",
        "[shown",
    ],
)
def test_a_list_with_a_gap_a_blank_or_a_wrong_port_is_refused_by_a_sentence(nodes: str) -> None:
    with pytest.raises(InsecureAddressError) as refused:
        connection_urls.check_amqp(f"amqp://u:shown@{nodes}/", name="AMQP_URL", production=False)
    assert (
        str(refused.value)
        == "AMQP_URL must name RabbitMQ's nodes as host or host:port, with a comma and nothing else between them"
    )


@pytest.mark.parametrize(
    "far", ["127.0.0.1,broker.example", "broker.example,localhost", "[::1]:5672,[2001:db8::1]:5672"]
)
def test_every_node_is_held_to_the_rules_and_not_the_first_alone(far: str) -> None:
    with pytest.raises(InsecureAddressError) as refused:
        connection_urls.check_amqp(f"amqp://guest:guest@{far}/", name="AMQP_URL", production=True)
    assert [line.split()[:3] for line in str(refused.value).splitlines()] == [
        ["AMQP_URL", "must", "name"],
        ["AMQP_URL", "must", "begin"],
    ]
    assert connection_urls.is_plain_text(f"amqp://u:x@{far}/")
    assert not connection_urls.is_plain_text(f"amqps://u:x@{far}/")
    assert connection_urls.amqp_user(f"amqp://a%40b:x@{far}/") == "a@b"


def test_nodes_on_this_machine_need_no_tls() -> None:
    here = "amqp://guest:guest@127.0.0.1:5672,[::1]:5673,localhost/"
    connection_urls.check_amqp(here, name="AMQP_URL", production=True)
    assert not connection_urls.is_plain_text(here)


def test_an_address_has_its_port_and_no_password() -> None:
    urls = "amqp://u:shown@one/", "amqps://u:shown@one/", "amqp://u:shown@[::1]:1/"
    assert list(map(address, urls)) == ["one:5672", "one:5671", "[::1]:1"]


async def test_the_first_node_that_lets_us_in_is_used_and_the_last_ones_refusal_is_told() -> None:
    tried: list[str] = []

    async def connect(url: str) -> str:
        tried.append(address(url))
        if url != "amqp://two":
            raise ConnectionError(address(url))
        return url

    assert await connect_to_any("amqp://one,two,three", connect) == "amqp://two"
    assert tried == ["one:5672", "two:5672"]
    with pytest.raises(ConnectionError, match="three:5672"):
        await connect_to_any("amqp://one,three", connect)


async def test_a_node_that_hangs_is_left_after_two_missed_heartbeats_and_so_within_ten_seconds() -> None:
    leave_silent_nodes()
    connection: Any = aiormq.Connection(f"amqp://one/?heartbeat={HEARTBEAT_SECONDS}")
    grace = connection._Connection__heartbeat_grace_timeout
    assert grace > 2 * HEARTBEAT_SECONDS / 2  # a node sends one in half of the time
    assert grace + HEARTBEAT_SECONDS // 2 + 1.25 * RECONNECT_SECONDS < 10  # aiormq looks that often
