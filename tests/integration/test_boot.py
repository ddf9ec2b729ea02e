"""The userdata as it is built, on machines as their clouds make them: each release of Debian, mirrors that come late, an apt
that is busy already."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from components.compute import ec2
from components.resources import release_files, releases, userdata
from components.resources.dns_credentials import policy_document
from localcloud.machines.compute import Machine
from localcloud.machines.image import SUITES
from localcloud.machines.image.build import ensure
from localcloud.network.http import Server
from localcloud.network.namespace import NETWORKS
from localcloud.runtime.fronts import repositories
from tests.cloud.aws_cloud import Cloud, running
from tests.integration.cloud_stubs import Metadata, serve_wsgi
from tests.integration.machine_room import ON_AWS, ON_JOYENT, Room, open_room, until
from tests.packed_program import changed_program

pytestmark = [pytest.mark.machines, pytest.mark.skipif(os.geteuid() != 0, reason="machines take root")]
KEYS = {
    "rollcall-stack": "local",
    "rollcall-fleet": "web",
    "rollcall-machine": "0",
    "rollcall-generation": "abcdef",
    "rollcall-workloads": "site the-service",
}
# Holds the locks of its arguments, as another apt does, until it is stopped.
HOLDER = (
    "import fcntl, sys, time; locks = [open(each, 'w') for each in sys.argv[1:]]; "
    "[fcntl.lockf(each, fcntl.LOCK_EX) for each in locks]; time.sleep(999)"
)
# needrestart as in Ubuntu: after each change of packages it restarts whatever uses an old library, unless its configuration says to wait.
NEEDRESTART = """cat >/etc/apt/apt.conf.d/99needrestart <<'END'
DPkg::Post-Invoke {"test ${NEEDRESTART_SUSPEND:-0} = 1 || systemctl restart rollcall-boot.service";};
END
"""
# Debian's own needrestart, which restarts by itself as Ubuntu's does, and has a reason: with each run of dpkg, the C library of all
# that runs becomes another file. The daily apt updates the lists at the same time.
BUSY_DEBIAN = """set -e
apt-get -qq update
apt-get -qq -y install --no-install-recommends needrestart >/root/needrestart.log 2>&1
echo '$nrconf{restart} = "a";' >/etc/needrestart/conf.d/restart.conf
library=$(ldconfig -p | sed -n 's/.*libc\\.so\\.6 .*=> //p' | head -1)
echo "DPkg::Pre-Invoke {\\"cp -pL $library $library.new && mv $library.new $(readlink -f "$library")\\";};" >/etc/apt/apt.conf.d/10library
echo 'APT::Periodic::Update-Package-Lists "always";' >/etc/apt/apt.conf.d/20periodic
systemctl unmask apt-daily.timer
systemctl start --no-block apt-daily.service
"""
# Once in the life of a machine: says that it is there, and waits for the power to go.
CUT = """    if not Path("/var/lib/rollcall/cut").exists():
        Path("/var/lib/rollcall/cut").touch()
        sync(Path("/var/lib/rollcall"))
        time.sleep(999)
"""
NUMBERS = itertools.count(30)
BUCKET = "rollcall-releases-1a2b3c4"
# A secret of a workload (tests/integration/test_workloads_boot.py).
PARAMETER = "/rollcall/local/web/shop.DATABASE_URL"
# The claims of a workload's hooks, there too.
HOOKS = releases.claims_of(f"arn:aws:s3:::{BUCKET}", "shop")
CLOUD: dict[str, Cloud] = {}
AGENT = userdata.HOME / "rollcall/agent.py"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """One room for all of this file: a test boots machines of its own in it."""
    for release in SUITES:
        ensure(release=release)
    with open_room(tmp_path_factory.mktemp("boot")) as opened, running() as cloud:
        CLOUD["aws"] = cloud
        opened.imds.credentials = stored(cloud)
        gateway = NETWORKS["aws"].gateway
        opened.names |= {f"{BUCKET}.s3.us-west-2.amazonaws.com": gateway, "ssm.us-west-2.amazonaws.com": gateway}
        server = Server(cloud.aws.app, [opened.namespace.listen(gateway, 443)], opened.tls)
        server.start()
        yield opened
        server.stop()


def stored(cloud: Cloud) -> dict[str, str]:
    """Put the release into a bucket; the credentials, as instance metadata has them, of a role that may get it."""
    release = userdata.release()
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    s3.put_object(Bucket=BUCKET, Key=release_files.key_of(release.digest), Body=release.packed)
    ssm = cloud.client("ssm")
    ssm.put_parameter(Name=PARAMETER, Type="SecureString", Value="a-secret-of-the-shop")
    parameter = ssm.get_parameter(Name=PARAMETER)["Parameter"]["ARN"]
    policy = json.loads(policy_document([parameter], [], f"arn:aws:s3:::{BUCKET}/{release_files.FOLDER}/*", [HOOKS]))
    (instance,) = cloud.run(IamInstanceProfile={"Name": cloud.role("machines", policy)})
    key, secret, token = cloud.credentials(instance)
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6 * 3600))
    return {"AccessKeyId": key, "SecretAccessKey": secret, "Token": token, "Expiration": expires}


class Guest:
    """A machine that boots with the userdata, and what its cloud shows of it."""

    def __init__(self, room: Room, cloud: str, image: str, script: str = "") -> None:
        number, self.room = next(NUMBERS), room
        self.release = userdata.release() if cloud == "aws" else userdata.carried_release()
        if cloud == "aws":
            self.machine: Machine = replace(
                ON_AWS, id=f"i-{number:017x}", address=f"198.51.100.{number}", image=image, name=f"web-{number}"
            )
            room.imds.user_data[self.machine.address] = script.encode() or userdata.gzipped()
            store = f"s3 bucket={BUCKET} region=us-west-2"
            given = {"rollcall-release": userdata.release().digest, "rollcall-store": store}
            room.imds.tags[self.machine.address] = {**KEYS, **given}
        else:
            uuid = f"{number:08d}-0000-4000-8000-000000000000"
            self.machine = replace(ON_JOYENT, id=uuid, address=f"203.0.113.{number}", image=image, name=f"web-{number}")
            self.metadata = Metadata(**KEYS)
            nics = json.dumps([{"ip": self.machine.address}])
            self.metadata.values |= {
                "user-script": script or userdata.build(),
                "sdc:uuid": uuid,
                "sdc:nics": nics,
                "real": userdata.build(),
            }
            room.metadata[uuid] = self.metadata
        self.heard = room.boot(self.machine)

    def shown(self) -> str:
        """What a roll call reads of it in its cloud."""
        if self.machine.cloud == "joyent":
            return self.metadata.values.get("rollcall-status", "")
        lines = ec2._STATUS_LINE.findall(self.room.hypervisor.printed(self.machine.id))
        return str(lines[-1]) if lines else ""

    def says(self, words: str, seconds: float) -> float:
        """Wait until the roll call would read `words`; how long that took."""
        began = time.monotonic()
        assert until(lambda: words in self.shown(), seconds), (self.shown(), self.log(), self.console())
        return time.monotonic() - began

    def log(self) -> str:
        return self.run("cat /var/log/rollcall.log; systemctl status --no-pager rollcall-boot rollcall || true")

    def console(self) -> str:
        return self.room.hypervisor.printed(self.machine.id)[-1500:]

    def run(self, script: str) -> str:
        return self.room.run(self.machine, script)

    def serves(self) -> bool:
        """Whether nginx and the sample service answer with the machine's name."""
        instance = self.run(". /etc/default/the-service; echo $INSTANCE")
        web = self.run("curl -sS -o /dev/null -D - http://127.0.0.1/")
        service = self.run("bash -c 'exec 3<>/dev/tcp/127.0.0.1/4218; echo you? >&3; head -1 <&3'")
        return f"X-Served-By: {instance}" in web and service == f"{instance} theService heard: you?"

    def starts(self) -> int:
        """How often the unit that sets the machine up was started."""
        return int(self.run("journalctl -u rollcall-boot --no-pager -o cat | grep -c ^Starting"))

    def updated(self) -> bool:
        return self.run("ls /var/lib/rollcall").split().count("updated") == 1


def mirrors(room: Room) -> AbstractContextManager[Any]:
    return serve_wsgi(room.namespace, NETWORKS["aws"].gateway, 80, repositories())


@pytest.mark.parametrize("release", sorted(SUITES))
def test_it_sets_a_machine_up_from_a_release_and_again_at_each_boot(room: Room, release: str) -> None:
    with mirrors(room):
        guests = [Guest(room, cloud, release) for cloud in ("aws", "joyent")]
        for guest in guests:
            guest.says("settings read", 60)
            assert guest.serves() and guest.updated(), guest.log()
            assert guest.run("systemctl --failed --no-legend") == ""
            assert guest.run("readlink /opt/rollcall/current") == f"releases/{guest.release.digest}"
            agent = guest.run("cat /opt/rollcall/current/rollcall/agent.py")
            assert (
                agent
                == (AGENT.read_text() if guest.machine.cloud == "aws" else userdata.lean(AGENT.read_text())).strip()
            )
            assert guest.run("find /opt/rollcall -name '*.pyc'") == "", "what is in a release is what was packed"
    # The cloud of EC2 machines runs it once, and this boot has no mirrors.
    for guest in guests:
        guest.run("rm /etc/nginx/conf.d/rollcall.conf; systemctl disable -q nginx rollcall")
        guest.room.hypervisor.reboot(guest.machine.id)
    for guest in guests:
        guest.heard.wait("running", "running")
        assert until(lambda guest=guest: "boot: done" in guest.run("journalctl -b -u rollcall-boot --no-pager"), 60)  # type: ignore[misc]
        assert guest.serves() and guest.run("systemctl is-active rollcall nginx").split() == ["active"] * 2


def test_mirrors_that_are_back_after_the_first_boot_find_machines_that_wait_for_them(room: Room) -> None:
    whole = Guest(room, "aws", "debian-12")
    bare = [Guest(room, "aws", "debian-12-bare"), Guest(room, "joyent", "debian-13-bare")]
    whole.says("settings read", 60)
    assert whole.serves() and not whole.updated(), "what has all that it needs waits for no mirror"
    for guest in bare:
        guest.says("reason=package-missing package=nginx said='E: Failed to fetch http://198.51.100.1/", 60)
        assert "onnect" in guest.shown() and not guest.updated()
    with mirrors(room):
        for guest in bare:
            guest.says("settings read", 90)
            assert guest.serves(), guest.log()
        whole.run("systemctl restart rollcall-boot")
        for guest in (whole, *bare):
            assert until(guest.updated, 30), guest.log()


def test_a_store_that_is_down_at_the_first_boot_is_waited_for_and_keeps_no_triton_machine_and_no_second_boot(
    room: Room,
) -> None:
    faults = CLOUD["aws"].faults
    faults.add("s3 status=503")
    try:
        ec2, triton = (Guest(room, cloud, "debian-12") for cloud in ("aws", "joyent"))
        ec2.says("reason=store-failed release=", 60)
        assert " status=503" in ec2.shown() and ec2.run("ls /opt/rollcall 2>&1 || true").endswith(
            "No such file or directory"
        )
        triton.says("settings read", 60)
        faults.clear()
        ec2.says("settings read", 60)
        assert ec2.serves() and ec2.starts() > 1, ec2.log()
        faults.add("s3 drop")
        room.hypervisor.reboot(ec2.machine.id)
        ec2.heard.wait("running", "running")
        assert until(lambda: "boot: done" in ec2.run("journalctl -b -u rollcall-boot --no-pager"), 60), ec2.log()
        assert ec2.serves()
    finally:
        faults.clear()


def test_a_power_cut_while_it_is_unpacked_leaves_a_machine_that_begins_again(room: Room) -> None:
    """Within the guest: what get_release.py had written when the power went is not taken for a release."""
    last = "    partial.rename(releases / digest)\n"
    script = changed_program(userdata.boot_script(), last, CUT + last)
    guest = Guest(room, "joyent", "debian-12", userdata.build().replace(userdata.boot_script(), script))
    assert until(lambda: "cut" in guest.run("ls /var/lib/rollcall 2>/dev/null || true").split(), 60), guest.log()
    left = guest.run("ls -A /opt/rollcall/releases")
    assert left == f".{guest.release.digest}.partial" and guest.run("ls /opt/rollcall") == "releases"
    room.hypervisor.cut_power(guest.machine.id)
    guest.heard.wait("running", "stopped")
    room.hypervisor.boot(guest.machine, guest.heard)
    guest.says("settings read", 60)
    assert guest.serves() and guest.run("ls -A /opt/rollcall/releases") == guest.release.digest


def test_an_apt_that_is_busy_at_the_first_boot_is_waited_for_and_named(room: Room) -> None:
    locks = {"lists": "/var/lib/apt/lists/lock", "dpkg": "/var/lib/dpkg/lock-frontend"}
    hold = "".join(f'systemd-run -q --unit=busy-{each} python3 -c "{HOLDER}" {path}\n' for each, path in locks.items())
    script = f"{NEEDRESTART}{hold}sleep 1\nmdata-get real >/root/real\nsh /root/real\n"
    with mirrors(room):
        guest = Guest(room, "joyent", "debian-12-bare", script)
        assert until(lambda: "install" in guest.run("pgrep -a apt-get || true"), 30), guest.log()
        guest.run("systemctl stop busy-dpkg")
        guest.says("package=nginx said='E: Could not get lock /var/lib/apt/lists/lock. It is held by process", 60)
        guest.run("systemctl stop busy-lists")
        guest.says("settings read", 60)
        assert guest.serves() and until(guest.updated, 30), guest.log()
        assert guest.starts() == 2, "one that failed for the lists' lock, and one that nothing restarted"


@pytest.mark.parametrize("release", sorted(SUITES))
def test_needrestart_and_the_daily_apt_do_not_disturb_a_boot(room: Room, release: str) -> None:
    script = f"{BUSY_DEBIAN}mdata-get real >/root/real\nsh /root/real\n"
    with mirrors(room):
        guest = Guest(room, "joyent", f"{release}-bare", script)
        guest.says("settings read", 90)
        assert guest.serves() and until(guest.updated, 30), guest.log()
        assert guest.starts() == 1, guest.log()
        assert "Finished" in guest.run("journalctl -u apt-daily --no-pager -o cat")
        # That it would have: at the next package, needrestart restarts the agent, which is older than the library.
        agent = "systemctl show -P ActiveEnterTimestampMonotonic rollcall"
        before = guest.run(agent)
        guest.run(
            "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --reinstall nginx-common >/root/again.log 2>&1"
        )
        assert guest.run(agent) != before, guest.run("cat /root/again.log; needrestart -b 2>&1 || true")
