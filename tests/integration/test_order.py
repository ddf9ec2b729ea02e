"""`destroy` in order: whatever cloud is slow, all that a machine needs in order to leave outlives its shutdown.

That it does so where none is slow is in test_joins_change.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from localcloud.runtime.sandbox import Sandbox
from tests.integration.conftest import sandboxed
from tests.integration.deployed import Deployed
from tests.integration.log_inspection import CLOUDFLARE, ROUTE53, Logs, assert_last_leaves_succeed, config_file

pytestmark = [pytest.mark.machines, pytest.mark.engine]
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 0
  rollcall:sites: { www: { zone: scalability.expert, host: www, ttl: 60 } }
  rollcall:serviceDiscovery:
    zone: unilans.net
    services: { theService: { port: 4218, ttl: 5, incarnations: { v1: {}, v2: {} } } }
  rollcall:fleets:
    web: { cloud: aws, count: 1, size: t3.micro, image: debian-12, timeout: 120, joins: [site/www, theService/v1] }
    next: { cloud: joyent, count: 1, size: g1.micro, image: debian-12, timeout: 120, joins: [site/www, theService/v2] }
"""
SLOW = {"cloudflare": "slow=2", "route53": "slow=1.5", "ec2": "slow=1", "cloudapi": "slow=0.7"}
ORDERS = [
    pytest.param((), id="instant", marks=pytest.mark.prove),
    pytest.param(tuple(SLOW), id="all slow"),
    *(pytest.param((name,), id=f"{name} slow", marks=pytest.mark.prove) for name in SLOW),
]


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandboxed("order", config_file(tmp_path_factory.mktemp("order"), CONFIG)) as sandbox:
        yield sandbox


@pytest.mark.parametrize("slow", ORDERS)
def test_each_machines_last_leave_succeeds(clouds: Sandbox, slow: tuple[str, ...]) -> None:
    with Logs(clouds) as logs:
        deployed = Deployed(clouds, "")
        deployed.up()
        machines = [*deployed.machines("web-"), *deployed.machines("next-")]
        assert len(machines) == 2 and all(each["state"] == "running" for each in machines), machines
        for name in slow:
            clouds.localcloud("fault", name, SLOW[name], capture=True)
        began, since = time.monotonic(), time.time()
        try:
            clouds.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
        finally:
            clouds.localcloud("fault", "--clear", capture=True)
        took = time.monotonic() - began
        assert_last_leaves_succeed(clouds, logs, machines, since, (CLOUDFLARE, ROUTE53))
        print(
            f"\ndestroy with {', '.join(slow) or 'nothing'} slow: {took:.0f} s, {len(machines)} machines left and none failed to"
        )
    assert deployed.records() == []
    sets = deployed.aws("route53").list_resource_record_sets(
        HostedZoneId=deployed.aws("route53").list_hosted_zones()["HostedZones"][0]["Id"]
    )["ResourceRecordSets"]
    assert not [each for each in sets if each["Type"] == "SRV" or ".rc." in each["Name"]], json.dumps(sets)
