"""components.preflight.triton_adoption: it reports what adopting a Triton machine would change, and refuses what cannot be adopted."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from components.config.errors import ConfigurationError
from components.config.models import FleetSettings
from components.config.reader import read
from components.joyent.session import Session
from components.preflight.quotas import Found
from components.preflight.triton_adoption import Adopter, compare
from tests.unit.joyent.fake import FakeCloud
from tests.unit.joyent.test_machine import Engine, settle

BY = Adopter(stack="local", mark="rollcall/local", networks=["Joyent-SDC-Public"], firewall=False)


def fleet(**adopt: str) -> FleetSettings:
    values = {
        "sites": {"www": {"zone": "scalability.expert"}},
        "fleets": {
            "web": {"cloud": "joyent", "count": 2, "size": "g1.nano", "image": "debian-12", "joins": ["site/www"],
                    "adopt": {key.removeprefix("m"): name for key, name in adopt.items()}},
        },
    }  # fmt: skip
    return read("local", values).fleets[0]


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


def there(cloud: FakeCloud, **changed: Any) -> str:
    made = Engine(cloud).create(machine_name="old", networks=["Joyent-SDC-Public"], mark="", **changed)
    settle(cloud)
    return made.id


def result_of(cloud: FakeCloud, settings: FleetSettings) -> Found:
    session: Session = cloud.session()
    return compare(settings, BY, session.api.list_machines(), session.catalogue)


@pytest.mark.parametrize("by", ["id", "name"])
def test_what_is_changed_is_reported(cloud: FakeCloud, by: str) -> None:
    id_ = there(cloud, package="g1.small")
    found = result_of(cloud, fleet(m0=id_ if by == "id" else "old"))
    (note,) = found.notes
    assert not found.faults and note.startswith(f"web-0: old ({id_}) is adopted; it is called web-0-GENERATION")
    assert "its size goes from g1.small to g1.nano" in note and "networks go" not in note
    assert "user-script that runs at its next boot" in note or "user-script is replaced" in note
    assert f"triton instance reboot {id_}" in note


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"tags": {"rollcall-stack": "prod", "rollcall-fleet": "api", "rollcall-machine": "3"}},
            "belongs to stack prod, as api-3",
        ),
        ({"image": "twin"}, "has the image"),
    ],
)
def test_what_is_anothers_or_takes_another_machine_is_refused(cloud: FakeCloud, changed: Any, message: str) -> None:
    id_ = there(cloud, **changed)
    found = result_of(cloud, fleet(m1=id_))
    (fault,) = found.faults
    assert not found.notes and fault.startswith("rollcall:fleets.web.adopt.1: ") and message in fault


def test_a_machine_of_another_program_is_refused(cloud: FakeCloud) -> None:
    id_ = Engine(cloud).create(mark="other/prod/web-0").id
    (fault,) = result_of(cloud, fleet(m0=id_)).faults
    assert "belongs to other/prod/web-0" in fault


def test_what_is_not_there_or_there_twice_is_refused(cloud: FakeCloud) -> None:
    (fault,) = result_of(cloud, fleet(m0="nobody")).faults
    assert "'nobody' is not a machine" in fault
    (fault,) = result_of(cloud, fleet(m0=str(uuid.uuid4()))).faults
    assert "is not a machine" in fault


def test_what_was_adopted_before_is_nothing_to_tell_of(cloud: FakeCloud) -> None:
    there(cloud, tags={"rollcall-stack": "local", "rollcall-fleet": "web", "rollcall-machine": "0"})
    assert result_of(cloud, fleet(m0="gone-by-that-name")) == Found()
    assert result_of(cloud, fleet(m1="old")).faults


@pytest.mark.parametrize(
    ("cloud", "adopt", "message"),
    [
        ("aws", {"0": "i-1"}, "is for Triton machines"),
        ("joyent", {"2": "old"}, "is not the number of a machine of this fleet"),
        ("joyent", {"first": "old"}, "is not the number of a machine"),
        ("joyent", {"0": "old", "1": "old"}, "is in it twice"),
        ("joyent", {"0": 1}, "not a text"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(cloud: str, adopt: Any, message: str) -> None:
    result_of = {"cloud": cloud, "count": 2, "size": "s", "image": "debian-12", "joins": ["site/www"], "adopt": adopt}
    with pytest.raises(ConfigurationError, match=message):
        read("local", {"sites": {"www": {"zone": "scalability.expert"}}, "fleets": {"web": result_of}})
