"""Debian packages that a stack's workloads name, for machines that reach no mirror of Debian's.

The repository of an image has nginx and what it needs. Other packages come from the package sources of this computer, with what they need
beyond the image's own, and stay in the cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from localcloud.machines.image import SUITES, ImageError, cache_dir, current
from localcloud.machines.image.repository import write_index
from localcloud.machines.image.sources import apt_options, debian_sources


def fetched(release: str, names: Iterable[str]) -> Path:
    """Return a folder with these packages and what they need beyond the image of a release. It is in the cache.

    Raises ImageError with apt's reason if a package cannot be fetched.
    """
    image, wanted = current(release), sorted(set(names))
    key = hashlib.sha256(f"{image.root.name} {' '.join(wanted)}".encode()).hexdigest()[:12]
    folder = cache_dir() / f"packages-{key}"
    if folder.exists():
        os.utime(folder)
        return folder
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for each in ("lists/partial", "archives/partial"):
            (partial / each).mkdir(parents=True)
        _fetch(partial, image.root / "base", SUITES[release], wanted)
        found = partial / "found"
        found.mkdir()
        for package in (partial / "archives").glob("*.deb"):
            package.rename(found / package.name)
        found.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _fetch(home: Path, base: Path, suite: str, names: list[str]) -> None:
    (home / "sources.list").write_text(debian_sources(suite))
    settings = {
        "Dir::State": home,
        "Dir::State::lists": home / "lists",
        # What the image has is not fetched.
        "Dir::State::status": base / "var/lib/dpkg/status",
        "Dir::Cache": home,
        "Dir::Cache::archives": home / "archives",
        "Dir::Etc::sourcelist": home / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "APT::Sandbox::User": "root",
    }
    lines = [*apt_options(), 'Acquire::Languages "none";', *(f'{key} "{each}";' for key, each in settings.items())]
    options = home / "apt.conf"
    options.write_text("\n".join([*lines, ""]))
    env = {**os.environ, "APT_CONFIG": str(options), "LC_ALL": "C.UTF-8"}
    install = ["install", "--yes", "--no-install-recommends", "--download-only", "--", *names]
    for words in (["update"], install):
        done = subprocess.run(["apt-get", "-q", *words], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            reasons = [line[3:] for line in done.stderr.splitlines() if line.startswith("E: ")]
            raise ImageError(
                f"packages {' '.join(names)}: cannot be fetched for Debian {suite} ({'; '.join(reasons) or done.stderr[-300:]}). "
                "Correct their names, or the package sources of this computer."
            )


def offer(repositories: Path, release: str, names: Iterable[str]) -> list[str]:
    """Make the repository that machines of a release get in place of the image's: with these packages too. Return what it has.

    The daemon looks for it in `repositories` (localcloud/runtime/fronts.py). Raises ImageError.
    """
    target = repositories / release
    fresh, former = target.with_suffix(".new"), target.with_suffix(".old")
    for each in (fresh, former):
        shutil.rmtree(each, ignore_errors=True)
    fresh.mkdir(parents=True)
    for folder in (current(release).repository, fetched(release, names)):
        for each in folder.glob("*.deb"):
            (fresh / each.name).symlink_to(each)
    found = write_index(fresh)
    if target.exists():
        target.rename(former)
    fresh.rename(target)
    shutil.rmtree(former, ignore_errors=True)
    return found
