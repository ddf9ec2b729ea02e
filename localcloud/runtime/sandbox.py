"""`make up`, `down`, `preview`, `status`, `env`: the real Pulumi engine on the local clouds.

The program runs from a folder of links, so that what Pulumi writes beside the project (the encryption salt of a stack's
configuration) does not touch the checkout. Its environment has only PATH and HOME of the caller. So no address except loopback can be
reached, with any configuration of a stack.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import yaml

from localcloud.aws.catalogue import REGIONS
from localcloud.runtime import named, plain
from localcloud.runtime import show as shown
from localcloud.runtime.cli import INSTANCE, PASSED_ON, RESOLVER
from localcloud.runtime.control import ControlError, ask
from localcloud.runtime.prepare import ROOT, VENV, cache, callers_path
from localcloud.runtime.progress import Step, log_named
from localcloud.runtime.show import GONE, addresses, visit
from localcloud.runtime.stackconfig import sandboxed
from localcloud.runtime.updates import Events, Update, changes

__all__ = ["GONE", "Sandbox", "SandboxError", "addresses", "visit"]

# The key pair that a stack's `ssh.keyName` may name.
OPERATORS = "operators"
WATCH_S = 0.2
# The ACME server is built from its Go module the first time.
ACME_S = 900.0
LOGS, LOCK = "logs", "make.lock"
_LEFT = """\
==> No process, machine or network is left. What stays: logs in {logs} and .rollcall/logs, .venv, {cache} (engine and image),
    the Debian packages that were missing, the caches of pip and Go. docs/rehearsal.md has the commands that remove each."""
LINKED = ("__main__.py", "components", "userdata", ".venv")


class SandboxError(Exception):
    """The sandbox cannot continue; the message names what to do."""


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """One set of local clouds with one stack on it. `instance` names both; `make` uses the stack's name, each test its own."""

    stack: str = "local"
    instance: str = "local"
    plugins: str = "stand-in"
    config: Path | None = None
    machines: bool = True
    # The folder of Pulumi.yaml: the checkout, or a repository of the operator whose `main` is the checkout.
    project: Path = ROOT

    @property
    def state(self) -> Path:
        return ROOT / ".rollcall" / self.instance

    @property
    def work(self) -> Path:
        """The folder that Pulumi works in: links to the program, a copy of the stack's configuration."""
        return self.state / plain.PROGRAM

    @property
    def tag(self) -> str:
        """The stack's name on machines and in records. If the project is not `rollcall`, the project's name is before it."""
        project = self.project_name()
        return self.stack if project == "rollcall" else f"{project}.{self.stack}"

    def project_name(self) -> str:
        """Return the name of the project. Raises SandboxError if its file cannot be used."""
        try:
            return str(plain.read_project(self.project)["name"])
        except ValueError as wrong:
            raise SandboxError(str(wrong)) from wrong

    @property
    def source(self) -> Path:
        """The stack's configuration, as its operator has it."""
        return self.config or self.project / f"Pulumi.{self.stack}.yaml"

    def environment(self) -> dict[str, str]:
        """What points any client at the local clouds, as a mapping. Raises SandboxError when the local clouds are not up."""
        found: dict[str, str] = self.ask("env")
        home, backend = self.state / "pulumi-home", self.state / "backend"
        passphrase = self.state / "passphrase"
        if not passphrase.exists():
            with (
                contextlib.suppress(FileExistsError),
                open(os.open(passphrase, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file,
            ):
                file.write(secrets.token_urlsafe(24))
        found.update(
            # Without a file of metadata beside each of the state's, which an engine that is killed can leave cut short: then
            # nothing reads the state any more ("failed to load checkpoint: EOF"). https://gocloud.dev/howto/blob/#local
            PULUMI_BACKEND_URL=f"file://{backend}?metadata=skip",
            PULUMI_CONFIG_PASSPHRASE=passphrase.read_text(),
            PULUMI_HOME=str(home),
            PULUMI_SKIP_UPDATE_CHECK="true",
            # What there is has been put there before, or asked for by name.
            PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION="true",
            PATH=os.pathsep.join(
                dict.fromkeys((engine_folder(), str(VENV / "bin"), *callers_path().split(os.pathsep)))
            ),
        )
        inside = ["env", f"PYTHONPATH={ROOT}", *self._localcloud("run", "--")]
        found["ROLLCALL_SSH"] = shlex.join([*inside, "ssh", "-i", str(self.state / "keys" / OPERATORS)])
        for name in (
            "AWS_ENDPOINT_URL",
            "CLOUDFLARE_BASE_URL",
            "TRITON_URL",
            "ROLLCALL_SITE_URL",
            "ROLLCALL_REGISTRY_URL",
        ):
            if urlsplit(found[name]).hostname != "127.0.0.1":
                raise SandboxError(
                    f"{name}: {found[name]} is not this machine, and a sandbox reaches loopback only. Run `make down`, then `make up`."
                )
        return found

    def start(self) -> bool:
        """Start the local clouds unless they run. Return whether they ran.

        If they did not run, the state of the stack is removed, because its clouds were in memory only.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        if self.running():
            return True
        for left in ("backend", plain.PROGRAM):
            shutil.rmtree(self.state / left, ignore_errors=True)
        self.localcloud("start", *([] if self.machines else ["--no-machines"]))
        return False

    def running(self) -> bool:
        try:
            self.ask("status")
        except SandboxError:
            return False
        return True

    def stop(self) -> None:
        """Stop the local clouds with all their machines, if they run. The logs in the state folder stay."""
        self.localcloud("stop")
        for each in self.state.glob("*"):
            if each.name in (LOGS, LOCK):
                continue
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)
            else:
                each.unlink()

    def ask(self, command: str, **values: Any) -> Any:
        """Ask the daemon of the local clouds (localcloud.runtime.control). Raises SandboxError when it does not run, or refuses."""
        try:
            return ask(self.state / "control.sock", command, **values)
        except ControlError as wrong:
            raise SandboxError(str(wrong)) from wrong

    def localcloud(self, *words: str, capture: bool = False) -> str:
        done = self.run_localcloud(*words, capture=capture)
        if done.returncode:
            raise SandboxError(f"localcloud {words[0]}: failed. Read its message above.")
        return done.stdout or ""

    def run_localcloud(self, *words: str, capture: bool) -> subprocess.CompletedProcess[str]:
        """Run `localcloud WORDS` for this instance to its end."""
        output = subprocess.PIPE if capture else None
        return subprocess.run(self._localcloud(*words), stdout=output, check=False, text=True, cwd=ROOT)

    def _localcloud(self, *words: str) -> list[str]:
        return [str(VENV / "bin" / "python"), "-m", "localcloud", "--instance", self.instance, *words]

    def log_of(self, verb: str) -> Path:
        return self.state / LOGS / f"pulumi-{verb}.log"

    def watched(self, step: Step, verb: str, *words: str) -> Update:
        """Lay out and run `pulumi VERB`: its progress in few lines, all that it prints in a log. Raises SandboxError naming the log
        when it fails."""
        self.lay_out(lambda text: step.line(f"==> {text}"))
        log, done, events = self.log_of(verb), Update(), Events(self.state / "events")

        def watch() -> None:
            for event in events.new():
                for line in done.add(event):
                    step.line(line)
            step.going(done.headline())

        command = ["pulumi", verb, *words, "--stack", self.stack, "--non-interactive"]
        # The option is there with this variable only.
        env = {**self.engines_environment(), "PULUMI_DEBUG_COMMANDS": "true"}
        with contextlib.closing(events):
            code = _log_in_session([*command, "--event-log", str(events.path)], self.work, env, log, watch)
        if code:
            hint = f"Read {log} for all that it printed." if done.failed else log_named(log)
            fix = "Correct the errors above" if done.failed else "Read its log"
            raise SandboxError(f"pulumi {verb}: failed with exit code {code}. {fix}.\n{hint}")
        return done

    def configuration(self) -> Mapping[str, Any]:
        """Return the stack's configuration, for what it names. It is empty if it cannot be read: the next step reports that."""
        source = self.source
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
            found: dict[str, Any] = sandboxed(source.read_text())[0]["config"]
            return found
        return {}

    def bring_zones(self) -> None:
        """Create the zones that the stack uses, and an ACME server if it needs one: for real, they exist before the first `up`."""
        for each in self.ask("zones", **named.zones(self.configuration())):
            say(f"zone {each}: created on the local clouds, empty")
        if named.secured_sites(self.configuration()):
            self.ask("acme", timeout=ACME_S)

    def bring_packages(self, step: Step) -> str:
        """Fetch the Debian packages that workloads name. Return which. Raises SandboxError if one cannot be fetched."""
        from localcloud.machines import packages
        from localcloud.machines.image import ImageError
        from localcloud.machines.image.build import ensure

        wanted = named.packages(self.configuration()) if self.machines else {}
        for release, names in wanted.items():
            step.begin(f"fetching {', '.join(names)} for {release}, some seconds the first time")
            try:
                ensure(lambda text: step.line(f"==> {text}"), release)
                packages.offer(self.state / "packages", release, names)
            except ImageError as lacking:
                raise SandboxError(str(lacking)) from lacking
        return ", ".join(sorted({each for names in wanted.values() for each in names}))

    def engines_environment(self) -> dict[str, str]:
        """The engine's environment: nothing of the caller's that leads elsewhere."""
        return {**{name: os.environ[name] for name in PASSED_ON if name in os.environ}, **self.environment()}

    def sample(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run the sample client of services where the machines are."""
        client = [str(VENV / "bin" / "python"), str(ROOT / "docs/examples/the_service_client.py")]
        inside = self._localcloud("run", "--", *client, "--resolver", f"{RESOLVER}:53", *words)
        return subprocess.run(inside, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd=ROOT)

    def pulumi(
        self, *words: str, capture: bool = False, check: bool = True, extra: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the engine in the work folder. With `check` a failure raises SandboxError."""
        env = {**self.engines_environment(), **(extra or {})}
        done = _run_in_session(["pulumi", *words, "--non-interactive"], self.work, env, capture)
        if check and done.returncode:
            raise SandboxError(
                f"pulumi {words[0]}: failed. Read its output.\n{(done.stdout or '')[-4000:]}{(done.stderr or '')[-4000:]}"
            )
        return done

    def resources(self) -> list[dict[str, Any]]:
        """The resources in the state, as the file backend keeps them: secrets are encrypted."""
        file = self.state / "backend" / ".pulumi" / "stacks" / self.project_name() / f"{self.stack}.json"
        found: list[dict[str, Any]] = json.loads(file.read_text())["checkpoint"]["latest"].get("resources") or []
        return found

    def lay_out(self, tell: Callable[[str], None] = say) -> None:
        """The work folder, the plugins and the stack, ready for `pulumi up`. A dead process's lock is cleared."""
        self.work.mkdir(parents=True, exist_ok=True)
        for name in LINKED:
            link = self.work / name
            if not link.is_symlink():
                link.symlink_to(ROOT / name)
        self.write_config(tell)
        self.install_plugins()
        self._bring_operators_key()
        (self.state / "backend").mkdir(parents=True, exist_ok=True)
        self.pulumi("stack", "select", "--create", self.stack, capture=True)
        if any((self.state / "backend" / ".pulumi" / "locks").rglob("*.json")):
            # We have the lock of the checkout, so the process that left this lock is dead.
            self.pulumi("cancel", "--yes", "--stack", self.stack, capture=True, check=False)

    def write_config(self, tell: Callable[[str], None] = say) -> None:
        """Give the next run of the engine the stack's configuration as it is now. Raises SandboxError when there is none."""
        source = self.source
        if not source.exists():
            raise SandboxError(f"{source.name}: does not exist. Write one, or choose another stack with STACK=NAME.")
        try:
            left = plain.copy_project(self.state, source, f"Pulumi.{self.stack}.yaml", self.project)
        except ValueError as wrong:
            raise SandboxError(str(wrong)) from wrong
        if left:
            tell(f"of {source.name} this leaves out {', '.join(left)}: the local clouds stand for the real ones")

    def _bring_operators_key(self) -> None:
        """Create the key pair that operators have in their account before a stack names it."""
        from botocore.exceptions import ClientError

        from localcloud.plugins.aws.sdk import client

        key = self.state / "keys" / OPERATORS
        if not key.exists():
            key.parent.mkdir(parents=True, exist_ok=True)
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", OPERATORS, "-f", str(key)]
            subprocess.run(make, stdin=subprocess.DEVNULL, check=True)
        environment = self.environment()
        public = key.with_name(f"{key.name}.pub").read_bytes()
        with _without_the_callers_clouds():
            for region in REGIONS:
                ec2 = client(
                    "ec2",
                    endpoint_url=environment["AWS_ENDPOINT_URL"],
                    region_name=region,
                    aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
                    aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
                )
                try:
                    ec2.import_key_pair(KeyName=OPERATORS, PublicKeyMaterial=public)
                except ClientError as refused:
                    if refused.response.get("Error", {}).get("Code") != "InvalidKeyPair.Duplicate":
                        raise

    def install_plugins(self) -> None:
        """Install the stand-ins and the chosen real plugins. Raises SandboxError when a real one cannot be installed."""
        from localcloud.plugins import STAND_INS, PluginsError, bring, chosen, install

        home = self.state / "pulumi-home"
        users = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
        try:
            real = chosen(self.plugins)
            install(home, VENV / "bin" / "python", which=set(STAND_INS) - real)
            bring(home, users, real, lambda name, version: _download(name, version, users))
        except PluginsError as lacking:
            raise SandboxError(str(lacking)) from lacking
        self._plugins_file.write_text(self.plugins)

    @property
    def _plugins_file(self) -> Path:
        return self.state / "plugins"

    def as_it_is_up(self) -> Sandbox:
        """Return the same sandbox with the plugins and the project with which it is up."""
        plugins = self._plugins_file.read_text() if self._plugins_file.exists() else self.plugins
        # What local clouds that did not end well have left says nothing about the next ones.
        is_up = self.project == ROOT and self.running()
        project = plain.project_of(self.state) if is_up else self.project
        return replace(self, plugins=plugins, project=project)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Lock this instance. Raises SandboxError when another process has the lock."""
        self.state.mkdir(parents=True, exist_ok=True)
        path = self.state / LOCK
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise SandboxError(
                    f"make: another one of this checkout works (process {lock.read().strip() or '?'}). Wait until it ends."
                ) from None
            if not (path.exists() and path.samefile(f"/proc/self/fd/{lock.fileno()}")):
                raise SandboxError("make: a `make down` of this checkout has just ended. Run it again.")
            lock.seek(0)
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            yield


@contextlib.contextmanager
def _without_the_callers_clouds() -> Iterator[None]:
    """Hide the caller's environment from boto3, which reads it: a profile or a proxy in it must not lead to real clouds."""
    callers = dict(os.environ)
    for name in set(callers).difference(PASSED_ON):
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(callers)


def _download(name: str, version: str, home: Path) -> str | None:
    """Download a plugin as Pulumi does, into the user's PULUMI_HOME. Return the reason if that fails."""
    say(f"plugin {name} {version}: downloading it into {home / 'plugins'}")
    path = os.pathsep.join((engine_folder(), callers_path()))
    env = {**os.environ, "PATH": path, "PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    command = ["pulumi", "plugin", "install", "resource", name, version, "--non-interactive"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    problems = [line for line in done.stderr.splitlines() if line.startswith(("error:", "warning:"))]
    return problems[0].partition(": ")[2] if done.returncode and problems else None


def _run_in_session(
    words: Sequence[str], folder: Path, env: Mapping[str, str], capture: bool
) -> subprocess.CompletedProcess[str]:
    """Run to the end in a separate session; what it prints, where that is asked for."""
    pipe = subprocess.PIPE if capture else None
    with _in_session(words, folder, env, pipe, pipe) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(list(words), process.returncode, out, err)


def _log_in_session(
    words: Sequence[str], folder: Path, env: Mapping[str, str], log: Path, watch: Callable[[], None]
) -> int:
    """Run to the end in a separate session, with all that it prints in `log`; `watch` is called all the while. Its exit code."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output, _in_session(words, folder, env, output, subprocess.STDOUT) as process:
        while process.poll() is None:
            watch()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(WATCH_S)
        watch()
    return process.returncode


@contextlib.contextmanager
def _in_session(
    words: Sequence[str], folder: Path, env: Mapping[str, str], out: IO[str] | int | None, err: int | None
) -> Iterator[subprocess.Popen[str]]:
    """A process in a separate session. Interrupted, it gets 60 s to end well (the engine writes its checkpoint then); whatever of
    its session still runs after it, ends."""
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=env,
        stdout=out,
        stderr=err,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    except BaseException:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=60)
        raise
    finally:
        # The engine gives its plugins process groups of their own, but the session stays.
        for each in _of_session(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        process.wait()


def _of_session(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(stat.parent.name))
    return found


@functools.cache
def engine_folder() -> str:
    """The folder of the engine that `localcloud.runtime.prepare` chose or built."""
    env = {**os.environ, "PATH": callers_path()}
    words = [sys.executable, "-m", "localcloud.engine"]
    found = subprocess.run(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        raise SandboxError("pulumi: there is no engine (the reason is above). Run `make prepare`.")
    return found.stdout.strip().splitlines()[-1]


def up(sandbox: Sandbox) -> None:
    times: dict[str, float] = {}
    with sandbox.alone():
        sandbox.install_plugins()
        with _timed("local clouds", times) as step:
            step.end("running" if sandbox.start() else "started")
        sandbox.bring_zones()
        if named.packages(sandbox.configuration()):
            with _timed("packages", times) as step:
                step.end(sandbox.bring_packages(step))
        with _timed("pulumi up", times) as step:
            step.begin("deploying the stack, about a minute the first time")
            step.end(sandbox.watched(step, "up", "--yes").counts())
        with _timed("show", times) as step:
            show(sandbox)
            step.end()
        (sandbox.state / "up.json").write_text(json.dumps(times))


def down(sandbox: Sandbox) -> None:
    with sandbox.alone():
        if sandbox.running():
            sandbox = sandbox.as_it_is_up()
            try:
                with _timed("pulumi destroy") as step:
                    step.begin("destroying the stack, about half a minute")
                    step.end(sandbox.watched(step, "destroy", "--yes").counts())
            except SandboxError as fault:
                print(f"rollcall: {fault}\nThe local clouds are stopped anyway, with everything on them.")
        with _timed("local clouds") as step:
            sandbox.stop()
            sandbox._plugins_file.unlink(missing_ok=True)
            step.end("stopped")
        print(_LEFT.format(logs=f".rollcall/{sandbox.instance}/logs", cache=cache()))
        # The lock is ours until its file is removed: a process that waits for it then finds another file.
        (sandbox.state / LOCK).unlink()


def preview(sandbox: Sandbox) -> None:
    with sandbox.alone():
        sandbox.install_plugins()
        sandbox.start()
        sandbox.bring_zones()
        with _timed("pulumi preview") as step:
            step.begin("finding out what would change, about 10 seconds")
            done = sandbox.watched(step, "preview", "--diff")
            log = sandbox.log_of("preview")
            for line in changes(log.read_text(errors="replace")):
                step.line(line)
            step.end(f"{done.counts()}; {log} has every property")


def env(sandbox: Sandbox) -> None:
    """The environment as lines for a shell, in which plain `pulumi` works on the stack from anywhere in the checkout."""
    found = sandbox.environment()
    engine = Path(found["PATH"].partition(os.pathsep)[0]) / "pulumi"
    command = plain.write_command(sandbox.state, VENV / "bin" / "python", engine)
    found |= {"PATH": f"{command}{os.pathsep}{found['PATH']}", INSTANCE: sandbox.instance}
    for name, value in sorted(found.items()):
        print(f"export {name}={shlex.quote(value)}")


def status(sandbox: Sandbox, *words: str) -> int:
    """State, clouds and DNS side by side: `rollcall status`, pointed at the local clouds."""
    if not sandbox.work.exists():
        raise SandboxError(f"{sandbox.stack}: nothing is deployed. Run `make up` or `make preview` first.")
    return _pointed(sandbox, sandbox.work, "components.commands.status", "--stack", sandbox.stack, *words)


def catalogue(sandbox: Sandbox, *words: str) -> int:
    """The images and sizes of both clouds: `rollcall catalogue`, pointed at the local clouds."""
    return _pointed(sandbox, ROOT, "components.commands.catalogue", *words)


def _pointed(sandbox: Sandbox, folder: Path, module: str, *words: str) -> int:
    command = [str(VENV / "bin" / "python"), "-m", module, *words]
    env = sandbox.engines_environment()
    return subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, check=False).returncode


def show(sandbox: Sandbox) -> None:
    """Show the fleet, the records, and the answers of the sites, as a new user sees them after `make up`.

    Raises SandboxError, which names each part that does not answer.
    """
    outputs = json.loads(sandbox.pulumi("stack", "output", "--json", "--stack", sandbox.stack, capture=True).stdout)
    found = sandbox.environment()
    faults: list[str] = []
    shown.fleet(sandbox.ask("ps"), sandbox.tag)
    _say_stand_ins(sandbox)
    if "directory" in outputs:
        faults += shown.services(outputs["directory"], found["ROLLCALL_DNS"], sandbox.sample)
    for name, site in outputs.get("sites", {}).items():
        if shown.serves_site(outputs["fleets"], name):
            faults += shown.site(site["host"], found["ROLLCALL_SITE_URL"], found["ROLLCALL_DNS"])
        else:
            print(f"\n{site['host']}: no fleet with machines joins site/{name}.")
    if faults:
        raise SandboxError(
            f"{sandbox.stack}: is deployed, but not all of it answers:\n  "
            + "\n  ".join(faults)
            + "\nRun `make status` for details."
        )
    if "sites" in outputs:
        print(f"\nOpen {found['ROLLCALL_SITE_URL']} in a browser; `make status` any time; `make down` ends it.")


def _say_stand_ins(sandbox: Sandbox) -> None:
    config = (sandbox.work / f"Pulumi.{sandbox.stack}.yaml").read_text()
    if "ubuntu" in config:
        print("  (the stack asks for Ubuntu; on the local clouds Debian 12 stands in for it)")


@contextlib.contextmanager
def _timed(name: str, times: dict[str, float] | None = None) -> Iterator[Step]:
    """Report a step, and store its time in `times`."""
    step = Step(name, sys.stdout)
    try:
        yield step
    finally:
        step.stop()
    if times is not None:
        times[name] = round(step.seconds, 1)


COMMANDS: dict[str, Any] = {
    "up": up,
    "down": down,
    "preview": preview,
    "env": env,
    "status": status,
    "catalogue": catalogue,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--stack", default="local")
    parser.add_argument("--instance", help="which local clouds; default: those of the stack")
    parser.add_argument(
        "--plugins",
        default="",
        help="stand-in, real, or a comma-separated list of those to take real; default: those that the stack is up with",
    )
    parser.add_argument(
        "--project",
        type=Path,
        help="the folder of Pulumi.yaml; default: the one that the stack is up with, else this checkout",
    )
    parser.add_argument("--json", action="store_true", help="status and catalogue as JSON")
    parser.add_argument("--region", default="", help="the catalogue of this AWS region or data centre")
    parser.add_argument("words", nargs="*", help="of the catalogue, the lines that have all of these")
    # Words may follow options: argparse itself takes an empty `words` before the first of these.
    chosen = parser.parse_intermixed_args(arguments)
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _interrupt)
    try:
        project = {"project": chosen.project.resolve()} if chosen.project else {}
        sandbox = Sandbox(stack=chosen.stack, instance=chosen.instance or chosen.stack, **project).as_it_is_up()
        sandbox = replace(sandbox, plugins=chosen.plugins) if chosen.plugins else sandbox
        as_json = ["--json"] if chosen.json else []
        if chosen.command == "status":
            return status(sandbox, *as_json)
        if chosen.command == "catalogue":
            there = ["--region", chosen.region] if chosen.region else []
            return catalogue(sandbox, *as_json, *there, "--", *chosen.words)
        COMMANDS[chosen.command](sandbox)
    except SandboxError as fault:
        print(f"rollcall: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "rollcall: interrupted. Run the same `make` again to continue, or `make down` to end it.", file=sys.stderr
        )
        return 130
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
