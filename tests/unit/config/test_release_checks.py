"""components.config.release_checks: the keys of a fleet for another release. A wrong value is one error with its fix."""

from __future__ import annotations

from typing import Any

import pytest

from components.config.models import FleetSettings
from components.config.reader import read
from tests.unit.config.test_workload_checks import GOOD, changed, faults

FLEET = "rollcall:fleets.shop"


def in_place(**keys: Any) -> dict[str, Any]:
    """The manual's configuration, with a fleet that changes in place and these keys."""
    fleet = {**GOOD["fleets"]["shop"], "release": "in-place", "count": 4, **keys}
    return changed("fleets/shop", {key: value for key, value in fleet.items() if value is not None})


def test_a_fleet_replaces_its_machines_by_default() -> None:
    (fleet,) = read("local", GOOD).fleets
    assert (fleet.in_place, fleet.batch_size, fleet.min_healthy_time, fleet.deadline, fleet.canary) == (
        False,
        1,
        10,
        300,
        0,
    )


def test_a_fleet_that_changes_in_place_is_read() -> None:
    (fleet,) = read("local", in_place(batch="50%", minHealthyTime=5, deadline=120, canary=1)).fleets
    assert fleet.in_place and fleet.batch_size == 2
    assert (fleet.min_healthy_time, fleet.deadline, fleet.canary) == (5, 120, 1)


@pytest.mark.parametrize(
    ("batch", "count", "size"),
    [("1", 4, 1), ("3", 4, 3), ("9", 4, 4), ("25%", 4, 1), ("25%", 5, 2), ("1%", 200, 2), ("1%", 1, 1), ("25%", 0, 1)],
)
def test_a_share_is_rounded_up_and_is_one_machine_at_least(batch: str, count: int, size: int) -> None:
    fleet = FleetSettings(cloud="aws", size="t3.micro", image="debian-12", joins=(), count=count, batch=batch)
    assert fleet.batch_size == size


@pytest.mark.parametrize("batch", [1, "1", 3, "3", "25%", "1%", "75%"])
def test_a_batch_is_a_number_or_a_share(batch: object) -> None:
    assert faults(in_place(batch=batch)) == ()


@pytest.mark.parametrize("batch", [0, -1, 1001, "0%", "101%", "x", "1.5", "", "25 %"])
def test_a_batch_out_of_range_is_refused(batch: object) -> None:
    (fault,) = faults(in_place(batch=batch))
    assert fault.startswith(f"{FLEET}.batch: ")
    assert fault.endswith("is not a number of machines or a share of the fleet. Set 1 to 1000, or 1% to 100%, as 25%.")


@pytest.mark.parametrize("batch", [True, 1.5, ["1"]])
def test_a_batch_of_another_type_is_refused(batch: object) -> None:
    (fault,) = faults(in_place(batch=batch))
    assert fault.startswith(f"{FLEET}.batch: ") and "is not a text" in fault


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            in_place(release="inplace"),
            f"{FLEET}.release: 'inplace' is not one of replace, in-place (did you mean in-place?). Set one of these.",
        ),
        *(
            (
                in_place(release="replace", **{key: value}),
                f"{FLEET}.{key}: is for release: in-place. Take it out, or set release to in-place.",
            )
            for key, value in (("batch", 2), ("minHealthyTime", 5), ("deadline", 60), ("canary", 1))
        ),
        (
            in_place(runs=None),
            f"{FLEET}.release: is in-place, and the fleet runs no workload of rollcall:workloads. Set runs, or take release out.",
        ),
        (
            in_place(runs=["shop", "the-service"]),
            f"{FLEET}.runs: has the sample the-service, which is part of the agent's release and cannot change in place. Run a workload of "
            "rollcall:workloads instead, or take release out.",
        ),
        (
            in_place(canary=5),
            f"{FLEET}.canary: is 5, and the fleet has 4 machines. Set 4 at the most.",
        ),
        (
            in_place(deadline=70),
            f"{FLEET}.deadline: is 70, and a machine with shop may take 60 seconds to start, and must then be healthy for 10 seconds. Set "
            "it to more than 70.",
        ),
        (
            in_place(runs=["www"], deadline=20, minHealthyTime=20),
            f"{FLEET}.deadline: is 20, and a machine must be healthy without interruption for 20 seconds. Set it to more than 20.",
        ),
        (
            in_place(batch="100%"),
            f"{FLEET}.batch: is 100%: all 4 machines of site/www would leave DNS at the same time. Set 3 at the most, or a smaller share.",
        ),
        (
            in_place(batch=4),
            f"{FLEET}.batch: is 4: all 4 machines of site/www would leave DNS at the same time. Set 3 at the most, or a smaller share.",
        ),
        (
            changed("workloads/shop/drain", False),
            "rollcall:workloads.shop.drain: is false, and a program that restarts refuses requests for a moment. Take it out: only static "
            "files change without a restart.",
        ),
    ],
)
def test_a_wrong_value_is_one_error_with_its_fix(config: dict[str, Any], expected: str) -> None:
    assert faults(config) == (expected,)


def test_all_machines_may_change_at_once_if_none_leaves_or_others_stay() -> None:
    still = in_place(batch="100%", runs=["www"], joins=["site/www"])
    still["workloads"]["www"]["drain"] = False
    assert faults(still) == ()
    beside = in_place(batch="100%")
    beside["fleets"]["other"] = GOOD["fleets"]["shop"]
    assert faults(beside) == ()
    # One machine is a batch by itself.
    assert faults(in_place(count=1)) == ()


def test_a_deadline_has_room_for_the_hook() -> None:
    config = in_place()
    config["workloads"]["shop"]["before"] = {"run": "./migrate", "timeout": 240}
    (fault,) = faults(config)
    assert "with shop may take 300 seconds to start" in fault and fault.endswith("Set it to more than 310.")


def test_the_check_of_a_workload_is_in_its_release_and_not_in_the_settings() -> None:
    """Then another check changes no machine setting. `replace` keeps the short form."""
    settings = read("local", in_place(runs=["shop"]))
    (fleet,) = settings.fleets
    assert [each.check for each in settings.sites_of(fleet)] == ["workload:shop"]
    directory = settings.service_discovery_of(fleet)
    assert directory and directory.services[0].check == "workload:shop"
    former = read("local", in_place(runs=["shop"], release=None))
    assert [each.check for each in former.sites_of(former.fleets[0])] == ["http:8080:/healthz"]
    named = in_place(runs=["shop"])
    named["sites"]["www"]["check"] = "workload:shop"
    assert [each.check for each in read("local", named).sites_of(fleet)] == ["workload:shop"]
