"""The figures of a run in which one thing happens at a time: gaps, first successes, and a row for each kind."""

import argparse
from typing import Any

from tools.chaos import losses, outage_figures
from tools.chaos.cluster.cluster_faults import all_faults
from tools.chaos.fault_injection import ACTIONS
from tools.chaos.outages import Probes, Success


def row(name: str, hit: str, creates: float) -> dict[str, Any]:
    others = {"verifies": 0.5, "events": 1.0, "outcomes": 2.0, "writes": 0.3}
    return {"name": name, "hit": hit, "creates": creates} | others


def probes_with(**served: list[tuple[float, float]]) -> Probes:
    probes = Probes(bridges=[], sandbox="", database_url="", amqp_url=str)
    for kind, moments in served.items():
        probes.served[kind] = [Success(began=began, at=at) for began, at in moments]
    return probes


def test_the_gap_is_the_longest_time_without_success_from_the_last_one_before_the_fault() -> None:
    probes = probes_with(creates=[(at - 0.1, at) for at in (1.0, 9.5, 14.0, 15.0, 40.0)])
    assert probes.gap("creates", 10.0, 16.0) == 4.5
    assert probes.gap("creates", 15.5, 20.0) == 5.0  # nothing came back
    assert probes.gap("events", 10.0, 20.0) == 10.0  # nothing ever did


def test_the_first_success_is_of_what_was_begun_after_the_loss_and_not_of_what_was_under_way() -> None:
    probes = probes_with(creates=[(9.0, 9.2), (9.9, 10.3), (10.5, 14.0), (11.0, 13.0)])
    assert probes.first("creates", 10.0) == 3.0  # the last that was begun was the first that was served
    assert probes.first("creates", 11.5) is None
    assert probes.first("events", 10.0) is None


async def test_what_is_not_served_in_time_counts_as_the_longest_time() -> None:
    probes = probes_with(**{kind: [(-99.0, -98.5)] for kind in ("creates", "verifies", "events", "outcomes")})
    seconds = await losses.served(probes, back=-100.0)  # the clock is past the longest time
    assert seconds == {"creates": 1.5, "verifies": 1.5, "events": 1.5, "outcomes": 1.5, "writes": 60.0}


def test_every_loss_is_of_faults_that_chaos_knows_and_has_a_name_of_its_own() -> None:
    names = [loss.name for loss in losses.LOSSES]
    assert len(names) == len(set(names))
    assert all(fault.kind in ACTIONS for loss in losses.LOSSES for fault in loss.faults)


def test_members_of_a_kind_are_one_row_and_a_brokers_role_is_another() -> None:
    rows = outage_figures.summary(
        [
            row("bridge-1 killed", "bridge-1", 0.5),
            row("bridge-2 killed", "bridge-2", 1.5),
            row("service-1 killed", "reads the events", 0.7),
            row("rabbitmq-1 killed", "leader of creates, connected to", 2.0),
            row("rabbitmq-2 cut off", "follower, not connected to", 0.4),
            row("primary killed, Patroni lives", "postgres-1", 3.0),
        ]
    )
    assert rows["bridge killed"] == {"N": 2, "creates": (1.0, 1.5)} | {
        "verifies": (0.5, 0.5),
        "events": (1.0, 1.0),
        "outcomes": (2.0, 2.0),
        "writes": (0.3, 0.3),
    }
    assert set(rows) == {
        "bridge killed",
        "service killed (reads the events)",
        "broker node killed (leader of creates, connected to)",
        "broker node cut off (follower, not connected to)",
        "primary killed, Patroni lives",
    }


def test_the_same_seed_gives_the_same_order_and_words_choose_among_the_faults() -> None:
    def chosen(seed: int, only: str | None = None, repeat: int = 1) -> list[str]:
        arguments = argparse.Namespace(seed=seed, only=only, repeat=repeat)
        return [fault.name for fault in outage_figures.chosen(all_faults(), arguments)]

    assert chosen(3) == chosen(3)
    assert chosen(3) != chosen(4)
    assert len(chosen(3)) == len(set(chosen(3))) == 27
    assert sorted(chosen(3, "etcd,bridge-1 killed", 2)) == sorted(
        2 * ["etcd leader killed", "etcd leader frozen", "bridge-1 killed"]
    )
