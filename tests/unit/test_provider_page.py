"""docs/another-dns-provider.md: its table of all files is complete. The files that name the provider `rfc2136` show which they are."""

from __future__ import annotations

import re
import subprocess

import pytest

from localcloud.runtime.prepare import ROOT

PAGE = "docs/another-dns-provider.md"
NAMES = "rfc2136|Rfc2136|is_dynamic|dynamic_zone|tsig_key|[tT]sigKey|TSIG"
# These name it for another reason: they show an example, or a name server of the local cloud transfers zones.
OTHERS = {
    PAGE,
    "localcloud/dns/secondary.py",
    "tests/cloud/test_secondary.py",
    "tests/unit/localcloud/test_named.py",
    "tests/unit/test_provider_page.py",
    "tests/unit/workloads/test_carried.py",
}


def git(*words: str) -> list[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture(scope="module")
def listed() -> set[str]:
    """The ends of paths in the table `All files`."""
    _, _, table = (ROOT / PAGE).read_text().partition("## All files")
    cells = [row.split("|")[2] for row in table.splitlines() if row.startswith("| ")]
    return {name.replace("PROVIDER", "rfc2136") for cell in cells for name in re.findall(r"`([^`]*\.\w+)`", cell)}


def is_end(name: str, path: str) -> bool:
    return path == name or path.endswith(f"/{name}")


def test_the_table_has_each_file_that_names_the_example(listed: set[str]) -> None:
    having = set(git("grep", "-lE", NAMES)) - OTHERS
    assert len(having) > 40
    assert sorted(path for path in having if not any(is_end(name, path) for name in listed)) == []


def test_the_table_has_no_file_that_does_not_exist(listed: set[str]) -> None:
    present = git("ls-files")
    assert sorted(name for name in listed if not any(is_end(name, path) for path in present)) == []
