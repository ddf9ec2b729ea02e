"""The production stack as it is committed, on local clouds of its own beside others: up, status, drift, destroy.

Its configuration has every key that could lead elsewhere added, and so has the environment; all of them point at a trap.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from botocore.exceptions import ClientError

from localcloud.runtime import sandbox as commands
from localcloud.runtime.prepare import ROOT
from localcloud.runtime.sandbox import SandboxError, visit
from tests.cloud.trap import Trap
from tests.integration.conftest import machines, sandboxed, wait_until
from tests.integration.instep import InStep
from tests.integration.log_inspection import CLOUDFLARE, ROUTE53, is_machine, requests_of
from tests.integration.reader import reading_only

pytestmark = [pytest.mark.machines, pytest.mark.engine]
EDGE = ["198.51.100.2", "203.0.113.2"]
FLEETS = {"web-aws": 3, "web-joyent": 2, "api": 3, "api-spare": 1, "api-next": 1}
TRITON = "/rollcall/"
COMMITTED = ROOT / "Pulumi.prod.yaml"


class Prod(InStep):
    trap: Trap

    def ids(self, *fleets: str) -> set[str]:
        """The machines of these fleets, and not those of a fleet with a longer name."""
        named = re.compile(rf"({'|'.join(fleets)})-\d")
        return {each["id"] for each in self.machines("") if named.match(each["name"])}


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prod]:
    trap = Trap()
    given = yaml.safe_load(COMMITTED.read_text())
    given["config"].update(trap.config())
    given.update(secretsprovider="awskms://alias/production", encryptedkey="abc")
    config = tmp_path_factory.mktemp("prod") / "Pulumi.prod.yaml"
    config.write_text(yaml.safe_dump(given))
    with sandboxed("beside") as beside, pytest.MonkeyPatch.context() as patch:
        for name, value in trap.environment().items():
            patch.setenv(name, value)
        with sandboxed("prod", Path(config), stack="prod") as sandbox:
            commands.up(sandbox)
            for name in trap.environment():
                patch.delenv(name)
            deployed = Prod(sandbox, "")
            deployed.trap = trap
            yield deployed
        assert beside.running() and machines(beside) == []
    trap.close()


def test_what_ran_is_what_is_committed(prod: Prod) -> None:
    ran = yaml.safe_load((prod.sandbox.work / "Pulumi.prod.yaml").read_text())["config"]
    committed = yaml.safe_load(COMMITTED.read_text())["config"]
    assert {**ran, "rollcall:joyent": {}} == {**committed, "rollcall:joyent": {}}
    assert ran["rollcall:joyent"] == {}


def test_every_machine_of_the_state_is_in_dns_and_no_other(prod: Prod) -> None:
    """Promise 1."""
    assert {name: len(prod.ids(name)) for name in FLEETS} == FLEETS
    assert prod.in_state() == prod.ids(*FLEETS)
    prod.assert_tagged(prod.in_state())
    web, api = prod.ids("web-aws", "web-joyent"), prod.ids("api", "api-spare", "api-next")
    assert prod.owners() == {"site": web, "hosts": api, "service": api}


def test_the_site_answers_with_the_edge_which_reaches_all_machines(prod: Prod) -> None:
    assert prod.answers() == EDGE
    assert all(record["proxied"] for record in prod.records())
    assert set(visit(prod.env["ROLLCALL_SITE_URL"], 60)) == prod.ids("web-aws", "web-joyent")


def test_the_zone_has_protection_and_acceleration_on(prod: Prod) -> None:
    found = prod._get(f"/zones/{prod.zone()}/settings")["result"]
    values = {each["id"]: each.get("value") for each in found}
    assert (values["security_level"], values["early_hints"], values["http3"]) == ("high", "on", "on")


def test_the_spare_of_another_cloud_has_the_lower_priority(prod: Prod) -> None:
    v1 = [value.split()[:3] for value in prod.dig("v1._theService._tcp.unilans.net", "SRV")]
    assert sorted(v1) == [["10", "20", "4218"]] * 3 + [["20", "10", "4218"]]
    assert len(prod.dig("v2._theService._tcp.unilans.net", "SRV")) == 1


def test_status_says_in_step_with_exit_code_0(prod: Prod, capfd: pytest.CaptureFixture[str]) -> None:
    assert commands.status(prod.sandbox) == 0, capfd.readouterr()
    output = capfd.readouterr().out
    assert output.startswith("In step: state, clouds and DNS say the same.")
    for each in machines(prod.sandbox):
        (line,) = [line for line in output.splitlines() if each["id"] in line]
        assert each["addresses"][0] in line and "running" in line, line
    assert commands.status(prod.sandbox, "--json") == 0
    given = json.loads(capfd.readouterr().out)
    assert given["in_step"] is True
    assert {each["fleet"]: len(each["machines"]) for each in given["fleets"]} == FLEETS


def test_status_shows_a_difference_first_with_exit_code_1(prod: Prod, capfd: pytest.CaptureFixture[str]) -> None:
    instance = prod.machine("web-aws-0")["id"]
    prod.sandbox.localcloud("freeze", instance)
    try:
        (record,) = [each for each in prod.records() if instance in each["comment"]]
        url = f"{prod.env['CLOUDFLARE_BASE_URL']}/zones/{prod.zone()}/dns_records/{record['id']}"
        token = {"Authorization": f"Bearer {prod.env['CLOUDFLARE_API_TOKEN']}"}
        assert requests.delete(url, headers=token, timeout=10).ok
        assert commands.status(prod.sandbox) == 1
        output = capfd.readouterr().out.splitlines()
        assert output[0] == "Differences" and f"missing: web-aws-0 ({instance})" in output[1], output
    finally:
        prod.sandbox.localcloud("thaw", instance)
    wait_until("it has registered again, unaided", lambda: len(prod.records()) == 5, 60)


def test_up_again_changes_nothing(prod: Prod) -> None:
    """Promise 4."""
    assert "unchanged" in prod.up("--expect-no-changes")


def test_a_preview_writes_nothing_and_needs_no_right_to(prod: Prod) -> None:
    """With a token and a key that only read. AWS's other services take all by POST: whatever that key may not do is refused, so
    nothing may be. Triton has no such key here; its requests show."""
    given = reading_only(prod)
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        prod.aws("ec2", given).create_tags(
            Resources=[prod.machine("web-aws-0")["id"]], Tags=[{"Key": "a", "Value": "b"}]
        )
    before = (prod.in_state(), prod.owners(), prod.zone_records(), prod.record_sets(), len(prod.resources()))
    since = time.time()
    done = prod.sandbox.pulumi(
        "preview", "--diff", "--stack", "prod", "--expect-no-changes", capture=True, check=False, extra=given
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ours = [each for each in requests_of(prod.sandbox, "/", lambda who: not is_machine(who)) if each.at >= since]
    others = [each for each in ours if each.path == "/"]
    assert len(others) > 10 and {each.code for each in others} == {200}, [each for each in others if each.code != 200]
    for api in (CLOUDFLARE, ROUTE53, TRITON):
        assert any(each.path.startswith(api) for each in ours), api
    assert {each.method for each in ours if each.path != "/"} == {"GET", "HEAD"}
    assert (prod.in_state(), prod.owners(), prod.zone_records(), prod.record_sets(), len(prod.resources())) == before


def test_destroy_leaves_no_record_and_every_foreign_byte(prod: Prod) -> None:
    """Promise 2. The zone's static records are Pulumi's and go too; what is kept by hand and the name servers' own stay."""
    before = _by_hand(prod)
    assert [len(each) for each in before] == [3, 3]
    prod.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "prod", capture=True)
    assert prod.in_state() == set()
    prod.assert_tagged(set())
    assert prod.owners() == {"site": set(), "hosts": set(), "service": set()}
    assert _by_hand(prod) == before == (prod.zone_records(), prod.record_sets())


def test_no_request_went_to_the_real_clouds_addresses(prod: Prod) -> None:
    assert prod.trap.caught == []


def test_a_stack_that_is_not_there_is_reported(prod: Prod) -> None:
    with pytest.raises(SandboxError, match=r"Pulumi\.nowhere\.yaml: does not exist"):
        replace(prod.sandbox, stack="nowhere", config=None).lay_out()


def _by_hand(prod: Prod) -> tuple[list[Any], list[Any]]:
    """What is in the two zones and not of this stack: neither a machine's nor Pulumi's."""
    sets = [each for each in prod.record_sets() if each["Name"] == "unilans.net."]
    return [each for each in prod.zone_records() if "rollcall" not in (each["comment"] or "").lower()], sets
