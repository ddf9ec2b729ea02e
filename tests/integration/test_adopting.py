"""Existing resources, taken into a stack by the real engine on local clouds that boot nothing: records that an interrupted `up` left,
zones and records made by hand, an instance made by hand."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from components.resources.site import apex_comment
from localcloud.runtime.prepare import ROOT
from tests.integration.conftest import sandboxed
from tests.integration.deployed import Deployed
from tests.integration.log_inspection import config_file

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
APEX, HOST = "scalability.expert", "www.scalability.expert"
PTR = "_theservice._tcp.unilans.net."
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 1
  rollcall:sites: {{ www: {{ zone: scalability.expert, host: {host}, ttl: 60, create: {create} }} }}
  rollcall:serviceDiscovery:
    zone: unilans.net
    create: {create}
    services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{ txt: {{ path: / }} }} }} }} }}
  rollcall:fleets:
    web: {{ cloud: aws, count: {count}, size: t3.micro, image: debian-12, timeout: 10, joins: [site/www, theService/v1] }}
"""


class Stack(Deployed):
    """A stack with machines that never boot."""

    config: Path

    def configure(self, count: int = 0, host: str = "www", create: str = "false") -> None:
        self.config.write_text(CONFIG.format(count=count, host=host, create=create))
        self.sandbox.write_config()

    def run(self, *words: str, fails: bool = False) -> str:
        done = self.sandbox.pulumi(*words, "--stack", "local", capture=True, check=False)
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def again(self) -> str:
        return self.run("up", "--yes", "--skip-preview")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Cloudflare, by hand."""
        token = {"Authorization": f"Bearer {self.env['CLOUDFLARE_API_TOKEN']}"}
        reply = requests.request(method, self.env["CLOUDFLARE_BASE_URL"] + path, json=body, headers=token, timeout=10)
        assert reply.ok, reply.text
        return reply.json()["result"]

    def at_apex(self) -> list[dict[str, Any]]:
        found = self.call("GET", f"/zones/{self.zone()}/dns_records?per_page=500")
        return [each for each in found if each["name"] == APEX and each["type"] in ("A", "AAAA", "CNAME")]

    def by_hand(self, **given: Any) -> str:
        """A record at the apex; its id."""
        record = {"name": APEX, "type": "CNAME", "content": HOST, "ttl": 1, "proxied": True, **given}
        return str(self.call("POST", f"/zones/{self.zone()}/dns_records", record)["id"])

    @property
    def hosted(self) -> str:
        found = self.aws("route53").list_hosted_zones_by_name(DNSName="unilans.net")["HostedZones"]
        return str(found[0]["Id"]).rpartition("/")[2]

    def sets(self) -> dict[tuple[str, str], Any]:
        found = self.aws("route53").list_resource_record_sets(HostedZoneId=self.hosted)["ResourceRecordSets"]
        return {(each["Name"], each["Type"]): each for each in found}

    def change(self, action: str, name: str, rtype: str, ttl: int, *values: str) -> None:
        record = {"Name": name, "Type": rtype, "TTL": ttl, "ResourceRecords": [{"Value": each} for each in values]}
        self.aws("route53").change_resource_record_sets(
            HostedZoneId=self.hosted, ChangeBatch={"Changes": [{"Action": action, "ResourceRecordSet": record}]}
        )

    def resources(self) -> dict[str, dict[str, Any]]:
        state = json.loads((self.sandbox.state / "backend/.pulumi/stacks/rollcall/local.json").read_text())
        found = state["checkpoint"]["latest"].get("resources") or ()
        return {each["urn"].rpartition("::")[2]: each for each in found if "dynamic" not in each["type"]}

    def urn(self, kind: str, name: str) -> str:
        """By the shell function that docs/adopting.md tells users to use."""
        lines = (ROOT / "docs" / "adopting.md").read_text().splitlines()
        (function,) = (line for line in lines if line.startswith("urn() {"))
        done = subprocess.run(
            ["sh", "-c", f"{function}\nurn {kind} {name}"],
            cwd=self.sandbox.work,
            env={**self.env, "HOME": str(self.sandbox.state)},
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return done.stdout.strip()

    def forgotten(self, *names: str) -> None:
        """The state as it is when `up` was killed between the API's reply and the checkpoint."""
        for name in names:
            self.run("state", "delete", "--yes", self.resources()[name]["urn"])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    config = config_file(tmp_path_factory.mktemp("adopting"), CONFIG.format(count=0, host="www", create="false"))
    with sandboxed("adopting", config, machines=False) as sandbox:
        made = Stack(sandbox, "")
        made.config = config
        yield made


def test_a_static_record_of_an_interrupted_up_is_found_again(stack: Stack) -> None:
    """The API made the apex's record and the state does not have it. With `lose` that happens each time, and with kill -9 sometimes."""
    stack.sandbox.localcloud("fault", "cloudflare:POST:dns_records", "lose", "times=1", capture=True)
    stack.run("up", "--yes", "--skip-preview", fails=True)
    (lost,) = stack.at_apex()
    assert "site-scalability.expert-apex" not in stack.resources()

    before = stack.sets()
    shown = stack.run("preview")
    assert "is a CNAME with this stack's comment and in no state: it is taken over" in shown
    assert re.search(r"= .*site-scalability.expert-apex +import", shown), shown
    assert (stack.at_apex(), stack.sets(), "site-scalability.expert-apex" in stack.resources()) == (
        [lost],
        before,
        False,
    )

    stack.again()
    assert stack.at_apex() == [lost]
    assert stack.resources()["site-scalability.expert-apex"]["id"] == lost["id"]
    # Nothing is imported a second time, and nothing that was imported is replaced.
    assert "unchanged" in stack.run("preview", "--expect-no-changes")


def test_what_was_forgotten_is_brought_in_line_in_the_same_up(stack: Stack) -> None:
    """The apex is known by its comment; sets of Route53 by what is in them."""
    before = stack.sets()
    stack.forgotten(
        "site-scalability.expert-apex", "directory-services", "directory-theService-ptr", "directory-theService-v1-txt"
    )
    (lost,) = stack.at_apex()
    stack.configure(host="web")
    shown = stack.again()
    assert shown.count("imported") >= 4, shown
    (apex,) = stack.at_apex()
    assert (apex["id"], apex["content"]) == (lost["id"], "web.scalability.expert")
    assert stack.sets() == before


def test_what_was_made_again_by_hand_is_taken_if_it_says_that_it_is_ours(stack: Stack) -> None:
    (old,) = stack.at_apex()
    stack.call("DELETE", f"/zones/{stack.zone()}/dns_records/{old['id']}")
    again = stack.by_hand(comment=apex_comment("local"))
    stack.again()
    assert (
        [each["id"] for each in stack.at_apex()] == [again] == [stack.resources()["site-scalability.expert-apex"]["id"]]
    )
    assert "unchanged" in stack.run("preview", "--expect-no-changes")


def test_what_is_another_owners_is_refused_by_name_with_the_fix_and_keeps_every_byte(stack: Stack) -> None:
    (old,) = stack.at_apex()
    stack.forgotten("site-scalability.expert-apex", "directory-theService-ptr", "directory-theService-v1-txt")
    stack.call("DELETE", f"/zones/{stack.zone()}/dns_records/{old['id']}")
    stack.by_hand(comment=apex_comment("other"))
    stack.change("UPSERT", PTR, "PTR", 300, "v9._theService._tcp.unilans.net.")
    before = stack.at_apex(), stack.sets()
    for verb in (["preview"], ["up", "--yes", "--skip-preview"]):
        output = stack.run(*verb, fails=True)
        assert "2 errors, nothing was changed" in output
        assert "scalability.expert CNAME www.scalability.expert is there already, with the comment" in output
        assert "_theservice._tcp.unilans.net PTR is there already with v9._theService._tcp.unilans.net." in output
        assert output.count("docs/adopting.md") == 2
    assert (stack.at_apex(), stack.sets()) == before


def test_records_made_by_hand_are_imported_by_the_documented_commands(stack: Stack) -> None:
    """Follows the test before: the foreign apex and PTR are to become the stack's."""
    (apex,) = stack.at_apex()
    site, directory = stack.urn("SiteZone", "site-scalability.expert"), stack.urn("ServiceDirectory", "directory")
    imports = [
        [
            "cloudflare:index/dnsRecord:DnsRecord",
            "site-scalability.expert-apex",
            f"{stack.zone()}/{apex['id']}",
            f"site={site}",
        ],
        [
            "aws:route53/record:Record",
            "directory-theService-ptr",
            f"{stack.hosted}_{PTR[:-1]}_PTR",
            f"directory={directory}",
        ],
    ]
    for kind, name, id_, of in imports:
        stack.run("import", kind, name, id_, "--parent", of, "--protect=false", "--generate-code=false", "--yes")
    stack.again()
    (after,) = stack.at_apex()
    assert after["id"] == apex["id"] and after["comment"] == apex_comment("local")
    assert stack.sets()[(PTR, "PTR")]["ResourceRecords"] == [{"Value": "v1._theService._tcp.unilans.net."}]
    assert "unchanged" in stack.run("preview", "--expect-no-changes")


def test_an_instance_made_by_hand_is_replaced_after_its_import_successor_first(stack: Stack) -> None:
    image = stack.ec2.describe_images()["Images"][0]["ImageId"]
    made = stack.ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1)
    old = made["Instances"][0]["InstanceId"]
    parent = f"web={stack.urn('Ec2Fleet', 'web')}"
    kind = "aws:ec2/instance:Instance"
    stack.run("import", kind, "web-0", old, "--parent", parent, "--protect=false", "--generate-code=false", "--yes")
    stack.configure(count=1)
    shown = stack.run("preview")
    assert "web-0 was not booted by Rollcall and cannot join" in shown
    assert "replace" in shown

    # Nothing boots here, so no successor answers: the roll call fails and the predecessor goes on, as it was.
    before = stack.ec2.describe_instances(InstanceIds=[old])["Reservations"][0]["Instances"][0]
    output = stack.run("up", "--yes", "--skip-preview", fails=True)
    assert "the roll call was not answered" in output
    after = stack.ec2.describe_instances(InstanceIds=[old])["Reservations"][0]["Instances"][0]
    assert after == before and after["State"]["Name"] == "running"


def test_zones_made_by_hand_are_imported_into_a_stack_that_would_make_them(tmp_path: Path) -> None:
    """Nothing of the stack is there yet, not even the components that are their parents."""
    config = config_file(tmp_path, CONFIG.format(count=0, host="www", create="true"))
    with sandboxed("zones", config, machines=False) as sandbox:
        stack = Stack(sandbox, "")
        output = stack.run("preview", fails=True)
        assert f"rollcall:sites.www.create: the zone scalability.expert is there already, as {stack.zone()}" in output
        assert f"rollcall:serviceDiscovery.create: the zone unilans.net is there already, as {stack.hosted}" in output
        resources = [
            {"type": "rollcall:index:SiteZone", "name": "site-scalability.expert", "component": True},
            {
                "type": "cloudflare:index/zone:Zone",
                "name": "site-scalability.expert-zone",
                "id": stack.zone(),
                "parent": "site-scalability.expert",
            },
            {"type": "rollcall:index:ServiceDirectory", "name": "directory", "component": True},
            {"type": "aws:route53/zone:Zone", "name": "directory-zone", "id": stack.hosted, "parent": "directory"},
        ]
        (tmp_path / "zones.json").write_text(json.dumps({"resources": resources}))
        stack.run("import", "--file", str(tmp_path / "zones.json"), "--generate-code=false", "--yes")
        before = stack.zone(), stack.hosted
        stack.again()
        assert (stack.zone(), stack.hosted) == before
        assert "unchanged" in stack.run("preview", "--expect-no-changes")
        stack.run("destroy", "--yes", "--skip-preview")
        assert (stack.zone(), stack.hosted) == before and not stack.resources(), "what the stack made outlives it"
