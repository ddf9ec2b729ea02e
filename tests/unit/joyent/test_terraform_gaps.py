"""What the Terraform provider for Triton gets wrong (resource_machine.go of 0.9.0), one by one, and ours gets right.

Those that other files show already are not repeated: pools, failed machines, foreign keys and typed tags in test_machine.py,
keys and snapshots that were deleted elsewhere in test_things.py, ambiguous look-ups in test_catalogue.py.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from components.joyent.errors import FatalError
from components.joyent.transport import ACCEPT_VERSION
from tests.unit.joyent.fake import PACKAGES, PRIVATE, PUBLIC, FakeCloud
from tests.unit.joyent.test_machine import DECLARED, Engine, settle


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def engine(cloud: FakeCloud) -> Engine:
    return Engine(cloud)


def test_cns_tags_without_cns_in_the_account_do_not_wait_for_names(engine: Engine) -> None:
    engine.create(tags={"triton.cns.services": "web.a:80", "triton.cns.disable": False})
    assert engine.cloud.calls[-1] == "POST /machines"
    assert engine.machine["tags"]["triton.cns.disable"] is False


def test_a_package_by_id_converges(engine: Engine) -> None:
    engine.create()
    settle(engine.cloud)
    engine.refresh()
    engine.update(package=PACKAGES[2]["id"])
    engine.refresh()
    assert engine.diff(package=PACKAGES[2]["id"]).changes is False


def test_a_stopped_machine_that_shows_no_package_is_resized(engine: Engine) -> None:
    engine.create(power="stopped")
    engine.cloud.hide_packages = True
    engine.update(power="stopped", package="g1.small")
    assert engine.machine["memory"] == 2048


def test_a_nic_is_gone_before_the_next_is_added_and_the_order_is_kept(engine: Engine) -> None:
    engine.create(networks=[PUBLIC, PRIVATE])
    settle(engine.cloud)
    engine.refresh()
    engine.cloud.calls.clear()
    engine.update(networks=[PRIVATE, PUBLIC])
    assert engine.machine["networks"] == [PRIVATE, PUBLIC]
    nics = [call for call in engine.cloud.calls if "/nics" in call]
    kinds = [call.split()[0] for call in nics[1:]]
    assert kinds == ["DELETE", "GET", "DELETE", "GET", "POST", "GET", "POST", "GET"]


def test_protection_is_on_from_the_first_moment(engine: Engine) -> None:
    assert engine.create(deletion_protection=True).machine["deletion_protection"] is True
    assert not [call for call in engine.cloud.calls if call.startswith("POST /machines/")]


def test_machines_with_affinity_are_made_beside_each_other(cloud: FakeCloud) -> None:
    provider = Engine(cloud).provider
    checked = [
        provider.check(
            {}, {**DECLARED, "machine_name": f"m{index}", "mark": str(index), "affinity": ["role!=web"]}
        ).inputs
        for index in range(20)
    ]
    cloud.pace = 1000
    with ThreadPoolExecutor(4) as four:
        ids = {made.id for made in four.map(provider.create, checked)}
    assert len(ids) == 20
    assert {machine["state"] for machine in cloud.machines.values()} == {"provisioning"}
    assert cloud.count("GET /machines") == 1


def test_affinity_of_an_adopted_machine_replaces_nothing(engine: Engine) -> None:
    there = Engine(engine.cloud).create(mark="")
    settle(engine.cloud)
    engine.create(adopt=there.id, affinity=["role!=web"])
    engine.refresh()
    assert engine.diff(adopt=there.id, affinity=["role!=web"]).changes is False


def test_a_changed_script_needs_no_new_machine(engine: Engine) -> None:
    engine.create()
    settle(engine.cloud)
    assert engine.diff(userdata="#!/bin/sh\necho new\n").replaces == []
    engine.update(userdata="#!/bin/sh\necho new\n")
    assert engine.machine["metadata"]["user-script"] == "#!/bin/sh\necho new\n"


def test_a_fixed_address_is_asked_for_at_creation_and_again_when_its_nic_comes_back(engine: Engine) -> None:
    fixed = {"fixed_ips": {"Joyent-SDC-Private": "10.0.0.9"}}
    wish = {"ipv4_uuid": PRIVATE, "ipv4_ips": ["10.0.0.9"]}
    engine.create(networks=[PUBLIC, "Joyent-SDC-Private"], **fixed)
    # All in one form: CloudAPI takes no mixture of ids and objects.
    assert engine.cloud.bodies[-1]["networks"] == [{"ipv4_uuid": PUBLIC}, wish]
    settle(engine.cloud)
    engine.refresh()
    engine.update(networks=["Joyent-SDC-Private", PUBLIC], **fixed)
    assert [body["network"] for body in engine.cloud.bodies if "network" in body] == [wish, {"ipv4_uuid": PUBLIC}]
    engine.refresh()
    assert engine.diff(networks=["Joyent-SDC-Private", PUBLIC], **fixed).changes is False


def test_the_windows_password_goes_under_cloudapis_own_parameter_and_not_into_the_state(engine: Engine) -> None:
    engine.create(administrator_password="for Windows only")
    assert engine.cloud.bodies[-1]["password"] == "for Windows only"
    assert "for Windows only" not in str(engine.state)
    settle(engine.cloud)
    engine.refresh()
    assert engine.diff(administrator_password="for Windows only").changes is False
    assert engine.diff(administrator_password="another").replaces == ["administrator_password"]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("locality", {"far": [PRIVATE]}, {"near": [PRIVATE]}),
        ("volumes", [{"name": "data", "mountpoint": "/a"}], [{"name": "data", "mountpoint": "/b"}]),
        ("delegate_dataset", False, True),
    ],
)
def test_no_change_is_silently_ignored(engine: Engine, name: str, before: object, after: object) -> None:
    engine.create(**{name: before})
    assert engine.cloud.bodies[-1][name] == before
    settle(engine.cloud)
    engine.refresh()
    assert engine.diff(**{name: before}).changes is False
    assert engine.diff(**{name: after}).replaces == [name]


def test_an_adopted_machine_that_is_not_encrypted_is_not_replaced_by_one_that_is(engine: Engine) -> None:
    there = Engine(engine.cloud).create(mark="")
    settle(engine.cloud)
    with pytest.raises(FatalError, match="cannot be adopted: encrypted is False, not True"):
        engine.create(adopt=there.id, encrypted=True)


def test_deleted_elsewhere_between_refresh_and_update_is_an_error_that_says_so(engine: Engine) -> None:
    engine.create()
    settle(engine.cloud)
    del engine.cloud.machines[engine.id]
    with pytest.raises(Exception, match="404 ResourceNotFound"):
        engine.update(tags={})


def test_the_api_of_today_is_asked_for() -> None:
    assert ACCEPT_VERSION == "~9||~8"
