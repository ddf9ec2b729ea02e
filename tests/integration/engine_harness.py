"""The real engine with a small program on local clouds that boot nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.aws.route53 import UNLIMITED
from localcloud.engine import ensure
from localcloud.machines.compute import InstantHypervisor
from localcloud.plugins import install
from localcloud.runtime.prepare import ROOT
from tests import warm
from tests.cloud.aws_cloud import OPERATOR, TRUST, Cloud, running
from tests.cloud.cloudflare_server import OPERATOR as TOKEN
from tests.cloud.cloudflare_server import Front, Lab
from tests.cloud.joyent_stack import end_session


@dataclass
class Trial:
    """A program in its own folder, and the clouds that it works on."""

    folder: Path
    environ: dict[str, str]
    aws: Cloud
    site: Lab

    @property
    def log(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().split() if log.exists() else []

    def run(self, *words: str, check: bool = True, **given: Any) -> str:
        """`pulumi WORDS`; what it printed."""
        usual = {
            "txt": "path=/",
            "trust": TRUST,
            "whole": True,
            "user_data": "#!/bin/sh\n",
            "log": str(self.folder / "log"),
        }
        process = subprocess.Popen(
            ["pulumi", *words, "--non-interactive"],
            cwd=self.folder / "program", env={**self.environ, "TRIAL": json.dumps({**usual, **given})},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            printed, _ = process.communicate(timeout=240)
        finally:
            end_session(process.pid)
            process.wait()
        assert (process.returncode == 0) == check, printed
        return printed

    def up(self, **given: Any) -> str:
        return self.run("up", "--yes", "--skip-preview", **given)

    def resources(self) -> dict[str, dict[str, Any]]:
        """What is in the state, by name; secrets are encrypted there."""
        state = json.loads((self.folder / "backend/.pulumi/stacks/trial/trial.json").read_text())["checkpoint"][
            "latest"
        ]
        found = [each for each in state.get("resources", []) if not each["type"].startswith("pulumi:")]
        return {each["urn"].rpartition("::")[2]: each for each in found}


@contextmanager
def on_trial(tmp_path: Path, program: str) -> Iterator[Trial]:
    """`program` as the project `trial`, ready for `pulumi up`; what it imports of ours is beside it."""
    engine = ensure(lambda line: print(line, file=sys.stderr))
    for name in ("program", "backend", "bin"):
        (tmp_path / name).mkdir()
    install(tmp_path / "home", Path(sys.executable))
    (tmp_path / "program" / "Pulumi.yaml").write_text("name: trial\nruntime: python\noptions: {refresh: always}\n")
    (tmp_path / "program" / "__main__.py").write_text(program)
    for each in ("components", "userdata"):
        (tmp_path / "program" / each).symlink_to(ROOT / each)
    # The machine that is not there: what ssh is given runs here.
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text('#!/bin/sh\nfor last; do :; done\nexec /bin/sh -c "$last"\n')
    ssh.chmod(0o755)
    front = Front()
    try:
        with running(hypervisor=InstantHypervisor(), route53_limits=UNLIMITED) as cloud:
            own = {
                **warm.variables(f"{tmp_path / 'bin'}:{engine}:{Path(sys.executable).parent}:{os.environ['PATH']}"),
                "PULUMI_HOME": str(tmp_path / "home"), "PULUMI_BACKEND_URL": f"file://{tmp_path / 'backend'}",
                "PULUMI_CONFIG_PASSPHRASE": "trial", "PULUMI_SKIP_UPDATE_CHECK": "1",
                "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
                "AWS_ENDPOINT_URL": cloud.url, "AWS_ACCESS_KEY_ID": OPERATOR[0], "AWS_SECRET_ACCESS_KEY": OPERATOR[1],
                "AWS_REGION": "us-west-2", "AWS_EC2_METADATA_DISABLED": "true",
                "CLOUDFLARE_API_TOKEN": TOKEN, "CLOUDFLARE_BASE_URL": front.url,
            }  # fmt: skip
            foreign = ("AWS_", "CLOUDFLARE_", "PULUMI_", "SSH_AUTH")
            kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
            made = Trial(tmp_path, {**kept, **own}, cloud, Lab(front))
            made.run("stack", "init", "trial")
            yield made
    finally:
        front.stop()
