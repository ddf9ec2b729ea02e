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
KEYED = f"""\
  rollcall:serviceDiscovery: {{ zone: unilans.net, services: {{ theService: {{ port: 80, ttl: 5, incarnations: {{ v1: {{}} }} }} }} }}
{PLAIN}    keyed: {FLEET.replace("JOINS", "site/www, theService/v1")}
"""


class Shop(Deployed):
    files: Path
    config: Path

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
    said = shop.refusal()
    assert "rollcall:fleets.plain.runs: shop take " in said and "Add a mirror (rollcall:mirrors)" in said, said
    assert shop.machines("") == []


def test_a_triton_machine_boots_and_registers_in_cloudflare_while_all_of_aws_fails(shop: Shop, tmp_path: Path) -> None:
    shop.describe(MIRRORS + PLAIN)
    assert len(shop.fill_mirror(tmp_path / "mirror")) == 1
    shop.outage()
    shop.up()
    assert shop.has_record("plain-0") and shop.served("plain-0") == large(shop)
    shop.sandbox.ask("clear")


def test_one_that_reads_the_bucket_boots_from_the_mirror_while_the_bucket_fails(shop: Shop, tmp_path: Path) -> None:
    shop.describe(KEYED)
    said = shop.refusal()
    assert "rollcall:fleets.plain.runs: " in said and "rollcall:fleets.keyed.runs" not in said, said
    shop.describe(MIRRORS + KEYED)
    shop.up()
    keyed = shop.machine("keyed-0")["id"]
    assert shop.served("keyed-0") == large(shop)
    assert "fetched release=" not in shop.inside(keyed, "cat", "/var/log/rollcall.log"), "it was in the bucket"
    shop.outage()
    shop.inside(keyed, "rm", "-rf", "/opt/rollcall/workloads", "/opt/rollcall/releases", "/opt/rollcall/current")
    shop.inside(keyed, "sh", "-c", "systemctl reboot --no-block || true")

    def fetched() -> bool:
        # It does not run for a moment.
        with contextlib.suppress(SandboxError, AssertionError):
            return "mirror=web after='reason=store-failed release=" in shop.inside(
                keyed, "cat", "/var/log/rollcall.log"
            )
        return False

    wait_until("the machine has asked the mirror", fetched, 120)
    wait_until("the machine is in DNS", lambda: shop.has_record("keyed-0"), 60)
    assert shop.served("keyed-0") == large(shop)
    shop.sandbox.ask("clear")
    shop.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
