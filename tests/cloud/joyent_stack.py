"""A small Pulumi project on the real engine against the local CloudAPI, with the engine killed where a test says.

Nothing is booted. Every process that comes of a run is in one session of its own and is ended with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from components.joyent.client import CloudApi as Client
from components.joyent.records import MachineRecord
from localcloud.engine import ensure
from localcloud.machines.compute import InstantHypervisor
from localcloud.network.http import Server
from localcloud.triton import CloudApi
from tests import warm
from tests.cloud.triton import triton

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from localcloud.network.http import WSGIApp

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-that-the-state-must-not-hold-in-any-form"
SCRIPT = "echo this text is not in the state"

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
import json
import os
import pulumi
from components.joyent import Machine, MachineArgs, Ready, ReadyArgs

options = json.loads(os.environ["TRIAL"])
made = [
    Machine(
        f"web-{{index}}",
        MachineArgs(
            machine_name=f"web-{{index}}-{{options.get('generation', 'aaaaaa')}}",
            package="g1.nano",
            image="debian-12",
            networks=["Joyent-SDC-Public"],
            tags={{**options.get("tags", {{"role": "web"}}), "index": index}},
            metadata={{"round": options.get("round", "1")}},
            secret_metadata={{"token": {token!r}}},
            userdata="#!/bin/sh\\n" + {script!r},
        ),
    )
    for index in range(options["count"])
]
ready = Ready("ready", ReadyArgs(machines=[each.id for each in made], timeout=options.get("timeout", 60)))
pulumi.export("addresses", ready.addresses)
"""


@dataclass
class Kill:
    """Kill the engine at the `nth` request like `METHOD /path`, before the API acts on it or after."""

    request: str
    when: Literal["before", "after"]
    nth: int = 1
    pid: int = 0
    seen: int = 0
    done: bool = False


@dataclass
class Wire:
    """The proxy between the client and the API: counts the requests, and kills."""

    app: WSGIApp
    requests: list[str] = field(default_factory=list)
    kill: Kill | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"].removeprefix("/rollcall")
        request = f"{environ['REQUEST_METHOD']} {path}"
        self.requests.append(request)
        kill, due = self.kill, False
        if kill is not None and kill.pid and not kill.done and re.fullmatch(kill.request, request):
            kill.seen += 1
            due = kill.done = kill.seen == kill.nth
        if kill is not None and due and kill.when == "before":
            os.kill(kill.pid, signal.SIGKILL)
            time.sleep(0.2)
        answer = list(self.app(environ, start_response))
        if kill is not None and due and kill.when == "after":
            os.kill(kill.pid, signal.SIGKILL)
            time.sleep(0.2)
        return answer

    def count(self, request: str) -> int:
        return sum(bool(re.fullmatch(request, each)) for each in self.requests)


@dataclass
class Stack:
    """One project, its backend and the cloud it is on."""

    folder: Path
    wire: Wire
    environ: dict[str, str]
    client: Client
    cloud: CloudApi
    _made: bool = False

    def run(
        self,
        *words: str,
        kill: Kill | None = None,
        kill_after: float | None = None,
        check: bool = True,
        timeout: float = 240,
        **given: Any,
    ) -> str:
        """`pulumi WORDS`; what it printed. With `kill` it is expected to die there; with `kill_after` all of its processes
        are killed after so many seconds, if it is not done before."""
        if not self._made:
            # Half of the tests need the clouds only.
            self._made = True
            self.run("stack", "init", "trial")
        environ = {**self.environ, "TRIAL": json.dumps({"count": 2, **given})}
        process = subprocess.Popen(
            ["pulumi", *words, "--non-interactive"],
            cwd=self.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            if kill is not None:
                kill.pid, self.wire.kill = process.pid, kill
            printed, _ = process.communicate(timeout=timeout if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            if kill_after is None:
                raise
            end_session(process.pid)
            printed, _ = process.communicate(timeout=timeout)
        finally:
            self.wire.kill = None
            end_session(process.pid)
            process.wait()
        if kill is not None:
            assert kill.done, f"{kill.request} was never asked:\n{printed}"
        elif check and kill_after is None:
            assert process.returncode == 0, printed
        return printed

    def up(self, *words: str, **options: Any) -> str:
        return self.run("up", "--yes", "--skip-preview", *words, **options)

    def preview(self, **given: Any) -> dict[str, dict[str, Any]]:
        """The steps of a preview by the resource's name, those that change nothing left out; of a replacement the one with its
        reasons."""
        printed = self.run("preview", "--json", **given)
        steps = json.loads(printed[printed.index("{") :])["steps"]
        changes = ("create", "update", "replace", "delete")
        return {each["urn"].rpartition("::")[2]: each for each in steps if each["op"] in changes}

    def triton(self, *words: str) -> Any:
        """What the official client prints: JSON, an object or one on each line, else text."""
        printed = triton(self.environ, *words).strip()
        try:
            return json.loads(printed)
        except ValueError:
            lines = printed.splitlines()
            return [json.loads(line) for line in lines] if printed.startswith("{") else printed

    def recover(self) -> None:
        """What `pulumi cancel` does after a kill: clear the lock."""
        for lock in (self.folder.parent / "backend" / ".pulumi" / "locks").rglob("*.json"):
            lock.unlink()

    def state(self) -> dict[str, Any]:
        """The checkpoint as the file backend holds it: secrets encrypted."""
        checkpoint = self.folder.parent / "backend" / ".pulumi" / "stacks" / "trial" / "trial.json"
        state: dict[str, Any] = json.loads(checkpoint.read_text())["checkpoint"]["latest"]
        return state

    def resources(self, kind: str = "Machine") -> dict[str, dict[str, Any]]:
        """The resources of a kind in the state, by name; those that wait for their deletion too."""
        found = self.state().get("resources", [])
        return {each["urn"].rpartition("::")[2]: each for each in found if each["type"].endswith(f":{kind}")}

    def machines(self) -> list[MachineRecord]:
        return self.client.list_machines()

    def settled(self, what: Callable[[], bool], timeout: float = 30) -> None:
        end = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < end, self.machines()
            time.sleep(0.2)


def end_session(session: int) -> None:
    """End what is left of a session that we started: a killed engine leaves its plugins running."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(words[3]) == session:
                os.kill(int(folder.name), signal.SIGKILL)


def make_stack(folder: Path, *, program: str = PROGRAM, **options: Any) -> Generator[Stack, None, None]:
    """A stack named `trial` on its own local CloudAPI, with its `options`, until the generator is closed. `program` is its
    text, in which {{root}} is the checkout, {{token}} and {{script}} are what the state must not hold."""
    engine = ensure(lambda line: print(line, file=sys.stderr))
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (folder / "key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    cloud = CloudApi(account="rollcall", hypervisor=InstantHypervisor(), **options)
    (folder / "key.pub").write_bytes(public)
    fingerprint = cloud.add_key("trial", public.decode())
    listening = socket.create_server(("127.0.0.1", 0))
    wire = Wire(cloud.app)
    server = Server(wire, [listening])
    server.start()
    project = folder / "program"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: trial\nruntime: python\noptions: {refresh: always}\n")
    text = program.format(root=str(ROOT), token=TOKEN, script=SCRIPT)
    (project / "__main__.py").write_text(textwrap.dedent(text))
    (folder / "backend").mkdir()
    own = {
        **warm.variables(f"{engine}:{Path(sys.executable).parent}:{os.environ['PATH']}"),
        "PULUMI_HOME": str(folder / "home"), "PULUMI_BACKEND_URL": f"file://{folder / 'backend'}?metadata=skip",
        "PULUMI_CONFIG_PASSPHRASE": "trial", "PULUMI_SKIP_UPDATE_CHECK": "1", "PYTHONPATH": str(ROOT),
        "TRITON_URL": f"http://127.0.0.1:{server.ports[0]}", "TRITON_ACCOUNT": "rollcall", "TRITON_KEY_FILE": str(folder / "key"),
        "TRITON_KEY_ID": fingerprint,
    }  # fmt: skip
    foreign = ("TRITON_", "SDC_", "PULUMI_", "SSH_AUTH")
    environ = {**{name: value for name, value in os.environ.items() if not name.startswith(foreign)}, **own}
    stack = Stack(project, wire, environ, Client.from_environment(own), cloud)
    try:
        yield stack
    finally:
        server.stop()
        listening.close()
