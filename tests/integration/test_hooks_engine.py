"""A workload with a `before` hook, from its first `up` to `destroy`: the real engine, and EC2 machines that boot.

The hook writes to a database that all machines share: the log of a web server in their network. The tests share one deployment and run in
their order.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from components.resources.releases import key_of
from localcloud.network.namespace import NETWORKS
from localcloud.runtime.sandbox import Sandbox
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.instep import SERVICE, InStep
from tests.integration.log_inspection import Prober, config_file

# Seven times two machines boot. What it shows on its own machines, test_workloads_boot.py shows in each run.
pytestmark = [pytest.mark.machines, pytest.mark.engine, pytest.mark.prove]
DATABASE = f"{NETWORKS['aws'].gateway}:9876"
APP = """#!/usr/bin/python3
import http.server, os


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"VERSION {os.environ['ROLLCALL_INSTANCE']}".encode())

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", 4218), Handler).serve_forever()
"""
MIGRATE = f"""#!/bin/sh
echo "migrating to VERSION"
curl -fsS "http://{DATABASE}/?version=VERSION&machine=$ROLLCALL_INSTANCE" >/dev/null || exit 9
RESULT
"""
FAILS = "echo 'no such table: orders'; exit 3"
STACK = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 5
  rollcall:keepReleases: 2
  rollcall:serviceDiscovery: {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}} }} }} }} }}
  rollcall:workloads:
    shop: {{ files: {files}, run: ./start, before: {{ run: ./migrate, timeout: 30 }}, check: {{ http: ":4218/" }} }}
  rollcall:fleets:
    web-aws: {{ cloud: aws, count: 2, size: t3.micro, image: debian-12, timeout: 90, runs: [shop], joins: [theService/v1] }}
"""


class Shop(InStep):
    files: Path
    database: Path
    digests: dict[str, str]

    def set_version(self, version: str, result: str = "exit 0") -> None:
        """Write the files of a version, whose hook ends with this command."""
        for name, text in (("start", APP), ("migrate", MIGRATE)):
            (self.files / name).write_text(text.replace("VERSION", version).replace("RESULT", result))
            (self.files / name).chmod(0o755)

    def deploy(self, version: str, result: str = "exit 0") -> str:
        """Run `up` with a version. Return what it printed."""
        self.set_version(version, result)
        began = time.monotonic()
        done = self.sandbox.pulumi("up", "--yes", "--skip-preview", "--stack", "local", capture=True, check=False)
        print(f"\nup to version {version}: exit code {done.returncode} after {time.monotonic() - began:.0f} s")
        self.digests[version] = self.named_digest()
        return done.stdout + done.stderr

    def named_digest(self) -> str:
        """The release of the workload that the newest machine names."""
        newest = max(self.instances(), key=lambda each: each["LaunchTime"])
        return str(next(each["Value"] for each in newest["Tags"] if each["Key"] == "rollcall-workload-shop"))

    def instances(self) -> list[dict[str, Any]]:
        """The instances that are not on their way out."""
        listed = [one for each in self.ec2.describe_instances()["Reservations"] for one in each["Instances"]]
        return [each for each in listed if each["State"]["Name"] not in ("shutting-down", "terminated")]

    def tags(self) -> list[dict[str, str]]:
        return [tag for each in self.instances() for tag in each["Tags"]]

    def hooks(self) -> list[tuple[str, str]]:
        """The version and the machine of each run of a hook, in order."""
        return re.findall(r"version=(\S+)&machine=(\S+) ", self.database.read_text())

    def objects(self) -> set[str]:
        """Each object in the stack's bucket of which there is a version, by its key."""
        s3 = self.aws("s3")
        (bucket,) = self.buckets()
        found = s3.list_object_versions(Bucket=bucket)
        return {each["Key"] for each in (*found.get("Versions", ()), *found.get("DeleteMarkers", ()))}

    def buckets(self) -> list[str]:
        return [each["Name"] for each in self.aws("s3").list_buckets()["Buckets"]]

    def releases(self) -> set[str]:
        """The versions of the workload whose release is in the bucket."""
        objects = self.objects()
        return {version for version, digest in self.digests.items() if key_of(digest) in objects}

    def ask(self) -> str:
        """Ask one machine of the service, each in turn: its version and its id, or what went wrong."""
        try:
            targets = self.dig(SERVICE, "SRV")
            self._turn = (getattr(self, "_turn", 0) + 1) % max(len(targets), 1)
            (address,) = self.dig(targets[self._turn].split()[3], "A")
            with contextlib.closing(self._namespace.connect((address, 4218), timeout=3)) as call:
                call.settimeout(3)
                call.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return call.makefile("rb").read().rpartition(b"\r\n\r\n")[2].decode() or "hung up"
        except (OSError, ValueError, IndexError) as failed:
            return f"{type(failed).__name__} {failed}"

    def in_dns(self) -> set[str]:
        """What each machine of the service answers."""
        return {self.ask() for _ in range(6)}


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with TemporaryDirectory() as folder:
        files = Path(folder, "shop")
        files.mkdir()
        config = config_file(Path(folder), STACK.format(files=files))
        with sandboxed("hooks", config) as sandbox, shared_database(sandbox, Path(folder)) as database:
            made = Shop(sandbox)
            made.files, made.database, made.digests = files, database, {}
            yield made


@contextlib.contextmanager
def shared_database(sandbox: Sandbox, folder: Path) -> Iterator[Path]:
    """Serve what each machine can write to: a file with a line for each request."""
    empty, log = folder / "served", folder / "database"
    empty.mkdir()
    address, _, port = DATABASE.partition(":")
    words = ["python3", "-u", "-m", "http.server", "--bind", address, "--directory", str(empty), port]
    with log.open("w") as output:
        process = subprocess.Popen(
            sandbox._localcloud("run", "--", *words), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            wait_until("the database serves", lambda: "Serving HTTP" in log.read_text(), 20)
            yield log
        finally:
            process.terminate()
            process.wait(10)


def test_up_runs_the_hook_once_over_all_machines(shop: Shop) -> None:
    printed = shop.deploy("1")
    assert "error" not in printed, printed
    machines = shop.in_state()
    assert shop.in_dns() == {f"1 {each}" for each in machines} and len(machines) == 2
    ((version, machine),) = shop.hooks()
    assert version == "1" and machine in machines
    assert shop.releases() == {"1"}
    shop.sandbox.pulumi("preview", "--stack", "local", "--expect-no-changes", capture=True)


def test_another_version_replaces_the_machines_and_runs_its_hook_once(shop: Shop) -> None:
    first = shop.in_state()
    with Prober(shop.ask, every=0.2).running() as clients:
        printed = shop.deploy("2")
    assert "error" not in printed, printed
    machines = shop.in_state()
    assert not machines & first and shop.in_dns() == {f"2 {each}" for each in machines}
    assert [version for version, _ in shop.hooks()] == ["1", "2"] and shop.hooks()[1][1] in machines
    assert shop.releases() == {"1", "2"}
    served = re.compile(r"[12] i-[0-9a-f]+")
    assert clients.failures(lambda answer: bool(served.fullmatch(answer))) == []
    assert {answer[0] for _, answer in clients.answers} == {"1", "2"}


def test_a_release_that_is_older_than_those_that_are_kept_is_deleted(shop: Shop) -> None:
    assert "error" not in shop.deploy("3")
    # Two are kept: the one that machines run, and the one before. So is the agent's, which every machine names.
    assert shop.releases() == {"2", "3"}
    (agent,) = {tag["Value"] for tag in shop.tags() if tag["Key"] == "rollcall-release"}
    assert {key_of(agent), key_of(shop.digests["2"]), key_of(shop.digests["3"])} == {
        each for each in shop.objects() if each.startswith("releases/")
    }
    assert [version for version, _ in shop.hooks()] == ["1", "2", "3"]


def test_a_hook_that_fails_fails_up_and_the_machines_of_the_former_release_serve(shop: Shop) -> None:
    before = shop.in_state()
    with Prober(shop.ask, every=0.2).running() as clients:
        printed = shop.deploy("4", FAILS)
        # And again, with another one that fails: now the release that serves is older than those that are kept.
        again = shop.deploy("5", FAILS)
    for version, output in (("4", printed), ("5", again)):
        ((_, machine),) = [each for each in shop.hooks() if each[0] == version]
        why = rf"reason=before-failed workload=shop machine={machine} status=3 said='migrating to {version} / no such table: orders'"
        assert re.search(why, output), output
        assert re.search(r"web-aws-\d \(i-[0-9a-f]+\)", output), output
    assert clients.failures(lambda answer: answer in {f"3 {each}" for each in before}) == []
    assert shop.in_dns() == {f"3 {each}" for each in before} and before <= shop.in_state()
    assert shop.releases() == {"3", "4", "5"}, "each that a machine names is there"
    # It starts after a boot as well.
    rebooted = min(before)
    shop.inside(rebooted, "systemctl", "--no-block", "reboot")
    wait_until("it is back", lambda: shop.in_dns() == {f"3 {each}" for each in before}, 120)


def test_the_next_version_deploys_and_what_has_failed_is_gone(shop: Shop) -> None:
    assert "error" not in shop.deploy("6")
    machines = shop.in_state()
    assert len(machines) == 2 and shop.in_dns() == {f"6 {each}" for each in machines}
    assert [version for version, _ in shop.hooks()] == ["1", "2", "3", "4", "5", "6"]
    shop.assert_tagged(machines)
    shop.sandbox.pulumi("preview", "--stack", "local", "--expect-no-changes", capture=True)
    # When this `up` looked for old releases, machines still had each of these. The next one finds them free.
    assert shop.releases() == {"3", "4", "5", "6"}
    assert "error" not in shop.deploy("7")
    assert shop.releases() == {"6", "7"}


def test_destroy_empties_the_bucket_and_deletes_it(shop: Shop) -> None:
    assert any(each.startswith("before/shop/") for each in shop.objects())
    shop.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
    assert shop.buckets() == [] and shop.tagged() == set() and shop.resources() == []
