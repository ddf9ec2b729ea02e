"""Both DNS APIs down: machines serve, records stay, all catches up unaided, and agents' calls stay within the rate limits.

Every agent is killed when it begins, and one machine of each cloud is started meanwhile: so all of them ask all the time, which
is the worst that an outage can do to a rate.
"""

from __future__ import annotations

import time

import pytest

from tests.integration.conftest import wait_until
from tests.integration.instep import SERVICE
from tests.integration.log_inspection import CLOUDFLARE, ROUTE53, Prober, is_machine, most_in, requests_of
from tests.integration.shared_stacks import TwoClouds, two_clouds

pytestmark = [pytest.mark.machines, pytest.mark.engine]
# Cloudflare's for an account in five minutes, and Route53's for an account in a second (docs/decisions, DESIGN.md).
CLOUDFLARE_LIMIT, ROUTE53_LIMIT = 1200, 5
# An agent waits 30 s between two tries at the most, and joins two places one after the other.
CAUGHT_UP_WITHIN = 75.0


@pytest.fixture(scope="module")
def stack() -> TwoClouds:
    return two_clouds(TwoClouds)


@pytest.mark.parametrize("seconds", [60, pytest.param(300, marks=pytest.mark.prove)])
def test_machines_serve_records_stay_and_all_catches_up(stack: TwoClouds, seconds: int) -> None:
    everybody = stack.assert_in_step()
    late = {stack.machine(name)["id"] for name in ("web-aws-1", "web-joyent-1")}
    _stop(stack, "web-aws-1", "web-joyent-1")
    stood = _registered(stack)
    assert [len(each) for each in stood] == [2, 2]
    began = time.time()
    stack.sandbox.localcloud("fault", "cloudflare", "status=503", capture=True)
    stack.sandbox.localcloud("fault", "route53", "status=503", capture=True)
    try:
        stack.ec2.start_instances(InstanceIds=[stack.machine("web-aws-1")["id"]])
        stack.triton("instance", "start", stack.machine("web-joyent-1")["id"])
        for name in ("web-aws-0", "web-joyent-0"):
            stack.inside(stack.machine(name)["id"], "systemctl", "kill", "--signal=KILL", "rollcall")
        with Prober(stack.ask_site, 0.25).running() as site, Prober(stack.ask_service, 0.25).running() as service:
            while time.time() < began + seconds:
                assert _registered(stack) == stood
                time.sleep(1)
        for prober in (site, service):
            assert len(prober.answers) > seconds
            assert prober.failures((everybody - late).__contains__) == []
        assert stack.inside(sorted(late)[0], "systemctl", "is-active", "rollcall").strip() == "active"
    finally:
        stack.sandbox.localcloud("fault", "--clear", capture=True)
    took = wait_until("all four stand", lambda: [len(each) for each in _registered(stack)] == [4, 4], CAUGHT_UP_WITHIN)
    assert stack.assert_in_step() == everybody
    _assert_within_limits(stack, began, f"{seconds} s without the APIs, all caught up {took:.0f} s after")


def _assert_within_limits(stack: TwoClouds, began: float, what: str) -> None:
    """Of four agents; what they may take is an account's limit, so the share of a hundred agents is printed too."""
    requests = {
        name: [each for each in requests_of(stack.sandbox, api, is_machine) if each.at >= began]
        for name, api in (("Cloudflare", CLOUDFLARE), ("Route53", ROUTE53))
    }
    failed = {name: [each for each in found if each.code == 503] for name, found in requests.items()}
    assert all(len(found) >= 8 for found in failed.values()), failed
    lasted = time.time() - began
    most = most_in(requests["Cloudflare"], 300)
    steady = {name: len(found) / lasted for name, found in requests.items()}
    print(
        f"\n{what}; four agents sent Cloudflare {len(requests['Cloudflare'])} requests in {lasted:.0f} s, at most {most} in 5 min "
        f"({steady['Cloudflare'] / 4 * 300:.0f} each), and Route53 {len(requests['Route53'])}, at most "
        f"{most_in(requests['Route53'], 1)} in any second, {steady['Route53']:.2f}/s on average"
    )
    assert most <= CLOUDFLARE_LIMIT
    # In a burst of five seconds, which is how long one join may take: the rate, not its every wave.
    assert most_in(requests["Route53"], 5) <= 5 * ROUTE53_LIMIT
    assert not [each for found in requests.values() for each in found if each.code == 429]


def _registered(stack: TwoClouds) -> tuple[list[str], list[str]]:
    return stack.answers(), stack.dig(SERVICE, "SRV")


def _stop(stack: TwoClouds, aws: str, joyent: str) -> None:
    stack.ec2.stop_instances(InstanceIds=[stack.machine(aws)["id"]])
    stack.triton("instance", "stop", "-w", stack.machine(joyent)["id"])
    wait_until("the instance is down", lambda: stack.machine(aws)["state"] == "stopped", 60)
    wait_until("both have left", lambda: [len(each) for each in _registered(stack)] == [2, 2], 10)
