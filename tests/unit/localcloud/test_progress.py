"""localcloud.runtime.progress: a step says that it has begun, now and then how it goes, and its time; its commands' output is in a log."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.runtime import progress
from localcloud.runtime.progress import Step, logged


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A terminal: what is written, and what can be seen of it."""

    def isatty(self) -> bool:
        return True

    def seen(self) -> list[str]:
        lines = [""]
        for part in re.findall(r"\r|\n|\x1b\[K|[^\r\n\x1b]+", self.getvalue()):
            if part == "\n":
                lines.append("")
            elif part == "\x1b[K":
                lines[-1] = ""
            elif part != "\r":
                lines[-1] += part
        return lines


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


class TestPlain:
    def test_it_says_at_once_that_it_has_begun_and_a_line_in_30_seconds_at_most(self) -> None:
        clock, out = Clock(), io.StringIO()
        step = Step("python", out, clock)
        step.begin("making .venv, about 2 minutes")
        assert out.getvalue() == "==> python: making .venv, about 2 minutes\n"
        for now in range(1, 951):
            clock.now = now / 10
            step.going(f"package {now}")
        assert out.getvalue().splitlines()[1:] == [
            "==> python: 30 s, package 300",
            "==> python: 60 s, package 600",
            "==> python: 90 s, package 900",
        ]
        step.end("made .venv")
        assert out.getvalue().splitlines()[-1].split() == ["==>", "python", "95.0", "s", "made", ".venv"]

    def test_where_nothing_new_is_known_it_says_what_it_does(self) -> None:
        clock, out = Clock(), io.StringIO()
        step = Step("engine", out, clock)
        step.begin("building")
        clock.now = 31
        step.going()
        assert out.getvalue().splitlines()[-1] == "==> engine: 31 s, building"

    def test_a_dumb_terminal_gets_plain_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "dumb")
        out = Screen()
        Step("engine", out, Clock()).begin("building")
        assert out.getvalue() == "==> engine: building\n"


class TestTerminal:
    def test_one_line_is_written_over_and_the_last_one_stays(self) -> None:
        clock, out = Clock(), Screen()
        step = Step("python", out, clock)
        step.begin("making .venv")
        assert [each.split() for each in out.seen()] == [["==>", "python", "0", "s", "making", ".venv"]]
        for now in range(1, 100):
            clock.now = float(now)
            step.going(f"package {now}")
            assert len(out.seen()) == 1 and out.seen()[0].endswith(f"package {now}")
        step.line("something to keep")
        assert out.seen()[0] == "something to keep" and out.seen()[1].endswith("package 99")
        step.end("made .venv")
        assert [each.split() for each in out.seen()] == [
            ["something", "to", "keep"],
            ["==>", "python", "99.0", "s", "made", ".venv"],
            [],
        ]

    def test_a_long_line_is_cut_to_the_width(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        out = Screen()
        Step("python", out, Clock()).begin("x" * 200)
        assert len(out.seen()[0]) == 39

    def test_a_step_that_stops_leaves_an_empty_line_for_the_error(self) -> None:
        out = Screen()
        step = Step("python", out, Clock())
        step.begin("making")
        step.stop()
        assert out.seen() == [""]


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


class TestLogged:
    def test_all_output_is_in_the_log_and_none_on_the_screen(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        log, out = tmp_path / "logs" / "x.log", io.StringIO()
        text = "import os; os.write(1, b'out\\n'); os.write(2, b'err\\n'); raise SystemExit(5)"
        log.parent.mkdir()
        log.write_text("of an earlier run\n")
        step = Step("x", out)
        assert logged(script(text), log, step, "working") == 5
        assert logged(script(text), log, step, "working") == 5
        assert log.read_text() == "out\nerr\nout\nerr\n"
        assert (out.getvalue(), *capfd.readouterr()) == ("", "", "")

    def test_a_command_that_goes_on_is_announced_and_its_last_line_shown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress, "SHORT_S", 0.2)
        monkeypatch.setattr(progress, "EVERY_S", 0.3)
        out = io.StringIO()
        text = "import time; print('\\x1b[1mone\\x1b[0m\\n  50%\\r 100%', end='', flush=True); time.sleep(1.2)"
        assert logged(script(text), tmp_path / "x.log", Step("x", out), "working, about 1 s") == 0
        first, second, *_ = out.getvalue().splitlines()
        assert first == "==> x: working, about 1 s"
        assert re.fullmatch(r"==> x: \d s, 100%", second)

    def test_a_step_that_has_begun_is_not_announced_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress, "SHORT_S", 0.0)
        out = io.StringIO()
        step = Step("x", out)
        step.begin("installing")
        assert logged(script("import time; time.sleep(0.5)"), tmp_path / "x.log", step, "working") == 0
        assert out.getvalue() == "==> x: installing\n"

    def test_an_interrupted_command_ends(self, tmp_path: Path) -> None:
        pid = tmp_path / "pid"
        text = (
            f"import os, pathlib, signal, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid()));"
            "os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"
        )
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                logged(script(text), tmp_path / "x.log", Step("x", io.StringIO()), "working")
        finally:
            signal.signal(signal.SIGINT, before)
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)

    def test_of_a_long_log_the_last_lines_are_named(self, tmp_path: Path) -> None:
        log = tmp_path / "x.log"
        log.write_text("".join(f"line {each}\n\n" for each in range(10_000)))
        first, *rest = progress.log_named(log).splitlines()
        assert first == f"Read {log}. Its last lines:"
        assert rest == [f"    line {each}" for each in range(9980, 10_000)]


def test_it_needs_nothing_but_the_standard_library() -> None:
    """`make prepare` runs it with whatever python3 there is, before there is a .venv."""
    words = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        "import sys; sys.path.insert(0, sys.argv[1]); import localcloud.runtime.prepare",
    ]
    subprocess.run([*words, str(Path(progress.__file__).parents[2])], check=True)
