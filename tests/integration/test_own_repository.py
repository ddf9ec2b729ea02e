"""A stack in an operator's own repository, which has Rollcall in `vendor/rollcall`: docs/own-repository.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.config.models import NginxSettings, WorkloadSettings
from components.resources.releases import key_of
from components.workloads.definitions import release_of
from localcloud.network.namespace import Namespace, name_for
from localcloud.runtime.sandbox import Sandbox
from tests.integration.checkout_copy import copy_sources, link_packages
from tests.integration.conftest import sandboxed
from tests.integration.deployed import Deployed
from tests.integration.test_tutorial import Reader
from tests.tutorial_page import OWN_PAGE, blocks, missing

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
ADDRESS = "https://git.example.com/rollcall.git"
# As the page has it.
(PROJECT,) = re.findall(r"cat >Pulumi\.yaml <<'END'\n(.*?)END\n", OWN_PAGE.read_text(), re.S)
STACK = """config:
  aws:region: us-west-2
  rollcall:sites: { www: { zone: scalability.expert } }
  rollcall:workloads:
    www: { files: site, nginx: { root: . } }
  rollcall:fleets:
    web: { cloud: aws, count: 0, size: t3.micro, image: debian-12, runs: [www], joins: [site/www] }
"""


class Own:
    """An operator's repository, and local clouds that boot nothing."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder, self.sandbox = folder, sandbox
        self.program = folder / "vendor/rollcall"
        copy_sources(self.program)
        link_packages(self.program)
        (folder / "site").mkdir()
        (folder / "site/index.html").write_text("<h1>Our shop</h1>")
        (folder / "Pulumi.yaml").write_text(PROJECT)
        (folder / ".venv").symlink_to("vendor/rollcall/.venv")
        (folder / "Pulumi.mine.yaml").write_text(STACK)

    def run(self, *words: str) -> str:
        """Run a command in the repository, as its operator does. Return what it printed."""
        done = subprocess.run(
            words, cwd=self.folder, env=self.sandbox.engines_environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def pulumi(self, verb: str, *words: str) -> str:
        return self.run("pulumi", verb, "--stack", "mine", "--non-interactive", *words)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    with sandboxed("own-repository", machines=False) as sandbox:
        yield Own(tmp_path / "shop", sandbox)


def test_plain_pulumi_deploys_from_it_and_leaves_nothing_in_rollcall(own: Own) -> None:
    files = {each.name for each in own.program.iterdir()}
    assert own.run("rollcall", "check") == "mine: no error\n"
    own.pulumi("stack", "init")
    assert "created" in own.pulumi("up", "--yes", "--skip-preview")
    # The workload's files are those of the repository, and the stack has the name of its project.
    release = release_of(WorkloadSettings(name="www", files="site", nginx=NginxSettings(root=".")), own.folder)
    s3 = Deployed(own.sandbox, "").aws("s3")
    (bucket,) = (each["Name"] for each in s3.list_buckets()["Buckets"])
    assert s3.head_object(Bucket=bucket, Key=key_of(release.digest))
    tags = {each["Key"]: each["Value"] for each in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}
    assert (tags["rollcall-stack"], tags["rollcall-project"]) == ("shop.mine", "shop")
    assert "unchanged" in own.pulumi("preview", "--expect-no-changes")
    assert "In step" in own.run("rollcall", "status", "--stack", "mine")
    # Another file is another release; the dynamic resources of the program are updated from here too.
    (own.folder / "site/index.html").write_text("<h1>Our new shop</h1>")
    assert "KeptReleases releases-kept" in own.pulumi("up", "--yes", "--skip-preview").replace("rollcall:", "")
    own.pulumi("destroy", "--yes", "--skip-preview")
    assert s3.list_buckets()["Buckets"] == []
    assert {each.name for each in own.program.iterdir()} <= {*files, "__pycache__"}


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Reader, Path]]:
    """A shell, and the repository that the page makes there. What is in `source` is at the address of the page."""
    source, made = tmp_path / "source", tmp_path / "shop"
    copy_sources(source)
    commit = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "all"]
    for words in (["git", "init", "-q"], ["git", "add", "-A"], commit):
        subprocess.run(words, cwd=source, check=True)
    typist = Reader(tmp_path)
    # Git adds no submodule by a path otherwise: https://git-scm.com/docs/git-config#Documentation/git-config.txt-protocolallow
    typist.type("export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always")
    try:
        yield typist, made
    finally:
        typist.close()
        clone = made / "vendor/rollcall"
        if (clone / "localcloud").exists():
            stop = [sys.executable, "-m", "localcloud", "--instance", "mine", "stop"]
            subprocess.run(stop, cwd=clone, check=False, capture_output=True)


@pytest.mark.machines
@pytest.mark.prove
@pytest.mark.skipif(os.geteuid() != 0, reason="machines take root")
def test_every_block_of_the_page_works_as_it_says(reader: tuple[Reader, Path]) -> None:
    typist, made = reader
    clone = made / "vendor/rollcall"
    for block in blocks(OWN_PAGE.read_text()):
        printed = typist.type(block.commands.replace(ADDRESS, str(made.parent / "source")))
        assert missing(block.shown, printed) == [], f"{block.commands}\nprinted\n{printed}"
        if "submodule" in block.commands:
            link_packages(clone)
    assert not Namespace(name_for(clone, "mine")).exists
    changed = typist.type("git status --porcelain --untracked-files=all").splitlines()
    workflows = [f".github/workflows/{each}.yml" for each in ("deploy", "drift", "preview")]
    assert {each for each in changed if each.startswith("??")} == {
        f"?? {each}" for each in (*workflows, ".venv", "Pulumi.mine.yaml", "Pulumi.yaml", "site/index.html")
    }
    assert [each for each in changed if not each.startswith("??")] == ["A  .gitmodules", "A  vendor/rollcall"]
