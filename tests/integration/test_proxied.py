"""A proxied site with protection and acceleration on, and a machine with an image without nginx: it installs it by itself."""

from __future__ import annotations

import json

import pytest
import requests

from components.config.models import SiteSettings
from components.config.site_zones import ZoneSettings
from components.resources.site import zone_settings
from localcloud.runtime.sandbox import addresses, visit
from tests.integration.conftest import machines, wait_until
from tests.integration.deployed import HOST
from tests.integration.shared_stacks import ClosedSite, closed_site

pytestmark = [pytest.mark.machines, pytest.mark.engine]
EDGE = ["198.51.100.2", "203.0.113.2"]


@pytest.fixture(scope="module")
def deployed() -> ClosedSite:
    return closed_site(ClosedSite)


def test_the_name_leads_to_the_edge_and_each_record_is_proxied(deployed: ClosedSite) -> None:
    assert deployed.answers() == EDGE
    records = deployed.records()
    assert len(records) == 5 and all(record["proxied"] for record in records)
    assert addresses(deployed.env["ROLLCALL_DNS"], "scalability.expert") == EDGE


def test_both_machines_serve_through_the_edge(deployed: ClosedSite) -> None:
    served = visit(deployed.env["ROLLCALL_SITE_URL"], 40)
    assert set(served) == {each["id"] for each in machines(deployed.sandbox)}, served


def test_the_bare_machine_installed_nginx_from_its_repository(deployed: ClosedSite) -> None:
    bare = deployed.machine("web-bare-0")["id"]
    log = deployed.inside(bare, "cat", "/var/log/dpkg.log")
    assert "status installed nginx" in log


def test_nginx_logs_the_visitor_and_not_the_edge(deployed: ClosedSite) -> None:
    machine = deployed.machine("web-aws-0")["id"]

    def log() -> str:
        return deployed.inside(machine, "cat", "/var/log/nginx/access.log")

    def visited() -> bool:
        visit(deployed.env["ROLLCALL_SITE_URL"], 4)
        return any(line.startswith(("198.51.100.3 ", "203.0.113.3 ")) for line in log().splitlines())

    wait_until("the edge's ranges are known and a visit is logged by the visitor's address", visited, 30)


def test_a_header_from_elsewhere_is_not_believed(deployed: ClosedSite) -> None:
    machine = deployed.machine("web-aws-0")
    forged = ["curl", "-s", "-o", "/dev/null", "-H", "CF-Connecting-IP: 192.0.2.66", "http://127.0.0.1/forged"]
    deployed.inside(machine["id"], *forged)
    log = deployed.inside(machine["id"], "grep", "forged", "/var/log/nginx/access.log")
    assert log.startswith("127.0.0.1 ") and "192.0.2.66" not in log


def test_protection_and_acceleration_are_on_and_nothing_else_was_touched(deployed: ClosedSite) -> None:
    headers = {"Authorization": f"Bearer {deployed.env['CLOUDFLARE_API_TOKEN']}"}
    found = requests.get(
        f"{deployed.env['CLOUDFLARE_BASE_URL']}/zones/{deployed.zone()}/settings", headers=headers, timeout=10
    )
    values = {each["id"]: each for each in found.json()["result"]}
    settings = SiteSettings(zone="scalability.expert", proxied=True, protection="high", acceleration=True)
    wanted = {**zone_settings(ZoneSettings(sites=(settings,)))}
    assert wanted["ssl"] == "strict" and wanted["security_level"] == "high" and wanted["early_hints"] == "on"
    assert {key: values[key]["value"] for key in wanted} == wanted
    assert {key for key, each in values.items() if each["modified_on"] is not None} <= set(wanted)


def test_up_again_changes_nothing(deployed: ClosedSite) -> None:
    assert "unchanged" in deployed.up("--expect-no-changes")


def test_drift_is_a_diff_on_the_fleets_roll_call(deployed: ClosedSite) -> None:
    """Promise 3: a record that a user removed or added shows in a preview, before any repair."""
    instance = deployed.machine("web-aws-0")["id"]
    deployed.sandbox.localcloud("freeze", instance)
    try:
        (record,) = [each for each in deployed.records() if instance in each["comment"]]
        headers = {"Authorization": f"Bearer {deployed.env['CLOUDFLARE_API_TOKEN']}"}
        base = f"{deployed.env['CLOUDFLARE_BASE_URL']}/zones/{deployed.zone()}/dns_records"
        assert requests.delete(f"{base}/{record['id']}", headers=headers, timeout=10).ok
        foreign = {"type": "A", "name": HOST, "content": "198.51.100.77", "ttl": 1, "proxied": True}
        assert requests.post(base, json=foreign, headers=headers, timeout=10).ok
        output = deployed.sandbox.pulumi("preview", "--diff", "--stack", "local", capture=True).stdout
        assert f"web-aws-0 ({instance}) is not at {HOST} A" in output, output
        assert f"198.51.100.77 (no owner) at {HOST} A" in output
    finally:
        deployed.sandbox.localcloud("thaw", instance)
    deployed.up()
    records = deployed.records()
    assert {json.dumps(each["content"]) for each in records} >= {'"198.51.100.77"'} and len(records) == 6
    (theirs,) = [each for each in records if each["content"] == "198.51.100.77"]
    assert requests.delete(f"{base}/{theirs['id']}", headers=headers, timeout=10).ok
