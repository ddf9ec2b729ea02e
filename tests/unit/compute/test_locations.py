"""components.compute.locations: which fleet answers for which machines, when a cloud's fleets are in several places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from components.compute.locations import FleetMachines, Location, Locations, is_keeper, left
from components.model import Instance
from components.resources.fleets.roll_calls import elsewhere
from components.workloads.release import Release
from rollcall.in_place import ReleaseReport
from rollcall.resolver_view import ResolverReport

WEST, EU, ASIA = (Location(cloud="aws", region=region) for region in ("us-west-2", "eu-west-1", "ap-south-1"))
HERE, THERE = Location(cloud="joyent"), Location(cloud="joyent", region="us-east-2")


def props(
    fleet: str, fleets: dict[str, Location], *, at: Location | None = None, former: Iterable[Location] = ()
) -> dict[str, Any]:
    """What a program with these fleets tells the RollCall of one, as components.resources.fleets.roll_calls.call_rolls does."""
    home = at or fleets[fleet]
    others = elsewhere(home, fleets.values())
    return {
        "stack": "prod",
        "fleet": fleet,
        "fleets": list(fleets),
        "cloud": home.as_inputs(),
        "peers": [name for name, access in fleets.items() if access == home],
        **({"elsewhere": [each.as_inputs() for each in others]} if others else {}),
        **({"former": [each.as_inputs() for each in former]} if former else {}),
    }


def seen(fleet: str, instance: str = "i-00000000000000001", *, state: str = "running") -> Instance:
    return Instance(
        instance=instance, fleet=fleet, machine="0", generation="aaaaaa", running=state == "running", state=state
    )


SPREAD = {"web": WEST, "api": WEST, "web-eu": EU, "api-eu": EU, "here": HERE, "there": THERE, "also": THERE}


@pytest.mark.parametrize(
    ("fleet", "peers", "keeper", "others", "first"),
    [
        ("web", ["web", "api"], False, [EU], False),
        ("api", ["web", "api"], True, [EU], False),
        ("web-eu", ["web-eu", "api-eu"], False, [WEST], False),
        ("api-eu", ["web-eu", "api-eu"], True, [WEST], True),
        ("here", ["here"], True, [THERE], True),
        ("there", ["there", "also"], False, [HERE], False),
        ("also", ["there", "also"], True, [HERE], False),
    ],
)
def test_each_place_has_one_keeper_and_each_cloud_a_first(
    fleet: str, peers: list[str], keeper: bool, others: list[Location], first: bool
) -> None:
    given = props(fleet, SPREAD)
    assert given["peers"] == peers
    assert is_keeper(given) is keeper
    locations = Locations.of(given)
    assert (list(locations.elsewhere), locations.first) == (others, first)


def test_a_stack_in_one_place_gets_no_new_setting() -> None:
    given = props("web", {"web": WEST, "here": HERE})
    assert "elsewhere" not in given and Locations.of(given).others == ()


OLD = {"web": WEST, "api": WEST, "web-eu": EU}


@pytest.mark.parametrize(
    ("case", "fleet", "before", "now", "remembered"),
    [
        ("nothing moves", "web", OLD, OLD, []),
        ("a peer moves to a place that is known", "api", OLD, {**OLD, "web": EU}, []),
        ("it moves itself, and others stay", "web", OLD, {**OLD, "web": EU}, [WEST]),
        ("the last of a place moves", "web-eu", OLD, {**OLD, "web-eu": ASIA}, [EU]),
        ("as another fleet has it", "api", OLD, {**OLD, "web-eu": ASIA}, [EU]),
        ("a place's last fleet is given up", "api", OLD, {"web": WEST, "api": WEST}, [EU]),
        ("the last of another cloud's place is given up", "web", {**OLD, "there": THERE}, OLD, []),
    ],
)
def test_what_a_roll_call_remembers(
    case: str, fleet: str, before: dict[str, Location], now: dict[str, Location], remembered: list[Location]
) -> None:
    assert left(props(fleet, before), props(fleet, now)) == [each.as_inputs() for each in remembered], case


def test_what_was_remembered_stays_so_and_home_is_never_remembered() -> None:
    before = props("web", {"web": WEST}, former=[EU, ASIA])
    assert left(before, props("web", {"web": WEST})) == [ASIA.as_inputs(), EU.as_inputs()]
    assert left(before, props("web", {"web": EU})) == [ASIA.as_inputs(), WEST.as_inputs()]


@pytest.mark.parametrize(
    ("case", "fleet", "now", "machine", "charged", "kept"),
    [
        ("its own, where others are", "web", {"web": WEST, "api": EU}, "web", True, True),
        ("another's, where others are", "web", {"web": WEST, "api": EU}, "api", False, False),
        ("without an owner, where others are", "web", {"web": WEST, "api": EU}, "gone", False, False),
        ("its own, without another fleet", "web", {"web": WEST, "api": WEST}, "web", True, True),
        ("another's, without another fleet", "api", {"web": WEST, "api": WEST}, "web", False, True),
        ("without an owner, as the first", "api", {"web": WEST, "api": WEST}, "gone", True, True),
        ("without an owner, as another", "web", {"web": WEST, "api": WEST}, "gone", False, True),
    ],
)
def test_the_owner_of_a_machine_in_a_former_place(
    case: str, fleet: str, now: dict[str, Location], machine: str, charged: bool, kept: bool
) -> None:
    locations = Locations.of(props(fleet, now, former=[EU]))
    assert bool(locations.responsible_for(EU, [seen(machine)])) is charged, case
    assert locations.still(EU, [seen(machine)]) is kept, case
    assert not locations.still(EU, [seen(machine, state="terminated")])
    assert not locations.still(EU, [])


class View:
    """One place: what it lists, or that it cannot be asked."""

    def __init__(self, *machines: Instance, broken: bool = False) -> None:
        self._machines, self._broken = machines, broken

    def machines(self, stack: str) -> tuple[Instance, ...]:
        if self._broken:
            raise ConnectionError("eu-west-1 cannot be asked")
        return self._machines

    def of(self, instances: Sequence[str]) -> tuple[Instance, ...]:
        return tuple(each for each in self._machines if each.instance in instances)

    def steps(self, machines: Sequence[Instance]) -> dict[str, str]:
        return {}

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
        """It proves those that it lists."""
        here = {each.instance for each in self._machines}
        return {each.instance: "only tags" for each in machines if each.instance not in here}

    def drain(self, stack: str, instances: Sequence[str]) -> None: ...

    def undrain(self, stack: str, instances: Sequence[str]) -> None: ...

    def stop(self, stack: str, instances: Sequence[str]) -> None: ...

    def end(self, instances: Sequence[str]) -> None: ...

    def console(self, machine: Instance) -> str | None: ...

    def set_settings(self, stack: str, changes: Mapping[str, Mapping[str, str | None]]) -> None: ...

    def reports(self, machines: Sequence[Instance]) -> dict[str, ReleaseReport]:
        return {}

    def resolver_reports(self, machines: Sequence[Instance]) -> dict[str, ResolverReport]:
        return {}

    def deliver(self, instances: Sequence[str], releases: Sequence[Release]) -> None: ...


HOME, OTHER, BEHIND = (f"i-{number:017x}" for number in (1, 2, 3))


def test_machines_of_other_regions_fleets_are_not_seen_and_count_as_running() -> None:
    locations = Locations.of(props("web", {"web": WEST, "api": EU}, former=[ASIA]))
    views = {WEST: View(seen("web", HOME)), EU: View(seen("api", OTHER)), ASIA: View(seen("web", BEHIND))}
    places = FleetMachines(locations, views)
    assert [each.instance for each in places.machines("prod")] == [HOME, BEHIND]
    assert places.running_elsewhere("prod") == {OTHER, BEHIND}
    assert places.still_former("prod") == [ASIA.as_inputs()]
    assert places.views == [views[WEST], views[ASIA]]


def test_a_machine_is_proven_by_the_place_that_it_is_in_and_by_no_other_fleets() -> None:
    locations = Locations.of(props("web", {"web": WEST, "api": EU}, former=[ASIA]))
    machines = [seen("web", each) for each in (HOME, OTHER, BEHIND)]
    places = FleetMachines(locations, {WEST: View(machines[0]), EU: View(machines[1]), ASIA: View(machines[2])})
    assert places.unproven("prod", machines) == {OTHER: "only tags"}


def test_one_that_does_not_run_elsewhere_is_not_running() -> None:
    locations = Locations.of(props("web", {"web": WEST, "api": EU}))
    views = {WEST: View(), EU: View(seen("api", OTHER, state="stopped"))}
    assert FleetMachines(locations, views).running_elsewhere("prod") == frozenset()


def test_a_place_that_cannot_be_asked_is_an_error_and_not_empty() -> None:
    locations = Locations.of(props("web", {"web": WEST, "api": EU}, former=[ASIA]))
    broken = View(broken=True)
    with pytest.raises(ConnectionError):
        FleetMachines(locations, {WEST: View(), EU: broken, ASIA: View()}).running_elsewhere("prod")
    with pytest.raises(ConnectionError):
        FleetMachines(locations, {WEST: View(), EU: View(), ASIA: broken}).machines("prod")
    with pytest.raises(ConnectionError):
        FleetMachines(locations, {WEST: broken, EU: View(), ASIA: View()}).machines("prod")
    # It is not asked for what does not need it.
    assert FleetMachines(locations, {WEST: View(), EU: broken, ASIA: View()}).machines("prod") == ()
