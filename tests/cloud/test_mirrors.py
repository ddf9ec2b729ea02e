"""Mirrors of releases, as a machine reads them: whatever its own store and a mirror answer, the next one that has the release is used."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

import get_release
from components.resources import userdata
from components.workloads.release import Release as Packed
from rollcall import workloads
from rollcall.clouds import Joyent
from rollcall.errors import TransientError
from tests.cloud import test_get_release
from tests.cloud.aws_cloud import Cloud, allow, running
from tests.cloud.test_get_release import BUCKET, KEY, RELEASE, Machine, Store, tar_of
from tests.packed_program import changed_program
from tests.replies import Replying

pytestmark = pytest.mark.clouds
shared, store = test_get_release.shared, test_get_release.store
PARAMETER = "/rollcall/local/web/mirror-r2"
OTHER = Packed(digest="", tar=tar_of("agent.py"))
HALF = RELEASE.packed[: len(RELEASE.packed) // 2]


class Mirror(Replying):
    """A web server that answers below each folder in another way."""

    over = threading.Event()
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        folder, _, key = self.path.strip("/").partition("/")
        self.requests.append(folder)
        with contextlib.suppress(OSError):
            if key == KEY and self.headers["User-Agent"] == "rollcall":
                ANSWERS[folder](self)
            else:
                self.reply(410)

    def trickle(self) -> None:
        self.reply(200, length=len(RELEASE.packed))
        while not self.over.wait(0.2):
            self.wfile.write(b"B")


ANSWERS: dict[str, Callable[[Mirror], object]] = {
    "good": lambda one: one.reply(200, RELEASE.packed),
    "another": lambda one: one.reply(200, OTHER.packed),
    "half": lambda one: one.reply(200, HALF),
    "cut": lambda one: one.reply(200, HALF, length=len(RELEASE.packed)),
    "empty": lambda one: one.reply(200),
    "moved": lambda one: one.reply(302, Location="/good/" + KEY),
    "404": lambda one: one.reply(404),
    "403": lambda one: one.reply(403),
    "500": lambda one: one.reply(500),
    "slow": Mirror.trickle,
    "silent": lambda _: Mirror.over.wait(60),
}
REASONS = {
    "another": "reason=another-release release=",
    "half": "reason=release-damaged release=",
    "cut": "reason=release-damaged release=",
    "empty": "reason=release-damaged release=",
    "moved": "reason=store-failed release=",
    "404": "reason=release-missing release=",
    "403": "reason=release-missing-or-forbidden release=",
    "500": "reason=store-failed release=",
    "slow": "reason=store-too-slow release=",
    "silent": "reason=store-unreachable release=",
}


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    Mirror.over.clear()
    Mirror.requests.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    Mirror.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def dead() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


class Mirrored(Machine):
    """An EC2 machine with mirrors in its settings. It waits for a store for two seconds instead of a minute."""

    def __init__(self, home: Path, store: Store, **mirrors: str) -> None:
        super().__init__(home, store)
        tags = [{"Key": f"rollcall-mirror-{name}", "Value": words} for name, words in mirrors.items()]
        store.cloud.client("ec2").create_tags(Resources=[store.instance], Tags=tags)
        script = self.root / "usr/local/lib/rollcall/boot.sh"
        script.write_text(changed_program(script.read_text(), "= 10.0, 60.0, 3.0", "= 1.0, 2.0, 3.0"))

    def boots(self, s3: str = "") -> subprocess.CompletedProcess[str]:
        self.calls()
        return self.unit(**self.store.environment(s3), AWS_ENDPOINT_URL_SSM=self.store.cloud.url)

    def forget(self) -> None:
        shutil.rmtree(self.root / "opt", ignore_errors=True)

    def installs(self) -> None:
        done = self.boots()
        assert done.returncode == 0, done.stderr
        assert self.releases == [RELEASE.digest]


@pytest.fixture
def mirrored(tmp_path: Path, store: Store) -> Iterator[Callable[..., Mirrored]]:
    made: list[str] = []

    def make(**mirrors: str) -> Mirrored:
        made.extend(mirrors)
        return Mirrored(tmp_path, store, **mirrors)

    yield make
    tags = [{"Key": f"rollcall-mirror-{name}"} for name in made]
    store.cloud.client("ec2").delete_tags(Resources=[store.instance], Tags=tags)


class TestWebServers:
    @pytest.mark.parametrize("answer", sorted(REASONS))
    def test_a_mirror_that_has_not_the_release_is_a_reason_and_the_next_one_is_asked(
        self, store: Store, web: str, mirrored: Callable[..., Mirrored], answer: str
    ) -> None:
        store.cloud.faults.add("s3 status=503")
        machine = mirrored(a=f"https url={web}/{answer}")
        error = machine.is_refused(f"mirror=a {REASONS[answer]}")
        assert error.startswith("reason=store-failed release=") and error.count("reason=") == 2
        machine = machine_with(machine, store, b=f"https url={web}/good")
        machine.installs()
        fetched = f"fetched release={RELEASE.digest[:12]} mirror=b after='reason=store-failed release="
        assert fetched in machine.log and f" mirror=a {REASONS[answer]}" in machine.log
        # The loser has left nothing.
        assert sorted(each.name for each in (machine.root / "opt/rollcall/releases").iterdir()) == [RELEASE.digest]
        store.cloud.client("ec2").delete_tags(Resources=[store.instance], Tags=[{"Key": "rollcall-mirror-b"}])

    def test_the_reasons_of_all_stores_are_in_the_roll_call_in_the_order_in_which_they_were_asked(
        self, store: Store, web: str, mirrored: Callable[..., Mirrored]
    ) -> None:
        store.holds(OTHER.packed)
        machine = mirrored(
            a=f"https url={web}/404", b=f"https url={web}/half", c=f"https url={dead()}/x", d="gopher host=x"
        )
        error = machine.is_refused("mirror=d reason=unknown-store key=rollcall-mirror-d value='gopher host=x'")
        digest = RELEASE.digest[:12]
        first, *rest = error.split(" mirror=")
        assert first.startswith(f"reason=another-release release={digest} found=")
        assert rest[0] == f"a reason=release-missing release={digest} host={web[7:]} status=404"
        assert rest[1].startswith(f"b reason=release-damaged release={digest} bytes={len(HALF)}")
        assert rest[2].startswith(f"c reason=store-unreachable release={digest} host=127.0.0.1:")

    def test_no_mirror_is_asked_where_its_own_store_answers_or_the_release_is_on_the_disk(
        self, store: Store, web: str, mirrored: Callable[..., Mirrored]
    ) -> None:
        machine = mirrored(a=f"https url={web}/good")
        machine.installs()
        store.cloud.faults.add("s3 status=503")
        machine.installs()
        assert Mirror.requests == []

    def test_a_machine_without_the_setting_of_its_store_asks_a_mirror(
        self, store: Store, web: str, mirrored: Callable[..., Mirrored]
    ) -> None:
        store.cloud.client("ec2").delete_tags(Resources=[store.instance], Tags=[{"Key": "rollcall-store"}])
        machine = mirrored(a=f"https url={web}/404")
        error = machine.is_refused("mirror=a reason=release-missing release=")
        assert error.startswith("reason=unknown-store key=rollcall-store value=''")
        machine_with(machine, store, b=f"https url={web}/good").installs()
        # It needs neither of them where the release is on its disk.
        store.cloud.client("ec2").delete_tags(Resources=[store.instance], Tags=[{"Key": "rollcall-mirror-b"}])
        machine.installs()


def machine_with(machine: Mirrored, store: Store, **mirrors: str) -> Mirrored:
    """Give the same machine more mirrors."""
    tags = [{"Key": f"rollcall-mirror-{name}", "Value": words} for name, words in mirrors.items()]
    store.cloud.client("ec2").create_tags(Resources=[store.instance], Tags=tags)
    return machine


class Elsewhere:
    """A store that S3's clients can use, in no AWS: a bucket, and a key that may get its releases."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        cloud.client("s3").create_bucket(Bucket="mirror", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        iam = cloud.client("iam")
        iam.create_user(UserName="reader")
        policy = json.dumps(allow("s3:GetObject", "arn:aws:s3:::mirror/releases/*"))
        iam.put_user_policy(UserName="reader", PolicyName="own", PolicyDocument=policy)
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        self.key = f"{key['AccessKeyId']} {key['SecretAccessKey']}"
        self.words = f"s3 endpoint={cloud.url} bucket=mirror region=us-west-2 key={PARAMETER}"

    def holds(self, body: bytes) -> None:
        self.cloud.client("s3").put_object(Bucket="mirror", Key=KEY, Body=body)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with running() as cloud:
        yield Elsewhere(cloud)


@pytest.fixture
def with_key(shared: Store, elsewhere: Elsewhere) -> Iterator[Elsewhere]:
    """The machine's role may read the parameter with the mirror's key."""
    ssm, iam = shared.cloud.client("ssm"), shared.cloud.client("iam")
    ssm.put_parameter(Name=PARAMETER, Type="SecureString", Value=elsewhere.key, Overwrite=True)
    arn = ssm.get_parameter(Name=PARAMETER)["Parameter"]["ARN"]
    iam.put_role_policy(
        RoleName="machines", PolicyName="secrets", PolicyDocument=json.dumps(allow("ssm:GetParameter", arn))
    )
    elsewhere.holds(RELEASE.packed)
    yield elsewhere
    elsewhere.cloud.faults.clear()


class TestCompatibleStores:
    def test_one_is_read_with_the_key_that_the_machine_has_as_a_secret(
        self, store: Store, mirrored: Callable[..., Mirrored], with_key: Elsewhere
    ) -> None:
        store.cloud.faults.add("s3 drop")
        machine = mirrored(r2=with_key.words)
        machine.installs()
        secret = with_key.key.split()[1]
        kept = [each for each in machine.root.rglob("*") if each.is_file() and secret.encode() in each.read_bytes()]
        assert kept == []

    @pytest.mark.parametrize(
        ("service", "reason"),
        [
            ("ssm status=503", "mirror=r2 reason=no-secret parameter=/rollcall/local/web/mirror-r2 status=503"),
            ("ssm drop", "mirror=r2 reason=no-secret parameter=/rollcall/local/web/mirror-r2 error="),
        ],
    )
    def test_a_key_that_cannot_be_read_is_the_reason_of_its_store_alone(
        self, store: Store, web: str, mirrored: Callable[..., Mirrored], with_key: Elsewhere, service: str, reason: str
    ) -> None:
        store.cloud.faults.add("s3 status=500")
        store.cloud.faults.add(service)
        machine = mirrored(r2=with_key.words)
        machine.is_refused(reason)
        machine_with(machine, store, www=f"https url={web}/good").installs()
        store.cloud.client("ec2").delete_tags(Resources=[store.instance], Tags=[{"Key": "rollcall-mirror-www"}])

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ("AKIAEXAMPLEEXAMPLE12 not-the-secret", "reason=store-refused release="),
            ("one-word", "reason=bad-access-key fix='write ACCESS_KEY_ID SECRET'"),
        ],
    )
    def test_a_key_that_is_refused_is_a_reason_without_the_key(
        self, store: Store, mirrored: Callable[..., Mirrored], with_key: Elsewhere, value: str, reason: str
    ) -> None:
        store.cloud.faults.add("s3 status=500")
        store.cloud.client("ssm").put_parameter(Name=PARAMETER, Value=value, Overwrite=True)
        error = mirrored(r2=with_key.words).is_refused(f"mirror=r2 {reason}")
        assert value.split()[-1] not in error

    def test_another_bucket_of_it_is_not_for_this_key(
        self, store: Store, mirrored: Callable[..., Mirrored], with_key: Elsewhere
    ) -> None:
        store.cloud.faults.add("s3 status=500")
        machine = mirrored(r2=with_key.words.replace("bucket=mirror", "bucket=another"))
        machine.is_refused("mirror=r2 reason=")


class TestTriton:
    """rollcall.workloads on a Triton machine: a workload that its user-script has not."""

    @pytest.fixture(autouse=True)
    def here(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.script = tmp_path / "boot.sh"
        self.script.write_text(userdata.build())
        self.metadata: dict[str, str] = {}
        monkeypatch.setattr(Joyent, "_get", lambda _, key: self.metadata[key])

    def tar(self, secret: Callable[[str], str] = lambda name: "") -> bytes:
        stores = get_release.stores_of(str(self.script), self.metadata, secret, RELEASE.digest)
        with get_release.tar_from(stores, RELEASE.digest, workloads.PACKED_LIMIT, workloads.UNPACKED_LIMIT) as tar:
            return tar.read()

    def test_the_bucket_of_the_stack_is_asked_first_with_the_key_of_the_fleet_and_then_a_mirror(
        self, store: Store, web: str
    ) -> None:
        iam = store.cloud.client("iam")
        iam.create_user(UserName="fleet")
        policy = json.dumps(allow("s3:GetObject", f"arn:aws:s3:::{BUCKET}/{KEY}"))
        iam.put_user_policy(UserName="fleet", PolicyName="own", PolicyDocument=policy)
        key = iam.create_access_key(UserName="fleet")["AccessKey"]
        words = f"s3 endpoint={store.cloud.url} bucket={BUCKET} region=us-west-2 key=route53-key"
        self.metadata = {"rollcall-store": words, "rollcall-mirror-a": f"https url={web}/good"}
        keys = {"route53-key": f"{key['AccessKeyId']} {key['SecretAccessKey']}"}
        assert self.tar(keys.__getitem__) == RELEASE.tar and Mirror.requests == []
        store.cloud.faults.add("s3 status=503")
        assert self.tar(keys.__getitem__) == RELEASE.tar and Mirror.requests == ["good"]

    def test_one_without_any_store_says_what_it_has_asked(self) -> None:
        with pytest.raises(get_release.ReleaseError, match=r"^reason=release-missing release=\w{12} from=user-script$"):
            self.tar()

    def test_a_key_that_the_metadata_does_not_have_is_the_reason_of_its_store_alone(self, web: str) -> None:
        self.metadata = {
            "rollcall-mirror-a": "s3 endpoint=https://a.example bucket=b region=auto key=mirror-a",
            "rollcall-mirror-b": f"https url={web}/good",
        }

        class Failing(Joyent):
            def secret(self, name: str) -> str:
                raise TransientError(f"reason=no-metadata key={name}")

        secret = workloads.secrets_of(Failing())
        assert self.tar(secret) == RELEASE.tar
        del self.metadata["rollcall-mirror-b"]
        with pytest.raises(get_release.ReleaseError, match=r"^reason=no-metadata key=mirror-a mirror=a$"):
            self.tar(secret)

    def test_what_the_user_script_has_needs_no_store(self, web: str) -> None:
        self.script.write_text(userdata.build((userdata.release(),)))
        self.metadata = {"rollcall-mirror-a": f"https url={web}/good"}
        assert self.tar() == RELEASE.tar and Mirror.requests == []
