"""A loss of RabbitMQ is one line with its reason, however often it is tried in vain, and so is its return."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiormq.exceptions import ConnectionClosed

from service.entrypoints import connection_log
from service.entrypoints.connection_log import ConnectionLog


def connection(*, close_called: bool = False) -> Any:
    return SimpleNamespace(url="amqp://service:secret@rabbit-2:5672/payments", close_called=close_called)


Lines = Callable[[], list[tuple[int, str]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    caplog.set_level(logging.INFO, logger=connection_log.__name__)
    return lambda: [(record.levelno, record.getMessage()) for record in caplog.records]


def test_a_loss_and_its_return_are_a_line_each(lines: Lines) -> None:
    log = ConnectionLog("commands")
    log.on_close(connection(), ConnectionClosed(320, "CONNECTION_FORCED - node is shutting down"))
    for _ in range(100):
        log.on_close(connection(), ConnectionRefusedError(111, "Connect call failed"))
    text = "lost RabbitMQ at rabbit-2:5672 (commands): 320 CONNECTION_FORCED - node is shutting down"
    assert lines() == [(logging.WARNING, text)]
    log.on_reconnected(connection())
    log.on_reconnected(connection())
    assert lines() == [
        (logging.WARNING, text),
        (logging.INFO, "RabbitMQ is back at rabbit-2:5672 (commands) after 0.0 s"),
    ]


def test_a_peer_that_says_nothing_any_more_is_told_as_that(lines: Lines) -> None:
    ConnectionLog("commands").on_close(connection(), None)
    assert lines() == [(logging.WARNING, "lost RabbitMQ at rabbit-2:5672 (commands): no answer")]


def test_a_connection_that_we_close_is_no_loss(lines: Lines) -> None:
    ConnectionLog("commands").on_close(connection(close_called=True), None)
    assert lines() == []
