"""components.workloads.packing and rollcall.workloads: what is packed is what is unpacked, and nothing leads out of its folder."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import get_release
from components.resources import release_files
from components.workloads import packing
from components.workloads.packing import PackingError, pack
from components.workloads.release import Release
from get_release import ReleaseError
from rollcall import workload_units, workloads
from rollcall.safe_paths import is_inside, link_stays
from tests.unit.builders import VERSIONS, python

ROOT = Path(__file__).resolve().parents[3]
DEFINITION = {"name": "shop", "run": "./start"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An app: a program, a page with a long name that is not ASCII, a link, and what must not leave this machine."""
    top = tmp_path / "app"
    (top / "public/a").mkdir(parents=True)
    (top / "start").write_text("#!/bin/sh\n")
    (top / "start").chmod(0o775)
    (top / "public/a" / f"{'ü' * 60}{'x' * 60}.html").write_text("hello")
    (top / "public/latest").symlink_to("a")
    (top / "public/a/up").symlink_to("../../start")
    (top / ".git").mkdir()
    (top / ".git/config").write_text("token")
    (top / ".env").write_text("PASSWORD=1")
    (top / "public/.env.local").write_text("PASSWORD=1")
    return top


def names(release: Release) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(release.tar)) as archive:
        return archive.getnames()


def landed(release: Release, to: Path) -> Path:
    workloads.unpack_release(io.BytesIO(release.tar), to)
    return to / "files"


def test_files_modes_and_links_arrive_and_secrets_do_not(folder: Path, tmp_path: Path) -> None:
    there = landed(pack(DEFINITION, folder), tmp_path / "there")
    found = sorted(str(each.relative_to(there)) for each in there.rglob("*") if not each.is_dir() or each.is_symlink())
    assert found == sorted(["start", "public/latest", "public/a/up", f"public/a/{'ü' * 60}{'x' * 60}.html"])
    assert (there / "start").stat().st_mode & 0o777 == 0o755
    assert next((there / "public/a").glob("*.html")).stat().st_mode & 0o777 == 0o644
    assert (there / "public/latest").readlink() == Path("a") and (there / "public/a/up").read_text() == "#!/bin/sh\n"


def test_owner_time_umask_and_order_change_nothing_and_a_byte_or_the_definition_does(
    folder: Path, tmp_path: Path
) -> None:
    before = pack(DEFINITION, folder).digest
    for each in [*folder.rglob("*")]:
        os.utime(each, (1, 1), follow_symlinks=False)
    (folder / "start").chmod(0o700)
    assert pack(DEFINITION, folder).digest == before
    assert pack({**DEFINITION, "run": "./other"}, folder).digest != before
    (folder / "start").chmod(0o600)
    unexecutable = pack(DEFINITION, folder).digest
    (folder / "start").write_text("#!/bin/bash\n")
    assert len({before, unexecutable, pack(DEFINITION, folder).digest}) == 3


def test_exclude_has_the_lines_of_a_gitignore(folder: Path) -> None:
    assert names(pack(DEFINITION, folder, ["/public", "!.env"])) == ["workload.json", "files/.env", "files/start"]


def _fifo(at: Path) -> None:
    os.mkfifo(at)


def _socket(at: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(at))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: at.symlink_to("/etc/passwd"), "has the link x to /etc/passwd, which leads out of it"),
        (lambda at: at.symlink_to("../other"), "has the link x to ../other, which leads out of it"),
        (lambda at: at.symlink_to("public/latest/../../../etc"), "which leads out of it or steps back"),
        (_fifo, "has x, which is a device, a pipe or a socket"),
        (_socket, "has x, which is a device, a pipe or a socket"),
        (lambda at: os.link(at.with_name("start"), at), "which is a hard link. Copy the file (cp), or exclude it"),
        (lambda at: at.with_name("a\nb").touch(), r"has the name 'a\nb', which is not printable"),
    ],
)
def test_a_link_that_leads_out_or_a_special_file_is_refused_unless_excluded(
    folder: Path, make: Callable[[Path], None], message: str
) -> None:
    make(folder / "x")
    with pytest.raises(PackingError) as refused:
        pack(DEFINITION, folder)
    assert message in str(refused.value)
    pack(DEFINITION, folder, ["x", "start", "a?b"])


def test_too_much_is_refused_with_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "UNPACKED_LIMIT", 1000)
    with pytest.raises(PackingError, match=r"has more than 0 MiB or 50000 files\. Exclude"):
        pack(DEFINITION, folder)


def test_the_unpacked_release_equals_the_packed_one() -> None:
    assert workloads.PACKED_LIMIT > packing.UNPACKED_LIMIT
    assert (workloads.UNPACKED_LIMIT, workloads.MOST_MEMBERS, workload_units.DEFINITION) == (
        packing.UNPACKED_LIMIT,
        packing.MOST_MEMBERS,
        packing.DEFINITION,
    )


def test_a_large_release_has_the_same_bytes_and_is_not_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "noise").write_bytes(os.urandom(3000))
    small = pack(DEFINITION, folder)
    monkeypatch.setattr(packing, "LARGE", 1000)
    large = pack(DEFINITION, folder)
    assert large.digest == small.digest and large.is_large and not large.tar and not small.is_large
    found = io.BytesIO()
    large.pack_into(found)
    found.seek(0)
    with get_release.checked(found, large.digest) as tar:
        assert tar.read() == small.tar


def test_a_large_release_that_changes_before_its_upload_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LARGE", 0)
    large = pack(DEFINITION, folder)
    (folder / "start").write_text("#!/bin/bash\n")
    with pytest.raises(PackingError, match=r"has changed while it was packed\. Run it again"):
        release_files.write(tmp_path / "store", [large])
    (folder / "start").unlink()
    with pytest.raises(PackingError, match="cannot be read any more"):
        release_files.write(tmp_path / "store", [large])
    assert [each for each in (tmp_path / "store").rglob("*") if each.is_file()] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_each_python_packs_the_same_bytes(folder: Path, version: str) -> None:
    interpreter = python(version)
    if interpreter is None:
        pytest.skip(f"there is no Python {version} here")
    import pathspec

    libraries = Path(pathspec.__file__).parent.parent
    program = (
        "import sys; from pathlib import Path; from components.workloads.packing import pack; "
        f"print(pack({DEFINITION!r}, Path(sys.argv[1])).digest)"
    )
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{ROOT / 'userdata'}:{libraries}"}
    done = subprocess.run(
        [interpreter, "-S", "-B", "-c", program, str(folder)], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == pack(DEFINITION, folder).digest, done.stderr[-2000:]


# Tars that other tools made.


def tar(*members: tuple[str, Any], size: int = 0) -> bytes:
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            if isinstance(kind, tuple):
                member.type, member.linkname = kind
            elif kind != tarfile.REGTYPE:
                member.type = kind
            member.size = size
            archive.addfile(member, io.BytesIO(b"x" * size))
    return found.getvalue()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("/etc/cron.d/x", tarfile.REGTYPE, "its path leads elsewhere"),
        ("a/../../x", tarfile.REGTYPE, "its path leads elsewhere"),
        ("x", tarfile.CHRTYPE, "it is not a plain file or a link"),
        ("x", tarfile.FIFOTYPE, "it is not a plain file or a link"),
        ("x", (tarfile.LNKTYPE, "start"), "it is not a plain file or a link"),
        ("x", (tarfile.SYMTYPE, "/etc/shadow"), "its link leads elsewhere"),
        ("a/x", (tarfile.SYMTYPE, "../../etc"), "its link leads elsewhere"),
        ("x", (tarfile.SYMTYPE, "link/../.."), "its link leads elsewhere"),
    ],
)
def test_a_tar_that_leads_elsewhere_is_refused(tmp_path: Path, name: str, kind: Any, message: str) -> None:
    with pytest.raises(ReleaseError, match=rf"reason=unsafe-release member='{name}' said='{message}'"):
        workloads.unpack(io.BytesIO(tar((name, kind))), tmp_path / "there", 1000)
    assert not (tmp_path / "there").exists()


def test_no_file_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "there/b").mkdir(parents=True)
    made = tar(("a", (tarfile.SYMTYPE, "b")), ("a/x", tarfile.REGTYPE))
    with pytest.raises(FileExistsError):
        workloads.unpack(io.BytesIO(made), tmp_path / "there", 1000)
    assert not (tmp_path / "there/b/x").exists()


def test_an_unpacked_size_is_bounded(tmp_path: Path) -> None:
    made = tar(("a", tarfile.REGTYPE), ("b", tarfile.REGTYPE), size=600)
    with pytest.raises(ReleaseError, match="reason=release-too-large members=2 bytes=1200 limit=1000"):
        workloads.unpack(io.BytesIO(made), tmp_path, 1000)


@pytest.mark.parametrize(
    ("path", "target", "stays"),
    [
        ("a/b", "../c", True),
        ("a/b", "../../c", False),
        ("b", "./c", True),
        ("b", "c//d", False),
        ("b", "", False),
        ("a/b", "..", True),
        ("b", "..", False),
    ],
)
def test_links_that_stay(path: str, target: str, stays: bool) -> None:
    assert link_stays(path, target) is stays


def test_paths_that_are_inside() -> None:
    assert is_inside("a/b") and not any(map(is_inside, ("", "/a", "a//b", "a/", "../a", "a/./b", "a\0b")))


@pytest.mark.parametrize("step", ["sync", "switch", "write_file"])
def test_a_power_cut_at_any_step_leaves_the_old_release_or_the_new_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Cut at the first, second, … call of a step until none is left: `current` always leads to a whole release."""
    home = tmp_path / "home"

    def put(release: Release) -> None:
        if not get_release.is_there(home, release.digest):
            get_release.place(
                home, release.digest, lambda partial: workloads.unpack_release(io.BytesIO(release.tar), partial)
            )
        get_release.switch(home, release.digest)

    first = pack(DEFINITION, folder)
    put(first)
    (folder / "start").write_text("second")
    second, real = pack(DEFINITION, folder), getattr(get_release, step)

    def is_cut(after: int) -> bool:
        """Whether a step was called more often than `after` times, and the power went."""
        left = iter(range(after))

        def call(*given: Any) -> Any:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return real(*given)

        monkeypatch.setattr(get_release, step, call)
        try:
            put(second)
        except KeyboardInterrupt:
            return True
        finally:
            monkeypatch.undo()
        return False

    cuts = 0
    while is_cut(cuts):
        current = (home / "current").resolve()
        assert (current / "files/start").read_text() == {first.digest: "#!/bin/sh\n", second.digest: "second"}[
            current.name
        ]
        cuts += 1
    assert cuts > 0 and (home / "current/files/start").read_text() == "second"
    assert hashlib.sha256(second.tar).hexdigest() == second.digest
