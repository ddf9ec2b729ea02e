"""What a Triton machine has no room for is an error beforehand, with its numbers and the fix."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.config.reader import read
from components.preflight import checks
from components.workloads import definitions


def test_files_that_do_not_fit_are_an_error_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www/a").write_bytes(os.urandom(3000))
    monkeypatch.setattr(checks, "project_folder", lambda: tmp_path)
    fleet = {"cloud": "joyent", "size": "g1.micro", "image": "debian-12", "joins": ["site"], "runs": ["www"]}
    given = {
        "site": {"zone": "s.example"},
        "workloads": {"www": {"files": "www", "nginx": {}}},
        "fleets": {"web": fleet},
    }
    settings, faults = definitions.packed(read("local", given), tmp_path)
    assert faults == [] and checks.carried_faults(settings, 10_000) == []
    (found,) = checks.carried_faults(settings, 2000)
    assert found.startswith("rollcall:fleets.web.runs: www take ") and "2000 are left of the request" in found
    assert found.endswith("name it by artifact and sha256, or exclude what no machine needs.")


def test_a_folder_that_is_not_there_is_an_error_of_its_key(tmp_path: Path) -> None:
    fleet = {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site"], "runs": ["www"]}
    given = {
        "site": {"zone": "s.example"},
        "workloads": {"www": {"files": "www", "nginx": {}}},
        "fleets": {"web": fleet},
    }
    _, faults = definitions.packed(read("local", given), tmp_path)
    assert faults == [
        "rollcall:workloads.www.files: www is not a folder. Name one that is there, relative to the project's folder."
    ]


def test_secrets_take_room_beside_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "project_folder", lambda: tmp_path)
    fleet = {"cloud": "joyent", "size": "g1.micro", "image": "debian-12", "joins": ["site"], "runs": ["shop"]}
    shop: dict[str, object] = {"run": "python3 -m shop"}
    given = {"site": {"zone": "s.example"}, "workloads": {"shop": shop}, "fleets": {"web": fleet}}
    settings, _ = definitions.packed(read("local", given), tmp_path)
    assert checks.carried_faults(settings, 1000) == []
    shop["secrets"] = {"DATABASE_URL": "v" * 1000}
    settings, _ = definitions.packed(read("local", given), tmp_path)
    (found,) = checks.carried_faults(settings, 1000)
    assert "1000 are left of the request" in found and "vvv" not in found
    # EC2 has them in SSM.
    fleet["cloud"] = "aws"
    assert checks.carried_faults(definitions.packed(read("local", given), tmp_path)[0], 0) == []
