"""A deployed stack seen from three sides: the engine's state, the clouds' lists of machines, and DNS as each API lists it."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import dns.exception
import requests

from localcloud.network.namespace import Namespace
from localcloud.runtime.sandbox import GONE, Sandbox
from rollcall.ownership import Owner
from tests.integration.deployed import Deployed

SERVICE, SRV_NAME = "v1._theService._tcp.unilans.net", "_theService._tcp.v1.unilans.net"
MACHINES = ("aws:ec2/instance:Instance", "pulumi-python:dynamic/joyent:Machine")
# In seconds; a computer that does other work at the same time included.
DELETED_WITHIN = 30.0


class InStep(Deployed):
    def __init__(self, sandbox: Sandbox, output: str = "") -> None:
        super().__init__(sandbox, output)
        self._namespace = Namespace(json.loads((sandbox.state / "daemon.json").read_text())["namespace"])

    # The three sides.

    def resources(self) -> list[dict[str, Any]]:
        """What is in the engine's state."""
        return self.sandbox.resources()

    def in_state(self) -> set[str]:
        """The ids of the machines in the engine's state."""
        return {each["id"] for each in self.resources() if each["type"] in MACHINES}

    def tagged(self) -> set[str]:
        """The ids of the machines of both clouds that are tagged with the stack and are not gone for good."""
        wanted = [{"Name": "tag:rollcall-stack", "Values": [self.sandbox.stack]}]
        reservations = self.ec2.describe_instances(Filters=wanted)["Reservations"]
        instances = [each for reservation in reservations for each in reservation["Instances"]]
        found = {each["InstanceId"] for each in instances if each["State"]["Name"] not in (*GONE, "shutting-down")}
        listed = [json.loads(line) for line in self.triton("instance", "list", "-j").splitlines()]
        listed = [each for each in listed if each.get("tags", {}).get("rollcall-stack") == self.sandbox.stack]
        return found | {each["id"] for each in listed if each["state"] not in GONE}

    def record_sets(self) -> list[dict[str, Any]]:
        """The hosted zone, as Route53 lists it."""
        route53 = self.aws("route53")
        zone = route53.list_hosted_zones()["HostedZones"][0]["Id"]
        pages = route53.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone)
        return [each for page in pages for each in page["ResourceRecordSets"]]

    def zone_records(self) -> list[dict[str, Any]]:
        """The Cloudflare zone, as its API lists it."""
        found: list[dict[str, Any]] = self._get(f"/zones/{self.zone()}/dns_records", per_page="500")["result"]
        return found

    def owners(self) -> dict[str, set[str]]:
        """Which machines have records of this stack at each side: the instances at Cloudflare, those of Route53's hosts, and those
        with a host in the service's set."""
        site = [Owner.parse(each["comment"] or "") for each in self.zone_records()]
        hosts: dict[str, Owner] = {}
        values = []
        for each in self.record_sets():
            texts = [value["Value"] for value in each.get("ResourceRecords", ())]
            # A challenge names its victim too, and is not a machine's record.
            if each["Type"] == "TXT" and ".c.rc." not in each["Name"]:
                found = (Owner.parse(text.strip('"')) for text in texts)
                hosts.update({each["Name"].rstrip("."): owner for owner in found if owner})
            elif each["Type"] == "SRV":
                values += [value.split()[3].rstrip(".") for value in texts if ".rc." in value]
        ours = {name: owner.instance for name, owner in hosts.items() if owner.stack == self.sandbox.stack}
        assert set(values) <= set(hosts), f"values without a host: {set(values) - set(hosts)}"
        return {
            "site": {each.instance for each in site if each and each.stack == self.sandbox.stack},
            "hosts": set(ours.values()),
            "service": {ours[value] for value in values if value in ours},
        }

    def assert_tagged(self, expected: set[str]) -> None:
        """Assert that the clouds have these machines of the stack and no others.

        CloudAPI accepts a deletion and carries it out after its answer, so a surplus machine gets some seconds.
        """
        end = time.monotonic() + DELETED_WITHIN
        while (found := self.tagged()) > expected and time.monotonic() < end:
            time.sleep(0.2)
        assert found == expected, f"orphans: {found - expected}; not in a cloud: {expected - found}"

    def assert_in_step(self) -> set[str]:
        """Promise 1, and no orphan: state, clouds and DNS name the same machines, and the name servers answer with them."""
        state = self.in_state()
        self.assert_tagged(state)
        assert self.owners() == {"site": state, "hosts": state, "service": state}
        addresses = {each["addresses"][0] for each in self.machines("") if each["id"] in state}
        assert set(self.answers()) == addresses
        for name in (SERVICE, SRV_NAME):
            assert {each for value in self.dig(name, "SRV") for each in self.dig(value.split()[3], "A")} == addresses
        return state

    # What a client sees that resolves each time.

    def ask_site(self) -> str:
        """Return the machine that served the site's page, or what went wrong."""
        try:
            reply = self.http.get(self.env["ROLLCALL_SITE_URL"], timeout=10)
        except requests.RequestException as failed:
            return type(failed).__name__
        return reply.headers.get("X-Served-By") or f"HTTP {reply.status_code}"

    def ask_service(self) -> str:
        """Return the machine of the service's set that answered a call, each in turn, or what went wrong."""
        try:
            targets = self.dig(SERVICE, "SRV")
            self._turn = (getattr(self, "_turn", 0) + 1) % max(len(targets), 1)
            if not targets:
                return "no machine"
            (address,) = self.dig(targets[self._turn].split()[3], "A")
            with contextlib.closing(self._namespace.connect((address, 4218), timeout=3)) as call:
                call.settimeout(3)
                call.sendall(b"hello\n")
                return call.makefile("rb").readline().split(b" ")[0].decode() or "hung up"
        except (OSError, ValueError, dns.exception.DNSException) as failed:
            return f"{type(failed).__name__} {failed}"


def foreign_bytes(deployed: InStep) -> str:
    """Every record that no machine of ours wrote, whole, as text that can be compared."""
    listed = [each for each in deployed.zone_records() if ".c.rc." not in each["name"]]
    site = [each for each in listed if not Owner.parse(each["comment"] or "")]
    sets = [each for each in deployed.record_sets() if ".rc." not in each["Name"]]
    for each in sets:
        if each["Type"] == "SRV":
            each["ResourceRecords"] = [value for value in each["ResourceRecords"] if ".rc." not in value["Value"]]
    kept = [each for each in sets if each.get("ResourceRecords") or "AliasTarget" in each]
    return json.dumps([sorted(site, key=lambda each: str(each["id"])), kept], indent=1, sort_keys=True, default=str)
