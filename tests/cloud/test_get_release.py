"""userdata/boot.sh and get_release.py on an EC2 machine: the real script under a real `sh`, with the local S3 and its metadata service."""

from __future__ import annotations

import bz2
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from components.compute import ec2
from components.resources import release_files, releases, userdata
from components.resources.dns_credentials import policy_document
from localcloud.network.http import Server, listen
from localcloud.runtime.fronts import imds
from tests.cloud.aws_cloud import Cloud, running
from tests.packed_program import changed_program
from tests.unit.test_boot_sh import Host

pytestmark = pytest.mark.clouds
BUCKET, OTHER = "rollcall-releases-1a2b3c4", "another-stacks-bucket"
RELEASE = userdata.release()
KEY = release_files.key_of(RELEASE.digest)


class Store:
    """A local AWS with a bucket that holds the release, and one machine that may read it."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.s3 = cloud, cloud.client("s3")
        for name in (BUCKET, OTHER):
            self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        self.s3.put_bucket_policy(Bucket=BUCKET, Policy=releases.tls_only(f"arn:aws:s3:::{BUCKET}"))
        own = json.loads(policy_document([], [], f"arn:aws:s3:::{BUCKET}/{release_files.FOLDER}/*"))
        self.profile = cloud.role("machines", own)
        (self.instance,) = cloud.run(IamInstanceProfile={"Name": self.profile})
        ec2 = cloud.client("ec2")
        ec2.modify_instance_metadata_options(
            InstanceId=self.instance, HttpTokens="required", InstanceMetadataTags="enabled"
        )
        self.write_settings(RELEASE.digest)
        self.address = cloud.hands.machines[self.instance].address
        self._listener = listen("127.0.0.1")
        self._server = Server(self._imds, [self._listener])
        self._server.start()

    def close(self) -> None:
        self._server.stop()
        self._listener.close()

    def _imds(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return imds(self.cloud.aws, {**environ, "REMOTE_ADDR": self.address}, start_response)

    def write_settings(self, digest: str, store: str = f"s3 bucket={BUCKET} region=us-west-2") -> None:
        tags = [{"Key": "rollcall-release", "Value": digest}, {"Key": "rollcall-store", "Value": store}]
        self.cloud.client("ec2").create_tags(Resources=[self.instance], Tags=tags)

    def holds(self, body: bytes, bucket: str = BUCKET) -> None:
        self.s3.put_object(Bucket=bucket, Key=KEY, Body=body)

    def environment(self, s3: str = "") -> dict[str, str]:
        url = f"http://127.0.0.1:{self._server.ports[0]}"
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url, "AWS_ENDPOINT_URL_S3": s3 or self.cloud.url}


@pytest.fixture(scope="module")
def shared() -> Iterator[Store]:
    with running() as cloud:
        store = Store(cloud)
        yield store
        store.close()


@pytest.fixture
def store(shared: Store) -> Iterator[Store]:
    """With the release in its place, and the machine's settings naming it."""
    shared.holds(RELEASE.packed)
    shared.write_settings(RELEASE.digest)
    yield shared
    shared.cloud.faults.clear()


class Machine(Host):
    """What EC2 gives its machines, on the store's cloud."""

    def __init__(self, home: Path, store: Store) -> None:
        super().__init__(home)
        self.store = store
        assert self.given(userdata.boot_script()).returncode == 0

    def boots(self, s3: str = "") -> subprocess.CompletedProcess[str]:
        self.calls()
        return self.unit(**self.store.environment(s3))

    @property
    def releases(self) -> list[str]:
        folder = self.root / "opt/rollcall/releases"
        return sorted(each.name for each in folder.iterdir()) if folder.exists() else []

    def is_refused(self, words: str, s3: str = "") -> str:
        """Nothing is unpacked or started, and the roll call reads why; what it reads."""
        done = self.boots(s3)
        lines: list[str] = ec2._STATUS_LINE.findall(f"[    9.1] sh[123]: {done.stderr}")
        assert done.returncode == 1 and len(lines) == 1 and words in lines[0], done.stderr
        assert self.releases == [] and self.calls("systemctl") == []
        assert not (self.root / "opt/rollcall/current").is_symlink()
        for secret in self.store.cloud.credentials(self.store.instance)[1:]:
            assert secret not in lines[0] + self.log
        return lines[0]


@pytest.fixture
def machine(tmp_path: Path, store: Store) -> Machine:
    return Machine(tmp_path, store)


def tar_of(*members: tarfile.TarInfo | str, data: bytes = b"x") -> bytes:
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for each in members:
            tar_member = tarfile.TarInfo(each) if isinstance(each, str) else each
            tar_member.size = len(data) if tar_member.isreg() else 0
            archive.addfile(tar_member, io.BytesIO(data))
    return found.getvalue()


def unpack(program: ModuleType, home: Path, digest: str, tar: bytes) -> None:
    program.unpack(home, digest, io.BytesIO(tar))


class TestFetch:
    def test_a_machine_gets_its_release_with_its_role(self, machine: Machine) -> None:
        done = machine.boots()
        assert (done.returncode, done.stderr) == (0, "")
        assert machine.releases == [RELEASE.digest]
        home = machine.root / "opt/rollcall/current"
        assert {str(each.relative_to(home)) for each in home.rglob("*") if each.is_file()} == set(userdata.files())

    def test_what_is_in_place_needs_no_store(self, machine: Machine, store: Store) -> None:
        assert machine.boots().returncode == 0
        store.cloud.faults.add("s3 status=500")
        assert machine.boots().returncode == 0 and "changed" not in machine.log

    def test_a_store_that_is_back_finds_a_machine_that_tries_again(self, machine: Machine, store: Store) -> None:
        store.cloud.faults.add("s3 status=500")
        machine.is_refused("reason=store-failed")
        store.cloud.faults.clear()
        assert machine.boots().returncode == 0 and machine.releases == [RELEASE.digest]

    def test_a_forbidden_release_and_a_missing_one_have_the_same_reason(self, machine: Machine, store: Store) -> None:
        store.write_settings("0" * 64)
        line = machine.is_refused("reason=release-missing-or-forbidden")
        assert "release=000000000000" in line and "status=403" in line and "code=AccessDenied" in line
        store.holds(RELEASE.packed, OTHER)
        store.write_settings(RELEASE.digest, f"s3 bucket={OTHER} region=us-west-2")
        machine.is_refused("reason=release-missing-or-forbidden")

    @pytest.mark.parametrize(
        ("digest", "where", "words"),
        [
            (RELEASE.digest, f"s3 bucket={BUCKET}x region=us-west-2", "reason=release-missing release="),
            (RELEASE.digest, f"s3 bucket={BUCKET} region=eu-west-1", "reason=store-failed"),
            (RELEASE.digest, "gopher host=x", "reason=unknown-store key=rollcall-store value='gopher host=x'"),
            (RELEASE.digest, "s3 bucket=x", "reason=unknown-store key=rollcall-store"),
            ("latest", f"s3 bucket={BUCKET} region=us-west-2", "reason=no-release key=rollcall-release value='latest'"),
            ("../../../../etc", f"s3 bucket={BUCKET} region=us-west-2", "reason=no-release"),
        ],
    )
    def test_settings_that_lead_nowhere_are_named(
        self, machine: Machine, store: Store, digest: str, where: str, words: str
    ) -> None:
        store.write_settings(digest, where)
        machine.is_refused(words)

    @pytest.mark.parametrize("status", [404, 429, 500, 503])
    def test_a_status_is_a_reason(self, machine: Machine, store: Store, status: int) -> None:
        store.cloud.faults.add(f"s3:GET status={status}")
        machine.is_refused(f" status={status}")

    def test_a_wrong_clock_is_not_reported_as_a_missing_release(self, machine: Machine, store: Store) -> None:
        # As S3 sees it, the machine is an hour ahead.
        store.cloud.clock.ahead = -3600
        try:
            machine.is_refused("reason=store-refused release=")
            assert "status=403 code=RequestTimeTooSkewed" in machine.log
        finally:
            store.cloud.clock.ahead = 0

    def test_a_machine_without_a_role_says_so(self, machine: Machine, store: Store) -> None:
        ec2 = store.cloud.client("ec2")
        (found,) = ec2.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
        ec2.disassociate_iam_instance_profile(AssociationId=found["AssociationId"])
        try:
            done = machine.boots()
            assert done.returncode == 1 and "reason=no-instance-role" in done.stderr and machine.releases == []
        finally:
            ec2.associate_iam_instance_profile(InstanceId=store.instance, IamInstanceProfile={"Name": store.profile})

    def test_a_store_that_nothing_answers_for_is_a_reason(self, machine: Machine) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        machine.is_refused("reason=store-unreachable", f"http://127.0.0.1:{port}")

    def test_metadata_that_nothing_answers_is_a_reason(self, machine: Machine, store: Store) -> None:
        machine.calls()
        dead = {**store.environment(), "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}
        done = machine.unit(**dead)
        assert done.returncode == 1 and "reason=no-metadata path=/latest/api/token" in done.stderr


class TestContents:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            pytest.param(RELEASE.packed[: len(RELEASE.packed) // 2], "reason=release-damaged", id="half of it"),
            pytest.param(b"", "reason=release-damaged", id="nothing"),
            pytest.param(RELEASE.tar, "reason=release-damaged", id="not packed"),
            pytest.param(bz2.compress(tar_of("agent.py")), "reason=another-release", id="another one"),
            pytest.param(bz2.compress(RELEASE.tar + b"\0"), "reason=another-release", id="one byte more"),
            pytest.param(bz2.compress(b"\0" * (17 << 20)), "reason=release-too-large", id="one that is too large unpacked"),
            pytest.param(os.urandom(5 << 20), "reason=release-too-large", id="one that is too large"),
        ],
    )  # fmt: skip
    def test_what_is_not_the_release_is_never_unpacked(
        self, machine: Machine, store: Store, body: bytes, words: str
    ) -> None:
        store.holds(body)
        machine.is_refused(words)
        store.holds(RELEASE.packed)
        assert machine.boots().returncode == 0 and machine.releases == [RELEASE.digest]

    @pytest.mark.parametrize("serves", ["nothing", "half", "drops", "trickle"])
    def test_a_store_that_is_slow_or_breaks_off_is_a_reason(
        self, machine: Machine, serves: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(RELEASE.packed)}\r\n\r\n".encode()
        half = RELEASE.packed[: len(RELEASE.packed) // 2]

        def serve(taken: socket.socket) -> None:
            with taken.accept()[0] as client:
                client.recv(65536)
                if serves == "nothing":
                    over.wait(60)
                if serves in ("half", "drops"):
                    client.sendall(head + (half if serves == "half" else b""))
                if serves == "trickle":
                    client.sendall(head)
                    while not over.wait(0.2):
                        try:
                            client.sendall(b"B")
                        except OSError:
                            return

        # The same program with less patience than a machine has.
        script = machine.root / "usr/local/lib/rollcall/boot.sh"
        patience = "CONNECT_TIMEOUT_S, FETCH_LIMIT_S, METADATA_TIMEOUT_S = 10.0, 60.0, 3.0"
        hurried = patience.replace("10.0, 60.0", "1.0, 2.0")
        script.write_text(changed_program(script.read_text(), patience, hurried))
        over = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            thread = threading.Thread(target=serve, args=(taken,), daemon=True)
            thread.start()
            words = {"nothing": "reason=store-unreachable", "trickle": "reason=store-too-slow"}
            began = time.monotonic()
            machine.is_refused(
                words.get(serves, "reason=release-damaged"), f"http://127.0.0.1:{taken.getsockname()[1]}"
            )
            over.set()
            thread.join()
        assert time.monotonic() - began < 20


def tar_member(name: str, **fields: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(made, key, value)
    return made


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """userdata/get_release.py as a module."""
    spec = importlib.util.spec_from_file_location("get_release", userdata.HOME / "get_release.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestUnsafe:
    """The digest says that a release is the one that was named; that it does no harm, these say."""

    @pytest.mark.parametrize(
        "unsafe",
        [
            "/etc/passwd",
            "../outside",
            "a/../../outside",
            "./a",
            "a//b",
            "a/.",
            "",
            tar_member("link", type=tarfile.SYMTYPE, linkname="/etc"),
            tar_member("link", type=tarfile.LNKTYPE, linkname="a"),
            tar_member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            tar_member("disk", type=tarfile.BLKTYPE, devmajor=8),
            tar_member("pipe", type=tarfile.FIFOTYPE),
            tar_member("folder", type=tarfile.DIRTYPE),
        ],
        ids=lambda unsafe: unsafe if isinstance(unsafe, str) else f"{unsafe.name} of type {unsafe.type.decode()}",
    )
    def test_a_tar_member_that_leads_elsewhere_or_is_not_a_file_is_refused(
        self, program: ModuleType, tmp_path: Path, unsafe: tarfile.TarInfo | str
    ) -> None:
        with pytest.raises(program.ReleaseError, match=r"^reason=unsafe-release "):
            unpack(program, tmp_path / "opt/rollcall", "d" * 64, tar_of("a", unsafe))
        assert list(tmp_path.rglob("*")) == []

    @pytest.mark.parametrize("tar", [tar_of(), tar_of("a", "a"), tar_of("a", "a/b")], ids=["none", "twice", "both"])
    def test_one_of_which_no_folder_can_be_made_is_refused(
        self, program: ModuleType, tmp_path: Path, tar: bytes
    ) -> None:
        with pytest.raises((program.ReleaseError, OSError)):
            unpack(program, tmp_path / "opt/rollcall", "d" * 64, tar)
        assert not program.is_there(tmp_path / "opt/rollcall", "d" * 64)

    def test_no_file_may_be_run_as_another_user(self, program: ModuleType, tmp_path: Path) -> None:
        unpack(program, tmp_path, "d" * 64, tar_of(tar_member("a", mode=0o6777, uid=12, gid=12)))
        found = (tmp_path / "releases" / ("d" * 64) / "a").stat()
        assert (found.st_mode & 0o7777, found.st_uid) == (0o644, os.getuid())


class TestPowerCut:
    def steps(self, program: ModuleType, monkeypatch: pytest.MonkeyPatch, cut: int, act: Callable[[], object]) -> int:
        """Run `act` until its disk-changing step number `cut`, which does not happen; how many steps it took."""
        done = 0

        class Cut(BaseException):
            pass

        def step(real: Callable[..., Any]) -> Callable[..., Any]:
            def stepped(*arguments: Any, **named: Any) -> Any:
                nonlocal done
                done += 1
                if done == cut:
                    raise Cut
                return real(*arguments, **named)

            return stepped

        with monkeypatch.context() as patch:
            for name in ("mkdir", "rename", "replace", "symlink_to", "unlink", "chmod"):
                patch.setattr(Path, name, step(getattr(Path, name)))
            for name in ("fsync", "fchmod"):
                patch.setattr(os, name, step(getattr(os, name)))
            with contextlib.suppress(Cut):
                act()
        return done

    def test_after_a_cut_at_any_step_the_old_release_or_the_new_one_is_in_place_and_the_next_boot_ends_it(
        self, program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, new = tar_of("rollcall/a.py", "units/a.service"), tar_of("rollcall/a.py", "units/a.service", data=b"new")

        def install(home: Path, digest: str, tar: bytes) -> None:
            if not program.is_there(home, digest):
                unpack(program, home, digest, tar)
            program.switch(home, digest)

        steps = self.steps(program, monkeypatch, 0, lambda: install(tmp_path / "whole", "b" * 64, new))
        assert steps > 15
        for cut in range(1, steps + 1):
            home = tmp_path / str(cut)
            install(home, "a" * 64, old)
            self.steps(program, monkeypatch, cut, lambda home=home: install(home, "b" * 64, new))  # type: ignore[misc]
            current = {each.read_bytes() for each in (home / "current").rglob("*") if each.is_file()}
            assert current in ({b"x"}, {b"new"}), cut
            if program.is_there(home, "b" * 64):
                assert len([each for each in (home / "releases" / ("b" * 64)).rglob("*") if each.is_file()]) == 2
            install(home, "b" * 64, new)
            assert (home / "current/rollcall/a.py").read_bytes() == b"new"
            assert {each.name for each in (home / "releases").iterdir()} == {"a" * 64, "b" * 64}
            assert {each.name for each in home.iterdir()} == {"releases", "current"}

    def test_the_release_and_the_former_one_stay_on_the_disk_and_no_other(
        self, program: ModuleType, tmp_path: Path
    ) -> None:
        home = tmp_path / "home"
        for digest, kept in (("a", "a"), ("b", "ab"), ("b", "ab"), ("c", "bc"), ("b", "bc"), ("d", "bd")):
            if not program.is_there(home, digest * 64):
                unpack(program, home, digest * 64, tar_of("rollcall/a.py"))
            (home / "releases/.e.partial").mkdir()
            assert program.switch(home, digest * 64) == (not (home / "releases/.e.partial").exists())
            shutil.rmtree(home / "releases/.e.partial", ignore_errors=True)
            assert {each.name[0] for each in (home / "releases").iterdir()} == {*kept}
        assert (home / "current").readlink() == Path("releases") / ("d" * 64)

    def test_all_of_a_release_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_link_leads_there(
        self, program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[Path] = []
        names: dict[str, set[Path]] = {}
        real_fsync, real_rename, real_replace = os.fsync, Path.rename, Path.replace

        def fsync(handle: int) -> None:
            synced.append(Path(f"/proc/self/fd/{handle}").readlink())
            real_fsync(handle)

        def rename(path: Path, target: Any) -> Any:
            names["release"] = {each for each in path.rglob("*")} | {path}
            assert names["release"] <= {*synced}
            return real_rename(path, target)

        def replace(path: Path, target: Any) -> Any:
            assert synced[-3:] == [tmp_path / "home/releases", tmp_path / "home", tmp_path]
            return real_replace(path, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "rename", rename)
        monkeypatch.setattr(Path, "replace", replace)
        unpack(program, tmp_path / "home", "b" * 64, tar_of("rollcall/a.py", "units/a.service", "workloads/x/y"))
        program.switch(tmp_path / "home", "b" * 64)
        assert len(names["release"]) == 8 and synced[-1] == tmp_path / "home"


def test_it_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    words = [sys.executable, "-S", "-I", str(userdata.HOME / "get_release.py"), str(tmp_path / "none"), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and done.stderr.startswith("reason=release-not-unpacked error=FileNotFoundError")


def test_it_asks_for_the_key_that_the_program_gives_the_object(program: ModuleType) -> None:
    assert program.key_of(RELEASE.digest) == release_files.key_of(RELEASE.digest) == KEY
    assert hashlib.sha256(RELEASE.tar).hexdigest() in KEY
