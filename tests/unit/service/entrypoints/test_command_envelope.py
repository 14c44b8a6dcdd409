"""Every wait ends, and the inner one before the outer one: callers get an answer instead of a timeout."""

from bridge.settings import Settings as BridgeSettings
from service.adapters.postgres import database, sessions
from service.application import ports
from service.entrypoints import broker, command_envelope, kept_delivery, middleware
from service.startup import GATEWAY_TIMEOUT_SECONDS
from service.workers import event_feed, relay, sweeper

CONSUMER_TIMEOUT_SECONDS = 30 * 60
"""RabbitMQ's own default: a delivery that is not acknowledged by then is taken away."""


def test_each_deadline_leaves_time_for_the_one_around_it() -> None:
    rpc_client = BridgeSettings.model_fields["bridge_timeout_seconds"].default
    deadline = command_envelope.DEFAULT_DEADLINE.total_seconds()
    chain = [GATEWAY_TIMEOUT_SECONDS, rpc_client, deadline, CONSUMER_TIMEOUT_SECONDS]
    assert chain == sorted(set(chain))
    assert sweeper.UNOPENED_AFTER.total_seconds() > GATEWAY_TIMEOUT_SECONDS
    assert GATEWAY_TIMEOUT_SECONDS < broker.GRACE_SECONDS
    assert kept_delivery.KEEP_SECONDS + middleware.HANDLER_SECONDS < CONSUMER_TIMEOUT_SECONDS
    assert ports.PUBLISH_SECONDS < relay.LEASE_SECONDS
    assert event_feed.RENEW_SECONDS + database.ACQUIRE_SECONDS < event_feed.LEASE_SECONDS


def test_no_wait_for_the_database_is_without_an_end() -> None:
    """F34 Connect, pool, statement, lock and a transaction that nobody ends; the server gives up before we do."""
    bounds = {
        name: int(database.SERVER_SETTINGS[name]) / 1000 for name in database.SERVER_SETTINGS if "timeout" in name
    }
    assert set(bounds) == {"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}
    assert all(0 < seconds <= 10 for seconds in bounds.values())
    assert bounds["lock_timeout"] < bounds["statement_timeout"] < database.COMMAND_SECONDS
    assert database.TRIES * bounds["lock_timeout"] < GATEWAY_TIMEOUT_SECONDS
    assert 0 < sessions.CONNECT_SECONDS <= 5
    assert 0 < database.ACQUIRE_SECONDS <= 5
