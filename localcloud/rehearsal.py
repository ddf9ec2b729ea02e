"""`make up`, `down`, `preview`, `status`, `env`: the real Pulumi engine on the local clouds.

The program runs from a folder of links, so that what Pulumi writes beside the project (the encryption salt of a stack's
configuration) does not touch the checkout. The environment that it gets holds nothing of the caller's but PATH and HOME:
whatever a stack's configuration says, no address but loopback can be reached with it.
"""

from __future__ import annotations

import argparse
import collections
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
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from localcloud.aws.catalogue import REGIONS
from localcloud.cli import PASSED_ON, RESOLVER
from localcloud.control import ControlError, ask
from localcloud.engine import EngineError, ensure
from localcloud.prepare import ROOT, VENV
from localcloud.stackconfig import rehearsed

GONE = ("terminated", "deleted")
SAMPLE = "theService"
# The key pair that a stack's `ssh.keyName` may name.
OPERATORS = "operators"
LINKED = ("__main__.py", "components", "userdata", ".venv")


class RehearsalError(Exception):
    """The rehearsal cannot go on; the message names what to do."""


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """One set of local clouds with one stack on it. `instance` names both; `make` uses the stack's name, each test its own."""

    stack: str = "local"
    instance: str = "local"
    plugins: str = "stand-in"
    config: Path | None = None
    machines: bool = True

    @property
    def state(self) -> Path:
        return ROOT / ".rollcall" / self.instance

    @property
    def work(self) -> Path:
        """The folder that Pulumi works in: links to the program, a copy of the stack's configuration."""
        return self.state / "program"

    def environment(self) -> dict[str, str]:
        """What `make -s env` prints, as a mapping. Raises RehearsalError when the local clouds are not up."""
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
            PATH=os.pathsep.join((engine_folder(), str(VENV / "bin"), os.environ["PATH"])),
        )
        inside = ["env", f"PYTHONPATH={ROOT}", *self._localcloud("run", "--")]
        found["ROLLCALL_SSH"] = shlex.join([*inside, "ssh", "-i", str(self.state / "keys" / OPERATORS)])
        for name in ("AWS_ENDPOINT_URL", "CLOUDFLARE_BASE_URL", "TRITON_URL", "ROLLCALL_SITE_URL"):
            if urlsplit(found[name]).hostname != "127.0.0.1":
                raise RehearsalError(
                    f"{name} is {found[name]}, which is not this machine; a rehearsal reaches loopback only"
                )
        return found

    def start(self) -> None:
        """Start the local clouds unless they run; forget a stack whose clouds are gone, since their memory is too."""
        self.state.mkdir(parents=True, exist_ok=True)
        if self.running():
            return
        for left in ("backend", "program"):
            shutil.rmtree(self.state / left, ignore_errors=True)
        self.localcloud("start", *([] if self.machines else ["--no-machines"]))

    def running(self) -> bool:
        try:
            self.ask("status")
        except RehearsalError:
            return False
        return True

    def stop(self) -> None:
        """Stop the local clouds with all their machines; no error when they do not run."""
        self.localcloud("stop")
        for left in ("backend", "program", "pulumi-home"):
            shutil.rmtree(self.state / left, ignore_errors=True)

    def ask(self, command: str, **values: Any) -> Any:
        """Ask the daemon of the local clouds (localcloud.control). Raises RehearsalError when it does not run, or refuses."""
        try:
            return ask(self.state / "control.sock", command, **values)
        except ControlError as wrong:
            raise RehearsalError(str(wrong)) from wrong

    def localcloud(self, *words: str, capture: bool = False) -> str:
        done = subprocess.run(
            self._localcloud(*words), stdout=subprocess.PIPE if capture else None, check=False, text=True, cwd=ROOT
        )
        if done.returncode:
            raise RehearsalError(f"`localcloud {' '.join(words)}` failed, see above")
        return done.stdout or ""

    def _localcloud(self, *words: str) -> list[str]:
        return [str(VENV / "bin" / "python"), "-m", "localcloud", "--instance", self.instance, *words]

    def pulumi(
        self, *words: str, capture: bool = False, check: bool = True, extra: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the engine in the work folder. With `check` a failure raises RehearsalError."""
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        env = {**passed, **self.environment(), **(extra or {})}
        done = _run_in_session(["pulumi", *words, "--non-interactive"], self.work, env, capture)
        if check and done.returncode:
            raise RehearsalError(
                f"`pulumi {words[0]}` failed, see above\n{(done.stdout or '')[-4000:]}{(done.stderr or '')[-4000:]}"
            )
        return done

    def lay_out(self) -> None:
        """The work folder, the plugins and the stack, ready for `pulumi up`. A dead process's lock is cleared."""
        self.work.mkdir(parents=True, exist_ok=True)
        for name in LINKED:
            link = self.work / name
            if not link.is_symlink():
                link.symlink_to(ROOT / name)
        shutil.copyfile(ROOT / "Pulumi.yaml", self.work / "Pulumi.yaml")
        self.write_config()
        self.install_plugins()
        self._bring_operators_key()
        (self.state / "backend").mkdir(parents=True, exist_ok=True)
        self.pulumi("stack", "select", "--create", self.stack, capture=True)
        if any((self.state / "backend" / ".pulumi" / "locks").rglob("*.json")):
            # We hold the checkout's own lock, so whoever left this one is dead.
            self.pulumi("cancel", "--yes", "--stack", self.stack, capture=True, check=False)

    def write_config(self) -> None:
        """Give the next run of the engine the stack's configuration as it is now. Raises RehearsalError when there is none."""
        source = self.config or ROOT / f"Pulumi.{self.stack}.yaml"
        if not source.exists():
            raise RehearsalError(f"there is no {source.name}; write one, or choose another stack with STACK=")
        target = self.work / f"Pulumi.{self.stack}.yaml"
        before = target.read_text().splitlines() if target.exists() else ()
        salt = [line for line in before if line.startswith("encryptionsalt:")]
        try:
            told, left = rehearsed(source.read_text())
        except (ValueError, yaml.YAMLError) as wrong:
            raise RehearsalError(f"{source.name} {wrong}") from wrong
        if left:
            say(f"of {source.name} this leaves out {', '.join(left)}: the local clouds stand for the real ones")
        target.write_text(yaml.safe_dump(told, sort_keys=False) + "".join(f"{line}\n" for line in salt))

    def _bring_operators_key(self) -> None:
        """The key pair that operators have in their account before a stack names it."""
        import boto3
        from botocore.exceptions import ClientError

        key = self.state / "keys" / OPERATORS
        if not key.exists():
            key.parent.mkdir(parents=True, exist_ok=True)
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", OPERATORS, "-f", str(key)]
            subprocess.run(make, stdin=subprocess.DEVNULL, check=True)
        told = self.environment()
        public = key.with_name(f"{key.name}.pub").read_bytes()
        with _without_the_callers_clouds():
            for region in REGIONS:
                ec2 = boto3.session.Session().client(
                    "ec2",
                    endpoint_url=told["AWS_ENDPOINT_URL"],
                    region_name=region,
                    aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
                    aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
                )
                try:
                    ec2.import_key_pair(KeyName=OPERATORS, PublicKeyMaterial=public)
                except ClientError as refused:
                    if refused.response.get("Error", {}).get("Code") != "InvalidKeyPair.Duplicate":
                        raise

    def install_plugins(self) -> None:
        """The stand-ins, and those plugins that are to be real. Raises RehearsalError when one of these cannot be had."""
        from localcloud.plugins import STAND_INS, PluginsError, bring, chosen, install

        home = self.state / "pulumi-home"
        users = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
        try:
            real = chosen(self.plugins)
            install(home, VENV / "bin" / "python", which=set(STAND_INS) - real)
            bring(home, users, real, lambda name, version: _download(name, version, users))
        except PluginsError as lacking:
            raise RehearsalError(str(lacking)) from lacking
        self._plugins_file.write_text(self.plugins)

    @property
    def _plugins_file(self) -> Path:
        return self.state / "plugins"

    def as_it_is_up(self) -> Rehearsal:
        """The same with the plugins that it is up with."""
        return replace(self, plugins=self._plugins_file.read_text()) if self._plugins_file.exists() else self

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold this instance for ourselves. Raises RehearsalError when another one holds it."""
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "make.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise RehearsalError(
                    f"another `make` of this checkout is at work (process {lock.read().strip() or '?'}); wait until it ends"
                ) from None
            lock.seek(0)
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            yield


@contextlib.contextmanager
def _without_the_callers_clouds() -> Iterator[None]:
    """boto3 reads the environment by itself: a profile or a proxy of the caller's must not lead it elsewhere."""
    callers = dict(os.environ)
    for name in set(callers).difference(PASSED_ON):
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(callers)


def _download(name: str, version: str, home: Path) -> str | None:
    """Pulumi's own way to a plugin, into the user's PULUMI_HOME; why not, if not."""
    say(f"plugin {name} {version}: downloading it into {home / 'plugins'}")
    path = os.pathsep.join((engine_folder(), os.environ["PATH"]))
    env = {**os.environ, "PATH": path, "PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    command = ["pulumi", "plugin", "install", "resource", name, version, "--non-interactive"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    said = [line for line in done.stderr.splitlines() if line.startswith(("error:", "warning:"))]
    return said[0].partition(": ")[2] if done.returncode and said else None


def _run_in_session(
    words: Sequence[str], folder: Path, env: Mapping[str, str], capture: bool
) -> subprocess.CompletedProcess[str]:
    """Run to the end in a session of its own. Interrupted, the command gets 60 s to end well (the engine writes its
    checkpoint then); whatever of its session still runs after it, ends."""
    pipe = subprocess.PIPE if capture else None
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=env,
        stdout=pipe,
        stderr=pipe,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        out, err = process.communicate()
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
    return subprocess.CompletedProcess(list(words), process.returncode, out, err)


def _of_session(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(stat.parent.name))
    return found


@functools.cache
def engine_folder() -> str:
    """Return the folder of the engine that `localcloud.prepare` chose or built."""
    try:
        return str(ensure(lambda line: print(f"==> {line}", file=sys.stderr, flush=True)))
    except (EngineError, OSError) as fault:
        raise RehearsalError(f"there is no Pulumi engine: {fault}; run `make prepare`") from fault


def up(rehearsal: Rehearsal) -> None:
    times: dict[str, float] = {}
    with rehearsal.alone():
        rehearsal.install_plugins()
        with _timed("local clouds", times):
            rehearsal.start()
        with _timed("pulumi up", times):
            rehearsal.lay_out()
            rehearsal.pulumi("up", "--yes", "--stack", rehearsal.stack)
        with _timed("show", times):
            show(rehearsal)
        (rehearsal.state / "up.json").write_text(json.dumps(times))


def down(rehearsal: Rehearsal) -> None:
    with rehearsal.alone():
        if rehearsal.running():
            rehearsal = rehearsal.as_it_is_up()
            rehearsal.lay_out()
            done = rehearsal.pulumi("destroy", "--yes", "--stack", rehearsal.stack, check=False)
            if done.returncode:
                say("destroy failed, see above; the local clouds are stopped all the same, and everything on them goes")
        rehearsal.stop()
        say("down: nothing is left on this machine")


def preview(rehearsal: Rehearsal) -> None:
    with rehearsal.alone():
        rehearsal.install_plugins()
        rehearsal.start()
        rehearsal.lay_out()
        rehearsal.pulumi("preview", "--diff", "--stack", rehearsal.stack)


def env(rehearsal: Rehearsal) -> None:
    for name, value in sorted(rehearsal.environment().items()):
        print(f"export {name}={shlex.quote(value)}")


def status(rehearsal: Rehearsal, *words: str) -> int:
    """State, clouds and DNS side by side: `rollcall status`, pointed at the local clouds."""
    return _pointed(rehearsal, "components.status", "--stack", rehearsal.stack, *words)


def catalogue(rehearsal: Rehearsal, *words: str) -> int:
    """The images and sizes of both clouds: `rollcall catalogue`, pointed at the local clouds."""
    return _pointed(rehearsal, "components.catalogue", *words)


def _pointed(rehearsal: Rehearsal, module: str, *words: str) -> int:
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    command = [str(VENV / "bin" / "python"), "-m", module, *words]
    env = {**passed, **rehearsal.environment()}
    return subprocess.run(command, cwd=rehearsal.work, env=env, stdin=subprocess.DEVNULL, check=False).returncode


def show(rehearsal: Rehearsal) -> None:
    """The fleet, the records, and the site answering: what a new user sees after `make up`."""
    outputs = json.loads(rehearsal.pulumi("stack", "output", "--json", "--stack", rehearsal.stack, capture=True).stdout)
    found = rehearsal.environment()
    machines = [each for each in rehearsal.ask("ps") if each["state"] not in GONE]
    print("\nFleet")
    for each in sorted(machines, key=lambda machine: (machine["cloud"], machine["name"])):
        print(
            f"  {each['cloud']:<7} {each['name']:<24} {each['id']:<37} {each['state']:<9} {', '.join(each['addresses'])}"
        )
    _say_stand_ins(rehearsal)
    if "directory" in outputs:
        _show_services(rehearsal, outputs["directory"], found["ROLLCALL_DNS"])
    if "site" not in outputs:
        return
    host = outputs["site"]["host"]
    print(f"\nDNS, as the zone's name servers answer (dig @{found['ROLLCALL_DNS'].replace(':', ' -p ')} {host} A)")
    for address in addresses(found["ROLLCALL_DNS"], host):
        print(f"  {host} A {address}")
    served = visit(found["ROLLCALL_SITE_URL"], 20)
    print(f"\n20 requests to {found['ROLLCALL_SITE_URL']} were served by")
    for instance, count in sorted(served.items()):
        print(f"  {count:>3} × {instance}")
    print(f"\nOpen {found['ROLLCALL_SITE_URL']} in a browser; `make status` any time; `make down` ends it.")


def _show_services(rehearsal: Rehearsal, directory: Mapping[str, Any], server: str) -> None:
    """Each incarnation's SRV values, and who answers calls of the sample client."""
    from rollcall.resolve import Client

    client = Client([server])
    for service, name in sorted(directory["services"].items()):
        if service != SAMPLE:
            continue
        print(f"\nService discovery (dig @{server.replace(':', ' -p ')} {name} PTR)")
        for incarnation in client.browse(SAMPLE, directory["zone"]):
            for each in sorted(client.ask(f"{incarnation}.{name}", "SRV"), key=str):
                print(f"  {incarnation}.{name} SRV {each}")
            words = ["--domain", directory["zone"], "--incarnation", incarnation, "--resolver", f"{RESOLVER}:53"]
            sample = [str(VENV / "bin" / "python"), str(ROOT / "docs/examples/the_service_client.py"), *words]
            printed = rehearsal.localcloud("run", "--", *sample, "--calls", "9", capture=True)
            answered = collections.Counter(line.split()[1] for line in printed.splitlines() if line[:9] == "answered:")
            print(f"  9 calls of {incarnation} were answered by")
            for instance, count in sorted(answered.items()):
                print(f"  {count:>3} × {instance}")


def _say_stand_ins(rehearsal: Rehearsal) -> None:
    config = (rehearsal.work / f"Pulumi.{rehearsal.stack}.yaml").read_text()
    if "ubuntu" in config:
        print("  (the stack asks for Ubuntu; on the local clouds Debian 12 stands in for it)")


def addresses(server: str, host: str) -> list[str]:
    """The A records of `host` at the name server `HOST:PORT`, sorted."""
    import dns.message
    import dns.query
    import dns.rdatatype

    name, _, port = server.rpartition(":")
    reply, _ = dns.query.udp_with_fallback(dns.message.make_query(host, "A"), name, port=int(port), timeout=5)
    return sorted(item.to_text() for rrset in reply.answer if rrset.rdtype == dns.rdatatype.A for item in rrset)


def visit(url: str, count: int) -> collections.Counter[str]:
    """Ask the site `count` times; who served each request (`X-Served-By`), or what went wrong."""
    import requests

    served: collections.Counter[str] = collections.Counter()
    for _ in range(count):
        try:
            with requests.Session() as visitor:
                # No proxy of the caller's stands between this machine and itself.
                visitor.trust_env = False
                reply = visitor.get(url, timeout=10, allow_redirects=False)
            served[reply.headers.get("X-Served-By") or f"HTTP {reply.status_code}"] += 1
        except requests.RequestException as failed:
            served[type(failed).__name__] += 1
    return served


@contextlib.contextmanager
def _timed(step: str, times: dict[str, float]) -> Iterator[None]:
    began = time.monotonic()
    yield
    times[step] = round(time.monotonic() - began, 1)
    say(f"{step:<13} {times[step]:6.1f} s")


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
    parser.add_argument("--instance", help="which local clouds; each stack has its own unless told")
    parser.add_argument(
        "--plugins", default="stand-in", help="stand-in, real, or a comma-separated list of those to take real"
    )
    parser.add_argument("--json", action="store_true", help="status and catalogue as JSON")
    parser.add_argument("--region", default="", help="the catalogue of this AWS region or data centre")
    parser.add_argument("words", nargs="*", help="of the catalogue, the lines that have all of these")
    chosen = parser.parse_args(arguments)
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _interrupt)
    try:
        rehearsal = Rehearsal(stack=chosen.stack, instance=chosen.instance or chosen.stack, plugins=chosen.plugins)
        as_json = ["--json"] if chosen.json else []
        if chosen.command == "status":
            return status(rehearsal, *as_json)
        if chosen.command == "catalogue":
            there = ["--region", chosen.region] if chosen.region else []
            return catalogue(rehearsal, *as_json, *there, *chosen.words)
        COMMANDS[chosen.command](rehearsal)
    except RehearsalError as fault:
        print(f"rollcall: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rollcall: interrupted; the same `make` again goes on from here, `make down` ends it", file=sys.stderr)
        return 130
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
