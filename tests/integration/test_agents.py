"""What agents do by themselves on booted machines: restarts, records that a user changes, and workloads that are all unhealthy.

The tests of this file share the stack `two clouds` (tests/groups.py) and run in the order in which they stand.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from localcloud.runtime.sandbox import SandboxError
from rollcall.host_label import generation_of
from rollcall.ownership import KEPT, Owner
from tests import timing
from tests.integration.conftest import wait_until
from tests.integration.deployed import HOST
from tests.integration.shared_stacks import TwoClouds, two_clouds

pytestmark = [pytest.mark.machines, pytest.mark.engine]
# An agent checks every 3 s (every 7 s in `make prove`), and a busy computer adds to it.
SECONDS = 25.0
# Right after a change an agent lets the name servers catch up, for 4 s (15 s).
RIGHT_AFTER_S = timing.seconds(short=5, usual=16)
# 30 % of four, rounded up.
FLOOR = 2


class Agents(TwoClouds):
    def everybody(self) -> set[str]:
        return {each["addresses"][0] for each in self.machines("web-")}

    def status(self, machine: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.inside(machine["id"], "cat", "/run/rollcall/status.json"))
        return found

    def cloudflare(self, method: str, path: str = "", body: dict[str, Any] | None = None) -> Any:
        """As the operator."""
        token = {"Authorization": f"Bearer {self.env['CLOUDFLARE_API_TOKEN']}"}
        url = f"{self.env['CLOUDFLARE_BASE_URL']}/zones/{self.zone()}/dns_records{path}"
        reply = requests.request(method, url, json=body, headers=token, timeout=10)
        reply.raise_for_status()
        return reply.json()["result"]

    def site_records(self) -> list[dict[str, Any]]:
        return [each for each in self.zone_records() if each["name"] == HOST]

    def marks(self) -> dict[str, str]:
        return {each["content"]: each["comment"] or "" for each in self.site_records()}

    def kept(self) -> list[str]:
        """The marks of unhealthy machines that stay."""
        return [each for each in self.marks().values() if each.endswith(KEPT)]

    def ttls(self) -> set[int]:
        return {each["ttl"] for each in self.site_records()}

    def record_set(self, name: str, rtype: str) -> dict[str, Any] | None:
        return next(
            (each for each in self.record_sets() if (each["Name"].rstrip("."), each["Type"]) == (name, rtype)), None
        )

    def host_of(self, generation: str) -> str:
        """The name of a machine's host, which is another one after each time that it had gone."""
        names = {each["Name"].rstrip(".") for each in self.record_sets() if each["Type"] == "A"}
        (found,) = {each for each in names if ".rc." in each and generation_of(each) == generation}
        return str(found)

    def change(self, action: str, record: dict[str, Any]) -> None:
        route53 = self.aws("route53")
        zone = route53.list_hosted_zones()["HostedZones"][0]["Id"]
        batch = {"Changes": [{"Action": action, "ResourceRecordSet": record}]}
        route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)


@pytest.fixture(scope="module")
def agents() -> Agents:
    return two_clouds(Agents, timing.WATCHFUL)


@contextlib.contextmanager
def sampled(read: Callable[[], tuple[set[str], set[str]]]) -> Iterator[list[tuple[set[str], set[str]]]]:
    """Collect what `read` returns, five times a second."""
    seen: list[tuple[set[str], set[str]]] = []
    ended = False

    def watch() -> None:
        while not ended:
            seen.append(read())
            time.sleep(0.2)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(watch)
        try:
            yield seen
        finally:
            ended = True
            done.result(60)


def test_an_agent_that_is_restarted_stopped_or_killed_takes_no_machine_out(agents: Agents) -> None:
    everybody = agents.everybody()
    assert agents.registered() == (everybody, everybody)
    with sampled(agents.registered) as seen:
        agents.everywhere("systemctl", "restart", "rollcall")
        agents.everywhere("systemctl", "kill", "--signal=KILL", "rollcall")
        agents.everywhere("systemctl", "kill", "--signal=TERM", "rollcall")
        one = agents.machine("web-joyent-0")["id"]
        agents.inside(one, "systemctl", "stop", "rollcall")
        time.sleep(18)
        agents.inside(one, "systemctl", "start", "rollcall")
        time.sleep(15)
    assert len(seen) > 10 and all(each == (everybody, everybody) for each in seen)
    for each in agents.machines("web-"):
        assert agents.inside(each["id"], "systemctl", "is-active", "rollcall").strip() == "active"
        assert agents.status(each)["step"] == "registered"


def test_leave_by_hand_lasts_until_join_and_stopping_the_leave_unit_leaves(agents: Agents) -> None:
    machine = agents.machine("web-joyent-1")
    everybody, address = agents.everybody(), machine["addresses"][0]
    rest = everybody - {address}
    agents.inside(machine["id"], "rollcall", "leave")
    wait_until("it is out", lambda: agents.registered() == (rest, rest), SECONDS)
    agents.inside(machine["id"], "systemctl", "restart", "rollcall")
    time.sleep(10)
    assert agents.registered() == (rest, rest)
    assert "left-by-hand" in agents.status(machine)["error"]
    agents.inside(machine["id"], "rollcall", "join")
    wait_until("it is back", lambda: agents.registered() == (everybody, everybody), SECONDS)
    agents.inside(machine["id"], "systemctl", "stop", "rollcall-leave")
    assert agents.registered() == (rest, rest)
    agents.inside(machine["id"], "systemctl", "start", "rollcall")
    wait_until("it is back again", lambda: agents.registered() == (everybody, everybody), SECONDS)


def test_a_machine_that_shuts_down_while_its_agent_is_absent_leaves_first(agents: Agents) -> None:
    """The second unit does it."""
    machine = agents.machine("web-joyent-1")
    everybody, rest = agents.everybody(), agents.everybody() - {machine["addresses"][0]}
    agents.inside(machine["id"], "systemctl", "stop", "rollcall")
    agents.triton("instance", "stop", "-w", machine["id"])
    assert agents.registered() == (rest, rest)
    agents.triton("instance", "start", "-w", machine["id"])
    wait_until("it is back", lambda: agents.registered() == (everybody, everybody), 90)


def test_each_record_of_a_service_comes_back(agents: Agents) -> None:
    """A host gets another name when its address had been removed, since resolvers may remember that. Otherwise it keeps its name."""
    everybody = agents.everybody()
    host = first = next(
        each["Name"].rstrip(".") for each in agents.record_sets() if each["Type"] == "A" and ".rc." in each["Name"]
    )
    for rtype in ("A", "TXT"):
        before = agents.record_set(host, rtype)
        assert before is not None
        agents.change("DELETE", before)
        if rtype == "A":
            everywhere = wait_until(
                "its A is back", lambda: agents.registered() == (everybody, everybody), SECONDS + RIGHT_AFTER_S
            )
            host = agents.host_of(generation_of(first))
            assert host != first and agents.record_set(first, "TXT") is None, "nothing is left of the former name"
            print(f"\nA of {first} deleted: {host} was there after {everywhere:.1f} s")
            before = agents.record_set(host, rtype)
            assert before is not None
        else:
            took = wait_until("its TXT is back", lambda: agents.record_set(host, "TXT") == before, SECONDS)  # noqa: B023
            print(f"\nTXT of {host} deleted: back after {took:.1f} s")
        # Right after a change an agent lets the name servers catch up.
        time.sleep(RIGHT_AFTER_S)
        agents.change("UPSERT", {**before, "TTL": before["TTL"] + 7})
        wait_until(f"its {rtype}'s TTL is back", lambda: agents.record_set(host, rtype) == before, SECONDS)  # noqa: B023
        time.sleep(RIGHT_AFTER_S)
    wait_until("all are registered", lambda: agents.registered() == (everybody, everybody), SECONDS)


def test_a_copied_mark_removes_no_machine_and_each_machine_restores_its_mark(agents: Agents) -> None:
    everybody, before = agents.everybody(), agents.marks()
    copied = before[agents.machine("web-aws-0")["addresses"][0]]
    with sampled(agents.registered) as seen:
        for each in agents.site_records():
            agents.cloudflare("PATCH", f"/{each['id']}", {"comment": copied})
        agents.inside(agents.machine("web-aws-0")["id"], "systemctl", "restart", "rollcall")
        took = wait_until("all have their own marks", lambda: agents.marks() == before, 2 * SECONDS)
        print(f"\none mark copied to all: each has its own again after {took:.1f} s")
        for fields in ({"ttl": 300}, {"comment": ""}, {"comment": "managed by a tool"}):
            record = next(each for each in agents.site_records() if each["comment"] == copied)
            agents.cloudflare("PATCH", f"/{record['id']}", fields)
            wait_until(f"{fields} is undone", lambda: agents.marks() == before and agents.ttls() == {60}, SECONDS)
        # The machine with the original mark leaves while all have it.
        for each in agents.site_records():
            agents.cloudflare("PATCH", f"/{each['id']}", {"comment": copied})
        agents.inside(agents.machine("web-aws-0")["id"], "systemctl", "stop", "rollcall-leave")
        rest = everybody - {agents.machine("web-aws-0")["addresses"][0]}
        wait_until("it alone has left", lambda: agents.registered() == (rest, rest), SECONDS)
        agents.inside(agents.machine("web-aws-0")["id"], "systemctl", "start", "rollcall")
        all_back = lambda: agents.registered() == (everybody, everybody) and agents.marks() == before  # noqa: E731
        wait_until("it is back", all_back, 2 * SECONDS)
    assert all(site >= rest for site, _ in seen)


def test_all_unhealthy_for_six_seconds_changes_nothing(agents: Agents) -> None:
    everybody = agents.everybody()
    with sampled(agents.registered) as seen:
        began = time.monotonic()
        agents.everywhere("systemctl", "stop", "nginx", "the-service")
        time.sleep(max(6.0 - (time.monotonic() - began), 0))
        agents.everywhere("systemctl", "start", "nginx", "the-service")
        print(f"\nall were unhealthy for {time.monotonic() - began:.1f} s")
        time.sleep(10)
    assert seen and all(each == (everybody, everybody) for each in seen)


def test_all_unhealthy_for_longer_leave_a_floor_which_up_and_status_name(agents: Agents) -> None:
    everybody = agents.everybody()
    with sampled(agents.registered) as seen:
        agents.everywhere("systemctl", "stop", "nginx", "the-service")
        wait_until(
            "those above the floor have left", lambda: [len(each) for each in agents.registered()] == [FLOOR] * 2, 90
        )
        wait_until("those that stay say so", lambda: len(agents.kept()) == FLOOR, SECONDS)
        # Each of them asks several times more whether it may leave.
        time.sleep(timing.seconds(short=9, usual=20))
    assert all(len(site) >= FLOOR and len(service) >= FLOOR for site, service in seen)
    assert [len(each) for each in agents.registered()] == [FLOOR] * 2
    kept = agents.kept()
    assert len(kept) == FLOOR and all(Owner.parse(each) for each in kept)
    agents.configure(timeout=12)
    try:
        with pytest.raises(SandboxError) as failed:
            agents.up()
        assert "kept although unhealthy" in str(failed.value)
    finally:
        agents.configure()
    agents.everywhere("systemctl", "start", "nginx", "the-service")
    wait_until("all are back", lambda: agents.registered() == (everybody, everybody), 60)
    wait_until("no machine is kept", lambda: not agents.kept(), SECONDS)


def test_one_that_is_healthy_again_lets_an_unhealthy_one_go(agents: Agents) -> None:
    everybody = agents.everybody()
    agents.everywhere("systemctl", "stop", "nginx")
    wait_until("those above the floor have left", lambda: len(agents.registered()[0]) == FLOOR, 90)
    out = next(each for each in agents.machines("web-") if each["addresses"][0] not in agents.registered()[0])
    agents.inside(out["id"], "systemctl", "start", "nginx")
    wait_until("it is back, and one of the unhealthy has left",
               lambda: out["addresses"][0] in agents.registered()[0] and len(agents.registered()[0]) == FLOOR, 60)  # fmt: skip
    agents.everywhere("systemctl", "start", "nginx")
    wait_until("all are back", lambda: agents.registered() == (everybody, everybody), 60)
