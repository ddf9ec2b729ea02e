"""The daemon's control socket: one JSON request and one JSON reply for each connection. Only its owner may open it (0600)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from localcloud.network.faults import FaultError, Faults
from localcloud.network.namespace import Namespace
from localcloud.network.pebble import PebbleError
from localcloud.runtime import listing
from localcloud.runtime.published import PublishError

if TYPE_CHECKING:
    from localcloud.aws import Aws
    from localcloud.triton import CloudApi

_LONGEST = 16 * 2**20


class ControlError(Exception):
    """The request cannot be carried out; the message is for the user."""


class Controlled(Protocol):
    """What the commands need of the daemon."""

    options: Any
    hypervisor: Any
    aws: Aws
    datacenters: tuple[CloudApi, ...]
    faults: Faults
    namespace: Namespace

    def environment(self) -> dict[str, str]: ...

    def follow(self, zone: str, server: str, key: str) -> str: ...

    def have_zones(self, cloudflare: Sequence[str], route53: Sequence[str]) -> list[str]: ...

    def publish(self, url: str, file: Path, kind: str = "") -> str: ...

    def have_acme(self, validity: int = ...) -> str: ...

    def acme_status(self, path: str) -> str: ...


class ControlServer:
    """Serves a daemon's commands."""

    def __init__(self, path: Path, daemon: Controlled) -> None:
        self._daemon = daemon
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The path of a socket has at most 107 characters (unix(7)), so bind by a short path to the folder.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._socket.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
        path.chmod(0o600)
        self._socket.listen(16)
        self._path = path
        self._commands: dict[str, Callable[[dict[str, Any]], Any]] = {
            "env": lambda _: daemon.environment(),
            "ps": lambda _: self._ps(),
            "status": lambda _: self._status(),
            "crash": lambda request: self._machines.cut_power(self._find(request["machine"])),
            "freeze": lambda request: self._machines.freeze(self._find(request["machine"])),
            "thaw": lambda request: self._machines.thaw(self._find(request["machine"])),
            "console": lambda request: str(self._machines.console(self._find(request["machine"]))),
            "memory": lambda request: self._machines.memory(self._find(request["machine"])),
            "exec": self._exec,
            "fault": lambda request: str(daemon.faults.add(request["spec"])),
            "clear": lambda request: daemon.faults.clear(request.get("service")),
            "faults": lambda _: daemon.faults.active(),
            "secondary": lambda request: daemon.follow(request["zone"], request["server"], request["key"]),
            "zones": lambda request: daemon.have_zones(request["cloudflare"], request["route53"]),
            "acme": self._acme,
            "publish": lambda request: daemon.publish(request["url"], Path(request["file"]), request.get("kind", "")),
            "partition": lambda _: daemon.namespace.partition(),
            "isolate": lambda request: daemon.namespace.isolate(request["cloud"]),
            "heal": lambda _: daemon.namespace.heal(),
        }

    def _acme(self, request: dict[str, Any]) -> str:
        if "page" in request:
            return self._daemon.acme_status(request["page"])
        return self._daemon.have_acme(**{key: request[key] for key in ("validity",) if key in request})

    def start(self) -> None:
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    @property
    def _machines(self) -> Any:
        if not self._daemon.options.machines:
            raise ControlError("daemon: boots no machines. Start it without --no-machines.")
        return self._daemon.hypervisor

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError):
            request = json.loads(_read(connection))
            try:
                if request.get("command") not in self._commands:
                    raise ControlError(
                        f"{request.get('command')!r}: is not a command. Choose one that `localcloud --help` lists."
                    )
                reply: dict[str, Any] = {"ok": self._commands[request["command"]](request)}
            except (ControlError, FaultError, PebbleError, PublishError) as wrong:
                reply = {"error": str(wrong)}
            except Exception as broken:  # noqa: BLE001 - the client gets the error, and the daemon continues
                reply = {"error": f"{type(broken).__name__}: {broken}"}
            connection.sendall(json.dumps(reply).encode())

    def _status(self) -> dict[str, Any]:
        """Sizes in bytes: the daemon's resident set, and for each machine that is on the proportional set of all in it."""
        on = [each.id for each in self._machines.ps() if each.pid] if self._daemon.options.machines else []
        sizes = {machine: self._machines.memory(machine) for machine in on}
        return {"pid": os.getpid(), "rss": rss(), "machines": sizes, "faults": self._daemon.faults.active()}

    def _ps(self) -> list[dict[str, Any]]:
        """Return what the clouds list, and which of it runs. If the two differ, the clouds' list counts."""
        running = {each.id: each for each in self._machines.ps()} if self._daemon.options.machines else {}
        listed = [*listing.instances_of_aws(self._daemon.aws), *listing.machines_of_joyent(self._daemon.datacenters)]
        return [{**each, **_power(running.get(each["id"]))} for each in listed]

    def _find(self, name: str) -> str:
        """Return a machine's id by its id, its name or the start of its name, if only one machine fits."""
        listed = [each for each in self._ps() if each["state"] not in ("terminated", "deleted")]
        exact = [each["id"] for each in listed if name in (each["id"], each["name"])]
        near = exact or [each["id"] for each in listed if each["name"].startswith(name) or each["id"].startswith(name)]
        if len(near) != 1:
            raise ControlError(
                f"{name!r}: names {'no machine' if not near else f'{len(near)} machines'}. Choose one that `localcloud ps` lists."
            )
        return str(near[0])

    def _exec(self, request: dict[str, Any]) -> dict[str, Any]:
        stdin = base64.b64decode(request.get("stdin", ""))
        done = self._machines.exec(
            self._find(request["machine"]), request["argv"], stdin, float(request.get("timeout", 60))
        )
        return {
            "code": done.returncode,
            "stdout": base64.b64encode(done.stdout).decode(),
            "stderr": base64.b64encode(done.stderr).decode(),
        }


def _power(runs: Any) -> dict[str, Any]:
    return {"pid": runs.pid if runs else None, "power": runs.state if runs else None}


def ask(path: Path, command: str, timeout: float = 90.0, **values: Any) -> Any:
    """Return what the daemon at this socket answers. Raises ControlError when there is none, or it refuses."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(timeout)
    with made:
        try:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                made.connect(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
            made.sendall(json.dumps({"command": command, **values}).encode())
            made.shutdown(socket.SHUT_WR)
            reply = json.loads(_read(made))
        except (OSError, ValueError) as gone:
            raise ControlError("daemon: does not run. Run `make up` to start it.") from gone
    if "error" in reply:
        raise ControlError(reply["error"])
    return reply["ok"]


def rss() -> int:
    """Return the bytes of memory that this process uses."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _read(connection: socket.socket) -> bytes:
    found = b""
    while chunk := connection.recv(65536):
        found += chunk
        if len(found) > _LONGEST:
            raise ValueError("too long")
    return found
