"""`rollcall release export`: the files that a machine asks a mirror for, the same bytes as `pulumi up` makes."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

import get_release
from components.commands import release
from components.config.reader import read
from components.resources import userdata
from components.workloads import definitions

CONFIG = """config:
  aws:region: us-west-2
  rollcall:sites: { www: { zone: s.example } }
  rollcall:workloads:
    shop: { files: shop, run: ./start, secrets: { KEY: { secure: v1:abc } } }
    other: { run: python3 -m other }
  rollcall:fleets:
    web: { cloud: CLOUD, size: t3.micro, image: debian-12, joins: [site/www], runs: [shop] }
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(Path(release.__file__).parents[2] / "Pulumi.yaml", tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/start").write_text("#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digest_of_shop(project: Path) -> str:
    given = {
        "sites": {"www": {"zone": "s.example"}},
        "workloads": {"shop": {"files": "shop", "run": "./start", "secrets": {"KEY": "any"}}},
        "fleets": {"web": {"cloud": "aws", "size": "s", "image": "debian-12", "joins": ["site/www"], "runs": ["shop"]}},
    }
    return str(definitions.packed(read("local", given), project)[0].fleets[0].digests["shop"])


@pytest.mark.parametrize("cloud", ["aws", "joyent"])
def test_the_releases_that_machines_may_fetch_are_written_under_their_digests(
    project: Path, capsys: pytest.CaptureFixture[str], cloud: str
) -> None:
    (project / "Pulumi.prod.yaml").write_text(CONFIG.replace("CLOUD", cloud))
    assert release.main(["export", "out"]) == 0
    digests = {digest_of_shop(project)} | ({userdata.release().digest} if cloud == "aws" else set())
    files = [each for each in Path("out").rglob("*") if each.is_file()]
    assert {str(each.relative_to("out")) for each in files} == {get_release.key_of(each) for each in digests}
    output = capsys.readouterr().out
    for digest in digests:
        packed = (Path("out") / get_release.key_of(digest)).read_bytes()
        get_release.checked(io.BytesIO(packed), digest).close()
        assert f"{digest}.tar.bz2  {len(packed)} bytes" in output
    # The former ones stay, and a second run writes the same.
    (Path("out/releases") / "former").touch()
    assert release.main(["export", "out", "--stack", "org/rollcall/prod"]) == 0
    assert len(list(Path("out/releases").iterdir())) == len(digests) + 1


def test_a_wrong_configuration_writes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "Pulumi.prod.yaml").write_text(CONFIG.replace("CLOUD", "aws").replace("files: shop", "files: absent"))
    assert release.main(["export", "out"]) == 1
    output = capsys.readouterr().err
    assert "prod: nothing was written." in output and "rollcall:workloads.shop.files: absent is not a folder" in output
    assert not Path("out").exists()
    assert release.main(["export", "out", "--stack", "none"]) == 2


def test_without_a_stack_there_is_nothing_to_write(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main(["export", "out"]) == 2
    assert "no stack has a file here" in capsys.readouterr().err
