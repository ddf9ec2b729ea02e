"""What a fleet joins, by what it is reached, and its name, changed in one `up` each: machines of both clouds run on, and nothing is
left where they were.

The tests share one deployment and run in their order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollcall.ownership import Owner
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.instep import InStep
from tests.integration.log_inspection import (
    CLOUDFLARE,
    ROUTE53,
    Logs,
    Prober,
    assert_last_leaves_succeed,
    config_file,
    requests_of,
)

pytestmark = [pytest.mark.machines, pytest.mark.engine]
V1, V2 = "v1._theService._tcp.unilans.net", "v2._theService._tcp.unilans.net"
EVERYWHERE = "site/www, theService/v1, theService/v2"
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 5
  rollcall:sites: {{ www: {{ zone: scalability.expert, host: www, ttl: 60 }} }}
  rollcall:serviceDiscovery:
    {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}}, v2: {{}} }} }} }} }}
  rollcall:fleets:
    {name}-aws: {{ cloud: aws, size: t3.micro, image: debian-12, joins: [{joins}] }}
    {name}-joyent: {{ cloud: joyent, size: g1.micro, image: debian-12, joins: [{joins}]{ssh} }}
"""


class Joining(InStep):
    config: Path
    logs: Logs

    def configure(self, joins: str, name: str = "web") -> None:
        self.config.write_text(CONFIG.format(joins=joins, name=name, ssh=""))
        self.sandbox.write_config()

    def registered(self) -> dict[str, set[str]]:
        """The instances at the site, in each set by the hosts that its values lead to, and with a host of their own."""
        here: dict[str, set[str]] = {
            "site": {each for each in self.owners()["site"]},
            V1: set(),
            V2: set(),
            "hosts": set(),
        }
        sets: dict[str, set[str]] = {}
        owners: dict[str, str] = {}
        for each in self.record_sets():
            for value in (value["Value"] for value in each.get("ResourceRecords", ())):
                if each["Type"] == "TXT" and (owner := Owner.parse(value.strip('"'))):
                    owners[each["Name"]] = owner.instance
        here["hosts"] = set(owners.values())
        for each in self.record_sets():
            if each["Type"] == "SRV":
                # A value without a host would be a KeyError here.
                values = {owners[value["Value"].split()[3]] for value in each["ResourceRecords"]}
                sets[each["Name"].rstrip(".").lower()] = values
        for incarnation, name in (("v1", V1), ("v2", V2)):
            here[name] = sets.pop(name.lower(), set())
            # The name of RFC 2782 has the same members.
            assert sets.pop(f"_theservice._tcp.{incarnation}.unilans.net", set()) == here[name]
        assert not sets, "the service's own name has members only where there is one incarnation"
        return here


@pytest.fixture(scope="module")
def joining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joining]:
    given = CONFIG.format(joins=EVERYWHERE, name="web", ssh=", ssh: {}")
    config = config_file(tmp_path_factory.mktemp("joins"), given)
    with sandboxed("joins", config) as sandbox, Logs(sandbox) as logs:
        joining = Joining(sandbox)
        joining.config, joining.logs = config, logs
        joining.up()
        yield joining


def test_all_are_registered_wherever_they_join(joining: Joining) -> None:
    both = joining.in_state()
    assert len(both) == 2
    assert joining.registered() == {"site": both, V1: both, V2: both, "hosts": both}


def test_a_fleet_that_is_reached_by_ssh_no_more_stays_in_dns(joining: Joining) -> None:
    """The command that drains a machine before its end goes without it, and must not do so then."""
    both = joining.in_state()
    joining.configure(EVERYWHERE)
    joining.up()
    time.sleep(5)
    assert joining.in_state() == both and joining.registered() == {"site": both, V1: both, V2: both, "hosts": both}
    for each in both:
        assert joining.inside(each, "systemctl", "is-active", "rollcall").strip() == "active"
    assert "unchanged" in (shown := joining.up("--expect-no-changes")), shown


@pytest.mark.parametrize(
    ("joins", "left"),
    [("site/www, theService/v2", (V1,)), ("site/www", (V1, V2, "hosts"))],
    ids=["one set of two", "all of Route53, and the right to it"],
)
def test_what_a_fleet_joins_no_more_is_left_by_machines_that_run_on(
    joining: Joining, joins: str, left: tuple[str, ...]
) -> None:
    both = joining.in_state()
    joining.configure(joins)
    began = time.monotonic()
    output = joining.up()
    print(
        f"\n{joins}: {time.monotonic() - began:.0f} s\n"
        + "\n".join(each for each in output.splitlines() if "removed" in each)
    )
    assert joining.in_state() == both, "no machine was replaced"
    assert joining.registered() == {name: set() if name in left else both for name in ("site", V1, V2, "hosts")}
    assert "unchanged" in (shown := joining.up("--expect-no-changes")), shown


def test_an_agent_that_lost_its_rights_asks_no_more(joining: Joining) -> None:
    """An agent that tried for ever would take from all machines what Route53 allows to the account."""
    addresses = {each["addresses"][0] for each in joining.machines("web")}

    def requested() -> int:
        return len(requests_of(joining.sandbox, "/2013-04-01/", addresses.__contains__))

    before = requested()
    time.sleep(40)
    assert before and requested() == before


def test_fleets_with_other_names_take_over_and_no_client_is_led_to_the_dead(joining: Joining) -> None:
    """The RollCalls of the new fleets are made while the machines of the old ones stand and serve, and before theirs go."""
    before = joining.in_state()
    joining.configure("site/www, theService/v1", name="www")
    prober = Prober(joining.ask_site, 0.2)
    with prober.running():
        wait_until("a client is at work", lambda: len(prober.answers) > 10, 20)
        output = joining.up()
        began = time.monotonic()
        wait_until("asked after it", lambda: prober.answers[-1][0] > began, 20)
    after = joining.in_state()
    assert len(after) == 2 and not after & before
    joining.assert_tagged(after)
    assert joining.registered() == {"site": after, V1: after, V2: set(), "hosts": after}
    assert prober.failures((before | after).__contains__) == []
    assert "in no state" not in output, output
    assert "unchanged" in (shown := joining.up("--expect-no-changes")), shown


def test_destroy_leaves_nothing_and_each_machines_last_leave_succeeds(joining: Joining) -> None:
    """Where clouds are slow: test_order.py."""
    machines, since = joining.machines("www-"), time.time()
    assert len(machines) == 2 and all(each["state"] == "running" for each in machines), machines
    joining.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
    joining.assert_tagged(set())
    assert joining.registered() == {"site": set(), V1: set(), V2: set(), "hosts": set()}
    assert_last_leaves_succeed(joining.sandbox, joining.logs, machines, since, (CLOUDFLARE, ROUTE53))
