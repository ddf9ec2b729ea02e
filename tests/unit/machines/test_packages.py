"""localcloud.machines.packages: the repository that machines get has the image's packages and those of the workloads, once each."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from localcloud.machines import packages
from localcloud.machines.image import ImageError, current


def deb(folder: Path, name: str) -> None:
    """Make a package without files."""
    control = folder / f"{name}-root/DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text(f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.example>\nDescription: x\n")
    command = ["dpkg-deb", "--root-owner-group", "-b", str(control.parents[1]), str(folder / f"{name}_1_all.deb")]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """An image that offers nginx, and what apt is asked for: each package brings one that it needs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    current().repository.mkdir(parents=True)
    deb(current().repository, "nginx")
    found: list[list[str]] = []

    def fetch(home: Path, base: Path, suite: str, names: list[str]) -> None:
        found.append([suite, *names])
        if "none" in names:
            raise ImageError("packages none: cannot be fetched")
        for each in names:
            deb(home / "archives", each)
            deb(home / "archives", f"needed-by-{each}")

    monkeypatch.setattr(packages, "_fetch", fetch)
    return found


def test_machines_are_offered_what_workloads_name_beside_the_images_own(
    tmp_path: Path, installed: list[list[str]]
) -> None:
    offered = tmp_path / "offered"
    assert packages.offer(offered, "debian-12", ["gunicorn"]) == ["gunicorn", "needed-by-gunicorn", "nginx"]
    index = (offered / "debian-12/Packages").read_text()
    assert index.count("Package: gunicorn\n") == 1 and "Filename: ./gunicorn_1_all.deb" in index
    assert (offered / "debian-12/gunicorn_1_all.deb").read_bytes()[:8] == b"!<arch>\n"
    # Again, and another stack: what has been fetched is in the cache.
    packages.offer(offered, "debian-12", ["gunicorn"])
    packages.offer(tmp_path / "other", "debian-12", ["gunicorn", "gunicorn"])
    assert installed == [["bookworm", "gunicorn"]]
    assert packages.offer(offered, "debian-12", ["redis"]) == ["needed-by-redis", "nginx", "redis"]
    assert [each.name for each in offered.iterdir()] == ["debian-12"]


def test_a_package_that_cannot_be_fetched_leaves_the_former_repository_and_nothing_half_made(
    tmp_path: Path, installed: list[list[str]]
) -> None:
    offered = tmp_path / "offered"
    packages.offer(offered, "debian-12", ["gunicorn"])
    for _ in range(2):
        with pytest.raises(ImageError, match="cannot be fetched"):
            packages.offer(offered, "debian-12", ["none"])
    assert len(installed) == 3, "a failure is not in the cache"
    assert (offered / "debian-12/gunicorn_1_all.deb").exists()
    assert not [*(tmp_path / "cache").rglob("*.partial")]


def test_apts_own_reason_is_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/apt-get"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\n[ "$2" = update ] || { echo "E: Unable to locate package gunicron" >&2; exit 100; }\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(packages, "debian_sources", lambda suite: "")
    monkeypatch.setattr(packages, "apt_options", list)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    with pytest.raises(
        ImageError, match=r"packages gunicron: .*bookworm \(Unable to locate package gunicron\)\. Correct"
    ):
        packages._fetch(tmp_path, tmp_path, "bookworm", ["gunicron"])
