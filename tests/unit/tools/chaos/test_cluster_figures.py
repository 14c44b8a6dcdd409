"""The figures of a chaos run on the cluster: gaps between successes, and a row for each kind of fault."""

from typing import Any, cast

from tools.chaos.cluster import cluster_run
from tools.chaos.cluster.outages import Probes


def row(name: str, hit: str, creates: float) -> dict[str, Any]:
    return {"name": name, "hit": hit, "creates": creates, "events": 1.0, "outcomes": 2.0, "writes": 0.3}


def test_the_gap_is_the_longest_time_without_success_from_the_last_one_before_the_fault() -> None:
    probes = Probes(system=cast("Any", None))
    probes.served["creates"] = [1.0, 9.5, 14.0, 15.0, 40.0]
    assert probes.gap("creates", 10.0, 16.0) == 4.5
    assert probes.gap("creates", 15.5, 20.0) == 5.0  # nothing came back
    assert probes.gap("events", 10.0, 20.0) == 10.0  # nothing ever did


def test_members_of_a_kind_are_one_row_and_a_brokers_role_is_another() -> None:
    rows = cluster_run.summary(
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
    names = [fault.name for fault in cluster_run.chosen(3, None, 1)]
    assert names == [fault.name for fault in cluster_run.chosen(3, None, 1)]
    assert names != [fault.name for fault in cluster_run.chosen(4, None, 1)]
    assert len(names) == len(set(names)) == 27
    assert {fault.name for fault in cluster_run.chosen(3, "etcd,bridge-1 killed", 2)} == {
        "etcd leader killed",
        "etcd leader frozen",
        "bridge-1 killed",
    }
