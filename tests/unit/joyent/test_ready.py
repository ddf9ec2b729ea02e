from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from components.joyent.errors import FatalError, WaitTimeoutError
from components.joyent.pacing import wait_until
from components.joyent.ready import ReadyProvider
from components.joyent.session import MachineList
from tests.unit.joyent.fake import IMAGES, PACKAGES, FakeCloud


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def provider(cloud: FakeCloud) -> ReadyProvider:
    made = ReadyProvider()
    made.fixed_session = cloud.session()
    return made


def machines(cloud: FakeCloud, count: int) -> list[str]:
    api = cloud.session().api
    fields = {"package": PACKAGES[0]["id"], "image": IMAGES[0]["id"]}
    made = [api.create_machine({"name": f"m{number}", **fields}).id for number in range(count)]
    cloud.calls.clear()
    return made


def test_three_hundred_machines_are_awaited_with_one_list_call_a_poll(
    cloud: FakeCloud, provider: ReadyProvider
) -> None:
    ids = machines(cloud, 300)
    outs = provider.create({"machines": ids, "timeout": 60}).outs
    assert set(outs["addresses"]) == set(outs["primary_ips"]) == set(ids)
    assert set(cloud.calls) == {"GET /machines"}


def test_an_address_that_is_not_public_is_not_in_the_addresses(cloud: FakeCloud, provider: ReadyProvider) -> None:
    ids = machines(cloud, 2)
    provider.create({"machines": ids, "timeout": 60})
    cloud.machines[ids[0]].update(primaryIp="10.0.0.4", ips=["10.0.0.4", "203.0.113.77"])
    cloud.machines[ids[1]].update(primaryIp="192.168.3.4", ips=["192.168.3.4"])
    outs = refreshed(cloud, provider, ids)
    assert outs["addresses"] == {ids[0]: "203.0.113.77"}
    assert outs["primary_ips"] == {ids[0]: "10.0.0.4", ids[1]: "192.168.3.4"}


def test_a_refresh_shows_an_address_that_changed_and_forgets_a_machine_that_is_gone(
    cloud: FakeCloud, provider: ReadyProvider
) -> None:
    ids = machines(cloud, 2)
    provider.create({"machines": ids, "timeout": 60})
    cloud.machines[ids[0]].update(primaryIp="203.0.113.99", ips=["203.0.113.99"])
    cloud.machines[ids[1]]["state"] = "deleted"
    assert refreshed(cloud, provider, ids)["addresses"] == {ids[0]: "203.0.113.99"}


def refreshed(cloud: FakeCloud, provider: ReadyProvider, ids: list[str]) -> dict[str, Any]:
    provider.fixed_session = cloud.session()
    outs: dict[str, Any] = provider.read("ready", {"machines": ids, "timeout": 60}).outs
    return outs


def test_a_failed_machine_is_named_at_once_with_its_reason(cloud: FakeCloud, provider: ReadyProvider) -> None:
    cloud.failing = True
    ids = machines(cloud, 1)
    with pytest.raises(
        FatalError, match=rf"m0 \({ids[0]}\) has failed: provision failed .*no server has room.*pulumi up"
    ):
        provider.create({"machines": ids, "timeout": 60})


def test_a_machine_that_is_gone_is_named(cloud: FakeCloud, provider: ReadyProvider) -> None:
    with pytest.raises(FatalError, match="nobody is gone"):
        provider.create({"machines": ["nobody"], "timeout": 60})


def test_what_does_not_run_in_time_is_named_with_its_state(cloud: FakeCloud, provider: ReadyProvider) -> None:
    ids = machines(cloud, 2)
    cloud.pace = 10_000
    provider.create({"machines": ids, "timeout": 60})
    cloud.machines[ids[1]]["state"] = "stopped"
    provider.fixed_session = cloud.session()
    with pytest.raises(
        WaitTimeoutError, match=rf"not running, no progress for 0.01 s: m1 \({ids[1]}\) is stopped. Run"
    ):
        provider.create({"machines": ids, "timeout": 0.01})


def test_machines_that_come_up_one_after_the_other_may_take_longer_than_the_time_out(
    cloud: FakeCloud, provider: ReadyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.pace = 10_000
    ids, now = machines(cloud, 4), [0.0]

    def sleep(seconds: float) -> None:
        """Start another machine every 40 s."""
        now[0] += seconds
        for at, machine in enumerate(ids):
            if now[0] >= 40 * (at + 1):
                cloud.machines[machine].update(state="running", jobs=[], ips=[f"203.0.113.{at}"], primaryIp="")

    session = cloud.session()
    session.sleep, session.machines = sleep, MachineList(session.api, lambda: now[0])
    provider.fixed_session = session
    monkeypatch.setattr("components.joyent.ready.wait_until", partial(wait_until, clock=lambda: now[0]))
    with pytest.raises(WaitTimeoutError, match=r"no progress for 30 s: m0 .*, m3"):
        provider.create({"machines": ids, "timeout": 30})
    provider.create({"machines": ids, "timeout": 60})
    assert now[0] >= 160


def test_a_machine_that_runs_without_an_address_is_not_ready_yet(cloud: FakeCloud, provider: ReadyProvider) -> None:
    ids = machines(cloud, 1)
    cloud.machines[ids[0]].update(state="running", jobs=[])
    with pytest.raises(WaitTimeoutError, match="is running"):
        provider.create({"machines": ids, "timeout": 0.01})


def test_another_set_of_machines_is_awaited_and_the_same_is_not(provider: ReadyProvider) -> None:
    old = {"machines": ["a", "b"], "timeout": 60.0, "addresses": {}}
    assert provider.diff("ready", old, {"machines": ["a", "c"], "timeout": 60}).changes is True
    assert provider.diff("ready", old, {"machines": ["a", "b"], "timeout": 60}).changes is False


@pytest.mark.parametrize("timeout", [0, -1, True, "60"])
def test_a_time_out_that_is_none_is_refused(provider: ReadyProvider, timeout: Any) -> None:
    assert provider.check({}, {"machines": [], "timeout": timeout}).failures[0].property == "timeout"
