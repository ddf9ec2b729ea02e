"""The command `localcloud`: start, stop and disturb the local clouds of this checkout."""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import gc
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from localcloud.network.namespace import NETWORKS, Namespace, NamespaceError
from localcloud.runtime import images
from localcloud.runtime.control import ControlError, ask
from localcloud.runtime.published import PublishError

ROOT = Path(__file__).resolve().parents[2]
RESOLVER = NETWORKS["aws"].gateway
READY_WITHIN, GONE_WITHIN = 60.0, 60.0
# The variable that names the local clouds that a command is for, if no option does.
INSTANCE = "LOCALCLOUD_INSTANCE"
# No other variable of the caller's environment is used: a profile, a proxy or an endpoint in it would lead to real clouds.
PASSED_ON = ("PATH", "HOME", "LANG", "TERM", "TMPDIR", "XDG_CACHE_HOME", "NO_COLOR")


class Started(Protocol):
    """A daemon that was started."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """Return None while it runs."""

    def terminate(self) -> None: ...


# The arguments of `localcloud` for the daemon, and the file for what it prints.
Starter = Callable[[Sequence[str], Path], Started]


def main(arguments: Sequence[str] | None = None, starter: Starter | None = None) -> int:
    """Run one command. Return the exit code. `starter` starts the daemon of `start`; without it a new Python does."""
    chosen = _parser().parse_args(arguments, argparse.Namespace(starter=starter or _new_process))
    # Absolute, since the daemon works in another folder.
    state: Path = (chosen.state or ROOT / ".rollcall" / chosen.instance).absolute()
    try:
        return COMMANDS[chosen.command](state, chosen)
    except (ControlError, NamespaceError, PublishError) as wrong:
        print(f"localcloud: {wrong}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localcloud", description=__doc__)
    parser.add_argument("--instance", default=os.environ.get(INSTANCE, "local"))
    parser.add_argument("--state", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("serve", "run in the foreground"),
        ("start", "run in the background; returns when all answers"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--no-machines", action="store_true", help="boot nothing; no root and no namespace needed")
        command.add_argument(
            "--no-plugins",
            action="store_true",
            help="prepare no process for the stand-ins of an engine that comes later",
        )
        command.add_argument("--delay", type=float, default=0.0, help="seconds until a machine that is not booted runs")
        command.add_argument(
            "--timers", default="", help="times of the agents on the machines, as `stop-delay=5 watch=3`"
        )
    commands.add_parser("stop", help="stop everything; nothing is left")
    status = commands.add_parser("status", help="exit code 0 when the local clouds run")
    status.add_argument("--json", action="store_true")
    commands.add_parser("env", help="export lines for any client")
    commands.add_parser("ps", help="what runs, as JSON")
    for name, text in (
        ("crash", "pull the plug"),
        ("freeze", "hang it; its API says running"),
        ("thaw", "let it go on"),
        ("logs", "what it printed while booting"),
    ):
        commands.add_parser(name, help=text).add_argument("machine", help="id, name or the start of one")
    execute = commands.add_parser("exec", help="run a command inside: exec MACHINE -- COMMAND …")
    # This is an option, because it cannot be detected: a pipe that is never closed would never end.
    execute.add_argument("-i", "--stdin", action="store_true", help="give the command what comes on standard input")
    execute.add_argument("machine")
    execute.add_argument("argv", nargs="+")
    run = commands.add_parser("run", help="run a command of the host in the machines' network: run -- COMMAND …")
    run.add_argument("argv", nargs="+")
    fault = commands.add_parser("fault", help="switch a fault on, list them, or clear them")
    fault.add_argument("spec", nargs="*", help="SERVICE[:METHOD][:PATH] ACTION[=VALUE] [times=N] [for=S] [p=P]")
    fault.add_argument("--clear", nargs="?", const="", metavar="SERVICE")
    fault.add_argument("--list", action="store_true")
    publish = commands.add_parser("publish", help="serve a file or a folder to machines at an https address")
    publish.add_argument("url", help="as https://releases.example.com/api-1")
    publish.add_argument("file", type=Path)
    image = commands.add_parser("image", help="serve an image of a container to machines, as its registry does")
    image.add_argument("name", help="as ghcr.io/acme/cart:1.4")
    image.add_argument(
        "source",
        type=Path,
        help="an archive (`podman save --format oci-archive`), or a folder with the files of an image",
    )
    image.add_argument("argv", nargs="*", metavar="command", help="what an image of a folder starts, as /start")
    commands.add_parser("partition", help="cut the clouds off from each other")
    commands.add_parser("isolate", help="cut one cloud off from everything").add_argument(
        "cloud", choices=["aws", "joyent"]
    )
    commands.add_parser("heal", help="undo partition and isolate")
    return parser


def _serve(state: Path, chosen: Any) -> int:
    # moto's models are permanent objects. Without this the garbage collector scans them repeatedly, which takes a quarter of a start.
    gc.set_threshold(50_000, 20, 20)
    from localcloud.machines.hypervisor import HypervisorError
    from localcloud.runtime.daemon import DaemonError, Options, serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        return serve(
            Options(
                instance=chosen.instance,
                state=state,
                machines=not chosen.no_machines,
                delay=chosen.delay,
                plugins=not chosen.no_plugins,
                timers=chosen.timers,
            )
        )
    except (DaemonError, HypervisorError, NamespaceError) as wrong:
        print(f"localcloud: {wrong}", file=sys.stderr)
        return 1


def _start(state: Path, chosen: Any) -> int:
    """Start the daemon in a separate session, so that Ctrl-C at `make up` does not stop the machines."""
    running = _process(state) or _holder(state)
    if running is not None:
        raise ControlError(
            f"{state}: its local clouds already run (process {running[0]}). Run `localcloud stop` to end them."
        )
    _clean(state)
    logs = state / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / "daemon.log"
    words = ["--instance", chosen.instance, "--state", str(state), "serve"]
    words += ["--no-machines"] if chosen.no_machines else []
    words += ["--no-plugins"] if chosen.no_plugins else []
    words += ["--delay", str(chosen.delay), "--timers", chosen.timers]
    daemon: Started = chosen.starter(words, log)
    end = time.monotonic() + READY_WITHIN
    while time.monotonic() < end:
        # One that was killed leaves its daemon.json, and another start may have won the race for the folder.
        if (ready := _process(state)) is not None and ready[0] == daemon.pid:
            return 0
        if daemon.poll() is not None:
            break
        time.sleep(0.1)
    if daemon.poll() is None:
        daemon.terminate()
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
    raise ControlError(f"daemon: did not start. Read {log}. Its last lines:\n{tail}")


def passed_on() -> dict[str, str]:
    """Return the part of this process's environment that the daemon gets."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def _new_process(words: Sequence[str], log: Path) -> Started:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "localcloud", *words],
            cwd=ROOT,
            env=passed_on(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def _stop(state: Path, _chosen: Any) -> int:
    """Stop the daemon by the process id that it wrote down, if that is still the same process. Remove what a killed one left."""
    running = _process(state) or _holder(state)
    if running is None:
        _clean(state)
        return 0
    os.kill(running[0], signal.SIGTERM)
    end = time.monotonic() + GONE_WITHIN
    while _alive(*running):
        if time.monotonic() > end:
            raise ControlError(f"process {running[0]}: does not stop. Read {state / 'logs' / 'daemon.log'}.")
        time.sleep(0.05)
    return 0


def _clean(state: Path) -> None:
    """Remove what a killed daemon left: its machines, its namespace, its files."""
    written = state / "daemon.json"
    if (state / "machines").exists():
        from localcloud.machines.hypervisor import cleanup

        cleanup(state / "machines")
    if written.exists():
        with contextlib.suppress(ValueError):
            namespace = json.loads(written.read_text()).get("namespace")
            if namespace:
                Namespace(namespace).destroy()
        for key in (state / "keys").glob("*"):
            key.unlink()
        for left in ("control.sock", "plugins.sock", "daemon.json"):
            (state / left).unlink(missing_ok=True)


def _process(state: Path) -> tuple[int, str] | None:
    """Return the daemon's process id and start time, if it is still the process that wrote them down."""
    try:
        written = json.loads((state / "daemon.json").read_text())
        found = int(written["pid"]), str(written["started"])
    except (OSError, ValueError, KeyError):
        return None
    return found if _alive(*found) else None


def _holder(state: Path) -> tuple[int, str] | None:
    """Return the process that has locked the state folder: a daemon that has not yet written its process id."""
    try:
        with (state / "daemon.lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                process = int(lock.read())
                return process, _start_time(process)
    except (OSError, ValueError):
        return None
    return None


def _start_time(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]


def _alive(process: int, started: str) -> bool:
    """Return whether this same process still runs. Its id may belong to another one now."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[19] == started and fields[0] != "Z"


def _status(state: Path, chosen: Any) -> int:
    found = ask(state / "control.sock", "status")
    shown = f"process {found['pid']}, {found['rss'] // 2**20} MiB, faults: {', '.join(found['faults']) or 'none'}"
    print(json.dumps(found) if chosen.json else shown)
    return 0


def _env(state: Path, _chosen: Any) -> int:
    for name, value in sorted(ask(state / "control.sock", "env").items()):
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _ps(state: Path, _chosen: Any) -> int:
    print(json.dumps(ask(state / "control.sock", "ps"), indent=1))
    return 0


def _machine(state: Path, chosen: Any) -> int:
    ask(state / "control.sock", chosen.command, machine=chosen.machine)
    return 0


def _logs(state: Path, chosen: Any) -> int:
    console = Path(ask(state / "control.sock", "console", machine=chosen.machine))
    sys.stdout.write(console.read_text(errors="replace") if console.exists() else "")
    return 0


def _exec(state: Path, chosen: Any) -> int:
    given = base64.b64encode(sys.stdin.buffer.read()).decode() if chosen.stdin else ""
    done = ask(state / "control.sock", "exec", machine=chosen.machine, argv=chosen.argv, stdin=given)
    sys.stdout.buffer.write(base64.b64decode(done["stdout"]))
    sys.stderr.buffer.write(base64.b64decode(done["stderr"]))
    return int(done["code"])


def _run(state: Path, chosen: Any) -> int:
    """Run a command inside the namespace, as a client of the services. `ROLLCALL_DNS` is a resolver there; the host is not reachable."""
    written = json.loads((state / "daemon.json").read_text()) if _process(state) else {}
    if not written.get("namespace"):
        raise ControlError("network: there is none for machines. Start the local clouds without --no-machines.")
    words = ["nsenter", f"--net=/run/netns/{written['namespace']}", "--", *chosen.argv]
    return subprocess.run(words, env={**os.environ, "ROLLCALL_DNS": f"{RESOLVER}:53"}, check=False).returncode


def _fault(state: Path, chosen: Any) -> int:
    control = state / "control.sock"
    if chosen.clear is not None:
        ask(control, "clear", service=chosen.clear or None)
    elif chosen.spec:
        print(ask(control, "fault", spec=" ".join(chosen.spec)))
    else:
        print("\n".join(ask(control, "faults")))
    return 0


def _publish(state: Path, chosen: Any) -> int:
    """Print what the stack file says about the file. Of a folder, each file is served below the address."""
    if chosen.file.is_dir():
        for each in sorted(path for path in chosen.file.rglob("*") if path.is_file()):
            url = f"{chosen.url.rstrip('/')}/{each.relative_to(chosen.file).as_posix()}"
            ask(state / "control.sock", "publish", url=url, file=str(each.absolute()))
            print(url)
        return 0
    digest = ask(state / "control.sock", "publish", url=chosen.url, file=str(chosen.file.absolute()))
    print(f"artifact: {chosen.url}\nsha256: {digest}")
    return 0


def _image(state: Path, chosen: Any) -> int:
    """Print the line of the stack file for the image."""
    host, _, path = chosen.name.partition("/")
    repository, _, tag = path.partition(":")
    if host == "docker.io":
        host, repository = images.DOCKER_HUB, repository if "/" in repository else f"library/{repository}"
    found, files = images.served(repository, tag or "latest", chosen.source, chosen.argv)
    with tempfile.TemporaryDirectory() as folder:
        for each in files:
            file = Path(folder, "part")
            file.write_bytes(each.data)
            ask(state / "control.sock", "publish", url=f"https://{host}{each.path}", file=str(file), kind=each.kind)
    print(f"container: {chosen.name}@{found}")
    return 0


def _network(state: Path, chosen: Any) -> int:
    ask(state / "control.sock", chosen.command, cloud=getattr(chosen, "cloud", None))
    return 0


COMMANDS = {
    "serve": _serve,
    "start": _start,
    "stop": _stop,
    "status": _status,
    "env": _env,
    "ps": _ps,
    "crash": _machine,
    "freeze": _machine,
    "thaw": _machine,
    "logs": _logs,
    "exec": _exec,
    "run": _run,
    "fault": _fault,
    "publish": _publish,
    "image": _image,
    "partition": _network,
    "isolate": _network,
    "heal": _network,
}
