"""components.availability.asking and providers: what EC2 is asked, and what becomes of its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from components.availability import asking, providers
from components.availability.asking import Memory, Zones
from components.availability.providers import AvailabilityError, AvailabilityZoneProvider
from components.joyent.engine import Engine

A, B, C = (f"us-west-2{letter}" for letter in "abc")
ZONE_IDS = {"a": "usw2-az1", "b": "usw2-az2", "c": "usw2-az3"}
TAGS = {"Name": "web"}


def refusal(code: str, status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "CreateCapacityReservation")


class Ec2:
    """EC2 with the room that a test gives to each zone, in machines. `says` are refusals that come first."""

    def __init__(self, **room: int) -> None:
        self.room = {f"us-west-2{letter}": most for letter, most in room.items()}
        self.says: list[ClientError] = []
        self.state = "active"
        self.requests: list[tuple[str, int]] = []
        self.cancelled: list[str] = []
        self.given: dict[str, Any] = {}

    def create_capacity_reservation(self, **given: Any) -> Any:
        self.given = given
        self.requests.append((given["AvailabilityZone"][-1], given["InstanceCount"]))
        if self.says:
            raise self.says.pop(0)
        if given["InstanceCount"] > self.room.get(given["AvailabilityZone"], 0):
            raise refusal("InsufficientInstanceCapacity", 500)
        return {"CapacityReservation": {"CapacityReservationId": f"cr-{len(self.requests)}", "State": self.state}}

    def cancel_capacity_reservation(self, CapacityReservationId: str) -> None:
        self.cancelled.append(CapacityReservationId)

    def describe_capacity_reservations(self, CapacityReservationIds: list[str]) -> Any:
        return {"CapacityReservations": [{"State": "failed"} for _ in CapacityReservationIds]}

    def get_paginator(self, _: str) -> Any:
        class Pages:
            def paginate(self, SubnetIds: list[str]) -> list[Any]:
                found = [
                    {
                        "AvailabilityZone": f"us-west-2{each[-1]}",
                        "SubnetId": each,
                        "AvailabilityZoneId": ZONE_IDS.get(each[-1], ""),
                    }
                    for each in SubnetIds
                ]
                return [{"Subnets": found}]

        return Pages()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> Memory:
    return Memory(clock)


def zones(ec2: Ec2, memory: Memory) -> Zones:
    return Zones(ec2, "us-west-2", "t3.micro", engine=Engine(""), memory=memory)


def test_the_question_is_a_targeted_reservation_that_is_cancelled_at_once(memory: Memory) -> None:
    ec2 = Ec2(a=1)
    assert zones(ec2, memory).has_capacity(A, TAGS) is True
    given = {key: ec2.given[key] for key in ("InstanceType", "InstanceMatchCriteria", "EndDateType", "InstanceCount")}
    assert given == {
        "InstanceType": "t3.micro",
        "InstanceMatchCriteria": "targeted",
        "EndDateType": "limited",
        "InstanceCount": 1,
    }
    assert ec2.cancelled == ["cr-1"]


def test_a_zone_without_capacity_is_remembered_for_a_while(memory: Memory, clock: Clock) -> None:
    ec2 = Ec2()
    of_region = zones(ec2, memory)
    assert of_region.has_capacity(A, TAGS) is False and ec2.cancelled == []
    subnets = of_region.subnets(["subnet-a", "subnet-b"])
    assert of_region.short(subnets) == {A}
    clock.now = asking.SHORT_S
    assert of_region.short(subnets) == set()


def test_machines_that_were_promised_capacity_count_until_they_run(memory: Memory, clock: Clock) -> None:
    ec2 = Ec2(a=2)
    answers = [zones(ec2, memory).has_capacity(A, TAGS) for _ in range(3)]
    assert (answers, ec2.requests) == ([True, True, False], [("a", 1), ("a", 2), ("a", 3)])
    clock.now = asking.GRANTED_S
    assert zones(ec2, memory).has_capacity(A, TAGS) is True


@pytest.mark.parametrize("code", ["InstanceLimitExceeded", "VcpuLimitExceeded"])
def test_machines_that_run_by_now_are_not_a_reason_to_exceed_the_quota(memory: Memory, code: str) -> None:
    ec2 = Ec2(a=9)
    assert zones(ec2, memory).has_capacity(A, TAGS)
    ec2.says = [refusal(code)]
    assert zones(ec2, memory).has_capacity(A, TAGS) is True
    assert ec2.requests == [("a", 1), ("a", 2), ("a", 1)]


@pytest.mark.parametrize("code", ["Unsupported", "InvalidParameterValue", "VcpuLimitExceeded"])
def test_a_question_that_ec2_does_not_answer_stops_nothing(
    memory: Memory, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ec2 = Ec2(a=1)
    ec2.says = [refusal(code)]
    assert zones(ec2, memory).has_capacity(A, TAGS) is True
    assert f"EC2 does not say whether {A} has capacity for t3.micro ({code})" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "AuthFailure"])
def test_credentials_without_the_permission_are_an_error(memory: Memory, code: str) -> None:
    ec2 = Ec2(a=1)
    ec2.says = [refusal(code)]
    with pytest.raises(ClientError):
        zones(ec2, memory).has_capacity(A, TAGS)


def test_a_throttled_question_is_asked_again(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PAUSE_S", 0.0)
    ec2 = Ec2(a=1)
    ec2.says = [refusal("RequestLimitExceeded", 503)] * 2
    assert zones(ec2, memory).has_capacity(A, TAGS) is True
    ec2.says = [refusal("RequestLimitExceeded", 503)] * 9
    with pytest.raises(ClientError):
        zones(ec2, memory).has_capacity(B, TAGS)


def test_a_reservation_that_fails_later_means_no_capacity(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_POLL_S", 0.0)
    ec2 = Ec2(a=1)
    ec2.state = "pending"
    assert zones(ec2, memory).has_capacity(A, TAGS) is False
    assert ec2.cancelled == ["cr-1"]


# The provider


@pytest.fixture
def create(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.setattr(asking, "MEMORY", memory)

    def made(ec2: Ec2, index: int = 0, **more: Any) -> dict[str, Any]:
        monkeypatch.setattr(providers, "_client", lambda *_: ec2)
        monkeypatch.setattr(providers, "Zones", lambda *words, **given: Zones(*words, **{**given, "memory": memory}))
        props = {
            "stack": "local",
            "fleet": "web",
            "machine": str(index),
            "size": "t3.micro",
            "cloud": {"cloud": "aws", "region": "us-west-2"},
            "zones": ["all"],
            "subnets": ["subnet-a", "subnet-b", "subnet-c"],
            **more,
        }
        outs = AvailabilityZoneProvider().create(props).outs
        assert outs is not None
        return dict(outs)

    return made


def test_the_choice_passes_over_a_zone_without_capacity_and_says_so(
    create: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    outs = create(Ec2(a=9, c=9), 1)
    found = {key: outs[key] for key in ("subnet", "zone", "zone_id", "passed_over")}
    assert found == {"subnet": "subnet-c", "zone": C, "zone_id": "usw2-az3", "passed_over": [B]}
    assert f"web-1: there is no capacity for t3.micro in {B} now. It is created in {C}" in capsys.readouterr().err


def test_without_capacity_anywhere_the_error_names_all_zones(create: Callable[..., dict[str, Any]]) -> None:
    ec2 = Ec2()
    with pytest.raises(AvailabilityError) as caught:
        create(ec2, 1)
    assert str(caught.value) == (
        f"rollcall:fleets.web.zones: there is no capacity for t3.micro in {B}, {C}, {A} now, so web-1 cannot be created. Run `pulumi up` "
        "again later, add a zone, or choose another size."
    )
    assert len(ec2.requests) == 3


@pytest.mark.parametrize("zones", [[C], ["usw2-az3"]])
def test_only_zones_of_the_list_are_asked(create: Callable[..., dict[str, Any]], zones: list[str]) -> None:
    ec2 = Ec2(a=9, b=9, c=9)
    assert [create(ec2, index, zones=zones)["zone"] for index in range(2)] == [C, C]
    assert {zone for zone, _ in ec2.requests} == {"c"}


def test_without_a_subnet_no_other_one_is_taken(create: Callable[..., dict[str, Any]]) -> None:
    ec2 = Ec2(a=9)
    ec2.get_paginator = None  # type: ignore[assignment]
    with pytest.raises(AvailabilityError, match="in any zone now, so web-0 cannot be created"):
        create(ec2, subnets=[])


def test_a_machine_that_exists_stays_and_ec2_is_not_asked(create: Callable[..., dict[str, Any]]) -> None:
    ec2 = Ec2()
    outs = create(ec2, 0, stays="subnet-x")
    assert (outs["subnet"], outs["zone"], ec2.requests) == ("subnet-x", "us-west-2x", [])
    assert "stays" not in outs


def test_another_choice_is_made_only_if_the_program_asks_for_it(create: Callable[..., dict[str, Any]]) -> None:
    provider, state = AvailabilityZoneProvider(), create(Ec2(a=9), again="the machine does not exist")
    news = {key: state[key] for key in ("stack", "fleet", "machine", "size", "cloud", "zones", "subnets")}
    assert not provider.diff("", state, news).changes
    assert not provider.diff("", state, {**news, "subnets": ["subnet-z"]}).changes
    assert provider.diff("", state, {**news, "again": "the machine leaves us-west-2b"}).replaces == ["again"]


def test_a_missing_permission_names_the_key(create: Callable[..., dict[str, Any]]) -> None:
    ec2 = Ec2()
    ec2.says = [refusal("UnauthorizedOperation", 403)]
    with pytest.raises(AvailabilityError, match="CreateCapacityReservation"):
        create(ec2)
