"""What only an administrator of a RabbitMQ node can do: take rights and virtual hosts away, raise an alarm."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil
import pytest

from tools.devstack import processes, rabbitmq_install
from tools.devstack.rabbitmq_files import ROLES, USER

NOBODYS: Final = {"configure": "^$", "write": "^$", "read": "^$"}
EVERYBODYS: Final = {"configure": ".*", "write": ".*", "read": ".*"}


async def evaluate(pid: int, expressions: str) -> None:
    """Have the node of this process evaluate Erlang; skips the test where `rabbitmqctl` is not installed."""
    how = rabbitmq_install.installed()
    if how is None:
        pytest.skip("RabbitMQ runs in Docker: no rabbitmqctl is installed")
    environment = {"PATH": os.environ.get("PATH", os.defpath), **psutil.Process(pid).environ()}
    command: list[str | Path] = [how.server.parent / "rabbitmqctl", "-q", "eval", f"{expressions}."]
    status, output = await processes.run(command, env=environment)
    assert status == 0, output


def vhost_added(vhost: str) -> str:
    """Erlang that makes a virtual host, with the rights that `deploy/rabbitmq` gives its users."""
    permissions = json.loads(ROLES.read_text())["permissions"]
    granted = [rights_set(vhost, each["user"], each) for each in permissions]
    return ", ".join(
        [f'ok = rabbit_vhost:add(<<"{vhost}">>, <<"test">>)', rights_set(vhost, USER, EVERYBODYS), *granted]
    )


def vhost_deleted(vhost: str) -> str:
    """Erlang that deletes a virtual host with all that is in it."""
    return f'rabbit_vhost:delete(<<"{vhost}">>, <<"test">>)'


def rights_of(user: str) -> Mapping[str, str]:
    """What `deploy/rabbitmq` gives a user."""
    [rights] = [each for each in json.loads(ROLES.read_text())["permissions"] if each["user"] == user]
    return {name: rights[name] for name in NOBODYS}


def rights_set(vhost: str, user: str, rights: Mapping[str, str]) -> str:
    """Erlang that gives a user these rights and no others."""
    patterns = ", ".join(f"<<{json.dumps(rights[name])}>>" for name in NOBODYS)
    user_and_vhost = f'<<"{user}">>, <<"{vhost}">>'
    return f'ok = rabbit_auth_backend_internal:set_permissions({user_and_vhost}, {patterns}, <<"test">>)'


def alarm(*, on: bool) -> str:
    """Erlang that makes the node short of memory, or no more: it takes nothing from who publishes meanwhile."""
    return f"vm_memory_monitor:set_vm_memory_high_watermark({'0.00001' if on else '0.6'})"
