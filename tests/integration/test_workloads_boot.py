"""Workloads of the operator's on booted machines of both clouds: a static site of 40 files and an app, and what an app may not reach."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from components.config.models import CheckSettings, NginxSettings, WorkloadSettings
from components.resources import releases, userdata
from components.workloads.definitions import release_of
from components.workloads.release import Release
from tests.cloud.aws_cloud import Cloud
from tests.integration import test_boot
from tests.integration.machine_room import Room, until
from tests.integration.test_boot import BUCKET, CLOUD, PARAMETER, Guest

pytestmark = [pytest.mark.machines, pytest.mark.skipif(os.geteuid() != 0, reason="machines take root")]
room = test_boot.room
APP = """#!/usr/bin/python3
import http.server, os, pathlib, socket, subprocess

FORBIDDEN = [
    "/root", "/root/.profile", "/opt/rollcall/releases", "/opt/rollcall/current", "/opt/rollcall/workloads/www",
    "/var/lib/rollcall/get_release.py", "/usr/local/lib/rollcall/boot.sh", "/run/rollcall/status.json", "/var/log/rollcall.log",
    "/run/rollcall/secrets", "/var/lib/cloud/instance", "/native/.zonecontrol/metadata.sock",
    "/.zonecontrol/metadata.sock", "/dev/ttyS1",
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
        elif self.path == "/secret":
            text = pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"], "DATABASE_URL").read_text()
        elif self.path == "/imds":
            try:
                socket.create_connection(("169.254.169.254", 80), timeout=2).close()
                text = "reached"
            except OSError as failed:
                text = type(failed).__name__
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
    memory="256M",
    cpu="50%",
)
VAULT = WorkloadSettings(
    name="shop", files="shop", run="./start", env={"PORT": "8080"}, secrets={"DATABASE_URL": SecretStr("not-packed")}
)
TOKEN = (
    "curl -s -o /dev/null -w '%{http_code}' --max-time 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "
    "http://169.254.169.254/latest/api/token"
)
SECRET, PREFIX = "rollcall-secrets-shop", {"aws": PARAMETER.removesuffix("DATABASE_URL"), "joyent": "shop."}
# Where a value would be that is on a disk or in a unit.
KEPT = """(systemctl show workload-shop; cat /proc/$(systemctl show -P MainPID workload-shop)/environ
find /etc /opt /root /var /usr/local -xdev -type f -exec cat {} +)"""


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


@pytest.fixture(autouse=True)
def without_faults() -> Iterator[None]:
    yield
    CLOUD["aws"].faults.clear()


@pytest.fixture
def settings(packed: dict[str, Release], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Release]]:
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
    room: Room, settings: dict[str, Release], cloud: str, tmp_path: Path
) -> None:
    for release in settings.values():
        put(CLOUD["aws"], release)
    machine = guest(room, cloud, settings)
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
    # Its limits are in the unit; the controllers that enforce them, these machines do not have.
    shown = machine.run("systemctl show -p MemoryMax -p CPUQuotaPerSecUSec workload-shop").split()
    assert sorted(shown) == ["CPUQuotaPerSecUSec=500ms", f"MemoryMax={256 << 20}"]
    if cloud == "aws":
        # The machine reaches its metadata service, and neither the app nor nginx does.
        assert machine.run(TOKEN) == "200"
        assert got(":8080/imds") not in ("", "reached")
        assert machine.run(f"echo $$ >/sys/fs/cgroup/system.slice/nginx.service/cgroup.procs; {TOKEN} || true") == "000"
    # The agent and its check are where they were.
    assert machine.run("systemctl is-active rollcall workload-shop").split() == ["active"] * 2
    room.hypervisor.reboot(machine.machine.id)
    machine.heard.wait("running", "running")
    assert until(lambda: got(":8080/healthz") == "ok" and len(got("/page-39.html")) == 200, 60), machine.log()


def test_a_release_in_the_store_that_is_another_s_is_reported_and_not_unpacked(
    room: Room, settings: dict[str, Release]
) -> None:
    put(CLOUD["aws"], settings["www"])
    put(CLOUD["aws"], settings["shop"], settings["www"].packed)
    machine = guest(room, "aws", settings)
    machine.says(
        f"reason=another-release release={settings['shop'].digest[:12]} found={settings['www'].digest[:12]}", 60
    )
    assert "workload=shop" in machine.shown()
    assert machine.run("ls -A /opt/rollcall/workloads/shop 2>/dev/null || true") == ""
    put(CLOUD["aws"], settings["shop"])
    assert until(lambda: "ok" in machine.run("curl -s http://127.0.0.1:8080/ || true"), 60), machine.log()


class Secretive:
    """A machine that runs an app with a secret. Its cloud's store has the secret from `unavailable(False)` on."""

    def __init__(self, room: Room, cloud: str, release: Release) -> None:
        self.room, self.cloud, self.value = room, cloud, "a-secret-of-the-shop"
        if cloud == "aws":
            put(CLOUD["aws"], release)
            CLOUD["aws"].faults.add("ssm status=503")
        self.guest = guest(room, cloud, {"shop": release})

    def unavailable(self, is_down: bool) -> None:
        """Whether the store of its cloud fails."""
        if self.cloud == "joyent":
            metadata = self.guest.metadata.values
            metadata.pop("shop.DATABASE_URL", None)
            metadata.update({} if is_down else {"shop.DATABASE_URL": self.value})
        elif is_down:
            CLOUD["aws"].faults.add("ssm status=503")
        else:
            CLOUD["aws"].faults.clear()

    def rotate(self, value: str, revision: str) -> None:
        self.value = value
        settings = {SECRET: f"revision={revision} turn=0 prefix={PREFIX[self.cloud]}"}
        if self.cloud == "aws":
            CLOUD["aws"].client("ssm").put_parameter(Name=PARAMETER, Value=value, Overwrite=True)
            self.room.imds.tags[self.guest.machine.address].update(settings)
        else:
            self.guest.metadata.values.update({"shop.DATABASE_URL": value, **settings})

    def answered(self) -> str:
        return self.guest.run("curl -sS --max-time 5 http://127.0.0.1:8080/secret 2>/dev/null || true")


@pytest.mark.parametrize("cloud", ["aws", "joyent"])
def test_an_app_waits_for_its_secret_has_it_as_a_credential_and_gets_another_one_in_place(
    room: Room, cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/start").write_text(APP)
    (tmp_path / "shop/start").chmod(0o755)
    release = release_of(VAULT, tmp_path)
    keys = {
        "rollcall-workloads": "shop",
        "rollcall-workload-shop": release.digest,
        SECRET: f"revision=r1 turn=0 prefix={PREFIX[cloud]}",
    }
    monkeypatch.setattr(test_boot, "KEYS", {**test_boot.KEYS, **keys})
    machine = Secretive(room, cloud, release)
    refused = {"aws": f"reason=no-secret parameter={PARAMETER}", "joyent": "reason=no-metadata key=shop.DATABASE_URL"}
    guest = machine.guest
    guest.says(f"settings read: {refused[cloud]}", 60)
    assert "workload=shop" in guest.shown() and machine.answered() != machine.value
    assert guest.run("systemctl is-active workload-shop || true") == "inactive"
    machine.unavailable(False)
    first = machine.value
    assert until(lambda: machine.answered() == first, 60), guest.log()
    guest.says("settings read", 20)
    assert until(lambda: "reason=" not in guest.shown(), 20), guest.shown()
    # Nothing of it is in what others read, and the app itself has it in its credentials alone.
    assert guest.run("stat -c %a-%U /run/rollcall/secrets /run/rollcall/secrets/shop/DATABASE_URL").split() == [
        "700-root",
        "600-root",
    ]
    kept = guest.run(f"{KEPT} | grep -caF '{first}' || true")
    assert kept == "0", guest.run(f"grep -rlaF '{first}' /etc /opt /root /var || true")
    assert guest.run("curl -sS http://127.0.0.1:8080/forbidden") == ""
    before = guest.run("systemctl show -P MainPID workload-shop")
    machine.rotate("another-secret-of-it", "r2")
    assert until(lambda: machine.answered() == "another-secret-of-it", 60), guest.log()
    assert guest.run("systemctl show -P MainPID workload-shop") != before
    # A reboot while the store is down.
    machine.unavailable(True)
    room.hypervisor.reboot(guest.machine.id)
    guest.heard.wait("running", "running")
    guest.says(f"settings read: {refused[cloud]}", 60)
    assert machine.answered() == ""
    machine.unavailable(False)
    assert until(lambda: machine.answered() == "another-secret-of-it", 60), guest.log()
    said = guest.run("journalctl -a --no-pager -o cat; cat /var/log/rollcall.log")
    assert not any(each in said for each in (first, "another-secret-of-it"))
