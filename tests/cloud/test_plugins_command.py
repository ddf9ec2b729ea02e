"""The stand-in for the command plugin: what runs when, with which environment; `ssh` is a script that keeps its arguments."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2

from localcloud.plugins.command import PLUGIN, Command
from tests.plugin_host import Host, RefusedError, hosted

pytestmark = pytest.mark.clouds
NONE = provider_pb2.DiffResponse.DIFF_NONE
LOCAL, REMOTE = "command:local:Command", "command:remote:Command"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nnot one\n-----END OPENSSH PRIVATE KEY-----"

# Replaces ssh and the machine: runs the command with no variable but those that SendEnv names.
SSH = """#!{python}
import json, os, subprocess, sys
arguments = sys.argv[1:]
key = arguments[arguments.index("-i") + 1] if "-i" in arguments else None
sent = [each.partition("=")[2] for each in arguments if each.startswith("-oSendEnv=")]
with open({log!r}, "a") as log:
    mode = os.stat(key).st_mode & 0o777 if key else None
    print(json.dumps({{"arguments": arguments, "key": open(key).read() if key else None, "mode": mode}}), file=log)
if arguments[-2].endswith("@down"):
    print("ssh: connect to host down port 22: Connection refused", file=sys.stderr)
    sys.exit(255)
environ = {{name: os.environ[name] for name in sent}}
sys.exit(subprocess.run(["/bin/sh", "-c", arguments[-1]], env={{"PATH": os.environ["PATH"], **environ}}).returncode)
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with hosted(Command()) as made:
        yield made


class Ssh:
    def __init__(self, folder: Path) -> None:
        self._log = folder / "ssh.log"
        script = folder / "ssh"
        script.write_text(SSH.format(python=sys.executable, log=str(self._log)))
        script.chmod(0o755)

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ssh:
    made = Ssh(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("localcloud.plugins.command._PAUSE", 0.01)
    return made


def at(where: str, log: Path, **more: Any) -> tuple[str, dict[str, Any]]:
    """A command of either kind that writes what it does to `log`."""
    inputs: dict[str, Any] = {
        "create": f'echo "create $NAME" | tee -a {log}',
        "update": f'echo "update $NAME after $PULUMI_COMMAND_STDOUT" | tee -a {log}',
        "delete": f'echo "delete $NAME after $PULUMI_COMMAND_STDOUT" >> {log}',
        "environment": {"NAME": "one"},
        **more,
    }
    if where == REMOTE:
        inputs["connection"] = {"host": "192.0.2.1", "privateKey": KEY}
    return where, inputs


def test_every_type_of_the_plugin_is_tried() -> None:
    assert {each.token for each in PLUGIN.types} == {LOCAL, REMOTE}


@pytest.mark.parametrize("where", [LOCAL, REMOTE])
def test_a_command_from_its_creation_to_its_end(host: Host, ssh: Ssh, tmp_path: Path, where: str) -> None:
    log = tmp_path / "log"
    token, inputs = at(where, log, triggers=["1"])
    made = host.create(token, inputs)
    assert (made.outputs["stdout"], made.outputs["stderr"]) == ("create one", "")
    assert host.diff(made, inputs).changes == NONE
    read = host.refresh(made)
    assert read is not None
    assert (read.inputs, read.outputs["stdout"]) == (made.inputs, "create one")

    assert list(host.diff(made, {**inputs, "triggers": ["2"]}).replaces) == ["triggers"]
    wanted = {**inputs, "environment": {"NAME": "two"}}
    found = host.diff(made, wanted)
    assert (list(found.diffs), list(found.replaces)) == (["environment"], [])
    changed = host.update(made, wanted)
    assert changed.outputs["stdout"] == "update two after create one"
    host.delete(changed)
    assert log.read_text().splitlines() == [
        "create one",
        "update two after create one",
        "delete two after update two after create one",
    ]
    with pytest.raises(RefusedError, match="cannot be imported"):
        host.imported(token, made.id)


def test_without_an_update_create_runs_again(host: Host, tmp_path: Path) -> None:
    made = host.create(LOCAL, {"create": "echo a"})
    assert host.update(made, {"create": "echo b; echo c >&2"}).outputs["stderr"] == "c"


def test_without_a_create_nothing_runs_and_delete_does(host: Host, tmp_path: Path) -> None:
    left = tmp_path / "left"
    made = host.create(LOCAL, {"delete": "pwd > left", "dir": str(tmp_path)})
    assert (made.outputs["stdout"], left.exists()) == ("", False)
    host.delete(made)
    assert left.read_text().strip() == str(tmp_path)


def test_stdin_and_interpreter(host: Host) -> None:
    script = "import sys; print(sys.stdin.read().upper())"
    made = host.create(LOCAL, {"create": script, "interpreter": [sys.executable, "-c"], "stdin": "word"})
    assert made.outputs["stdout"] == "WORD"


def test_the_previous_output_stays_out_where_it_is_not_wanted(host: Host) -> None:
    inputs = {"create": "echo before", "update": 'echo "got:$PULUMI_COMMAND_STDOUT"', "addPreviousOutputInEnv": False}
    assert host.update(host.create(LOCAL, inputs), {**inputs, "stdin": "x"}).outputs["stdout"] == "got:"


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({"create": "echo no >&2; exit 3"}, "create ended with 3: no"),
        ({"create": "true", "interpreter": ["/no/such/thing"]}, "create cannot be run: .*No such file"),
        ({"create": "true", "dir": "/no/such/folder"}, "create cannot be run: .*No such file"),
    ],
)
def test_a_command_that_fails_says_why(host: Host, inputs: dict[str, Any], why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        host.create(LOCAL, inputs)


def test_a_preview_runs_nothing(host: Host, tmp_path: Path) -> None:
    token, inputs = at(LOCAL, tmp_path / "log")
    made = host.create(token, inputs)
    host.create(token, inputs, preview=True)
    host.update(made, {**inputs, "stdin": "x"}, preview=True)
    assert (tmp_path / "log").read_text() == "create one\n"


def test_a_key_is_a_file_of_the_user_and_no_value_is_in_the_arguments(host: Host, ssh: Ssh) -> None:
    connection = {"host": "192.0.2.1", "port": 2222, "user": "admin", "privateKey": KEY, "perDialTimeout": 7}
    host.create(
        REMOTE,
        {"create": 'echo "$WORD"', "connection": connection, "environment": {"WORD": "a-secret-of-the-operator"}},
    )
    (call,) = ssh.calls
    assert (call["key"].strip(), stat.filemode(call["mode"])[1:]) == (KEY, "rw-------")
    assert not Path(call["arguments"][call["arguments"].index("-i") + 1]).exists()
    assert call["arguments"][-4:] == ["-p", "2222", "admin@192.0.2.1", 'echo "$WORD"']
    assert {"-oBatchMode=yes", "-oConnectTimeout=7", "-oSendEnv=WORD"} <= set(call["arguments"])
    assert not [each for each in call["arguments"] if "a-secret-of-the-operator" in each or "BEGIN" in each]


def test_without_a_key_ssh_finds_its_own(host: Host, ssh: Ssh) -> None:
    host.create(REMOTE, {"create": "true", "connection": {"host": "192.0.2.1"}})
    assert "-i" not in ssh.calls[0]["arguments"]
    assert ssh.calls[0]["arguments"][-2] == "root@192.0.2.1"


def test_a_host_that_does_not_answer_is_tried_as_often_as_configured(host: Host, ssh: Ssh) -> None:
    with pytest.raises(RefusedError, match="create ended with 255: ssh: connect to host down"):
        host.create(REMOTE, {"create": "true", "connection": {"host": "down", "dialErrorLimit": 3}})
    assert len(ssh.calls) == 3


def test_a_command_that_ends_with_255_itself_runs_once(host: Host, ssh: Ssh) -> None:
    with pytest.raises(RefusedError, match="ended with 255"):
        host.create(REMOTE, {"create": "exit 255", "connection": {"host": "192.0.2.1"}})
    assert len(ssh.calls) == 1


def test_what_the_stand_in_cannot_is_refused_by_name(host: Host) -> None:
    found = host.faults(REMOTE, {"create": "true", "connection": {"user": "me", "password": "of mine"}})
    assert set(found) == {"connection.password", "connection.host"}
    assert "PLUGINS=real" in found["connection.password"]
    assert set(host.faults(LOCAL, {"create": "true", "logging": "all", "assetPaths": ["*"]})) == {
        "logging",
        "assetPaths",
    }
