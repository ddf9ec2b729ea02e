"""The shed: a compute API and its machines, on loopback. A machine is the real agent with settings from its cloud's own metadata."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.network.http import Server, listen
from rollcall.agent import Agent
from rollcall.clouds import detect


@dataclass(eq=False)
class Machine:
    """As the API has it; `agent` is the process on it, where its power is on."""

    id: str
    address: str
    given_settings: dict[str, Any]
    note: str = ""
    report: str = ""
    agent: Agent | None = None

    def shown(self) -> dict[str, Any]:
        """What the operator sees: no secret."""
        kept = {key: self.given_settings[key] for key in ("name", "size", "image", "labels")}
        return {
            **kept,
            "id": self.id,
            "addresses": [self.address],
            "state": self.state,
            "note": self.note,
            "report": self.report,
        }

    @property
    def state(self) -> str:
        return "on" if self.agent else "off"


class Compute:
    """`agent` makes the process of a machine from the root of its files. Nothing runs there while `silent`."""

    def __init__(self, folder: Path, agent: Callable[[Path], Agent]) -> None:
        self._folder, self._agent = folder, agent
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._socket = listen("127.0.0.1")
        self._server = Server(self._serve, [self._socket])
        self._ticks = threading.Thread(target=self._tick, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.ports[0]}"
        self.machines: dict[str, Machine] = {}
        self.ended: list[str] = []
        self.silent = False
        self._turn = threading.Lock()
        self.broken: list[BaseException] = []

    def __enter__(self) -> Compute:
        self._server.start()
        self._ticks.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._ticks.join(30)
        self._server.stop()
        self._socket.close()
        assert not self.broken, self.broken

    def _tick(self) -> None:
        """What systemd and the clock do on each machine."""
        while not self._over.wait(0.2):
            try:
                with self._turn:
                    self._tick_once()
            except BaseException as broken:  # noqa: BLE001 - the test raises it
                self.broken.append(broken)
                return

    def _tick_once(self) -> None:
        with self._lock:
            running = [each.agent for each in self.machines.values() if each.agent and not self.silent]
        for each in running:
            each.tick()

    def silence(self) -> None:
        """Let no agent do anything from now on, after those that are at work have finished."""
        with self._turn:
            self.silent = True

    def _serve(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        sent = json.loads(environ["wsgi.input"].read(length)) if length else {}
        kind, _, rest = environ["PATH_INFO"].strip("/").partition("/")
        wanted = dict(each.split("=") for each in environ.get("QUERY_STRING", "").split("&") if each)
        answer = getattr(self, f"_{environ['REQUEST_METHOD'].lower()}_{kind}")(rest, sent, wanted)
        body = json.dumps(answer).encode()
        start_response("404 Not Found" if answer is None else "200 OK", [("Content-Length", str(len(body)))])
        return [body]

    # The operator's side

    def _post_machines(self, _: str, sent: dict[str, Any], __: dict[str, str]) -> Any:
        number = next(self._numbers)
        made = Machine(f"shed-{number:06}", f"203.0.113.{200 + number}", sent)
        root = self._folder / made.id
        (root / "run/shed").mkdir(parents=True)
        (root / "run/shed/metadata").write_text(f"{self.url}/guest/{made.id}")
        assert sent["userdata"].startswith("#!/bin/sh"), "a machine without user data runs nothing"
        with self._lock:
            self.machines[made.id] = made
            made.agent = self._agent(root)
        return made.shown()

    def _get_machines(self, which: str, _: dict[str, Any], wanted: dict[str, str]) -> Any:
        with self._lock:
            if which:
                found = self.machines.get(which)
                return found and found.shown()
            listed = [each.shown() for each in self.machines.values()]
        return [each for each in listed if wanted.items() <= each["labels"].items()]

    def _patch_machines(self, which: str, sent: dict[str, Any], _: dict[str, str]) -> Any:
        with self._lock:
            if which not in self.machines:
                return None
            given_settings = self.machines[which].given_settings
            for key, given in sent.items():
                given_settings[key] = {
                    name: value for name, value in {**given_settings[key], **given}.items() if value is not None
                }
            return self.machines[which].shown()

    def _delete_machines(self, which: str, _: dict[str, Any], __: dict[str, str]) -> Any:
        with self._lock:
            found = self.machines.pop(which, None)
            self.ended += [which] if found else []
        return {} if found else None

    # The machine's side

    def _get_guest(self, which: str, _: dict[str, Any], __: dict[str, str]) -> Any:
        with self._lock:
            found = self.machines.get(which)
            return found and {**found.shown(), "secrets": found.given_settings["secrets"]}

    def _put_guest(self, which: str, sent: dict[str, Any], _: dict[str, str]) -> Any:
        with self._lock:
            if which not in self.machines:
                return None
            vars(self.machines[which]).update(sent)
        return {}


def agent_of(root: Path, **options: Any) -> Agent:
    """The real agent, which finds out by itself on which cloud it is."""
    return Agent(detect(root, which=lambda _: None), status_file=root / "run/status.json", **options)
