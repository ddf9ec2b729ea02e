"""The five promises of DESIGN.md, one after the other, on booted machines with the real engine.

The tests of this file share the stack `two clouds` (tests/groups.py), run in the order in which they stand, and destroy it. A crash
without a cleanup by hand is in test_crashes.py.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests

from rollcall.ownership import Owner
from tests.integration.conftest import wait_until
from tests.integration.deployed import HOST
from tests.integration.instep import SERVICE, foreign_bytes
from tests.integration.log_inspection import CLOUDFLARE, Prober, is_machine, requests_of
from tests.integration.shared_stacks import TwoClouds, two_clouds

pytestmark = [pytest.mark.machines, pytest.mark.engine]
# Five failed checks in a row, one every two seconds beside what else the agent does, and the write.
UNHEALTHY_WITHIN, BACK_WITHIN = 40.0, 15.0


class Promised(TwoClouds):
    kept: str
    joined: set[str]

    def cloudflare(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """As the operator."""
        token = {"Authorization": f"Bearer {self.env['CLOUDFLARE_API_TOKEN']}"}
        url = f"{self.env['CLOUDFLARE_BASE_URL']}/zones/{self.zone()}/dns_records{path}"
        reply = requests.request(method, url, json=body, headers=token, timeout=10)
        reply.raise_for_status()
        found: dict[str, Any] = reply.json()["result"]
        return found

    def record_of(self, name: str) -> dict[str, Any]:
        instance = self.machine(name)["id"]
        return next(each for each in self.records() if instance in (each["comment"] or ""))

    def service_set(self) -> dict[str, Any]:
        """The service's DNS-SD set, as Route53 lists it."""
        sets = [each for each in self.record_sets() if each["Type"] == "SRV"]
        return next(each for each in sets if each["Name"].lower() == f"{SERVICE.lower()}.")

    def change_service(self, replace: dict[str, str | None], add: tuple[str, ...] = ()) -> None:
        """The service's set by hand: values replaced (by None: taken out) and added."""
        old = self.service_set()
        values = [replace.get(each["Value"], each["Value"]) for each in old["ResourceRecords"]]
        new = {**old, "ResourceRecords": [{"Value": each} for each in (*values, *add) if each]}
        changes = [{"Action": "DELETE", "ResourceRecordSet": old}, {"Action": "CREATE", "ResourceRecordSet": new}]
        route53 = self.aws("route53")
        zone = route53.list_hosted_zones()["HostedZones"][0]["Id"]
        route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})

    def agents(self, number: str) -> None:
        """Send every agent a signal."""
        self.everywhere("systemctl", "kill", f"--signal={number}", "rollcall")


@pytest.fixture(scope="module")
def stack() -> Promised:
    return two_clouds(Promised)


def test_1_up_means_answering(stack: Promised) -> None:
    stack.joined = stack.assert_in_step()
    assert len(stack.joined) == 4
    stack.kept = foreign_bytes(stack)


def test_4_one_writer_for_each_record(stack: Promised) -> None:
    static = foreign_bytes(stack)
    resources = stack.resources()
    written = {each["outputs"]["type"] for each in resources if each["type"] == "cloudflare:index/dnsRecord:DnsRecord"}
    assert written == {"CNAME"}
    written = {each["outputs"]["type"] for each in resources if each["type"] == "aws:route53/record:Record"}
    assert written == {"PTR", "TXT"}
    # Every agent changes what it has: by leaving, and by joining again. Stopping the second unit stops the agent too, and leaves.
    stack.everywhere("systemctl", "restart", "rollcall-leave")
    wait_until("all are back", lambda: len(stack.answers()) == 4 and len(stack.dig(SERVICE, "SRV")) == 4, 30)
    assert foreign_bytes(stack) == static
    ours = {each["id"] for each in resources if each["type"] == "cloudflare:index/dnsRecord:DnsRecord"}
    touched = [each for each in requests_of(stack.sandbox, CLOUDFLARE, is_machine) if each.path.split("/")[-1] in ours]
    assert ours and touched == []
    assert "unchanged" in (output := stack.up("--expect-no-changes")), output


def test_5_no_client_notices_a_graceful_stop(stack: Promised) -> None:
    aws, joyent = stack.machine("web-aws-1")["id"], stack.machine("web-joyent-1")["id"]
    with Prober(stack.ask_site).running() as site, Prober(stack.ask_service).running() as service:
        wait_until("all four serve", lambda: {answer for _, answer in site.answers} >= stack.joined, 10)
        stack.ec2.stop_instances(InstanceIds=[aws])
        stack.triton("instance", "stop", "-w", joyent)
        wait_until("the instance is down", lambda: stack.machine("web-aws-1")["state"] == "stopped", 60)
        stack.ec2.start_instances(InstanceIds=[aws])
        stack.triton("instance", "start", "-w", joyent)
        began = time.time()
        wait_until("both stand again", lambda: len(stack.answers()) == 4 and len(stack.dig(SERVICE, "SRV")) == 4, 60)
        wait_until(
            "both serve again", lambda: {answer for at, answer in site.answers if at > began} >= stack.joined, 10
        )
    for prober in (site, service):
        assert prober.failures(stack.joined.__contains__) == []
    print(
        f"\n{len(site.answers)} visits and {len(service.answers)} calls while two machines stopped and started: 0 failures"
    )


@pytest.mark.parametrize(("unit", "fleet"), [("nginx", "web-aws"), ("the-service", "web-joyent")])
def test_5_a_failed_check_removes_the_record_while_it_fails(stack: Promised, unit: str, fleet: str) -> None:
    machine = stack.machine(f"{fleet}-1")["id"]
    ask, side = (stack.ask_site, "site") if unit == "nginx" else (stack.ask_service, "service")
    # A machine that was started again is in DNS before its boot script has come to its end, which starts the workload.
    state = ("systemctl", "show", "--property=ActiveState", "--value", "rollcall-boot")
    wait_until("its boot script has ended", lambda: stack.inside(machine, *state).strip() == "active", BACK_WITHIN)
    stack.inside(machine, "systemctl", "stop", unit)
    gone = wait_until("its record is gone", lambda: machine not in stack.owners()[side], UNHEALTHY_WITHIN)
    assert stack.owners()["service" if side == "site" else "site"] == stack.joined
    with Prober(ask, 0.1).running() as prober:
        time.sleep(3)
    assert prober.failures((stack.joined - {machine}).__contains__) == []
    stack.inside(machine, "systemctl", "start", unit)
    back = wait_until("it is registered again", lambda: machine in stack.owners()[side], BACK_WITHIN)
    assert machine in stack.inside(machine, "cat", "/var/log/rollcall.log")
    print(f"\n{unit} stopped: out after {gone:.1f} s, back {back:.1f} s after it was started")


def test_3_drift_is_a_diff(stack: Promised) -> None:
    """With the agents halted, since they would fix most of it before the preview."""
    stack.agents("STOP")
    missing, stale = stack.machine("web-aws-0"), stack.machine("web-joyent-0")
    ghost = Owner("local", "web-aws", "7", "abcdef", "i-0123456789abcdef0")
    leftover = {"type": "A", "name": HOST, "content": "198.51.100.77", "ttl": 60, "comment": str(ghost)}
    foreign = {"type": "A", "name": HOST, "content": "192.0.2.80", "ttl": 60, "comment": "by hand"}
    stack.cloudflare("DELETE", f"/{stack.record_of('web-aws-0')['id']}")
    stack.cloudflare("PATCH", f"/{stack.record_of('web-joyent-0')['id']}", {"content": "203.0.113.99"})
    stack.cloudflare("POST", "", leftover)
    stack.cloudflare("POST", "", foreign)
    values = stack.service_set()["ResourceRecords"]
    taken = next(each["Value"] for each in values if _generation(stack, "web-aws-1") in each["Value"])
    stack.change_service({taken: None}, add=("0 0 4218 By-Hand.unilans.net.",))

    plain = stack.sandbox.pulumi("preview", "--stack", "local", capture=True).stdout
    lines = [line for line in plain.splitlines() if "rollcall:RollCall" in line and "diff" in line]
    aws, joyent = (next(line for line in lines if f" {name} " in line) for name in ("web-aws", "web-joyent"))
    assert "missing" in aws and "leftover" in aws and "foreign" in aws and "stale" not in aws, plain
    assert "stale" in joyent and "foreign" in joyent and "leftover" not in joyent, plain

    found = stack.sandbox.pulumi("preview", "--diff", "--stack", "local", capture=True).stdout
    assert f"web-aws-0 ({missing['id']}) is not at {HOST} A" in found, found
    assert f"web-aws-1 ({stack.machine('web-aws-1')['id']}) is not at {SERVICE.lower()} SRV" in found, found
    assert f"web-joyent-0 ({stale['id']}) is at {HOST} A with 203.0.113.99, it has {stale['addresses'][0]}" in found, (
        found
    )
    assert f"198.51.100.77 of web-aws-7 ({ghost.instance}) at {HOST} A" in found, found
    assert f"192.0.2.80 (no owner) at {HOST} A" in found, found
    assert f"By-Hand.unilans.net. (no owner) at {SERVICE.lower()} SRV" in found, found

    steps = json.loads(stack.sandbox.pulumi("preview", "--json", "--stack", "local", capture=True).stdout)["steps"]
    changed = {each["urn"].split("::")[-1] for each in steps if each["op"] not in ("same", "refresh", "read")}
    assert changed == {"web-aws", "web-joyent"}, steps

    stack.agents("CONT")
    shown = stack.up()
    assert "removed 198.51.100.77" in shown, shown
    assert stack.owners() == {"site": stack.joined, "hosts": stack.joined, "service": stack.joined}
    assert "192.0.2.80" in stack.answers() and "203.0.113.99" not in stack.answers()
    # What is not ours was shown once, and is no difference any more.
    assert "unchanged" in (output := stack.up("--expect-no-changes")), output
    stack.kept = foreign_bytes(stack)
    assert "192.0.2.80" in stack.kept and "By-Hand" in stack.kept


def test_1_up_fails_and_names_each_machine_and_why(stack: Promised) -> None:
    # Machines are to have booted and tried by then, on a busy computer too.
    stack.configure(count=3, timeout=60)
    stack.sandbox.localcloud("fault", "cloudflare:POST:dns_records", "status=403", capture=True)
    try:
        done = stack.sandbox.pulumi("up", "--yes", "--skip-preview", "--stack", "local", capture=True, check=False)
        # Machines that cannot register get no requests, and those that serve go on.
        assert stack.owners()["site"] == stack.joined
    finally:
        stack.sandbox.localcloud("fault", "--clear", capture=True)
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    for name in ("web-aws-2", "web-joyent-2"):
        line = next(line for line in output.splitlines() if f"- {name} ({stack.machine(name)['id']}) is not at" in line)
        assert HOST in line and "403" in line, output
    for each in ("web-aws-0", "web-aws-1", "web-joyent-0", "web-joyent-1"):
        assert f"- {each} " not in output, output
    # Once the cause is gone `up` is enough. An agent that was refused tries again after 120 s at the latest (docs/agents.md).
    stack.configure(count=3, timeout=150)
    stack.up()
    stack.joined = stack.in_state()
    assert len(stack.joined) == 6
    assert stack.owners() == {"site": stack.joined, "hosts": stack.joined, "service": stack.joined}


def test_2_gone_means_gone_also_after_a_crash(stack: Promised) -> None:
    """Two of each cloud leave with the scale-down and in `destroy`; one of them has crashed."""
    crashed = [stack.machine("web-aws-2")["id"], stack.machine("web-joyent-2")["id"]]
    stack.sandbox.localcloud("crash", crashed[0])
    stack.configure(count=2)
    stack.up()
    state = stack.in_state()
    assert len(state) == 4 and not state & set(crashed)
    stack.assert_tagged(state)
    assert stack.owners() == {"site": state, "hosts": state, "service": state}
    assert foreign_bytes(stack) == stack.kept
    # A watcher that challenges the crashed one may do so up to the moment at which it goes.
    wait_until("no challenge is left", lambda: not any(each in _everything(stack) for each in crashed), 25)


def test_2_destroy_leaves_what_is_not_ours_to_the_byte(stack: Promised) -> None:
    stack.sandbox.localcloud("crash", stack.machine("web-joyent-0")["id"])
    static, before = {"CNAME", "PTR"}, stack.zone_records()
    before = [each for each in before if each["type"] not in static and ".c.rc." not in each["name"]]
    kept = [each for each in before if not Owner.parse(each["comment"] or "")]
    stack.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
    stack.assert_tagged(set())
    assert stack.in_state() == set()
    assert sorted(stack.zone_records(), key=_id) == sorted(kept, key=_id)
    sets = stack.record_sets()
    left = {(each["Name"], each["Type"]): each.get("ResourceRecords") for each in sets}
    assert left.pop(("unilans.net.", "TXT")) == [{"Value": '"kept by hand"'}]
    # Without the test of drift, no user has put a value there.
    by_hand = [{"Value": "0 0 4218 By-Hand.unilans.net."}] if "By-Hand" in stack.kept else None
    assert left.pop((f"{SERVICE.lower()}.", "SRV"), None) == by_hand
    assert {kind for _, kind in left} <= {"NS", "SOA"}, left


def _everything(stack: Promised) -> str:
    """Both zones, as text."""
    return json.dumps([stack.zone_records(), stack.record_sets()], default=str)


def _id(record: dict[str, Any]) -> str:
    return str(record["id"])


def _generation(stack: Promised, name: str) -> str:
    """The label of a machine's host."""
    instance = stack.machine(name)["id"]
    texts = [each for each in stack.record_sets() if each["Type"] == "TXT" and instance in json.dumps(each)]
    return str(texts[0]["Name"].split(".")[0])
