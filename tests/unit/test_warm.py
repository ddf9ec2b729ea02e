"""The tests' Python for the engine does what the usual one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.runtime import cli
from localcloud.runtime.control import ask
from localcloud.runtime.prepare import ROOT, VENV
from tests import warm
from tests.patience import came_true

SCRIPT = """\
import json, os, sys
print(json.dumps([sys.argv, sys.path, __name__, __file__, os.getcwd(), os.environ.get("MARK"), __import__("__main__").__file__]))
import components.resources.tags
print(components.__path__ is not None)
"""


@pytest.fixture(scope="module")
def python() -> str:
    return str(warm._prepared() / "bin" / "python")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "components").symlink_to(ROOT / "components")
    return tmp_path / "pulumi-language-python-exec"


def run(python: str, *words: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], **env}
    return subprocess.run(
        [python, *words], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60
    )


def is_a_copy(python: str, script: Path) -> bool:
    script.write_text("import sys; print('tests.warm' in str(sys.orig_argv))")
    return run(python, str(script), folder=script.parent).stdout == "True\n"


def test_version_and_packages_are_those_of_the_usual_one(python: str, tmp_path: Path) -> None:
    for words in (["--version"], ["-m", "pip", "list", "-v", "--format", "json"]):
        outputs = [run(each, *words, folder=tmp_path) for each in (python, sys.executable)]
        assert outputs[0].stdout == outputs[1].stdout != ""
    assert "pulumi_aws" in [each["name"] for each in json.loads(outputs[0].stdout)]


@pytest.mark.parametrize("env", [{}, {"MARK": "x", "PYTHONPATH": "/nowhere:/either"}])
def test_a_script_finds_what_it_finds_with_the_usual_one(python: str, script: Path, env: dict[str, str]) -> None:
    script.write_text(SCRIPT)
    outputs = [
        run(each, str(script), "--pwd", "a b", folder=script.parent, **{"PYTHONPATH": str(script.parent), **env})
        for each in (python, sys.executable)
    ]
    assert outputs[0].stdout == outputs[1].stdout != ""
    assert is_a_copy(python, script)


@pytest.mark.parametrize(
    "ending", ["", "sys.exit(32)", "sys.exit('a reason')", "raise ValueError('wrong')", "sys.exit()"]
)
def test_a_script_ends_as_with_the_usual_one(python: str, script: Path, ending: str) -> None:
    script.write_text(f"import sys\nsys.stdout.write('begun ')\nsys.stdout.flush()\n{ending}\n")
    outputs = [run(each, "-u", str(script), folder=script.parent) for each in (python, sys.executable)]
    assert [each.returncode for each in outputs] == [outputs[1].returncode] * 2
    assert outputs[0].stdout == outputs[1].stdout == "begun "
    assert outputs[0].stderr.splitlines()[-1:] == outputs[1].stderr.splitlines()[-1:]


def test_threads_at_work_are_waited_for(python: str, script: Path) -> None:
    script.write_text(
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.3), print('done', flush=True))).start()\n"
    )
    assert run(python, str(script), folder=script.parent).stdout == "done\n"


def test_a_program_with_its_own_components_takes_the_usual_one(python: str, script: Path) -> None:
    (script.parent / "components").unlink()
    (script.parent / "components").mkdir()
    assert not is_a_copy(python, script)


def test_any_other_script_takes_the_usual_one(python: str, script: Path) -> None:
    assert is_a_copy(python, script) and not is_a_copy(python, script.with_name("script.py"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_copy_ends_with_its_caller(python: str, script: Path, how: signal.Signals) -> None:
    script.write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    started = subprocess.Popen([python, str(script)], cwd=script.parent, stdout=subprocess.PIPE, text=True)
    assert started.stdout
    copy = Path("/proc") / started.stdout.readline().strip()
    assert copy.exists()
    started.send_signal(how)
    started.communicate()
    assert came_true(lambda: not copy.exists(), 10)


def test_make_prove_and_benches_take_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(warm, "_used", False)
    assert warm.environment() == VENV and warm.variables("/bin") == {"PATH": "/bin"}
    monkeypatch.setattr(request.config.option, "markexpr", "prove")
    warm.use_in_tests(request.config)
    assert not warm._used
    monkeypatch.setattr(request.config.option, "markexpr", "not prove")
    monkeypatch.setenv("ROLLCALL_USUAL_PYTHON", "1")
    warm.use_in_tests(request.config)
    assert not warm._used
    monkeypatch.delenv("ROLLCALL_USUAL_PYTHON")
    warm.use_in_tests(request.config)
    assert warm._used


SHARING = """\
import json, os
from tests import warm

def test_{name}(worker_id):
    folder = warm._prepared()
    with open({found!r}, "a") as file:
        file.write(json.dumps([worker_id, str(folder), warm._started[0] if warm._started else 0]) + "\\n")
"""


def test_workers_share_one_process_that_ends_with_the_run(tmp_path: Path) -> None:
    found = tmp_path / "found"
    for name in ("one", "two"):
        (tmp_path / f"test_{name}.py").write_text(SHARING.format(name=name, found=str(found)))
    words = ["-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    env = {name: value for name, value in os.environ.items() if name not in ("ROLLCALL_WARM", "PYTEST_XDIST_WORKER")}
    done = subprocess.run(
        [sys.executable, *words, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    workers, folders, processes = zip(*map(json.loads, found.read_text().splitlines()), strict=True)
    assert set(workers) == {"gw0", "gw1"} and len(set(folders)) == 1, done.stdout
    (process,) = set(processes) - {0}
    assert not Path(folders[0]).exists()
    assert came_true(lambda: not Path(f"/proc/{process}").exists(), 10)


def test_local_clouds_start_in_a_copy_and_stop_as_usual(python: str, tmp_path: Path) -> None:
    begun = {}
    for name in ("copy", "usual"):
        words = ["--instance", f"warm-{name}", "--state", str(tmp_path / name)]
        start = [*words, "start", "--no-machines", "--no-plugins", "--timers", "watch=3"]
        if name == "copy":
            assert cli.main(start, warm.start_daemon) == 0
        else:
            subprocess.run([sys.executable, "-m", "localcloud", *start], cwd=ROOT, check=True)
        written = json.loads((tmp_path / name / "daemon.json").read_text())
        begun[name] = set(written), set(ask(tmp_path / name / "control.sock", "env"))
        process = Path("/proc") / str(written["pid"])
        assert os.getsid(written["pid"]) == written["pid"]
        # Of the streams, only the log is the caller's: else a caller would wait for it.
        log = str(tmp_path / name / "logs" / "daemon.log")
        assert [str((process / "fd" / str(each)).readlink()) for each in range(3)] == ["/dev/null", log, log]
        assert ("tests.warm" in (process / "cmdline").read_text()) == (name == "copy")
        assert cli.main([*words, "stop"]) == 0
        assert cli._process(tmp_path / name) is None and not (tmp_path / name / "control.sock").exists()
        assert came_true(lambda process=process: not process.exists() or "Z" in (process / "stat").read_text(), 10)  # type: ignore[misc]
        assert "ready in" in Path(log).read_text()
    assert begun["copy"] == begun["usual"]


def test_a_copy_that_cannot_start_the_local_clouds_says_why(
    python: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--instance", "warm-fails", "--state", str(tmp_path), "start", "--no-plugins"]
    (tmp_path / "keys").write_text("in the way")
    assert cli.main([*words, "--no-machines"], warm.start_daemon) == 1
    assert "daemon: did not start" in (printed := capsys.readouterr().err) and "keys" in printed
