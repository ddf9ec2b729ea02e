"""A Python for the engine under test with processes that are copies of one that has imported the program already.

Each run of the engine starts Python seven times: for its version, for the list of packages, for the program, and for the hosts of dynamic
resources. Nearly all of that time was imports: half of a run's. A copy made by fork has them, as the stand-ins' copies do
(localcloud/plugins/preloaded.py). The copies run what any Python would: the language host's own script, `pulumi.dynamic`, the program.

The daemon of the local clouds is a copy too (`start_daemon`). It runs `localcloud serve` with the arguments, the environment and the log
that `localcloud start` gives it, and does not end with the test's process.

The usual Python runs where `ROLLCALL_USUAL_PYTHON` is set, in `make prove`, in what `make` starts, in benches, in files whose stack has
`warmed=False`, and in each program with components of its own.

`python -m tests.warm SOCKET` is the process that makes the copies. All workers of a run use the same one.
"""

from __future__ import annotations

import ast
import fcntl
import gc
import os
import runpy
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from localcloud.plugins import STAND_INS, launch
from localcloud.plugins.launch import SOCKET
from localcloud.plugins.preloaded import copy_for_each
from localcloud.runtime import cli
from localcloud.runtime.prepare import ROOT, VENV
from tests.patience import came_true

_used = False
_ends = ExitStack()
# The folder of the one process of all workers, where there are workers.
_SHARED = "ROLLCALL_WARM"
# In that folder: the process runs until no other process has this open for writing.
_LIFE = "life"
_PIP = "-m pip list -v --format json"
_started: list[int] = []
_END_WITHIN_S = 10.0
# What the language host and the hosts of dynamic resources import, beside the program's own.
_RUNTIME = (
    "pulumi.runtime",
    "pulumi.dynamic",
    "dill",
    "grpc",
    "pulumi.runtime.proto.provider_pb2_grpc",
    "pulumi.metadata",
)
# What the program imports where it needs it.
_LATER = (
    "components.aws.session",
    "components.preflight.triton_adoption",
    "components.joyent.lookups",
    "components.joyent.provider",
    "components.resources.origin_tls",
    "components.registration.providers",
    "netrc",
)
# What the daemon of the local clouds imports when it starts, or at the first request of a kind.
_DAEMON = (
    "localcloud.aws",
    "localcloud.cloudflare",
    "localcloud.machines.hypervisor",
    "localcloud.machines.image",
    "localcloud.runtime.control",
    "localcloud.runtime.daemon",
    "localcloud.triton",
    "moto.ec2.responses",
    "moto.iam.responses",
    "moto.ssm.responses",
)
_SERVE = "daemon"
_PYTHON = """\
#!/bin/sh
# The tests' Python for the engine: see tests/warm.py.
case "$*" in
"{pip}") exec cat {folder}/packages.json ;;
--version) echo "{version}" && exit ;;
*"-m pulumi.dynamic"* | *pulumi-language-python-exec*) ;;
*) exec {python} "$@" ;;
esac
if [ -e components ] && ! [ components -ef {root}/components ]; then
  exec {python} "$@"
fi
exec {python} -I -S {folder}/start.py "$@"
"""
_START = """\
import _signal, os, sys
sys.path.insert(0, {launch!r})
import launch
_signal.signal(_signal.SIGINT, _signal.default_int_handler)
code = launch.ask({socket!r}, "", sys.argv[1:])
if code is not None:
    sys.exit(code)
os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""


def use_in_tests(config: pytest.Config) -> None:
    """Use it from now on, in a run of the tests for which it is meant. Benches and `make prove` measure what users have."""
    global _used
    _used = config.getoption("markexpr") != "prove" and not os.environ.get("ROLLCALL_USUAL_PYTHON")


def share(config: pytest.Config) -> None:
    """In the process that starts the workers: let them have one process that makes copies. The first that needs it starts it."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput") and _SHARED not in os.environ:
        folder = _new_folder()
        os.environ[_SHARED] = str(folder)
        _ends.callback(os.environ.pop, _SHARED)


def _new_folder() -> Path:
    """Create a folder that exists until `stop`, at which its process ends, however this one ends."""
    # Not pytest's own folder: a socket's path has at most 108 bytes.
    folder = Path(_ends.enter_context(tempfile.TemporaryDirectory(prefix="warm-")))
    os.mkfifo(folder / _LIFE, 0o600)
    _ends.callback(lambda: came_true(lambda: not (folder / SOCKET).exists(), _END_WITHIN_S))
    # For reading too, since otherwise this would wait for the process.
    _ends.callback(os.close, os.open(folder / _LIFE, os.O_RDWR))
    return folder


def environment() -> Path:
    """Return the folder that the engine is to take for a virtual environment."""
    return _prepared() if _used else VENV


def variables(path: str) -> dict[str, str]:
    """Return what is to be in the environment of an engine that had `path` as its PATH."""
    # An engine lives for seconds: it need not look for garbage until it holds much.
    return (
        {"PATH": os.pathsep.join((str(environment() / "bin"), path)), "GOGC": "off", "GOMEMLIMIT": "1GiB"}
        if _used
        else {"PATH": path}
    )


def stop() -> None:
    """End the process that makes copies."""
    _ends.close()


def prepare(state: Path) -> bool:
    """Offer the process to the stand-ins of the local clouds with the folder `state`. Return whether there is one."""
    if _used:
        (state / SOCKET).unlink(missing_ok=True)
        (state / SOCKET).symlink_to(_prepared() / SOCKET)
    return _used


def usable() -> bool:
    """Return whether this run of the tests uses it."""
    return _used


@dataclass(frozen=True)
class _Daemon:
    pid: int
    started: str

    def poll(self) -> int | None:
        return None if cli._alive(self.pid, self.started) else 1

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)


def start_daemon(words: Sequence[str], log: Path) -> cli.Started:
    """Run `localcloud WORDS` in a copy that belongs to no other process, with what it prints in `log`."""
    reader, writer = os.pipe()
    try:
        with open(os.devnull, "rb") as nothing, log.open("ab") as output:
            streams = (nothing.fileno(), writer, output.fileno())
            code = launch.ask(_prepared() / SOCKET, _SERVE, words, cli.passed_on(), streams)
    finally:
        os.close(writer)
    with open(reader) as printed:
        answer = printed.read().split()
    assert code == 0 and len(answer) == 2, f"no copy for the daemon: {code} {answer}"
    return _Daemon(int(answer[0]), answer[1])


@cache
def _prepared() -> Path:
    """Return the folder of the process that makes copies, which is ready. Without other workers it ends with this process."""
    shared = os.environ.get(_SHARED)
    folder = Path(shared) if shared else _new_folder()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "bin").exists():
            _start(folder)
    assert came_true((folder / SOCKET).exists, 60), (folder / "log").read_text()
    return folder


def _start(folder: Path) -> None:
    command = [sys.executable, "-m", "tests.warm", str(folder / SOCKET)]
    with (folder / _LIFE).open("rb") as life, (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=life, stdout=log, stderr=log, start_new_session=True)
    # Other workers may still use it when this one ends, so this one does not wait for it. Without a code it would warn of that.
    process.returncode = 0
    _started.append(process.pid)
    listed = subprocess.run([sys.executable, *_PIP.split()], capture_output=True, text=True, check=True)
    (folder / "packages.json").write_text(listed.stdout)
    launcher, socket = str(Path(launch.__file__).parent), str(folder / SOCKET)
    (folder / "start.py").write_text(_START.format(launch=launcher, socket=socket, python=sys.executable))
    (folder / "bin").mkdir()
    version = f"Python {sys.version.split()[0]}"
    python = shlex.quote(sys.executable)
    text = _PYTHON.format(pip=_PIP, folder=folder, version=version, root=shlex.quote(str(ROOT)), python=python)
    for name in ("python", "python3"):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)


def main(path: Path) -> None:
    # All of it stays, and there is no garbage. To look for some took half of the time.
    gc.disable()
    # Every run of a test imports this module, and needs none of that.
    import pulumi

    for name in (*_RUNTIME, *_imports((ROOT / "__main__.py").read_text()), *_LATER):
        import_module(name)
    for name in STAND_INS:
        import_module(f"localcloud.plugins.{name}").PLUGIN.preload()
    for name in _DAEMON:
        import_module(name)
    import_module("localcloud.aws.moto_backends").load()
    _import_resources()
    _read_models()
    # A call of the engine for each step of each resource, which it shows with --debug only: a tenth of a run's time.
    pulumi.log.debug = _silent
    # `python -m` has put the checkout there; a program has its own folder there instead, and its own PYTHONPATH.
    for folder in (str(ROOT), *_folders_around()):
        sys.path.remove(folder)
    gc.enable()
    copy_for_each(path, _run)


def _import_resources() -> None:
    """Import the parts of the vendors' SDKs that the program uses."""
    from components.resources.sdk_parts import Part

    modules = [module for name, module in sys.modules.items() if name.startswith("components.")]
    for part in [each for module in modules for each in vars(module).values() if isinstance(each, Part)]:
        for name in part._names:
            getattr(part, name)


def _read_models() -> None:
    """Read boto3's models of what the program asks; every session of a copy knows them then."""
    import botocore.session

    from localcloud.plugins.aws.sdk import SERVICES, read_pages

    botocore.session.create_loader = cache(botocore.session.create_loader)
    keys = {"aws_access_key_id": "-", "aws_secret_access_key": "-"}
    for service in (*SERVICES, "service-quotas"):
        read_pages(botocore.session.Session().create_client(service, "us-east-1", **keys))


def _silent(*_: object, **__: object) -> None:
    pass


def _imports(program: str) -> list[str]:
    """Return the modules that a program's text imports."""
    found: list[str] = []
    for each in ast.walk(ast.parse(program)):
        if isinstance(each, ast.Import):
            found += [alias.name for alias in each.names]
        elif isinstance(each, ast.ImportFrom) and each.module:
            found.append(each.module)
    return found


def _run(name: str, words: Sequence[str]) -> int:
    """Be the stand-in that is asked for, the daemon of local clouds, or what `python WORDS` is for a script or a module. Return the
    exit code."""
    from localcloud.plugins.serve import run

    if name == _SERVE:
        return _serve(words)
    return run(name, words) if name in STAND_INS else _python(words)


def _serve(words: Sequence[str]) -> int:
    """Start `localcloud WORDS` in a process that does not end with the caller. Print its id and when it started."""
    process = os.fork()
    if process:
        print(process, cli._start_time(process), flush=True)
        return 0
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # The caller waits for the end of the other stream.
        os.dup2(2, 1)
        os.chdir(ROOT)
        sys.path.insert(0, str(ROOT))
        sys.argv = ["localcloud", *words]
        code = cli.main(words)
        threading._shutdown()  # type: ignore[attr-defined]
    except BaseException:  # noqa: BLE001 - as Python itself does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _folders_around() -> list[str]:
    return [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]


def _python(words: Sequence[str]) -> int:
    left = [each for each in words if each != "-u"]
    around = _folders_around()
    try:
        if left[0] == "-m":
            sys.path[:0] = [str(Path.cwd()), *around]
            sys.argv = left[1:]
            runpy.run_module(left[1], run_name="__main__", alter_sys=True)
        else:
            sys.path[:0] = [str(Path(left[0]).resolve().parent), *around]
            sys.argv = left
            runpy.run_path(left[0], run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception:  # noqa: BLE001 - as Python itself does
        traceback.print_exc()
        return 1
    finally:
        # As at the end of any Python: threads that work are waited for.
        threading._shutdown()  # type: ignore[attr-defined]
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)
