"""The origin certificate of a closed site on the real engine: kept secret, renewed in time, revoked at the end.

The fleets have no machines here: what the stack makes around them is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from components.resources.origin_tls import DAY
from tests.integration.conftest import sandboxed
from tests.integration.deployed import Deployed

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
CONFIG = """
config:
  aws:region: us-west-2
  rollcall:sites: { www: { zone: scalability.expert, host: www, proxied: true } }
  rollcall:fleets:
    web-aws: { cloud: aws, count: 0, size: t3.micro, image: debian-12, joins: [site/www] }
    web-joyent: { cloud: joyent, count: 0, size: g1.micro, image: debian-12, joins: [site/www] }
"""
PARAMETER = "/rollcall/local/web-aws/origin-www"


class Stack(Deployed):
    def parameter(self) -> tuple[Any, x509.Certificate]:
        """The private key and the certificate that EC2 machines read."""
        pem = self.aws("ssm").get_parameter(Name=PARAMETER, WithDecryption=True)["Parameter"]["Value"].encode()
        return serialization.load_pem_private_key(pem, None), x509.load_pem_x509_certificate(pem)

    def certificates(self) -> list[str]:
        found = self._get("/certificates", zone_id=self.zone())["result"]
        return [each["id"] for each in found]

    def preview(self) -> str:
        return self.sandbox.pulumi("preview", "--stack", "local", capture=True).stdout

    def age(self, days: float) -> None:
        """Make the key so much older, in the state."""
        kept = self.sandbox.state / "export.json"
        self.sandbox.pulumi("stack", "export", "--stack", "local", "--file", str(kept), capture=True)
        state = json.loads(kept.read_text())
        (key,) = [each for each in state["deployment"]["resources"] if each["type"].endswith(":OriginKey")]
        key["outputs"]["made"] -= days * DAY
        kept.write_text(json.dumps(state))
        self.sandbox.pulumi("stack", "import", "--stack", "local", "--file", str(kept), capture=True)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    config = tmp_path_factory.mktemp("origin") / "Pulumi.local.yaml"
    config.write_text(CONFIG)
    with sandboxed("origin", Path(config), machines=False) as sandbox:
        output = sandbox.pulumi("up", "--yes", "--skip-preview", "--stack", "local", capture=True).stdout
        yield Stack(sandbox, output)


def test_machines_get_the_key_and_the_certificate_that_was_signed_for_it(stack: Stack) -> None:
    key, certificate = stack.parameter()
    assert certificate.public_key() == key.public_key()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["scalability.expert", "www.scalability.expert"]
    assert stack.certificates() == [str(certificate.serial_number)]


def test_no_part_of_the_key_is_in_the_state_or_in_what_was_printed(stack: Stack) -> None:
    key, _ = stack.parameter()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    inner = key.private_bytes(*form).decode().splitlines()[1:-1]
    files = [each for each in stack.sandbox.state.rglob("*") if each.is_file() and "daemon" not in each.name]
    assert any(".pulumi" in str(each) for each in files)
    for line in inner:
        assert line not in stack.output
        assert [each for each in files if line.encode() in each.read_bytes()] == []


def test_the_zone_is_strict_and_the_ports_are_open_to_the_edge(stack: Stack) -> None:
    token = {"Authorization": f"Bearer {stack.env['CLOUDFLARE_API_TOKEN']}"}
    base = f"{stack.env['CLOUDFLARE_BASE_URL']}/zones/{stack.zone()}/settings"
    values = {each["id"]: each.get("value") for each in requests.get(base, headers=token, timeout=10).json()["result"]}
    assert (values["ssl"], values["always_use_https"]) == ("strict", "on")
    edge = {"198.51.100.2/32", "203.0.113.2/32"}
    groups = stack.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["web-aws-group*"]}])
    (group,) = groups["SecurityGroups"]
    ports = {
        (each["IpProtocol"], each["FromPort"]): {one["CidrIp"] for one in each["IpRanges"]}
        for each in group["IpPermissions"]
    }
    assert ports == {("tcp", 443): edge, ("udp", 4217): {"0.0.0.0/0"}}
    rules = sorted(each["rule"] for each in map(json.loads, stack.triton("fwrules", "-j").splitlines()))
    machines = 'TO tag "rollcall-firewall" = "local/web-joyent" ALLOW'
    assert rules == [
        f"FROM (subnet 198.51.100.2/32 OR subnet 203.0.113.2/32) {machines} tcp PORT 443",
        f"FROM any {machines} udp PORT 4217",
    ]


def test_up_again_changes_nothing(stack: Stack) -> None:
    assert "unchanged" in stack.up("--expect-no-changes")


def test_a_certificate_near_its_end_is_a_difference_and_up_makes_a_new_one_beside_it(stack: Stack) -> None:
    before, old = stack.parameter()
    stack.age(330)
    assert "renewal" not in stack.preview()
    stack.age(10)
    shown = stack.preview()
    replaced = [line for line in shown.splitlines() if "origin-www-key" in line and "replace" in line]
    assert any("~renewal" in line for line in replaced), shown
    output = stack.up()
    key, new = stack.parameter()
    assert key.public_key() == new.public_key() != before.public_key()
    # Machines may show the old one for another day.
    assert set(stack.certificates()) == {str(old.serial_number), str(new.serial_number)}
    assert new.serial_number != old.serial_number and f"{old.serial_number} has a successor" in output
    assert "unchanged" in stack.up("--expect-no-changes")


def test_a_destroy_revokes_what_the_stack_used_last(stack: Stack) -> None:
    before = set(stack.certificates())
    _, last = stack.parameter()
    stack.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
    assert before - set(stack.certificates()) == {str(last.serial_number)}
    assert stack.triton("fwrules", "-j").strip() == ""
