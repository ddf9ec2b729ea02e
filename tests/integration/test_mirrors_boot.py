"""Triton machines with a workload that does not fit their user-script, by the real engine: they boot and register in Cloudflare while S3,
SSM and Route53 fail, since a mirror outside AWS has the workload."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from localcloud.runtime.sandbox import SandboxError
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.deployed import Deployed
from tests.integration.log_inspection import config_file

pytestmark = [pytest.mark.machines, pytest.mark.engine]
FROM_MIRROR = "mirror=web after='reason=store-failed release="
MIRROR = "https://mirror.shop.example/rollcall"
OUTAGE = ("s3 status=503", "ssm status=503", "route53 status=503", "iam status=503", "sts status=503", "ec2 status=503")
STACK = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 2
  rollcall:sites: {{ www: {{ zone: scalability.expert, ttl: 60 }} }}
  rollcall:workloads:
    shop: {{ files: {files}, run: python3 -m http.server 80, check: {{ http: ":80/large" }} }}
"""
MIRRORS = f"  rollcall:mirrors: {{ web: {{ https: {MIRROR} }} }}\n"
FLEET = "{ cloud: joyent, count: 1, size: g1.micro, image: debian-12, runs: [shop], joins: [JOINS] }"
PLAIN = f"  rollcall:fleets:\n    plain: {FLEET.replace('JOINS', 'site/www')}\n"
BOTH = f"""\
  rollcall:serviceDiscovery: {{ zone: unilans.net, services: {{ theService: {{ port: 80, ttl: 5, incarnations: {{ v1: {{}} }} }} }} }}
{PLAIN}    keyed: {FLEET.replace("JOINS", "site/www, theService/v1")}
    web: {{ cloud: aws, count: 1, size: t3.micro, image: debian-12, runs: [shop], joins: [site/www] }}
"""


class Shop(Deployed):
    files: Path
    config: Path

    def log(self, name: str) -> str:
        """The log of a machine's boot; empty while it does not run."""
        with contextlib.suppress(SandboxError, AssertionError):
            return self.inside(self.machine(name)["id"], "cat", "/var/log/rollcall.log")
        return ""

    def describe(self, text: str) -> None:
        """Set what the next `up` deploys."""
        self.config.write_text(STACK.format(files=self.files) + text)
        self.sandbox.write_config()

    def refusal(self) -> str:
        done = self.sandbox.pulumi("preview", "--stack", "local", capture=True, check=False)
        assert done.returncode
        return done.stdout + done.stderr

    def fill_mirror(self, folder: Path) -> list[str]:
        """`rollcall release export`, and the operator's web server."""
        words = [sys.executable, "-m", "components.commands.release", "export", str(folder), "--stack", "local"]
        around = {**os.environ, "PYTHONPATH": f"{self.sandbox.work}:{self.sandbox.work}/userdata"}
        subprocess.run(words, cwd=self.sandbox.work, env=around, check=True, capture_output=True)
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        for each in found:
            url = f"{MIRROR}/{each.relative_to(folder).as_posix()}"
            self.sandbox.ask("publish", url=url, file=str(each))
        return [each.name.partition(".")[0] for each in found]

    def outage(self, faults: tuple[str, ...] = OUTAGE) -> None:
        for each in faults:
            self.sandbox.ask("fault", spec=each)

    def has_record(self, name: str) -> bool:
        address = self.machine(name)["addresses"][0]
        return [each["content"] for each in self.records() if each["content"] == address] == [address]

    def served(self, name: str) -> str:
        """The SHA-256 of the large file that a machine serves."""
        script = "curl -sS --max-time 5 http://127.0.0.1/large 2>/dev/null | sha256sum || true"
        return self.inside(self.machine(name)["id"], "sh", "-c", script).split()[0]


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with TemporaryDirectory() as folder:
        files = Path(folder, "shop")
        files.mkdir()
        (files / "large").write_bytes(os.urandom(60_000))
        config = config_file(Path(folder), STACK.format(files=files) + PLAIN)
        with sandboxed("mirrored", config) as sandbox:
            made = Shop(sandbox, "")
            made.files, made.config = files, config
            yield made


def large(shop: Shop) -> str:
    return subprocess.run(
        ["sha256sum", shop.files / "large"], check=True, capture_output=True, text=True
    ).stdout.split()[0]


def test_without_a_mirror_a_workload_that_does_not_fit_is_refused_and_nothing_is_made(shop: Shop) -> None:
    output = shop.refusal()
    assert "rollcall:fleets.plain.runs: shop take " in output and "Add a mirror (rollcall:mirrors)" in output, output
    assert shop.machines("") == []


def test_a_triton_machine_boots_and_registers_in_cloudflare_while_all_of_aws_fails(shop: Shop, tmp_path: Path) -> None:
    shop.describe(MIRRORS + PLAIN)
    assert len(shop.fill_mirror(tmp_path / "mirror")) == 1
    shop.outage()
    shop.up()
    assert shop.has_record("plain-0") and shop.served("plain-0") == large(shop)
    shop.sandbox.ask("clear")


def test_machines_that_read_the_bucket_start_from_the_mirror_while_the_bucket_fails(shop: Shop, tmp_path: Path) -> None:
    shop.describe(BOTH)
    output = shop.refusal()
    assert "rollcall:fleets.plain.runs: " in output and "rollcall:fleets.keyed.runs" not in output, output
    shop.describe(BOTH.replace(PLAIN, "  rollcall:fleets:\n"))
    output = shop.sandbox.pulumi("preview", "--stack", "local", capture=True).stdout
    assert (
        "rollcall:fleets.keyed.runs: its machines fetch shop from AWS only (the stack's bucket in us-west-2)." in output
    )
    assert "rollcall:mirrors: machines of web fetch releases from the stack's bucket in us-west-2 only" in output
    shop.describe(MIRRORS + BOTH)
    assert len(shop.fill_mirror(tmp_path / "mirror")) == 2
    shop.outage(("s3:GET:/releases/ status=503",))
    shop.up()
    for name, fetched in (("keyed-0", 1), ("web-0", 2)):
        assert shop.served(name) == large(shop)
        assert shop.log(name).count(FROM_MIRROR) == fetched, shop.log(name)
    shop.sandbox.ask("clear")


def test_a_machine_of_which_nothing_is_left_registers_in_cloudflare_while_all_of_aws_fails(shop: Shop) -> None:
    """Its own store is in AWS, and so is one of its registrations."""
    keyed = shop.machine("keyed-0")["id"]
    shop.outage()
    shop.inside(keyed, "sh", "-c", "rm -rf /opt/rollcall/* /var/lib/rollcall /var/log/rollcall.log")
    shop.inside(keyed, "sh", "-c", "systemctl reboot --no-block || true")
    wait_until("the machine has asked the mirror", lambda: FROM_MIRROR in shop.log("keyed-0"), 120)
    # Without its files it cannot leave, so its record may be there before the machine serves again.
    wait_until("the machine serves", lambda: shop.served("keyed-0") == large(shop), 60)
    wait_until("the machine is in DNS", lambda: shop.has_record("keyed-0"), 60)
    shop.sandbox.ask("clear")
    shop.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
