"""Workloads of the operator's on booted machines of both clouds: a static site of 40 files and an app, and what an app may not reach."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from components.config.models import BeforeSettings, CheckSettings, NginxSettings, WorkloadSettings
from components.resources import release_files, releases, userdata
from components.resources.dns_credentials import policy_document
from components.workloads.definitions import release_of
from components.workloads.release import Release
from localcloud.machines.image.build import ensure
from tests.cloud.aws_cloud import Cloud
from tests.integration import test_boot
from tests.integration.machine_room import Room, until
from tests.integration.test_boot import BUCKET, CLOUD, HOOKS, PARAMETER, Guest

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
    check=(CheckSettings(http=":8080/healthz", grace=60),),
    memory="256M",
    cpu="50%",
)
VAULT = WorkloadSettings(
    name="shop", files="shop", run="./start", env={"PORT": "8080"}, secrets={"DATABASE_URL": SecretStr("not-packed")}
)
# A unit file of the operator's: it says itself when it has started, and has a step before.
UNIT = """[Unit]
Description=The shop of a vendor
[Service]
Type=notify
NoNewPrivileges=no
ExecStartPre=/bin/sh -c 'date >$STATE_DIRECTORY/prepared'
ExecStart=./start
LimitNOFILE=4242
[Install]
WantedBy=multi-user.target
"""
NOTIFY = """import socket
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
    channel.connect(os.environ["NOTIFY_SOCKET"])
    channel.send(b"READY=1")
"""
HEALTHY = """#!/bin/sh
test -e /opt/rollcall/releases && echo 'it sees the agent' && exit 9
cat "$STATE_DIRECTORY/prepared" >/dev/null || exit 8
test -e "$STATE_DIRECTORY/ready" && exit 0
echo 'in the middle of it'
echo "no database for port $PORT"
exit 3
"""
SITE = f"cloudflare zone={'0' * 32} host=www.scalability.expert token=absent check=workload:shop"
# Something of the image that lets each service reach the metadata service: allowed addresses come before denied ones.
UNCONFINED = """mkdir -p /etc/systemd/system/service.d
printf '[Service]\\nIPAddressAllow=169.254.169.254\\n' >/etc/systemd/system/service.d/image.conf
"""
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
    """Add two workloads and their digests to the machine settings."""
    keys = {"rollcall-workloads": "www shop"}
    keys.update({f"rollcall-workload-{name}": release.digest for name, release in packed.items()})
    monkeypatch.setattr(test_boot, "KEYS", {**test_boot.KEYS, **keys})
    yield packed


def put(cloud: Cloud, release: Release, body: bytes | None = None) -> None:
    cloud.client("s3").put_object(Bucket=BUCKET, Key=release_files.key_of(release.digest), Body=body or release.packed)


def guest(room: Room, cloud: str, packed: dict[str, Release], image: str = "debian-12") -> Guest:
    return Guest(room, cloud, image, userdata.build(tuple(packed.values())) if cloud == "joyent" else "")


@pytest.mark.parametrize(
    ("cloud", "image"), [("aws", "debian-12"), ("joyent", "debian-12"), ("aws", "debian-13"), ("joyent", "debian-13")]
)
def test_a_site_and_an_app_are_served_and_the_app_reaches_nothing_of_the_agents(
    room: Room, settings: dict[str, Release], cloud: str, image: str
) -> None:
    if image == "debian-13":
        ensure(release=image)
    for release in settings.values():
        put(CLOUD["aws"], release)
    machine = guest(room, cloud, settings, image)
    machine.says("settings read", 60)
    assert machine.run(". /etc/os-release; echo $VERSION_ID") == image.removeprefix("debian-")

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


def give_machines_shop(monkeypatch: pytest.MonkeyPatch, release: Release, **more: str) -> None:
    """Give machines the settings of one workload, `shop`."""
    keys = {"rollcall-workloads": "shop", "rollcall-workload-shop": release.digest, **more}
    monkeypatch.setattr(test_boot, "KEYS", {**test_boot.KEYS, **keys})


def test_an_operator_s_unit_and_its_checks_run_confined_as_any_other(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/shop.service").write_text(UNIT)
    (tmp_path / "shop/start").write_text(APP.replace("FORBIDDEN =", f"{NOTIFY}FORBIDDEN ="))
    (tmp_path / "shop/start").chmod(0o755)
    (tmp_path / "shop/healthy").write_text(HEALTHY)
    (tmp_path / "shop/healthy").chmod(0o755)
    checks = CheckSettings(http=":8080/healthz", grace=60), CheckSettings(command="./healthy --quick", interval=2)
    release = release_of(replace(SHOP, run=None, unit="shop.service", check=checks), tmp_path)
    give_machines_shop(monkeypatch, release, **{"rollcall-join-0": SITE})
    machine = guest(room, "joyent", {"shop": release})
    machine.says("workload", 60)
    shown = "systemctl show -P Type -P LimitNOFILE -P ActiveState -P Description workload-shop"
    assert until(lambda: "active" in machine.run(shown).split("\n"), 30), machine.run("journalctl -u workload-shop")
    assert sorted(machine.run(shown).split("\n")) == ["4242", "The shop of a vendor", "active", "notify"]

    def got(url: str) -> str:
        return machine.run(f"curl -sS --max-time 5 http://127.0.0.1:8080{url} || true")

    greeting, other_user, no_new_privileges, capabilities, _ = got("/who").split("|")
    assert (greeting, other_user, no_new_privileges) == (SHOP.env["GREETING"], "True", "1")
    assert int(capabilities, 16) == 1 << 10 and got("/forbidden") == got("/write") == got("/metadata") == ""
    # Its second check runs as its user, as confined as it is. The last line of a bad one is the reason.
    # (The machine has no token either, so the agent says that it cannot leave, too.)
    why = "workload unhealthy: command:./healthy --quick status=3 said='no database for port 8080'"
    assert until(lambda: why in machine.run("journalctl -u rollcall -o cat --no-pager"), 60), machine.log()
    assert machine.run("stat -c %a-%U /run/rollcall/checks") == "700-root"
    machine.run("touch /var/lib/workload-shop/ready")
    assert until(lambda: '"healthy": true' in machine.run("cat /run/rollcall/status.json"), 30), machine.log()
    assert machine.run("ls /var/lib/workload-shop/").split() == ["prepared", "ready", "x"]
    assert "check-workload-shop" not in machine.run("journalctl --no-pager -o cat")


def test_a_machine_that_does_not_confine_refuses_a_workload_that_does_not_accept_this(
    room: Room, packed: dict[str, Release], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/start").write_text(APP)
    (tmp_path / "shop/start").chmod(0o755)
    accepting = release_of(replace(SHOP, confinement="best-effort"), tmp_path)
    for release in (packed["shop"], accepting):
        put(CLOUD["aws"], release)
    give_machines_shop(monkeypatch, packed["shop"])
    script = userdata.boot_script().replace("set -u\n", f"{UNCONFINED}set -u\n", 1)
    machine = Guest(room, "aws", "debian-12", script)
    machine.says("reason=not-confined lacks=metadata fix='confinement: best-effort' workload=shop", 60)
    assert machine.run("systemctl is-active workload-shop rollcall || true").split() == ["inactive"] * 2
    assert machine.run("ls /etc/systemd/system/workload-* 2>/dev/null || true") == ""
    # The same machine runs one that accepts it.
    room.imds.tags[machine.machine.address]["rollcall-workload-shop"] = accepting.digest
    machine.says("settings read", 60)
    assert until(lambda: machine.run(HEALTHZ) == "ok", 30), machine.log()
    assert machine.run("curl -sS http://127.0.0.1:8080/imds") == "reached"
    assert "reason=not-confined lacks=metadata workload=shop said='best-effort'" in machine.log()


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
    logged = guest.run("journalctl -a --no-pager -o cat; cat /var/log/rollcall.log")
    assert not any(each in logged for each in (first, "another-secret-of-it"))


MIGRATE = """#!/bin/sh
echo "migrating with $(cat "$CREDENTIALS_DIRECTORY/DATABASE_URL" | wc -c) bytes"
test -e /opt/rollcall/releases && echo 'it sees the agent'
echo run >>"$STATE_DIRECTORY/runs"
sleep 5
VERDICT
"""
HEALTHZ = "curl -sS --max-time 5 http://127.0.0.1:8080/healthz 2>/dev/null || true"
RUNS = "cat /var/lib/workload-shop/runs 2>/dev/null | wc -l"


@pytest.fixture
def migrating(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[Release, list[Guest]]]:
    """Boot two machines of one release of an app with a secret and a hook that ends with this command."""

    def boot(verdict: str) -> tuple[Release, list[Guest]]:
        (tmp_path / "shop").mkdir()
        for name, text in (("start", APP), ("migrate", MIGRATE.replace("VERDICT", verdict))):
            (tmp_path / "shop" / name).write_text(text)
            (tmp_path / "shop" / name).chmod(0o755)
        release = release_of(replace(VAULT, before=BeforeSettings(run="./migrate", timeout=30)), tmp_path)
        put(CLOUD["aws"], release)
        give_machines_shop(monkeypatch, release, **{SECRET: f"revision=r1 turn=0 prefix={PREFIX['aws']}"})
        return release, [guest(room, "aws", {"shop": release}) for _ in range(2)]

    return boot


def test_a_hook_runs_on_one_of_two_machines_and_then_both_start(
    migrating: Callable[[str], tuple[Release, list[Guest]]],
) -> None:
    release, machines = migrating("exit 0")
    for machine in machines:
        assert until(lambda machine=machine: machine.run(HEALTHZ) == "ok", 90), machine.log()  # type: ignore[misc]
    assert sorted(machine.run(RUNS) for machine in machines) == ["0", "1"]
    logged = " ".join(
        machine.run("journalctl -u before-workload-shop -o cat --no-pager || true") for machine in machines
    )
    assert logged.count("migrating with") == 1 and "it sees the agent" not in logged
    assert machines[0].run("ls /var/lib/rollcall/before") == f"shop-{release.digest}"
    # After a boot without the store they start, and nothing runs again.
    CLOUD["aws"].faults.add("s3 status=503")
    for machine in machines:
        machine.room.hypervisor.reboot(machine.machine.id)
    for machine in machines:
        machine.heard.wait("running", "running")
        assert until(lambda machine=machine: machine.run(HEALTHZ) == "ok", 90), machine.log()  # type: ignore[misc]
    assert sorted(machine.run(RUNS) for machine in machines) == ["0", "1"]


def test_a_hook_runs_once_for_machines_of_both_clouds(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Triton machine has the key of an IAM user, with the same rights in the bucket as the role of an EC2 machine."""
    (tmp_path / "shop").mkdir()
    # Another release than that of the tests before, whose hook has run.
    for name, text in (("start", APP), ("migrate", MIGRATE.replace("VERDICT", "exit 0  # on both clouds"))):
        (tmp_path / "shop" / name).write_text(text)
        (tmp_path / "shop" / name).chmod(0o755)
    release = release_of(replace(VAULT, before=BeforeSettings(run="./migrate", timeout=30)), tmp_path)
    put(CLOUD["aws"], release)
    iam = CLOUD["aws"].client("iam")
    iam.create_user(UserName="fleet")
    iam.put_user_policy(UserName="fleet", PolicyName="own", PolicyDocument=policy_document([], [], "", [HOOKS]))
    key = iam.create_access_key(UserName="fleet")["AccessKey"]
    machines = []
    for cloud in ("aws", "joyent"):
        more = {SECRET: f"revision=r1 turn=0 prefix={PREFIX[cloud]}"}
        if cloud == "joyent":
            endpoint = f"https://{BUCKET}.s3.us-west-2.amazonaws.com"
            more["rollcall-store"] = f"s3 endpoint={endpoint} region=us-west-2 key=route53-key"
            more["route53-key"] = f"{key['AccessKeyId']} {key['SecretAccessKey']}"
        give_machines_shop(monkeypatch, release, **more)
        machines.append(guest(room, cloud, {"shop": release}))
        if cloud == "joyent":
            machines[-1].metadata.values["shop.DATABASE_URL"] = "a-secret-of-the-shop"
    for machine in machines:
        assert until(lambda machine=machine: machine.run(HEALTHZ) == "ok", 90), machine.log()  # type: ignore[misc]
    assert sorted(machine.run(RUNS) for machine in machines) == ["0", "1"]
    for machine in machines:
        assert machine.run("ls /var/lib/rollcall/before") == f"shop-{release.digest}"


def test_a_hook_that_fails_starts_the_release_nowhere_until_its_claim_is_deleted(
    migrating: Callable[[str], tuple[Release, list[Guest]]],
) -> None:
    release, machines = migrating('echo "no such table: orders"; test -e "$STATE_DIRECTORY/orders"')
    why = "status=1 said='migrating with 20 bytes / no such table: orders' fix='aws s3 rm s3://"
    for machine in machines:
        machine.says("reason=before-failed workload=shop machine=i-", 90)
        assert why in machine.shown()
        assert machine.run("systemctl is-active workload-shop || true") == "inactive"
    assert sorted(machine.run(RUNS) for machine in machines) == ["0", "1"]
    # The operator corrects what was wrong, and follows the message.
    for machine in machines:
        machine.run("mkdir -p /var/lib/private/workload-shop; touch /var/lib/private/workload-shop/orders")
    CLOUD["aws"].client("s3").delete_object(Bucket=BUCKET, Key=f"{releases.CLAIMS}/shop/{release.digest}")
    for machine in machines:
        assert until(lambda machine=machine: machine.run(HEALTHZ) == "ok", 60), machine.log()  # type: ignore[misc]
    assert sum(int(machine.run(RUNS)) for machine in machines) == 2
