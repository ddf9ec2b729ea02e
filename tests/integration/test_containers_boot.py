"""Containers on booted machines of both clouds, from a private registry: Debian's podman and Debian's docker-registry."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from components.config.models import BeforeSettings, CheckSettings, RegistrySettings, WorkloadSettings
from components.resources import release_files, releases, userdata
from components.resources.dns_credentials import policy_document
from components.workloads.definitions import release_of
from components.workloads.release import Release
from localcloud.dns.secondary import Relay
from localcloud.machines.image.build import ensure
from localcloud.machines.packages import offer
from localcloud.network.http import Server
from localcloud.network.namespace import NETWORKS
from localcloud.runtime.fronts import repositories
from localcloud.runtime.images import served
from localcloud.runtime.published import Published
from rollcall.containers import PACKAGES, PASSWORD
from tests import container_registry
from tests.container_registry import Image, Registry, archive
from tests.integration import test_boot
from tests.integration.cloud_stubs import serve_wsgi
from tests.integration.machine_room import Room, until
from tests.integration.test_boot import BUCKET, CLOUD, Guest
from tests.programs import program

pytestmark = [pytest.mark.machines, pytest.mark.skipif(os.geteuid() != 0, reason="machines take root")]
room = test_boot.room
HOST, PORT = "registry.example.com", 5000
SECRET = "a-secret-of-the-cart"
PREFIX = {"aws": "/rollcall/local/web/cart.", "joyent": "cart."}
# Programs that the image's web server runs: what the container is, and what it can reach.
PAGES = {
    "healthz": "echo ok",
    "who": 'echo "$GREETING|$(id -u)|$(grep -E ^NoNewPrivs /proc/self/status | tr -dc 0-9)|'
    '$(sed -n s/^CapEff:.//p /proc/self/status)|$ROLLCALL_INSTANCE"',
    "secret": 'cat "$CREDENTIALS_DIRECTORY/DATABASE_URL"; ls "$CREDENTIALS_DIRECTORY"',
    "imds": "nc -w 2 169.254.169.254 80 </dev/null && echo reached || echo no",
    "write": "echo x >/tmp/x && echo tmp; for each in /etc/x /bin/x /run/credentials/x; do echo x >$each && echo $each; done",
    "forbidden": "for each in /opt/rollcall /var/lib/rollcall /run/rollcall /native /.zonecontrol /dev/ttyS1 /run/podman /var/lib/cloud;"
    " do test -e $each && echo $each; done; true",
}
START = """#!/bin/sh
trap 'echo stopping; exit 0' TERM
echo "starting with $*"
httpd -f -p "$PORT" -h /www &
wait
"""
MIGRATE = """#!/bin/sh
echo "migrating $1 as $(id -u) with $(wc -c <"$CREDENTIALS_DIRECTORY/DATABASE_URL") bytes"
"""
CHECK = CheckSettings(http=":8080/cgi-bin/healthz", grace=60)
TOKEN = (
    "curl -s -o /dev/null -w '%{http_code}' --max-time 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "
    "http://169.254.169.254/latest/api/token"
)


def image(version: str = "1") -> Image:
    shell = Path(program("busybox").path).read_bytes()
    pages = {f"www/cgi-bin/{name}": f"#!/bin/sh\necho; {script}\n" for name, script in PAGES.items()}
    texts = {"start": START, "migrate": MIGRATE, **pages, "www/cgi-bin/version": f"#!/bin/sh\necho; echo {version}\n"}
    names = ("sh", "httpd", "id", "grep", "tr", "sed", "cat", "ls", "nc", "wc")
    files = {name: (text.encode(), 0o755) for name, text in texts.items()}
    return Image(
        files={"tmp/": (b"", 0o1777), "run/": (b"", 0o755), "bin/busybox": (shell, 0o755), **files},
        links={f"bin/{name}": "busybox" for name in names},
        entrypoint=["/start"],
        command=["--as", "packed"],
    )


@contextlib.contextmanager
def forwarded(room: Room, registry: Registry) -> Iterator[None]:
    """Serve a registry to machines, as HOST and PORT."""
    gateway = NETWORKS["aws"].gateway
    room.names[HOST] = gateway
    host, _, port = registry.where.partition(":")
    relay = Relay(room.namespace.listen(gateway, PORT), (host, int(port)))
    relay.start()
    yield
    relay.stop()


@pytest.fixture(scope="module")
def registry(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder, certificate = tmp_path_factory.mktemp("registry"), room.machines.parent / "server.pem"
    with container_registry.running(folder / "private", certificate, certificate.read_text(), is_private=True) as made:
        for release in ("debian-12", "debian-13"):
            ensure(release=release)
            offer(folder / "packages", release, PACKAGES)
        with serve_wsgi(room.namespace, NETWORKS["aws"].gateway, 80, repositories(folder / "packages")):
            yield made


@pytest.fixture(scope="module", autouse=True)
def secrets_in_ssm(room: Room) -> None:
    """Give EC2 machines a role that may read the parameters of the workload `cart`."""
    cloud = CLOUD["aws"]
    ssm, found = cloud.client("ssm"), []
    for name, value in (("DATABASE_URL", SECRET), (PASSWORD, container_registry.PASSWORD)):
        ssm.put_parameter(Name=f"{PREFIX['aws']}{name}", Type="SecureString", Value=value)
        found.append(ssm.get_parameter(Name=f"{PREFIX['aws']}{name}")["Parameter"]["ARN"])
    bucket = f"arn:aws:s3:::{BUCKET}"
    hooks = releases.claims_of(bucket, "cart")
    policy = json.loads(policy_document(found, [], f"{bucket}/{release_files.FOLDER}/*", [hooks]))
    (instance,) = cloud.run(IamInstanceProfile={"Name": cloud.role("carts", policy)})
    key, secret, token = cloud.credentials(instance)
    room.imds.credentials |= {"AccessKeyId": key, "SecretAccessKey": secret, "Token": token}


@contextlib.contextmanager
def published(room: Room, folder: Path) -> Iterator[str]:
    """Serve an image to machines as a rehearsal does. Yield its name with the digest."""
    made, gateway = Published(folder / "published"), NETWORKS["aws"].gateway
    (folder / "cart.tar").write_bytes(archive(image("published")))
    found, files = served("acme/cart", "1", folder / "cart.tar")
    for number, each in enumerate(files):
        file = folder / str(number)
        file.write_bytes(each.data)
        made.add(f"https://{HOST}{each.path}", file, each.kind)
    room.names[HOST] = gateway
    server = Server(made.app, [room.namespace.listen(gateway, PORT)], room.tls)
    server.start()
    yield f"{HOST}:{PORT}/acme/cart:1@{found}"
    server.stop()


def cart(registry: Registry, version: str = "1") -> WorkloadSettings:
    digest = registry.push("acme/cart", version, image(version))
    return WorkloadSettings(
        name="cart",
        container=f"{HOST}:{PORT}/acme/cart:{version}@{digest}",
        registry=RegistrySettings(user=container_registry.USER, password=SecretStr("not-packed")),
        ports=(8080,),
        args=("--greet", "a b $HOME 100%"),
        env={"PORT": "8080", "GREETING": 'it\'s 100% "ours" \\ $HOME'},
        secrets={"DATABASE_URL": SecretStr("not-packed")},
        check=(CHECK,),
        memory="256M",
        cpu="50%",
        user="4242",
        read_only=True,
    )


def boot(room: Room, cloud: str, system: str, release: Release, monkeypatch: pytest.MonkeyPatch) -> Guest:
    keys = {
        "rollcall-workloads": "cart",
        "rollcall-workload-cart": release.digest,
        "rollcall-secrets-cart": f"revision=r1 turn=0 prefix={PREFIX[cloud]}",
    }
    monkeypatch.setattr(test_boot, "KEYS", {**test_boot.KEYS, **keys})
    CLOUD["aws"].client("s3").put_object(Bucket=BUCKET, Key=release_files.key_of(release.digest), Body=release.packed)
    guest = Guest(room, cloud, system, userdata.build((release,)) if cloud == "joyent" else "")
    if cloud == "joyent":
        guest.metadata.values |= {"cart.DATABASE_URL": SECRET, f"cart.{PASSWORD}": container_registry.PASSWORD}
    return guest


def got(guest: Guest, page: str) -> str:
    return guest.run(f"curl -sS --max-time 5 http://127.0.0.1:8080/cgi-bin/{page} 2>&1 || true")


def journal(guest: Guest, unit: str = "workload-cart") -> str:
    return guest.run(f"journalctl -u {unit} -o cat --no-pager || true")


@pytest.mark.parametrize(("cloud", "system"), [("aws", "debian-12"), ("joyent", "debian-13")])
def test_a_container_of_a_private_registry_serves_and_reaches_nothing_of_the_machine(
    room: Room, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloud: str, system: str
) -> None:
    release = release_of(cart(registry), tmp_path)
    guest = boot(room, cloud, system, release, monkeypatch)
    guest.says("reason=image-failed image=registry.example.com:5000/acme/cart@sha256:", 120)
    with forwarded(room, registry):
        assert until(lambda: got(guest, "healthz") == "ok", 120), (guest.log(), journal(guest))
    greeting, user, no_new_privileges, capabilities, instance = got(guest, "who").split("|")
    assert greeting == cart(registry).env["GREETING"] and (user, no_new_privileges) == ("4242", "1")
    assert int(capabilities, 16) in (0, 1 << 10) and instance == guest.run("rollcall whoami").split()[1]
    assert got(guest, "secret").split() == [f"{SECRET}DATABASE_URL"]
    assert got(guest, "write") == "tmp" and got(guest, "forbidden") == ""
    assert "starting with --greet a b $HOME 100%" in journal(guest)
    if cloud == "aws":
        # The machine reaches its metadata service.
        assert guest.run(TOKEN) == "200" and got(guest, "imds") == "no"
    # The secrets are in memory only, and not where a user of the machine reads them.
    unit = guest.run("systemctl show -p MemoryMax -p CPUQuotaPerSecUSec -p ActiveState workload-cart").split()
    assert sorted(unit) == ["ActiveState=active", "CPUQuotaPerSecUSec=500ms", f"MemoryMax={256 << 20}"]
    shown = guest.run(
        "ps axww -o args; podman inspect workload-cart; systemctl cat workload-cart; systemctl show workload-cart"
    )
    kept = guest.run(f"grep -rlsF -e {SECRET} -e {container_registry.PASSWORD} /etc /var /opt /root /usr/local || true")
    assert SECRET not in shown and container_registry.PASSWORD not in shown and kept == ""
    assert guest.run("ls -A /run/rollcall/secrets").split() == ["cart"]
    assert "Permission denied" in guest.run("setpriv --reuid=4242 ls /run/workload-cart/secrets 2>&1 || true")
    # A crash, and a boot without the registry.
    guest.run("podman kill workload-cart")
    assert until(lambda: got(guest, "healthz") == "ok", 30), journal(guest)
    room.hypervisor.reboot(guest.machine.id)
    guest.heard.wait("running", "running")
    assert until(lambda: got(guest, "healthz") == "ok", 60), (guest.log(), journal(guest))
    guest.run("systemctl stop workload-cart")
    assert "stopping" in journal(guest) and guest.run("podman ps --all --quiet") == ""


def test_a_hook_runs_in_the_image_and_unused_images_are_removed(
    room: Room, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = replace(cart(registry), before=BeforeSettings(run="./migrate $HOME", timeout=30))
    made = [release_of(first, tmp_path), *(release_of(cart(registry, each), tmp_path) for each in ("2", "3"))]
    with forwarded(room, registry):
        guest = boot(room, "aws", "debian-12", made[0], monkeypatch)
        assert until(lambda: got(guest, "version") == "1", 120), (guest.log(), journal(guest))
        assert f"migrating $HOME as 4242 with {len(SECRET)} bytes" in journal(guest, "before-workload-cart")
        for version, release in zip(("2", "3"), made[1:], strict=True):
            key = release_files.key_of(release.digest)
            CLOUD["aws"].client("s3").put_object(Bucket=BUCKET, Key=key, Body=release.packed)
            room.imds.tags[guest.machine.address]["rollcall-workload-cart"] = release.digest
            guest.run("systemctl restart rollcall-boot")
            assert until(lambda: got(guest, "version") == version, 60), (guest.log(), journal(guest))  # noqa: B023
    # As many as releases are on the disk: the former one for a way back.
    assert until(lambda: guest.run("podman images --quiet | wc -l") == "2", 20), guest.run("podman images --digests")
    assert len(guest.run("cat /var/lib/rollcall/images").split()) == 2


def test_a_rehearsal_serves_an_image_as_its_registry_does(
    room: Room, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with published(room, tmp_path) as name:
        release = release_of(replace(cart(registry), container=name, registry=None), tmp_path)
        guest = boot(room, "joyent", "debian-13", release, monkeypatch)
        assert until(lambda: got(guest, "version") == "published", 120), (guest.log(), journal(guest))
