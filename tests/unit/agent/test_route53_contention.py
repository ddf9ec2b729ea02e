"""rollcall.route53 under contention: no join is lost and none is there twice, whatever Route53 does meanwhile."""

from __future__ import annotations

import pytest

from localcloud.aws.route53 import HARSH, PRESENT, UNLIMITED
from tests.unit.agent.contention import Contest

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_hundred_agents_join_and_leave_and_each_is_once(seed: int) -> None:
    """Throttled, with 500s, lost replies and PriorRequestNotComplete; a third of them leaves again."""
    found = Contest(seed=seed, agents=200, leaving=66, limits=PRESENT, faults=0.03).run()
    assert (found.lost, found.doubled, found.left_over) == ((), (), ())


@pytest.mark.parametrize("shards", [1, 4])
def test_at_five_calls_a_second_too(shards: int) -> None:
    found = Contest(seed=7, agents=100, leaving=30, limits=HARSH, faults=0.05, shards=shards).run()
    assert (found.lost, found.doubled, found.left_over) == ((), (), ())


@pytest.mark.parametrize("seed", range(60))
def test_few_agents_that_leave_at_once_meet_each_other_at_every_step(seed: int) -> None:
    found = Contest(seed=seed, agents=4, leaving=3, limits=UNLIMITED, faults=0.1).run()
    assert (found.lost, found.doubled, found.left_over) == ((), (), ())


@pytest.mark.parametrize("seed", range(20))
def test_a_machine_that_joins_again_while_others_leave_stays(seed: int) -> None:
    found = Contest(seed=seed, agents=12, leaving=12, limits=PRESENT, faults=0.1, back=6, spread=2.0).run()
    assert (found.lost, found.doubled, found.left_over) == ((), (), ())


def test_many_that_leave_at_once_write_the_set_for_each_other() -> None:
    """A read and a write at the host, a read of the set, and the host's end are four calls for each."""
    found = Contest(seed=1, agents=50, leaving=50, limits=UNLIMITED, faults=0.0, spread=0.0)
    joined = Contest(seed=1, agents=50, leaving=0, limits=UNLIMITED, faults=0.0).run().calls
    assert found.run().calls - joined < 50 * 6


def test_the_articles_read_then_upsert_loses_joins() -> None:
    """Else the simulation would be too kind."""
    lost = [
        len(Contest(seed=seed, agents=200, leaving=0, limits=PRESENT, faults=0.0).run_upserts().lost)
        for seed in range(5)
    ]
    print(f"read-then-upsert lost {lost} of 200 joins each")
    assert min(lost) >= 1, lost


def test_a_crowd_costs_less_than_three_times_one_write_each() -> None:
    """As long as the account's rate allows 200 writes, times three: whoever writes writes the others too."""
    found = [Contest(seed=seed, agents=200, leaving=0, limits=HARSH, faults=0.0).run() for seed in range(3)]
    assert sum(each.seconds for each in found) / 3 < 3 * 200 / 5
