"""Run a workload's container by podman, in a plain systemd unit (docs/decisions/0021).

podman 4.3 of Debian 12 has no Quadlet, so the unit is similar to what Quadlet would write
(https://docs.podman.io/en/latest/markdown/podman-systemd.unit.5.html). The container has the network of the machine, and its processes are
in the control group of the unit: so limits and the filter of addresses are those of the unit, as for any other workload.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rollcall.command_checks import Run, run_command
from rollcall.errors import TransientError
from rollcall.files import write_whole

# podman takes runc if it is there. crun of Debian 12 does not start where CAP_SYS_RESOURCE is missing, as in many containers.
PACKAGES = ("runc", "podman")
PODMAN = "/usr/bin/podman"
# The secret with the password for the registry. A secret of a workload itself has no hyphen in its name.
PASSWORD = "registry-password"
SECRETS = Path("/run/rollcall/secrets")
# The file beside them with the login at the registry, while podman pulls.
LOGIN = ".login"
# The folder with the secrets, inside of the container.
CREDENTIALS = "/run/credentials"
# The folder for credentials of AWS, on the machine and for the workload.
AWS, AWS_INSIDE = "/run/rollcall/aws", "/run/workload-aws"
DEFINITIONS = Path("/opt/rollcall/workloads")
# The images that this module has pulled, one a line. Others on the machine are not ours to remove.
PULLED = Path("/var/lib/rollcall/images")
# A large image over a slow line. A registry that does not answer ends the pull earlier.
PULL_S, PODMAN_S = 900.0, 60.0
# Kubernetes waits as long: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
STOP_S = 30
# So long a pull may hold up the thread that asks for it. An image that is there takes less.
_QUICK_S = 1.0
_OUTPUT_CHARS = 200
Prepare = Callable[[str, Mapping[str, Any]], None]
# Two workloads may have pulls at the same time, and one list of images.
_listing = threading.Lock()


def credentials_env(definition: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables by which AWS's SDKs find the credentials of a workload with `awsCredentials` (role_credentials.py)."""
    if not definition.get("awsCredentials"):
        return {}
    return {"AWS_CONFIG_FILE": f"{AWS_INSIDE}/config", "AWS_EC2_METADATA_DISABLED": "true"}


def secret_names(definition: Mapping[str, Any]) -> list[str]:
    """Return the names of the secrets that a machine fetches for a workload: its own, and the password for its registry."""
    return [*definition.get("secrets", ()), *([PASSWORD] if "registry" in definition.get("container", {}) else ())]


def lines(stem: str, definition: Mapping[str, Any], instance: str, hook: str = "") -> list[str]:
    """Return the lines of the unit `stem` that run the container. A `hook` is a command that runs in place of what the image starts."""
    container, volume = definition["container"], f"/run/{stem}/secrets"
    env = {"ROLLCALL_INSTANCE": instance, **credentials_env(definition), **definition.get("env", {})}
    found = ["UMask=0022", "KillMode=mixed", "Delegate=yes", f"ExecStopPost=-{PODMAN} rm --force --ignore {stem}"]
    # podman writes what it does to the journal otherwise, between the lines of the workload.
    run = [
        PODMAN,
        "--events-backend=none",
        "run",
        f"--name={stem}",
        "--replace",
        "--rm",
        "--pull=never",
        "--network=host",
    ]
    # systemd limits the number of processes (TasksMax=). podman cannot, where a control group has no controller for it.
    run += ["--cgroups=split", "--pids-limit=0", "--security-opt=no-new-privileges", "--cap-drop=all"]
    run += [f"--cap-add={each}" for each in ("NET_BIND_SERVICE", *container.get("capabilities", ()))]
    if container.get("readOnly"):
        run.append("--read-only")
    if "user" in definition:
        run.append(f"--user={definition['user']}")
    if definition.get("secrets"):
        # The files of systemd's credentials are for root, and a container may run as any user. So it gets copies, in memory. On the machine
        # only root can enter the folder around them.
        files = " ".join(f"%d/{each}" for each in definition["secrets"])
        found += [f"RuntimeDirectory={stem}", "RuntimeDirectoryMode=0700"]
        found.append(f"ExecStartPre=/usr/bin/install -D -m 444 -t {volume} {files}")
        run.append(f"--volume={volume}:{CREDENTIALS}:ro")
        env["CREDENTIALS_DIRECTORY"] = CREDENTIALS
    if credentials_env(definition):
        # The unit waits for it: podman does not start with a folder that is missing.
        run.append(f"--volume={AWS}/{definition['name']}:{AWS_INSIDE}:ro")
    run += [f"--env={key}={value}" for key, value in sorted(env.items())]
    if hook:
        run += ["--log-driver=none", "--sdnotify=ignore", "--entrypoint=", container["image"]]
    else:
        run += [
            "--log-driver=journald",
            "--sdnotify=conmon",
            "--detach",
            container["image"],
            *container.get("args", ()),
        ]
        found += ["Type=notify", "NotifyAccess=all"]
        found.append(f"ExecStop={PODMAN} stop --ignore --time={STOP_S} {stem}")
    return [*found, f"ExecStart={' '.join(map(_word, run))} {hook}".rstrip()]


def _word(text: str) -> str:
    """Return one word of a command line of systemd (systemd.service(5), "Command lines")."""
    if re.fullmatch(r"[\w@=:,./+-]+", text, re.ASCII):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") + '"'


def prepare(
    workload: str,
    definition: Mapping[str, Any],
    *,
    secrets: Path = SECRETS,
    definitions: Path = DEFINITIONS,
    pulled: Path = PULLED,
    run: Run = run_command,
) -> None:
    """Pull the image of a workload's container, while the former release may serve. Remove images that no release on this machine has.

    podman compares the image with the digest. The password for the registry must be among the workload's secrets in `secrets`, and is in a
    file of root in memory while podman runs. `pulled` lists what this function has pulled: other images stay. So does one that is in use.
    Raises TransientError, OSError or subprocess.SubprocessError.
    """
    container = definition.get("container")
    if container is None:
        return
    image = container["image"]
    if run([PODMAN, "image", "exists", image], PODMAN_S).returncode:
        with _listing:
            # Before the pull, so that no image is forgotten.
            write_whole(pulled, "\n".join({image, *_listed(pulled)}))
        _pull(image, container, secrets / workload, run)
    with _listing:
        known = _listed(pulled)
        releases = [json.loads(file.read_text()) for file in definitions.glob("*/releases/*/workload.json")]
        unused = known - {image, *(each["container"]["image"] for each in releases if "container" in each)}
        gone = {each for each in unused if run([PODMAN, "image", "rm", "--ignore", each], PODMAN_S).returncode == 0}
        write_whole(pulled, "\n".join(known - gone))


def _listed(pulled: Path) -> set[str]:
    return set(pulled.read_text().split()) if pulled.is_file() else set()


def _pull(image: str, container: Mapping[str, Any], secrets: Path, run: Run) -> None:
    words, file = [PODMAN, "pull", "--quiet", image], secrets / LOGIN
    try:
        if "registry" in container:
            login = f"{container['registry']['user']}:{(secrets / PASSWORD).read_text()}".encode()
            # https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md
            auth = {image.partition("/")[0]: {"auth": base64.b64encode(login).decode()}}
            write_whole(file, json.dumps({"auths": auth}), 0o600)
            words.append(f"--authfile={file}")
        done = run(words, PULL_S)
    finally:
        file.unlink(missing_ok=True)
    if done.returncode:
        raise TransientError(f"reason=image-failed image={image} said={done.stderr.strip()[-_OUTPUT_CHARS:]!r}")


class _Job(threading.Thread):
    fault: Exception | None = None

    def run(self) -> None:
        try:
            super().run()
        except Exception as raised:  # noqa: BLE001 - whoever waits for it raises it
            self.fault = raised


class Images:
    """Prepare images, each in a thread of its own, so that a slow registry does not hold up the other work of the agent."""

    def __init__(self, prepare: Prepare = prepare, quick_s: float = _QUICK_S) -> None:
        self._prepare, self.quick_s = prepare, quick_s
        self._jobs: dict[tuple[str, str], _Job] = {}

    def waits(self, workload: str, definition: Mapping[str, Any]) -> str:
        """Return why a workload waits for its image, or an empty text. Raises what `prepare` raised. The next call then tries again."""
        if "container" not in definition:
            return ""
        key = workload, definition["container"]["image"]
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job(target=self._prepare, args=(workload, definition), daemon=True)
            job.start()
        job.join(self.quick_s)
        if job.is_alive():
            return f"reason=image-is-pulled image={key[1]} workload={workload}"
        del self._jobs[key]
        if job.fault:
            raise job.fault
        return ""
