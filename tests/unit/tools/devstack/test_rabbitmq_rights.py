"""`deploy/rabbitmq/definitions.json` against `contracts/topology.py`: the patterns match these names and no others."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from contracts import topology
from tools.devstack import rabbitmq_files
from tools.devstack.rabbitmq_files import BRIDGE, CONSOLE, ROLES, SERVICE, Ports

DEFINITIONS = json.loads(ROLES.read_text())
SUBSCRIBER, OPERATOR = "payment-subscriber", "payment-operator"

EXCHANGES = {exchange.name for exchange in topology.EXCHANGES}
COMMAND_QUEUES = {queue.name for queue in topology.COMMAND_QUEUES.values()}
DEAD_LETTER_QUEUES = {queue.name for queue in topology.DEAD_LETTER_QUEUES.values()}
DELAY_QUEUES = {queue.name for queues in topology.DELAY_QUEUES.values() for queue in queues}
COMMANDS, EVENTS, DEAD_LETTERS = topology.COMMANDS.name, topology.EVENTS.name, topology.DEAD_LETTERS.name
OWN = {f"{SUBSCRIBER}.{name}" for name in ("orders", "a.b", "dead-letter")}
EVERYTHING = EXCHANGES | COMMAND_QUEUES | DEAD_LETTER_QUEUES | DELAY_QUEUES

# To bind a queue one must write to it and read from its exchange; to declare one with a dead-letter exchange, read
# from it and write to that exchange.
RIGHTS = {
    BRIDGE: {"configure": set(), "write": {COMMANDS}, "read": set()},
    SERVICE: {
        "configure": EVERYTHING,
        "write": {"amq.default"} | EXCHANGES | COMMAND_QUEUES | DEAD_LETTER_QUEUES,
        "read": {COMMANDS, DEAD_LETTERS} | COMMAND_QUEUES | DELAY_QUEUES,
    },
    SUBSCRIBER: {"configure": OWN, "write": OWN, "read": OWN | {EVENTS}},
    OPERATOR: {"configure": set(), "write": {COMMANDS}, "read": DEAD_LETTER_QUEUES},
    CONSOLE: {"configure": set(), "write": {COMMANDS}, "read": DEAD_LETTER_QUEUES},
}

ODD = [
    *(f"x{name}" for name in EVERYTHING),
    *(f"{name}x" for name in EVERYTHING | {"amq.default"}),
    *(f"{name}.x" for name in EVERYTHING),
    *(name.replace(".", "-", 1) for name in EVERYTHING),
    *("", *"amq.direct amq.topic amq.fanout amq-default payments payments. payments.reply.x orders".split()),
    *(SUBSCRIBER, f"{SUBSCRIBER}.", f"{SUBSCRIBER}-orders", f"x{SUBSCRIBER}.orders"),
    "payments.checkout.create.retry.2s",
]


@pytest.mark.parametrize("user", RIGHTS)
@pytest.mark.parametrize("right", ["configure", "write", "read"])
def test_a_right_means_these_names_and_no_others(user: str, right: str) -> None:
    [permission] = [each for each in DEFINITIONS["permissions"] if each["user"] == user]
    pattern = re.compile(permission[right])
    names = EVERYTHING | OWN | {"amq.default"} | set(ODD)
    # `^$` is RabbitMQ's way to say "none"; the empty name is the default exchange's, whose rights are asked by its
    # other name.
    assert {name for name in names if pattern.search(name)} - {""} == RIGHTS[user][right]
    assert permission[right].startswith("^")
    assert permission[right].endswith("$")


def test_nobody_may_do_more_than_its_permissions_or_anything_elsewhere() -> None:
    users = {user["name"]: user for user in DEFINITIONS["users"]}
    assert set(users) == set(RIGHTS) == {each["user"] for each in DEFINITIONS["permissions"]}
    assert [user["tags"] for user in users.values()] == [""] * len(users), "no administrator, no impersonator"
    [vhost] = DEFINITIONS["vhosts"]
    assert vhost == {"name": "payments"}
    assert {each["vhost"] for each in DEFINITIONS["permissions"]} == {"payments"}


def test_nobody_can_log_in_until_an_operator_has_given_a_password() -> None:
    """S6: an empty hash is a user without a password, whom RabbitMQ lets in by none."""
    credentials: list[dict[str, Any]] = [
        {name: value for name, value in user.items() if "pass" in name} for user in DEFINITIONS["users"]
    ]
    assert credentials == [{"password_hash": ""}] * len(RIGHTS)


def test_only_dead_letters_are_never_counted_out() -> None:
    """RabbitMQ 4 would drop what was looked at twenty times; 3 knows no limit without one, and takes no -1."""
    [policy] = DEFINITIONS["policies"]
    assert {name for name in EVERYTHING | OWN | set(ODD) if re.search(policy["pattern"], name)} == DEAD_LETTER_QUEUES
    assert (policy["vhost"], policy["apply-to"]) == ("payments", "queues")
    assert policy["definition"] == {"delivery-limit": 1_000_000_000}


def test_everybody_has_a_bound_on_connections_and_channels() -> None:
    for user in DEFINITIONS["users"]:
        assert set(user["limits"]) == {"max-connections", "max-channels"}
        assert 0 < user["limits"]["max-connections"] <= user["limits"]["max-channels"]


def test_the_local_node_gives_everybody_a_random_password_that_it_keeps_to_itself(tmp_path: Path) -> None:
    passwords = rabbitmq_files.write(tmp_path, ["payments"], Ports(plain=5672, tls=None))
    assert set(passwords) == {*RIGHTS, rabbitmq_files.USER}
    assert len(set(passwords.values())) == len(passwords)
    assert rabbitmq_files.write(tmp_path, ["payments"], Ports(plain=5672, tls=None)) == passwords
    definitions = json.loads((tmp_path / "definitions.json").read_text())
    assert {user["name"]: user["password"] for user in definitions["users"]} == passwords
    assert [each for each in definitions["permissions"] if each["user"] in RIGHTS] == DEFINITIONS["permissions"]
    assert definitions["policies"] == DEFINITIONS["policies"]
    for name in ("passwords.json", "definitions.json"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
