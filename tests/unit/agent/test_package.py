"""What `pip install .` in the checkout gives: the package with the client, and the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip installs it, from a copy: a build leaves folders in its source."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "pyproject.toml", source)
    for name in ("userdata", "components", "rollcall_pulumi"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", "-q", *options, "--target", str(site), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return site


def python(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Without `site`, which would find this checkout's own package where `home` lacks a part of it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(home), sysconfig.get_path("purelib")))}
    command = [sys.executable, "-S", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=home)


def test_the_client_is_in_the_package(site: Path) -> None:
    done = python(site, "-c", "import rollcall; print(rollcall.__file__); print(rollcall.discover.__module__)")
    assert done.stdout.splitlines() == [str(site / "rollcall/__init__.py"), "rollcall.resolve"], done.stderr


def test_the_command_is_installed(site: Path) -> None:
    done = python(site, str(site / "bin/rollcall"), "resolve", "theService.unilans.net", "--resolver", ":")
    assert (done.returncode, done.stderr.startswith("rollcall resolve: reason=no-resolver ")) == (1, True), done.stderr
