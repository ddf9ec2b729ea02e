"""components.remote: a command on a machine by SSH, with a program in its place, and by SSM, with a client in memory."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from components.remote.base import RemoteError
from components.remote.ssh import SshShell
from components.remote.ssm import NOT_MANAGED, SsmShell

INSTANCE = "i-0123456789abcdef0"


class Lines:
    def __init__(self) -> None:
        self.found: list[tuple[str, bool]] = []

    def __call__(self, text: str, is_error: bool) -> None:
        self.found.append((text, is_error))


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of ssh: it keeps its arguments, and runs the last one by a shell."""
    kept, program = tmp_path / "arguments", tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{kept}\nfor last; do :; done\nexec /bin/sh -c "$last"\n')
    program.chmod(0o755)
    monkeypatch.setenv("ROLLCALL_SSH", f"{program} -i key")
    return kept


class TestSsh:
    def test_lines_and_the_exit_code_come_back(self, arguments: Path) -> None:
        lines = Lines()
        code = SshShell("admin", "198.51.100.4").run("printf 'one\\ntwo\\n'; echo bad >&2; exit 7", lines)
        assert code == 7 and sorted(lines.found) == [("bad", True), ("one", False), ("two", False)]
        words = arguments.read_text().splitlines()
        assert words[:2] == ["-i", "key"] and words[words.index("--") + 1] == "admin@198.51.100.4"
        assert "BatchMode=yes" in words

    def test_nothing_is_read_from_the_terminal(self, arguments: Path) -> None:
        assert SshShell("admin", "198.51.100.4").run("cat", Lines()) == 0

    def test_bytes_that_are_not_text_are_shown(self, arguments: Path) -> None:
        lines = Lines()
        assert SshShell("admin", "198.51.100.4").run("printf '\\377x\\n'", lines) == 0
        assert lines.found == [("\ufffdx", False)]

    def test_another_thread_can_stop_it(self, arguments: Path) -> None:
        shell, codes = SshShell("admin", "198.51.100.4"), list[int]()
        thread = threading.Thread(target=lambda: codes.append(shell.run("echo here; sleep 60; echo there", Lines())))
        thread.start()
        end = time.monotonic() + 20
        while not arguments.exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.2)
        shell.stop()
        thread.join(20)
        assert codes and codes[0] != 0


class Client:
    """SSM's client: an invocation that exists late, and then goes through its states."""

    class exceptions:
        class InvocationDoesNotExist(Exception):
            pass

    def __init__(self, *replies: dict[str, Any] | None, refuses: str = "") -> None:
        self.replies, self.refuses = list(replies), refuses
        self.sent: dict[str, Any] = {}

    def send_command(self, **given: Any) -> dict[str, Any]:
        if self.refuses:
            raise ClientError({"Error": {"Code": self.refuses, "Message": "no"}}, "SendCommand")
        self.sent = given
        return {"Command": {"CommandId": "c-1"}}

    def get_command_invocation(self, **given: Any) -> dict[str, Any]:
        assert given == {"CommandId": "c-1", "InstanceId": INSTANCE}
        reply = self.replies.pop(0)
        if reply is None:
            raise self.exceptions.InvocationDoesNotExist
        return reply


def ended(**others: Any) -> dict[str, Any]:
    return {"Status": "Success", "ResponseCode": 0, "StandardOutputContent": "", "StandardErrorContent": "", **others}


class TestSsm:
    def test_it_waits_for_the_end_and_gives_output_and_exit_code(self) -> None:
        failed = ended(Status="Failed", ResponseCode=3, StandardOutputContent="one\ntwo\n", StandardErrorContent="bad")
        client, lines, slept = Client(None, {"Status": "InProgress"}, failed), Lines(), list[float]()
        assert SsmShell(client, INSTANCE, slept.append).run("echo one\nexit 3", lines) == 3
        assert lines.found == [("one", False), ("two", False), ("bad", True)] and len(slept) == 3
        assert client.sent["InstanceIds"] == [INSTANCE] and client.sent["DocumentName"] == "AWS-RunShellScript"
        assert client.sent["Parameters"]["commands"] == ["echo one", "exit 3"]

    def test_output_that_ssm_cut_off_is_named(self) -> None:
        client, lines = Client(ended(StandardOutputContent="x" * 24_000)), Lines()
        assert SsmShell(client, INSTANCE, lambda _: None).run("cat", lines) == 0
        assert lines.found[-1] == ("SSM shows only the first 24000 characters", True)

    def test_a_machine_without_the_agent_is_named_with_the_fix(self) -> None:
        with pytest.raises(RemoteError) as refused:
            SsmShell(Client(refuses="InvalidInstanceId"), INSTANCE, lambda _: None).run("true", Lines())
        assert str(refused.value) == NOT_MANAGED and "AmazonSSMManagedInstanceCore" in NOT_MANAGED

    def test_a_right_that_is_missing_is_the_apis_own_error(self) -> None:
        with pytest.raises(ClientError, match="AccessDeniedException"):
            SsmShell(Client(refuses="AccessDeniedException"), INSTANCE, lambda _: None).run("true", Lines())

    @pytest.mark.parametrize("status", ["TimedOut", "Cancelled"])
    def test_a_command_that_ssm_ended_is_an_error(self, status: str) -> None:
        client = Client(ended(Status=status, ResponseCode=-1, StatusDetails="Delivery Timed Out"))
        with pytest.raises(RemoteError, match="Delivery Timed Out"):
            SsmShell(client, INSTANCE, lambda _: None).run("true", Lines())
