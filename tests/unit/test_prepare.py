"""localcloud.prepare and the pure parts of localcloud.rehearsal: each lack is one message that names the mend."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from localcloud import prepare, rehearsal
from localcloud.prepare import CannotPrepareError
from localcloud.rehearsal import Rehearsal, RehearsalError

GOOD = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "CLOUDFLARE_BASE_URL": "http://127.0.0.1:2/client/v4",
    "TRITON_URL": "http://127.0.0.1:3",
    "ROLLCALL_SITE_URL": "http://127.0.0.1:4/",
    "TRITON_ACCOUNT": "it's me",
}


def refusal(step: object) -> str:
    assert callable(step)
    with pytest.raises(CannotPrepareError) as caught:
        step()
    said = str(caught.value)
    assert "\n" not in said
    return said


class TestMachine:
    def test_another_system_is_told_to_deploy_without_a_rehearsal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prepare, "sys", SimpleNamespace(platform="darwin"))
        assert "Run it on Linux, or deploy with plain `pulumi up`" in refusal(prepare.check_machine)

    def test_who_is_not_root_is_told_to_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert "run it as root (sudo -E make up)" in refusal(prepare.check_machine)

    def test_a_full_disk_is_named_with_what_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=17 * 2**20))
        said = refusal(prepare.check_machine)
        assert said.startswith(f"{prepare.ROOT} has 17 MiB free, {prepare.LEAST_DISK_MIB} are needed")
        assert "XDG_CACHE_HOME" in said

    def test_a_disk_with_just_enough_will_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=prepare.LEAST_DISK_MIB * 2**20))
        assert prepare.check_machine() == "ok"

    def test_a_step_that_cannot_be_done_is_one_line_and_exit_code_1(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["prepare", "--only", "machine"])
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert prepare.main() == 1
        assert capsys.readouterr().err.splitlines() == [f"rollcall: machine: {refusal(prepare.check_machine)}"]


class TestSteps:
    def test_packages_that_are_there_are_not_installed_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda command: f"/usr/bin/{command}")
        assert prepare.install_packages() == "up to date"

    def test_without_apt_the_missing_packages_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda command: None if command in ("nft", "apt-get") else "/bin/x")
        assert refusal(prepare.install_packages).startswith("nftables are missing and there is no apt-get")

    def test_a_command_that_fails_says_the_mend(self) -> None:
        said = refusal(lambda: prepare.run([sys.executable, "-c", "raise SystemExit(3)"], mend="plug it in"))
        assert said.endswith("failed (CalledProcessError); plug it in")

    def test_a_command_that_is_not_there_says_the_mend(self) -> None:
        assert refusal(lambda: prepare.run(["/nowhere/at/all"], mend="get it")).endswith("(FileNotFoundError); get it")

    def test_a_command_that_is_captured_gives_what_it_printed(self) -> None:
        assert prepare.run([sys.executable, "-c", "print('yes')"], mend="", capture=True) == "yes\n"

    def test_the_cache_is_where_xdg_says(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert prepare.cache() == tmp_path / "rollcall"
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        assert prepare.cache() == Path.home() / ".cache" / "rollcall"


class Printed(Rehearsal):
    """A rehearsal whose local clouds print these lines."""

    folder: Path
    told: dict[str, str]

    @property
    def state(self) -> Path:
        return self.folder

    def ask(self, command: str, **values: object) -> dict[str, str]:
        assert (command, values) == ("env", {})
        return dict(self.told)


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Printed:
    monkeypatch.setattr(rehearsal, "engine_folder", lambda: "/engine")
    made = Printed()
    object.__setattr__(made, "folder", tmp_path)
    return made


def say(made: Printed, **changed: str) -> None:
    object.__setattr__(made, "told", {**GOOD, **changed})


class TestRehearsal:
    def test_what_the_local_clouds_export_comes_through_whole(self, printed: Printed) -> None:
        say(printed)
        found = printed.environment()
        assert {name: found[name] for name in GOOD} == GOOD
        assert found["PULUMI_BACKEND_URL"] == f"file://{printed.folder}/backend?metadata=skip"
        assert found["PATH"].startswith("/engine:")

    @pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "CLOUDFLARE_BASE_URL", "TRITON_URL", "ROLLCALL_SITE_URL"])
    @pytest.mark.parametrize(
        "url", ["https://api.example.com/", "http://127.0.0.1.example.com/", "http://127.0.0.1@example.com/", ""]
    )
    def test_an_endpoint_that_is_not_loopback_is_refused_by_name(self, printed: Printed, name: str, url: str) -> None:
        say(printed, **{name: url})
        with pytest.raises(RehearsalError, match=f"{name} is .*a rehearsal reaches loopback only"):
            printed.environment()

    def test_the_passphrase_is_made_once_and_the_owners_alone(self, printed: Printed) -> None:
        say(printed)
        first = printed.environment()["PULUMI_CONFIG_PASSPHRASE"]
        assert len(first) >= 24
        assert printed.environment()["PULUMI_CONFIG_PASSPHRASE"] == first
        assert (printed.folder / "passphrase").stat().st_mode & 0o777 == 0o600

    def test_a_second_make_of_the_same_instance_is_told_who_is_at_work(self, printed: Printed) -> None:
        second = Printed()
        object.__setattr__(second, "folder", printed.folder)
        with (
            printed.alone(),
            pytest.raises(RehearsalError, match=f"process {os.getpid()}\\); wait until it ends"),
            second.alone(),
        ):
            pass
        with second.alone():
            pass

    def test_plugins_that_are_not_known_are_named(self) -> None:
        with pytest.raises(RehearsalError, match="PLUGINS names azure; known are real, stand-in"):
            Rehearsal(plugins="aws,azure").install_plugins()

    def test_down_uses_the_plugins_that_the_stack_is_up_with(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rehearsal, "ROOT", tmp_path)
        asked = Rehearsal(instance="other", plugins="real")
        assert asked.as_it_is_up().plugins == "real"
        asked.state.mkdir(parents=True)
        Rehearsal(instance="other").install_plugins()
        assert (asked.as_it_is_up().plugins, asked.as_it_is_up().instance) == ("stand-in", "other")

    def test_a_stack_without_configuration_is_named(self, printed: Printed) -> None:
        object.__setattr__(printed, "stack", "nowhere")
        with pytest.raises(RehearsalError, match=r"there is no Pulumi\.nowhere\.yaml"):
            printed.lay_out()


class TestGroup:
    def test_what_a_command_leaves_behind_ends_with_it(self, tmp_path: Path) -> None:
        words = ["sh", "-mc", "sleep 60 >/dev/null 2>&1 & echo $!; exit 3"]
        done = rehearsal._run_in_session(words, tmp_path, dict(os.environ), capture=True)
        assert done.returncode == 3
        assert ended(int(done.stdout))

    def test_an_interrupted_command_may_end_well(self, tmp_path: Path) -> None:
        """Our own SIGINT comes while the command runs; the command gets one, writes its checkpoint, and ends."""
        script = "trap 'echo kept >checkpoint; exit 0' INT; sleep 0.5; kill -INT $PPID; while :; do sleep 0.1; done"
        # Tests that run in a shell's background have SIGINT ignored, and so have their children.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                rehearsal._run_in_session(["sh", "-c", script], tmp_path, dict(os.environ), capture=True)
        finally:
            signal.signal(signal.SIGINT, before)
        assert (tmp_path / "checkpoint").read_text() == "kept\n"


def ended(pid: int) -> bool:
    for _ in range(50):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False
