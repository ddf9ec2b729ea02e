"""A site by https on both clouds without the edge, with certificates of a real ACME server: the real engine, and machines that boot.

The certificates are valid for minutes only, so machines renew them while the tests run.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from localcloud.network.namespace import NETWORKS
from localcloud.runtime.progress import Step
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.deployed import HOST
from tests.integration.instep import InStep
from tests.integration.log_inspection import config_file

pytestmark = [pytest.mark.machines, pytest.mark.engine]
# Long enough for an `up` on a busy computer. A machine renews after two thirds.
VALIDITY_S = 300
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 2
  rollcall:rotationTrigger: "{rotation}"
  rollcall:sites: {{ www: {{ zone: scalability.expert, host: www, ttl: 60, tls: {{ acme: {{ email: ops@scalability.expert }} }} }} }}
  rollcall:fleets:
    web-aws: {{ cloud: aws, count: {count}, size: t3.micro, image: debian-12, joins: [site/www] }}
    web-joyent: {{ cloud: joyent, count: 1, size: g1.micro, image: debian-12, joins: [site/www] }}
"""


class Secured(InStep):
    config: Path

    def configure(self, count: int = 1, rotation: str = "") -> None:
        self.config.write_text(CONFIG.format(count=count, rotation=rotation))
        self.sandbox.write_config()

    def visit(self, address: str, url: str = f"https://{HOST}/") -> tuple[str, str]:
        """Return the status that a visitor gets at one machine, and its id or the Location. Only the ACME server's root is trusted."""
        root = self.sandbox.state / "acme-root.pem"
        root.write_text(self.sandbox.ask("acme", page="/roots/0"))
        words = ["curl", "-s", "-o", "/dev/null", "--max-time", "10", "--cacert", str(root)]
        words += ["--interface", NETWORKS["aws"].visitor]
        words += ["--resolve", f"{HOST}:443:{address}", "--resolve", f"{HOST}:80:{address}"]
        words += ["-w", "%{http_code} %header{x-served-by}%header{location}", url]
        code, _, by = self.sandbox.localcloud("run", "--", *words, capture=True).partition(" ")
        return code, by

    def serial(self, address: str) -> str:
        """The serial number of the certificate that a machine serves."""
        shown = f"openssl s_client -connect {address}:443 -servername {HOST} </dev/null 2>/dev/null | openssl x509 -noout -serial"
        return self.sandbox.localcloud("run", "--", "sh", "-c", shown, capture=True).strip().partition("=")[2]

    def serials(self) -> set[str]:
        return {self.serial(each["addresses"][0]) for each in self.running()}

    def running(self) -> list[dict[str, Any]]:
        return [each for each in self.machines("web-") if each["state"] == "running"]

    def status_at_ca(self, serial: str) -> str:
        return str(self.sandbox.ask("acme", page=f"/cert-status-by-serial/{serial.lstrip('0').lower()}"))


@pytest.fixture(scope="module")
def site() -> Iterator[Secured]:
    with TemporaryDirectory() as folder:
        config = config_file(Path(folder), CONFIG.format(count=1, rotation=""))
        with sandboxed("certificates", config) as sandbox:
            sandbox.ask("acme", timeout=900, validity=VALIDITY_S)
            sandbox.bring_packages(Step("packages", sys.stdout))
            made = Secured(sandbox, "")
            made.config = config
            made.up()
            yield made


def test_every_machine_serves_the_site_by_https_and_redirects_to_it(site: Secured) -> None:
    machines = site.running()
    assert len(machines) == 2 and {each["cloud"] for each in machines} == {"aws", "joyent"}
    for each in machines:
        address = each["addresses"][0]
        assert site.visit(address) == ("200", each["id"])
        assert site.visit(address, f"http://{HOST}/a?b=c") == ("301", f"https://{HOST}/a?b=c")
    assert len(site.serials()) == 1, "one certificate is shared by all machines"


def test_no_private_key_is_in_plain_text_in_the_state_or_readable_by_others(site: Secured) -> None:
    state = json.loads(site.sandbox.pulumi("stack", "export", "--stack", "local", capture=True).stdout)
    assert "PRIVATE KEY" not in json.dumps(state)
    for each in site.running():
        found = site.inside(
            str(each["id"]), "sh", "-c", "grep -rl 'PRIVATE KEY' /etc/nginx /var/lib/rollcall /var/log || true"
        )
        assert found.split()
        for path in found.split():
            assert site.inside(str(each["id"]), "stat", "-c", "%a", path).strip() == "600", path


@pytest.mark.prove
def test_machines_renew_it_without_an_up_and_share_the_new_one(site: Secured) -> None:
    before = site.serials()
    took = wait_until("all serve another certificate", lambda: not site.serials() & before, VALIDITY_S)
    wait_until("it is the same one", lambda: len(site.serials()) == 1, 60)
    (after,) = site.serials()
    print(f"\nrenewed and shared without an up after {took:.0f} s of {VALIDITY_S} s")
    assert "Valid" in site.status_at_ca(after)
    assert {site.visit(str(each["addresses"][0]))[0] for each in site.running()} == {"200"}


@pytest.mark.prove
def test_a_machine_that_joins_later_serves_it_too(site: Secured) -> None:
    site.configure(count=2)
    site.up()
    assert len(site.running()) == 3
    wait_until("all serve the same one", lambda: len(site.serials()) == 1, 120)
    assert {site.visit(str(each["addresses"][0]))[0] for each in site.running()} == {"200"}


@pytest.mark.prove
def test_after_a_theft_one_up_gives_another_key_and_revokes_what_was_stolen(site: Secured) -> None:
    (stolen,) = site.serials()
    key = "openssl pkey -in /etc/nginx/rollcall-origins/www.scalability.expert.pem -pubout"
    machine = str(site.running()[0]["id"])
    before = site.inside(machine, "sh", "-c", key)
    site.configure(count=2, rotation="stolen")
    output = site.up()
    assert re.search(r"certificate-www", output)
    wait_until("all serve another one", lambda: stolen not in site.serials() and len(site.serials()) == 1, 90)
    assert site.inside(machine, "sh", "-c", key) != before
    status = json.loads(site.status_at_ca(stolen))
    assert status["Status"] == "Revoked" and status["Reason"] == 1
    assert {site.visit(str(each["addresses"][0]))[0] for each in site.running()} == {"200"}


@pytest.mark.prove
def test_a_ca_that_is_down_is_a_warning_while_the_certificate_is_valid(site: Secured) -> None:
    site.sandbox.ask("fault", spec="acme drop")
    try:
        time.sleep(1)
        site.up()
        assert {site.visit(str(each["addresses"][0]))[0] for each in site.running()} == {"200"}
    finally:
        site.sandbox.ask("clear", service="acme")
