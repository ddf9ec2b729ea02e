"""Releases in place on booted machines of both clouds: settings of the running machine change, and the machine does the rest."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from components.config.models import CheckSettings, NginxSettings, WorkloadSettings
from components.resources import release_files, userdata
from components.workloads.definitions import release_of
from components.workloads.release import Release
from localcloud.machines.image.build import ensure
from localcloud.network.http import Server
from localcloud.network.namespace import NETWORKS
from rollcall.in_place import CARRIED, REPORT, REPORT_TO, WantedRelease, WorkloadReport, parse_report, report_key
from tests.cloud.aws_cloud import running
from tests.integration import test_boot
from tests.integration.machine_room import Room, open_room, until
from tests.integration.test_boot import BUCKET, CLOUD, Guest, mirrors, stored

pytestmark = [pytest.mark.machines, pytest.mark.skipif(os.geteuid() != 0, reason="machines take root")]
# It answers with its version, at the port that its environment has.
APP = """#!/usr/bin/python3
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["VERSION"].encode())

    def log_message(self, *_):
        pass

print("listening at", os.environ["PORT"], flush=True)
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""
SHOP = WorkloadSettings(name="shop", files="shop", run="./start", check=(CheckSettings(http=":8080/"),))
WWW = WorkloadSettings(name="www", files="www", nginx=NginxSettings(root="."), check=(CheckSettings(http=":80/"),))
ROLLOUTS = itertools.count(1)
# Where the role of EC2 machines may write reports.
TO = "machines/web/AROAMACHINES"
GETS: list[str] = []


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """The same as for other boots; each GET of a release is noted, and machines may write their reports."""
    ensure()
    with open_room(tmp_path_factory.mktemp("in-place")) as opened, running() as cloud:
        CLOUD["aws"] = cloud
        opened.imds.credentials = stored(cloud)
        own = {
            "Effect": "Allow",
            "Action": "s3:PutObject",
            "Resource": f"arn:aws:s3:::{BUCKET}/{report_key(TO, '*')}",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [own]})
        cloud.client("iam").put_role_policy(RoleName="machines", PolicyName="reports", PolicyDocument=policy)
        gateway = NETWORKS["aws"].gateway
        opened.names |= {f"{BUCKET}.s3.us-west-2.amazonaws.com": gateway, "ssm.us-west-2.amazonaws.com": gateway}

        def noted(environ: Any, start_response: Any) -> Any:
            GETS.extend([environ["PATH_INFO"]] if environ["REQUEST_METHOD"] == "GET" else ())
            return cloud.aws.app(environ, start_response)

        server = Server(noted, [opened.namespace.listen(gateway, 443)], opened.tls)
        server.start()
        yield opened
        server.stop()


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    """Releases by the version that they serve. `broken` lacks a variable."""
    root = tmp_path_factory.mktemp("project")
    (root / "shop").mkdir()
    (root / "shop/start").write_text(APP)
    (root / "shop/start").chmod(0o755)
    shops = {version: {"PORT": "8080", "VERSION": version} for version in ("first", "second", "third", "broken")}
    del shops["broken"]["PORT"]
    made = {version: release_of(replace(SHOP, env=env), root) for version, env in shops.items()}
    for version in ("page-1", "page-2"):
        (root / version).mkdir()
        (root / version / "index.html").write_text(version)
        made[version] = release_of(replace(WWW, files=version), root)
    return made


class Machine:
    """A machine with releases in place, and the program that writes its settings."""

    def __init__(self, room: Room, cloud: str, releases: dict[str, Release], image: str = "debian-12") -> None:
        self.room, self.cloud, self.releases = room, cloud, releases
        self.guest = Guest(room, cloud, image, userdata.build() if cloud == "joyent" else "")
        # What the stand-in of the metadata service calls the machine with this address.
        self.instance = "i-" + self.guest.machine.address.replace(".", "").rjust(17, "0")

    def wants(self, workload: str, version: str, **words: Any) -> str:
        """Deliver a release, and write the wanted one, as a roll-out does; its digest."""
        release = self.releases[version]
        wanted = WantedRelease(workload=workload, digest=release.digest, rollout=f"{next(ROLLOUTS):08x}", **words)
        if self.cloud == "aws":
            CLOUD["aws"].client("s3").put_object(
                Bucket=BUCKET, Key=release_files.key_of(release.digest), Body=release.packed
            )
            self.room.imds.tags[self.guest.machine.address][wanted.key] = wanted.words()
        else:
            carried = base64.b85encode(release.packed).decode()
            self.guest.metadata.values.update({CARRIED + release.digest: carried, wanted.key: wanted.words()})
        return release.digest

    def take_away_stores(self) -> None:
        """No store has a release any more, and takes a report."""
        if self.cloud == "aws":
            CLOUD["aws"].faults.add("s3 status=503")
        else:
            for key in [each for each in self.guest.metadata.values if each.startswith(CARRIED)]:
                del self.guest.metadata.values[key]

    def answer(self, port: int = 8080) -> str:
        return self.guest.run(f"curl -sS --max-time 3 http://127.0.0.1:{port}/ 2>/dev/null || true")

    def serves(self, version: str, port: int = 8080, seconds: float = 60) -> None:
        assert until(lambda: self.answer(port) == version, seconds), (self.answer(port), self.log())

    def report(self, workload: str = "shop") -> WorkloadReport | None:
        if self.cloud == "joyent":
            text = self.guest.metadata.values.get(REPORT, "")
        else:
            try:
                key = report_key(TO, self.instance)
                text = CLOUD["aws"].client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()
            except ClientError:
                text = ""
        found = parse_report(text)
        return found.workloads.get(workload) if found else None

    def reports(self, workload: str, digest: str, step: str, seconds: float = 60) -> WorkloadReport:
        """Wait until the machine has reported this step of this wanted release."""

        def is_there() -> bool:
            found = self.report(workload)
            return found is not None and (found.wanted, found.step) == (digest, step)

        if not until(is_there, seconds):
            pytest.fail(f"{self.report(workload)}\n{self.log()}")
        found = self.report(workload)
        assert found is not None
        return found

    def log(self) -> str:
        return self.guest.run("grep -v 'E: ' /var/log/rollcall.log | tail -40")

    def reboot(self) -> None:
        self.room.hypervisor.reboot(self.guest.machine.id)
        self.guest.heard.wait("running", "running")


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of a fleet with releases in place: they name the workloads, and no release."""
    keys = {"rollcall-workloads": "shop www", REPORT_TO: TO}
    monkeypatch.setattr(test_boot, "KEYS", {**test_boot.KEYS, **keys})
    yield
    CLOUD["aws"].faults.clear()


@pytest.mark.parametrize("cloud", ["aws", "joyent"])
def test_a_machine_follows_its_wanted_release(
    room: Room, releases: dict[str, Release], in_place: None, cloud: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(room, cloud, releases)
    guest = machine.guest
    guest.says("reason=no-release-yet workload=shop", 60)
    # The agent installs the first release by itself, and another workload does not wait for it.
    first = machine.wants("shop", "first", healthy_s=2)
    machine.serves("first", seconds=30)
    assert machine.reports("shop", first, "done").runs == first
    waiting = machine.report("www")
    assert waiting is not None and "reason=no-release-yet" in waiting.waits
    page = machine.wants("www", "page-1", healthy_s=2, drains=False)
    machine.serves("page-1", 80)
    machine.reports("www", page, "done")

    # A static site is switched while it serves: each of many requests has the old page or the new one.
    asks = "for n in $(seq 400); do curl -sS --max-time 3 http://127.0.0.1/ || echo failed; echo; sleep 0.02; done"
    guest.run(f"systemd-run --unit=asks sh -c '{asks} >/root/asks'")
    page = machine.wants("www", "page-2", healthy_s=2, drains=False)
    machine.reports("www", page, "done")
    assert until(lambda: guest.run("systemctl is-active asks || true") != "active", 60)
    assert set(guest.run("cat /root/asks").split()) == {"page-1", "page-2"}

    second = machine.wants("shop", "second", healthy_s=2)
    machine.serves("second")
    found = machine.reports("shop", second, "done")
    assert found.runs == second and {*found.kept} == {first, second}

    # A broken release is taken back, with its reason and the last lines of its log.
    broken = machine.wants("shop", "broken", healthy_s=2, deadline_s=8)
    found = machine.reports("shop", broken, "failed")
    assert (found.failed_step, found.runs) == ("checking", second) and "reason=check-failed seconds=8" in found.reason
    assert "KeyError: 'PORT'" in "\n".join(found.log) and len(found.log) <= 20
    machine.serves("second")
    assert guest.run("rollcall status | grep -c check-failed") == "1"

    # It goes back to a former release while no store answers.
    machine.take_away_stores()
    first = machine.wants("shop", "first", healthy_s=2) if cloud == "joyent" else machine_tag(machine, "first")
    machine.take_away_stores()
    machine.serves("first")
    CLOUD["aws"].faults.clear()
    found = machine.reports("shop", first, "done", 120)
    assert found.runs == first and {*found.kept} == {first, second, broken}

    if cloud == "aws":
        for version in ("first", "second", "broken", "page-1", "page-2"):
            key = release_files.key_of(releases[version].digest)
            assert sum(each.endswith(key) for each in GETS) == 1, "each release is fetched once"
    logged = guest.run("grep switched: /var/log/rollcall.log")
    took = [float(each) for each in re.findall(r"seconds=([\d.]+)", logged)]
    # The first release of each workload also starts what serves it, which ran before in the others.
    # On a quiet computer it takes 0.1 to 0.3 s, as the line below says. A busy one is several times slower.
    assert len(took) == 7 and max(took[2:]) < 10.0, took
    with capsys.disabled():
        print(f"\nswitch and restart on {cloud}: {sorted(took)} s")


def machine_tag(machine: Machine, version: str) -> str:
    """Write the wanted release only: no store takes anything."""
    release = machine.releases[version]
    wanted = WantedRelease(workload="shop", digest=release.digest, rollout=f"{next(ROLLOUTS):08x}", healthy_s=2)
    machine.room.imds.tags[machine.guest.machine.address][wanted.key] = wanted.words()
    return release.digest


@pytest.mark.parametrize("cloud", ["aws", "joyent"])
def test_a_reboot_in_the_middle_of_a_release_continues_it(
    room: Room, releases: dict[str, Release], in_place: None, cloud: str
) -> None:
    machine = Machine(room, cloud, releases)
    machine.guest.says("reason=no-release-yet", 60)
    first = machine.wants("shop", "first", healthy_s=2)
    machine.reports("shop", first, "done", 90)
    third = machine.wants("shop", "third", healthy_s=25)
    machine.serves("third")
    found = machine.report()
    assert found is not None and found.step != "done"
    machine.reboot()
    machine.serves("third")
    found = machine.reports("shop", third, "done", 90)
    assert found.runs == third
    # Another boot changes nothing, and the power may go at any moment.
    broken = machine.wants("shop", "broken", healthy_s=2, deadline_s=40)
    machine.reports("shop", broken, "checking", 60)
    room.hypervisor.cut_power(machine.guest.machine.id)
    machine.guest.heard.wait("running", "running", "stopped")
    room.hypervisor.boot(machine.guest.machine, machine.guest.heard)
    machine.reports("shop", broken, "failed", 120)
    machine.serves("third")
    assert machine.guest.run("systemctl is-enabled workload-shop") == "enabled"


def test_a_release_brings_its_packages(room: Room, releases: dict[str, Release], in_place: None) -> None:
    ensure(release="debian-12")
    with mirrors(room):
        machine = Machine(room, "aws", releases, "debian-12-bare")
        machine.guest.says("reason=no-release-yet", 90)
        assert machine.guest.run("command -v nginx || echo none") == "none"
        page = machine.wants("www", "page-1", healthy_s=2)
        machine.serves("page-1", 80, 90)
        machine.reports("www", page, "done")
