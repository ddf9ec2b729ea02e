"""A copy of this checkout as a reader would have it, with the packages of this one, so that they are not downloaded again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from localcloud.runtime.prepare import ROOT, STAMP, VENV, wanted_packages


def copy_sources(to: Path) -> None:
    """Copy each file of the checkout that git does not ignore."""
    listed = subprocess.check_output(["git", "ls-files", "-zco", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            # A link stays a link: the image of the machines is named after the hash of its sources.
            shutil.copy2(ROOT / name, to / name, follow_symlinks=False)


def link_packages(to: Path) -> None:
    """Give a copy the virtual environment of this checkout, as one that is up to date."""
    (to / ".venv").mkdir()
    for each in VENV.iterdir():
        if each.name != STAMP:
            (to / ".venv" / each.name).symlink_to(each)
    (to / ".venv" / STAMP).write_text(wanted_packages())
