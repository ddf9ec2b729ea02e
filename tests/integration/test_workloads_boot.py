"""Workloads of the operator's on booted machines of both clouds: a static site of 40 files and an app, and what an app may not reach."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.config.models import CheckSettings, NginxSettings, WorkloadSettings
from components.resources import releases, userdata
from components.workloads.definitions import release_of
from components.workloads.release import Release
from tests.cloud.aws_cloud import Cloud
from tests.integration import test_boot
from tests.integration.machine_room import Room, until
from tests.integration.test_boot import BUCKET, CLOUD, Guest

pytestmark = [pytest.mark.machines, pytest.mark.skipif(os.geteuid() != 0, reason="machines take root")]
room = test_boot.room
APP = """#!/usr/bin/python3
import http.server, os, pathlib, subprocess

FORBIDDEN = [
    "/root", "/root/.profile", "/opt/rollcall/releases", "/opt/rollcall/current", "/opt/rollcall/workloads/www",
    "/var/lib/rollcall/get_release.py", "/usr/local/lib/rollcall/boot.sh", "/run/rollcall/status.json", "/var/log/rollcall.log",
    "/var/lib/cloud/instance", "/native/.zonecontrol/metadata.sock", "/.zonecontrol/metadata.sock", "/dev/ttyS1",
]


def seen(path):
    try:
        at = pathlib.Path(path)
        return bool(list(at.iterdir())) if at.is_dir() else at.open("rb").close() is None
    except OSError:
        return False


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/forbidden":
            text = " ".join(filter(seen, FORBIDDEN))
        elif self.path == "/who":
            state = pathlib.Path(os.environ["STATE_DIRECTORY"], "x")
            state.write_text("kept")
            status = pathlib.Path("/proc/self/status").read_text()
            uid, new, caps = (status.split(each)[1].split()[0] for each in ("Uid:", "NoNewPrivs:", "CapEff:"))
            text = f"{os.environ['GREETING']}|{uid != '0'}|{new}|{caps}|{os.getcwd()}"
        elif self.path == "/write":
            text = ""
            for each in ("/etc/x", "/opt/rollcall/workloads/shop/current/files/x", "/usr/x", "/var/lib/x"):
                try:
                    pathlib.Path(each).write_text("x")
                    text += each
                except OSError:
                    pass
        elif self.path == "/metadata":
            text = subprocess.run(["mdata-get", "sdc:uuid"], capture_output=True, text=True).stdout
        else:
            text = "ok"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""
WWW = WorkloadSettings(name="www", files="www", nginx=NginxSettings(root="public"))
SHOP = WorkloadSettings(
    name="shop",
    files="shop",
    run="./start",
    env={"PORT": "8080", "GREETING": 'it\'s 100% "ours" \\ $HOME'},
    check=CheckSettings(http=":8080/healthz", grace=60),
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    root = tmp_path_factory.mktemp("project")
    (root / "www/public").mkdir(parents=True)
    for number in range(40):
        (root / f"www/public/page-{number}.html").write_bytes(base64.b64encode(os.urandom(150)))
    (root / "www/public/index.html").symlink_to("page-7.html")
    (root / "shop").mkdir()
    (root / "shop/start").write_text(APP)
    (root / "shop/start").chmod(0o755)
    return {each.name: release_of(each, root) for each in (WWW, SHOP)}


@pytest.fixture
def told(packed: dict[str, Release], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Release]]:
    """What the machines of this test are told besides: two workloads and their digests."""
    keys = {"rollcall-workloads": "www shop"}
    keys.update({f"rollcall-workload-{name}": release.digest for name, release in packed.items()})
    monkeypatch.setattr(test_boot, "KEYS", {**test_boot.KEYS, **keys})
    yield packed


def put(cloud: Cloud, release: Release, body: bytes | None = None) -> None:
    cloud.client("s3").put_object(Bucket=BUCKET, Key=releases.key_of(release.digest), Body=body or release.packed)


def guest(room: Room, cloud: str, packed: dict[str, Release]) -> Guest:
    return Guest(room, cloud, "debian-12", userdata.build(tuple(packed.values())) if cloud == "joyent" else "")


@pytest.mark.parametrize("cloud", ["aws", "joyent"])
def test_a_site_and_an_app_are_served_and_the_app_reaches_nothing_of_the_agents(
    room: Room, told: dict[str, Release], cloud: str, tmp_path: Path
) -> None:
    for release in told.values():
        put(CLOUD["aws"], release)
    machine = guest(room, cloud, told)
    machine.says("settings read", 60)

    def got(url: str) -> str:
        return machine.run(f"curl -sS --max-time 5 http://127.0.0.1{url} || true")

    assert until(lambda: got(":8080/healthz") == "ok", 30), machine.run("journalctl -u workload-shop --no-pager; true")
    machine.run("ls /opt/rollcall/workloads/www/current/files/public | wc -l | grep -qx 41")
    assert got("/page-7.html") == got("/index.html") and len(got("/page-39.html")) == 200
    who = got(":8080/who")
    assert who.count("|") == 4, machine.run("journalctl -u workload-shop --no-pager | tail -20; true")
    greeting, other_user, no_new_privileges, capabilities, where = who.split("|")
    assert greeting == SHOP.env["GREETING"] and other_user == "True" and no_new_privileges == "1"
    assert int(capabilities, 16) == 1 << 10, "to listen on a port below 1024, and nothing else"
    assert where.startswith("/opt/rollcall/workloads/shop/")
    assert got(":8080/forbidden") == "" and got(":8080/write") == "" and got(":8080/metadata") == ""
    # The agent and its check are where they were.
    assert machine.run("systemctl is-active rollcall workload-shop").split() == ["active"] * 2
    room.hypervisor.reboot(machine.machine.id)
    machine.heard.wait("running", "running")
    assert until(lambda: got(":8080/healthz") == "ok" and len(got("/page-39.html")) == 200, 60), machine.log()


def test_a_release_in_the_store_that_is_another_s_is_said_and_not_unpacked(
    room: Room, told: dict[str, Release]
) -> None:
    put(CLOUD["aws"], told["www"])
    put(CLOUD["aws"], told["shop"], told["www"].packed)
    machine = guest(room, "aws", told)
    machine.says(f"reason=another-release release={told['shop'].digest[:12]} found={told['www'].digest[:12]}", 60)
    assert "workload=shop" in machine.shown()
    assert machine.run("ls -A /opt/rollcall/workloads/shop 2>/dev/null || true") == ""
    put(CLOUD["aws"], told["shop"])
    assert until(lambda: "ok" in machine.run("curl -s http://127.0.0.1:8080/ || true"), 60), machine.log()
