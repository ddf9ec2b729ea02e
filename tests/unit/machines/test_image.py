"""The image's pure parts: package sources, the repository's index, the catalogue's stacks, the hash of the inputs."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from localcloud.machines.image import (
    ROOTFS,
    SUITES,
    Image,
    ImageError,
    _hash_of_inputs,
    build,
    cache_dir,
    current,
    release_of,
)
from localcloud.machines.image.repository import write_index
from localcloud.machines.image.sources import apt_options, debian_sources

STANZA = """Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://mirror.example/security
Suites: bookworm-security
Components:
 main
Enabled: yes

Types: deb
URIs: http://elsewhere.example/apt
Suites: stable
Components: main

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Enabled: no
"""


def apt_folder(tmp_path: Path, **files: str) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        path = tmp_path / "sources.list.d" / name.replace("_", ".")
        path.write_text(text)
    return tmp_path


def test_stanzas_become_lines_of_this_suite_only(tmp_path: Path) -> None:
    key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert debian_sources("bookworm", apt_folder(tmp_path, debian_sources=STANZA)).splitlines() == [
        f"deb {key} http://mirror.example/debian bookworm main contrib",
        f"deb {key} http://mirror.example/debian bookworm-updates main contrib",
        "deb http://mirror.example/security bookworm-security main",
    ]


def test_lines_are_taken_as_they_are_and_comments_and_other_suites_left_out(tmp_path: Path) -> None:
    text = (
        "# deb http://old.example bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main # why\n"
        "deb-src http://a.example/debian bookworm main\n"
        "deb http://a.example/debian trixie main\n"
        "deb http://a.example/debian bookworm main\n"
        "deb http://a.example/debian bookworm main\n"
    )
    assert debian_sources("bookworm", apt_folder(tmp_path, old_list=text)).splitlines() == [
        "deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main",
        "deb http://a.example/debian bookworm main",
    ]


def test_a_suite_without_a_source_has_the_mirrors_of_another_one(tmp_path: Path) -> None:
    key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert debian_sources("trixie", apt_folder(tmp_path, debian_sources=STANZA)).splitlines() == [
        f"deb {key} http://mirror.example/debian trixie main contrib",
        f"deb {key} http://mirror.example/debian trixie-updates main contrib",
        "deb http://mirror.example/security trixie-security main",
    ]


def test_a_mirror_with_a_suite_name_in_its_address_keeps_it(tmp_path: Path) -> None:
    text = "deb http://bookworm.example/bookworm bookworm/ main\n"
    assert debian_sources("trixie", apt_folder(tmp_path, old_list=text)) == (
        "deb http://bookworm.example/bookworm trixie/ main\n"
    )


def test_the_error_without_a_source_of_the_suite_names_the_line_to_add(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"names no source of Debian bookworm.*deb"):
        debian_sources("bookworm", apt_folder(tmp_path, ubuntu_list="deb http://u.example noble main\n"))


def test_proxies_and_date_checks_of_this_machine_go_along_and_its_indexes_do_not() -> None:
    dump = (
        'Acquire "";\nAcquire::http::Proxy "http://p:1";\nAcquire::Check-Date "false";\nAcquire::GzipIndexes "true";\n'
    )
    assert apt_options(dump) == ['Acquire::http::Proxy "http://p:1";', 'Acquire::Check-Date "false";']


def test_the_bare_image_is_the_full_one_without_its_top_layer(tmp_path: Path) -> None:
    image = Image(tmp_path)
    assert image.layers("debian-12") == (tmp_path / "nginx", tmp_path / "base")
    assert image.layers("debian-12-bare") == (tmp_path / "base",)
    assert image.layers("ubuntu-24.04") == image.layers("debian-12")
    assert image.layers("debian-13") == image.layers("debian-12") and image.layers("debian-13-bare")[0].name == "base"
    with pytest.raises(ImageError, match=r"image 'plan-9': does not exist.*debian-12"):
        image.layers("plan-9")


def test_each_release_has_its_own_image() -> None:
    releases = {name: release_of(name) for name in ("debian-12-bare", "debian-13", "debian-13-bare", "ubuntu-24.04")}
    assert releases == {
        "debian-12-bare": "debian-12", "debian-13": "debian-13", "debian-13-bare": "debian-13", "ubuntu-24.04": "debian-12",
    }  # fmt: skip
    assert len({current(release).root for release in SUITES}) == len(SUITES) == 2
    assert current() == current("debian-12")
    with pytest.raises(ImageError, match="image 'plan-9': does not exist"):
        release_of("plan-9")


def test_an_image_counts_only_once_it_is_complete(tmp_path: Path) -> None:
    assert not Image(tmp_path).complete
    (tmp_path / "manifest.json").write_text("{}")
    assert Image(tmp_path).complete


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_dir() == Path("/elsewhere/rollcall")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_dir() == Path("/home/someone/.cache/rollcall")


@pytest.mark.parametrize("change", ["content", "mode", "name", "link"])
def test_whatever_changes_the_image_changes_its_hash(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "image"
    shutil.copytree(ROOTFS.parent, folder, symlinks=True)
    before = _hash_of_inputs(folder)
    assert before == _hash_of_inputs(ROOTFS.parent)
    tool, link = folder / "rootfs/usr/sbin/mdata-get", folder / "rootfs/usr/sbin/mdata-put"
    if change == "content":
        tool.write_text(tool.read_text() + "\n")
    elif change == "mode":
        tool.chmod(0o644)
    elif change == "name":
        tool.rename(tool.with_name("mdata-fetch"))
    else:
        link.unlink()
        link.symlink_to("elsewhere")
    assert _hash_of_inputs(folder) != before


def test_scripts_of_the_image_are_executable_and_the_tools_are_one_program() -> None:
    assert {path.readlink().name for path in (ROOTFS / "usr/sbin").iterdir() if path.is_symlink()} == {"mdata-get"}
    for path in [ROOTFS / "usr/sbin/mdata-get", *(ROOTFS / "usr/lib/rollcall-image").iterdir()]:
        assert path.stat().st_mode & 0o111 == 0o111, path
        assert path.read_text().startswith("#!/")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of one package, `nothing`."""
    tree = tmp_path / "tree/DEBIAN"
    tree.mkdir(parents=True)
    (tree / "control").write_text(
        "Package: nothing\nVersion: 1.0~a+b\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: none\n"
    )
    folder = tmp_path / "repo"
    folder.mkdir()
    command = ["dpkg-deb", "--build", "--root-owner-group", str(tree.parent), str(folder / "nothing_1.0~a+b_all.deb")]
    subprocess.run(command, check=True, capture_output=True)
    assert write_index(folder) == ["nothing"]
    return folder


def test_the_index_names_each_package_with_size_and_hash(repository: Path) -> None:
    deb = next(repository.glob("*.deb")).read_bytes()
    packages = (repository / "Packages").read_text()
    assert packages.startswith("Package: nothing\nVersion: 1.0~a+b\n")
    assert (
        f"Filename: ./nothing_1.0~a+b_all.deb\nSize: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\n"
        in packages
    )
    assert gzip.decompress((repository / "Packages.gz").read_bytes()).decode() == packages
    assert (
        f" {hashlib.sha256(packages.encode()).hexdigest()} {len(packages)} Packages\n"
        in (repository / "Release").read_text()
    )


@pytest.mark.parametrize(
    ("uid", "free", "tools", "message"),
    [
        (1000, 2**40, True, "Run it as root"),
        (0, 100 * 2**20, True, "has 100 MiB free, .*needs .*XDG_CACHE_HOME"),
        (0, 2**40, False, "mmdebstrap.*: missing.*apt-get install mmdebstrap"),
    ],
)
def test_an_image_that_cannot_be_built_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, free: int, tools: bool, message: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: uid)
    monkeypatch.setattr(
        "localcloud.machines.image.build.shutil", SimpleNamespace(
            disk_usage=lambda path: SimpleNamespace(free=free), which=lambda tool: "/usr/bin/tool" if tools else None
        ),
    )  # fmt: skip
    with pytest.raises(ImageError, match=message):
        build.ensure()
    assert list(tmp_path.rglob("image*")) == []


def test_a_build_that_fails_shows_the_end_of_its_log_and_removes_what_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "_check", lambda folder: folder.mkdir(parents=True))
    monkeypatch.setattr(build, "CONTAINED", ("sh", "-c", "echo no such mirror >&2; exit 25", "sh"))
    monkeypatch.setattr(build, "debian_sources", lambda suite: "deb http://nowhere.example bookworm main\n")
    with pytest.raises(ImageError, match=r"exit code 25.*image-build.log. Its last lines:\nno such mirror"):
        build.ensure(lambda line: None)
    assert {path.name for path in (tmp_path / "rollcall").iterdir()} == {"image.lock", "image-build.log"}
