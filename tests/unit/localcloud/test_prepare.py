"""localcloud.runtime.prepare and the pure parts of localcloud.runtime.sandbox: each missing requirement is one message with the fix."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from localcloud.runtime import prepare, sandbox
from localcloud.runtime.prepare import CannotPrepareError
from localcloud.runtime.progress import Step
from localcloud.runtime.sandbox import Sandbox, SandboxError

GOOD = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "CLOUDFLARE_BASE_URL": "http://127.0.0.1:2/client/v4",
    "TRITON_URL": "http://127.0.0.1:3",
    "ROLLCALL_SITE_URL": "http://127.0.0.1:4/",
    "ROLLCALL_REGISTRY_URL": "http://127.0.0.1:5",
    "TRITON_ACCOUNT": "it's me",
}


def a_step(name: str = "some") -> Step:
    return Step(name, io.StringIO())


def refusal(prepared: Callable[[Step], object]) -> str:
    with pytest.raises(CannotPrepareError) as caught:
        prepared(a_step())
    return str(caught.value)


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the steps' logs are instead of in the checkout."""
    monkeypatch.setattr(prepare, "LOGS", tmp_path / "logs")
    return tmp_path / "logs"


class TestMachine:
    def test_the_error_on_another_system_advises_to_deploy_without_a_sandbox(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(prepare, "sys", SimpleNamespace(platform="darwin"))
        assert "Run it on Linux, or deploy with plain `pulumi up`" in refusal(prepare.check_machine)

    def test_the_error_for_another_user_than_root_names_the_fix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert "Run it as root (sudo -E make up)" in refusal(prepare.check_machine)

    def test_a_full_disk_is_named_with_what_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=17 * 2**20))
        message = refusal(prepare.check_machine)
        assert message.startswith(f"{prepare.ROOT}: has 17 MiB free, and {prepare.LEAST_DISK_MIB} are needed")
        assert "XDG_CACHE_HOME" in message

    def test_a_disk_with_just_enough_will_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=prepare.LEAST_DISK_MIB * 2**20))
        assert prepare.check_machine(a_step()) == "ok"

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
        assert prepare.install_packages(a_step()) == "up to date"

    def test_without_apt_the_missing_packages_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda command: None if command in ("nft", "apt-get") else "/bin/x")
        assert refusal(prepare.install_packages).startswith("nftables: missing, and there is no apt-get")

    def test_a_command_that_fails_names_its_log_with_the_last_lines(self, logs: Path) -> None:
        code = "import sys; print(*range(100), sep='\\n'); print('\\x1b[31mno plug\\x1b[0m', file=sys.stderr); raise SystemExit(3)"
        message = refusal(lambda step: prepare.run(step, [sys.executable, "-c", code], fix="Plug it in"))
        first, named, *rest = message.splitlines()
        assert (
            first.endswith("failed with exit code 3. Plug it in.")
            and named == f"Read {logs}/prepare-some.log. Its last lines:"
        )
        assert rest == [f"    {each}" for each in (*range(81, 100), "no plug")]
        assert (logs / "prepare-some.log").read_text().splitlines()[0] == "0"

    def test_a_command_that_says_nothing_and_fails_has_an_empty_log(self, logs: Path) -> None:
        message = refusal(lambda step: prepare.run(step, ["false"], fix="Plug it in"))
        assert message == f"false …: failed with exit code 1. Plug it in.\n{logs}/prepare-some.log is empty."

    def test_a_command_that_is_not_there_says_the_fix(self, logs: Path) -> None:
        message = refusal(lambda step: prepare.run(step, ["/nowhere/at/all"], fix="Get it"))
        assert message == "/nowhere/at/all: cannot be started (No such file or directory). Get it."

    def test_the_last_line_of_a_command_is_what_came_of_it(self, logs: Path) -> None:
        code = "import sys; print('building', file=sys.stderr, flush=True); print('/engine/bin')"
        assert prepare.run(a_step(), [sys.executable, "-c", code], fix="") == "/engine/bin"

    def test_what_apt_prints_is_in_the_log_and_what_it_installs_is_reported_at_once(
        self, logs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        apt = tmp_path / "apt-get"
        apt.write_text('#!/bin/sh\necho "$1 noise"; echo "$1 warning" >&2; [ "$1" = update ] || exit 100\n')
        apt.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(prepare, "PACKAGES", {"no-such-command": "no-such-package"})
        out = io.StringIO()
        with pytest.raises(CannotPrepareError) as caught:
            prepare.install_packages(Step("packages", out))
        assert out.getvalue() == "==> packages: installing no-such-package, about a minute\n"
        log = logs / "prepare-packages.log"
        assert log.read_text().splitlines() == ["update noise", "update warning", "install noise", "install warning"]
        assert f"Check the machine's package sources and disk.\nRead {log}." in str(caught.value)

    def test_what_pip_prints_is_in_the_log(self, logs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A whole venv, of one package that is nowhere; pip asks for it in an empty folder."""
        (tmp_path / "empty").mkdir()
        for name in ("ROOT", "VENV"):
            monkeypatch.setattr(prepare, name, tmp_path / name)
        (tmp_path / "ROOT").mkdir()
        (tmp_path / "ROOT" / "pyproject.toml").write_text("")
        (tmp_path / "ROOT" / "requirements-dev.txt").write_text(f"nowhere==1.0 --hash=sha256:{'0' * 64}\n")
        for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "empty"), "CONFIG_FILE": os.devnull}.items():
            monkeypatch.setenv(f"PIP_{name}", value)
        out = io.StringIO()
        with pytest.raises(CannotPrepareError, match=r"Check that PyPI .* can be reached") as caught:
            prepare.make_venv(Step("python", out))
        # More lines follow if it takes longer than a step's progress line.
        begun, *_ = out.getvalue().splitlines()
        assert begun.startswith("==> python: making .venv") and "minutes" in begun
        assert "No matching distribution found for nowhere==1.0" in str(caught.value)
        assert "Looking in links" in (logs / "prepare-python.log").read_text()

    def test_what_go_prints_is_in_the_log(self, logs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A Go that is new enough and compiles nothing, and no pulumi."""
        go = tmp_path / "bin" / "go"
        go.parent.mkdir()
        go.write_text(
            '#!/bin/sh\n[ "$1" = env ] && echo go1.99 && exit\n'
            'for at in 1 2 3 4 5 6 7 8; do echo "package $at" >&2; done; echo "no room" >&2; exit 1\n'
        )
        go.chmod(0o755)
        monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        message = refusal(prepare.get_engine)
        shown = [line.strip() for line in message.splitlines()]
        assert "package 1" in shown and "no room" in shown
        assert any(
            line.startswith("engine: go build: failed (the reason is above). Check that the Go module proxy")
            for line in shown
        )
        assert "package 1\n" in (logs / "prepare-some.log").read_text()

    def test_a_step_that_fails_leaves_nothing_of_it_but_its_log_named_on_stderr(
        self, logs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def fails(step: Step) -> str:
            return prepare.run(step, ["sh", "-c", "echo dull; echo why >&2; exit 4"], fix="Repair it")

        logs.mkdir()
        (logs / "prepare-packages.log").write_text("of an earlier run\n")
        monkeypatch.setattr(prepare, "STEPS", (("machine", lambda _: "ok"), ("packages", fails)))
        monkeypatch.setattr(sys, "argv", ["prepare"])
        assert prepare.main() == 1
        given_settings = capfd.readouterr()
        done, failed, *rest = given_settings.err.splitlines()
        assert done.split() == ["==>", "machine", "0.0", "s", "ok"] and given_settings.out == ""
        assert failed.startswith("rollcall: packages: sh -c") and f"{logs}/prepare-packages.log" in rest.pop(0)
        assert rest == ["    dull", "    why"]

    def test_a_step_that_is_interrupted_is_reported_with_exit_code_130(
        self, logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupted(_: Step) -> str:
            raise KeyboardInterrupt

        monkeypatch.setattr(prepare, "STEPS", (("machine", interrupted),))
        monkeypatch.setattr(sys, "argv", ["prepare"])
        assert prepare.main() == 130
        assert "rollcall: machine: interrupted" in capsys.readouterr().err

    def test_python_itself_is_installed_quietly(self, tmp_path: Path) -> None:
        """`make prepare` on a machine without python3, where apt-get cannot install it either."""
        for tool in ("mkdir", "tail", "sh"):
            (tmp_path / tool).symlink_to(shutil.which(tool) or "")
        apt = tmp_path / "apt-get"
        apt.write_text("#!/bin/sh\necho noise; echo no network >&2; exit 100\n")
        apt.chmod(0o755)
        shutil.copyfile(prepare.ROOT / "Makefile", tmp_path / "Makefile")
        make = shutil.which("make") or ""
        done = subprocess.run(
            [make, "-s", "prepare"],
            cwd=tmp_path,
            env={"PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0 and done.stdout == ""
        begun, failed, *rest = done.stderr.splitlines()
        assert begun == "==> python3: installing it from Debian, about a minute"
        assert failed.startswith("rollcall: python3: ") and ".rollcall/logs/prepare-python3.log" in failed
        assert rest[:2] == ["noise", "no network"]

    def test_the_pulumi_that_make_env_puts_on_the_path_is_not_taken_for_the_engine(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "/checkout/.rollcall/local/bin:/usr/bin::/bin:/checkout/.rollcall/prod/bin")
        assert prepare.callers_path() == "/usr/bin:.:/bin"

    def test_the_cache_is_where_xdg_says(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert prepare.cache() == tmp_path / "rollcall"
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        assert prepare.cache() == Path.home() / ".cache" / "rollcall"


class Printed(Sandbox):
    """A sandbox with local clouds that print these lines."""

    folder: Path
    given_settings: dict[str, str]

    @property
    def state(self) -> Path:
        return self.folder

    def ask(self, command: str, **values: object) -> dict[str, str]:
        assert (command, values) == ("env", {})
        return dict(self.given_settings)


class Stopped(Sandbox):
    """A sandbox with its own state folder and stopped local clouds."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        object.__setattr__(self, "folder", folder)

    @property
    def state(self) -> Path:
        folder: Path = self.__dict__["folder"]
        return folder

    def localcloud(self, *words: str, capture: bool = False) -> str:
        assert (words, capture) == (("stop",), False)
        return ""


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Printed:
    monkeypatch.setattr(sandbox, "engine_folder", lambda: "/engine")
    made = Printed()
    object.__setattr__(made, "folder", tmp_path)
    return made


def say(made: Printed, **changed: str) -> None:
    object.__setattr__(made, "given_settings", {**GOOD, **changed})


class TestRehearsal:
    def test_what_the_local_clouds_export_comes_through_whole(self, printed: Printed) -> None:
        say(printed)
        found = printed.environment()
        assert {name: found[name] for name in GOOD} == GOOD
        assert found["PULUMI_BACKEND_URL"] == f"file://{printed.folder}/backend?metadata=skip"
        assert found["PATH"].startswith("/engine:")

    @pytest.mark.parametrize(
        "name",
        ["AWS_ENDPOINT_URL", "CLOUDFLARE_BASE_URL", "TRITON_URL", "ROLLCALL_SITE_URL", "ROLLCALL_REGISTRY_URL"],
    )
    @pytest.mark.parametrize(
        "url", ["https://api.example.com/", "http://127.0.0.1.example.com/", "http://127.0.0.1@example.com/", ""]
    )
    def test_an_endpoint_that_is_not_loopback_is_refused_by_name(self, printed: Printed, name: str, url: str) -> None:
        say(printed, **{name: url})
        with pytest.raises(SandboxError, match=f"{name}: .* is not .*a sandbox reaches loopback only"):
            printed.environment()

    def test_the_passphrase_is_made_once_and_the_owners_alone(self, printed: Printed) -> None:
        say(printed)
        first = printed.environment()["PULUMI_CONFIG_PASSPHRASE"]
        assert len(first) >= 24
        assert printed.environment()["PULUMI_CONFIG_PASSPHRASE"] == first
        assert (printed.folder / "passphrase").stat().st_mode & 0o777 == 0o600

    def test_a_second_make_of_the_same_instance_names_the_one_that_runs(self, printed: Printed) -> None:
        second = Printed()
        object.__setattr__(second, "folder", printed.folder)
        with (
            printed.alone(),
            pytest.raises(SandboxError, match=f"process {os.getpid()}\\). Wait until it ends"),
            second.alone(),
        ):
            pass
        with second.alone():
            pass

    def test_a_command_that_waited_for_a_make_down_does_not_keep_a_removed_lock(
        self, printed: Printed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lock = printed.folder / sandbox.LOCK
        before = fcntl.flock

        def flock(file: Any, how: int) -> None:
            lock.unlink()
            before(file, how)

        monkeypatch.setattr(fcntl, "flock", flock)
        with pytest.raises(SandboxError, match="`make down` of this checkout has just ended"), printed.alone():
            pass

    def test_of_the_state_a_stop_leaves_the_logs_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stopped = Stopped(tmp_path)
        for file in (
            "logs/daemon.log",
            "keys/operators",
            "backend/a/b",
            "bin/pulumi",
            "passphrase",
            "up.json",
            "events",
        ):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text("x")
        outside = tmp_path.parent / f"{tmp_path.name}-outside"
        outside.mkdir()
        (outside / "kept").touch()
        (tmp_path / "link").symlink_to(outside)
        monkeypatch.setattr(Sandbox, "running", lambda _: False)
        sandbox.down(stopped)
        assert [each.relative_to(tmp_path).as_posix() for each in sorted(tmp_path.rglob("*"))] == [
            "logs",
            "logs/daemon.log",
        ]
        assert (outside / "kept").exists()

    def test_a_down_says_what_is_left_and_where(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
        monkeypatch.setattr(Sandbox, "running", lambda _: False)
        sandbox.down(Stopped(tmp_path))
        output = capsys.readouterr().out
        assert all(
            each in output for each in (".rollcall/local/logs", ".venv", "/somewhere/rollcall", "Debian packages", "Go")
        )

    def test_plugins_that_are_not_known_are_named(self) -> None:
        with pytest.raises(SandboxError, match="PLUGINS names azure; known are real, stand-in"):
            Sandbox(plugins="aws,azure").install_plugins()

    def test_down_uses_the_plugins_that_the_stack_is_up_with(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sandbox, "ROOT", tmp_path)
        chosen = Sandbox(instance="other", plugins="real")
        assert chosen.as_it_is_up().plugins == "real"
        chosen.state.mkdir(parents=True)
        Sandbox(instance="other").install_plugins()
        assert (chosen.as_it_is_up().plugins, chosen.as_it_is_up().instance) == ("stand-in", "other")

    @pytest.mark.parametrize(("words", "taken"), [([], "cloudflare"), (["--plugins", "stand-in"], "stand-in")])
    def test_a_command_keeps_the_plugins_that_the_stack_is_up_with_unless_others_are_named(
        self, words: list[str], taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By `make` too, which names none by itself."""
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/kept\n')
        python.chmod(0o755)
        made = ["make", "-s", "preview", f"PY={python}", *(f"PLUGINS={each}" for each in words[1:])]
        subprocess.run([*made, "-o", "installed"], cwd=prepare.ROOT, check=True)
        monkeypatch.setattr(sandbox, "ROOT", tmp_path)
        found: list[str] = []
        monkeypatch.setitem(sandbox.COMMANDS, "preview", lambda chosen: found.append(chosen.plugins))
        up = Sandbox()
        up.state.mkdir(parents=True)
        up._plugins_file.write_text("cloudflare")
        assert sandbox.main((tmp_path / "kept").read_text().splitlines()[2:]) == 0
        assert found == [taken]

    def test_a_stack_without_configuration_is_named(self, printed: Printed) -> None:
        object.__setattr__(printed, "stack", "nowhere")
        with pytest.raises(SandboxError, match=r"Pulumi\.nowhere\.yaml: does not exist"):
            printed.lay_out()


class TestGroup:
    def test_what_a_command_leaves_behind_ends_with_it(self, tmp_path: Path) -> None:
        words = ["sh", "-mc", "sleep 60 >/dev/null 2>&1 & echo $!; exit 3"]
        done = sandbox._run_in_session(words, tmp_path, dict(os.environ), capture=True)
        assert done.returncode == 3
        assert ended(int(done.stdout))

    def test_an_interrupted_command_may_end_well(self, tmp_path: Path) -> None:
        """Our own SIGINT comes while the command runs; the command gets one, writes its checkpoint, and ends."""
        script = "trap 'echo kept >checkpoint; exit 0' INT; sleep 0.5; kill -INT $PPID; while :; do sleep 0.1; done"
        # Tests that run in a shell's background have SIGINT ignored, and so have their children.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                sandbox._run_in_session(["sh", "-c", script], tmp_path, dict(os.environ), capture=True)
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


def requested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What the catalogue is asked for from now on."""
    called: list[tuple[str, ...]] = []

    def catalogue(_: Sandbox, *words: str) -> int:
        called.append(words)
        return 0

    monkeypatch.setattr(sandbox, "catalogue", catalogue)
    return called


class TestCommandLine:
    """What `make` gives to the commands."""

    @pytest.mark.parametrize(
        "find", ["", "t3", "aws size t3", "joyent g1.micro", "-x --json", "*", "it's $HOME `id` ; exit 3"]
    )
    def test_words_of_find_reach_the_catalogue_as_they_are(
        self, find: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """`make catalogue` with a PY that keeps its arguments, then the command with these."""
        kept = tmp_path / "kept"
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{kept}\n')
        python.chmod(0o755)
        words = ["make", "-s", "catalogue", f"PY={python}", f"FIND={find.replace('$', '$$')}", "REGION=eu-west-1"]
        subprocess.run(words, cwd=prepare.ROOT, check=True)
        given = kept.read_text().splitlines()
        assert given[:2] == ["-m", "localcloud.runtime.sandbox"]
        called = requested(monkeypatch)
        assert sandbox.main(given[2:]) == 0
        assert called == [("--region", "eu-west-1", "--", *find.split())]

    def test_options_may_be_behind_the_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        called = requested(monkeypatch)
        assert sandbox.main(["catalogue", "aws", "--json", "--stack", "local", "size"]) == 0
        assert called == [("--json", "--", "aws", "size")]
