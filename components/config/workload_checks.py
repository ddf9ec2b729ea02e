"""Check what needs more than one key of a workload: keys that exclude or need another, and what a fleet can run."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic.alias_generators import to_camel

from components.config import release_checks
from components.config.errors import Add, Faults, at, near
from components.config.models import (
    CLOSED_PORT,
    FLEET_NAME,
    SAMPLES,
    SITE_PORT,
    FleetSettings,
    Settings,
    WorkloadSettings,
)
from rollcall.settings import LONGEST_VALUE

_WORKLOADS, _FLEETS = "rollcall:workloads", "rollcall:fleets"
_ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
# CloudAPI drops metadata with a key that ends in _pw (components/joyent/machine_checks.py).
_SECRET_NAME = r"(?!.*_pw$)[A-Za-z_][A-Za-z0-9_]{0,63}"
# A standard parameter, which costs nothing: https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html
# No parameter's value holds `{{}}`: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html
MOST_SECRET_BYTES = 4096
MOST_WAIT_S = 10
_KINDS = ("run", "unit", "container", "nginx")
# A machine has to boot before its hook.
HOOK_MARGIN_S = 60


def check(settings: Settings, faults: Faults, add: Add) -> None:
    """Add every error of the workloads and of what fleets run."""
    for workload in settings.workloads:
        if not _is_faulty(faults, workload.name):
            _workload(at(_WORKLOADS, workload.name), workload, add)
    _hooks(settings, faults, add)
    for fleet in settings.fleets:
        if not any(_is_faulty(faults, name) for name in fleet.runs):
            _runs(settings, fleet, add)
            release_checks.check(settings, fleet, add)


def _is_faulty(faults: Faults, workload: str) -> bool:
    """Return whether a workload has an error. The value that replaces a wrong one would only cause more errors."""
    key = at(_WORKLOADS, workload)
    return faults.covers(key) or any(each.startswith((f"{key}.", f"{key}[")) for each in faults.found)


def _workload(key: str, definition: WorkloadSettings, add: Add) -> None:
    if not re.fullmatch(FLEET_NAME, definition.name):
        add(key, "is not the name of a workload", "Use 1 to 30 of a-z, 0-9 and inner hyphens")
    if definition.name in SAMPLES:
        add(key, "is the name of a sample", "Rename it")
    _source(key, definition, add)
    _kind(key, definition, add)
    for name, value in definition.env.items():
        where = at(key, "env", name)
        if not re.fullmatch(_ENV_NAME, name):
            add(where, "is not the name of a variable", "Use letters, digits and _, and no digit first")
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            add(where, "has a control character or more than one line", "Write one line")
        if "-----BEGIN" in value or re.search("AKIA[0-9A-Z]{16}", value):
            add(where, "looks like a secret", "Move it to secrets: the environment is in the state and on the disk")
    for name, secret in definition.secrets.items():
        _secret(at(key, "secrets", name), name, secret.get_secret_value(), add)
    _checks(f"{key}.check", definition, add)


def _secret(where: str, name: str, value: str, add: Add) -> None:
    """Add the errors of one secret, without its value."""
    if not re.fullmatch(_SECRET_NAME, name):
        add(where, "is not the name of a secret", "Use 1 to 64 letters, digits and _, no digit first and no _pw last")
    if not value:
        add(where, "is empty", f"Run `pulumi config set --secret --path '{where}'`")
    if len(value.encode()) > MOST_SECRET_BYTES:
        problem = f"has {len(value.encode())} bytes, and an SSM parameter takes {MOST_SECRET_BYTES}"
        add(where, problem, "Shorten it, or keep it in several secrets")
    if "\0" in value or "{{" in value:
        add(where, "has a zero byte or {{, which SSM does not take", "Encode it in base64")


def _source(key: str, definition: WorkloadSettings, add: Add) -> None:
    if definition.files is not None and definition.artifact is not None:
        add(f"{key}.artifact", "is there beside files", "Keep one of the two")
    if definition.artifact is not None and definition.sha256 is None:
        add(f"{key}.sha256", "is missing", "Set it to what `sha256sum FILE` prints")
    if definition.artifact is None and definition.sha256 is not None:
        add(f"{key}.sha256", "is there without an artifact", "Take it out, or set artifact")
    if definition.exclude and definition.files is None:
        add(f"{key}.exclude", "is there without files", "Take it out, or set files")
    if definition.files == "":
        add(f"{key}.files", "is empty", "Name a folder, as workloads/www")


def _kind(key: str, definition: WorkloadSettings, add: Add) -> None:
    kinds = [name for name in _KINDS if getattr(definition, name) is not None]
    if len(kinds) > 1:
        add(f"{key}.{kinds[1]}", f"is there beside {kinds[0]}", "Keep one of the two")
    if not kinds:
        add(key, f"has none of {', '.join(_KINDS)}", "Set one, as run: ./start or nginx: {root: public}")
    sourced = definition.files is not None or definition.artifact is not None
    if definition.nginx is not None and not sourced:
        add(f"{key}.files", "is missing", "Name the folder of the site, as workloads/www")
    if definition.unit is not None and not sourced:
        add(f"{key}.files", "is missing", "Name the folder with the unit file, as ../shop/dist")
    if definition.run is not None and definition.run.startswith("./") and not sourced:
        add(f"{key}.files", "is missing", "Name the folder with this program, or run one of a package")
    _container(key, definition, add)
    if definition.nginx is None:
        if not definition.drain:
            problem = "is false, and a program that restarts refuses requests for a moment"
            add(f"{key}.drain", problem, "Take it out: only static files change without a restart")
        return
    run_only = {
        "before": definition.before,
        "env": definition.env,
        "secrets": definition.secrets,
        "user": definition.user,
        "memory": definition.memory,
        "cpu": definition.cpu,
    }
    for name, value in run_only.items():
        if value:
            add(f"{key}.{name}", "is for a workload with run or unit", "Take it out")


def without_digest(workload: WorkloadSettings, now: str = "") -> tuple[str, str, str]:
    """Return the key, the problem and the fix for a container without a digest.

    `now` is the fix if the registry was asked for the digest (components/preflight/container_images.py).
    """
    key = f"{at(_WORKLOADS, workload.name)}.container"
    fix = (
        f"Add the digest, as {workload.container}@sha256:…. `pulumi preview` shows the one that the registry has now. So does "
        f"`skopeo inspect --format '{{{{.Digest}}}}' docker://{workload.container}`"
    )
    return key, f"{workload.container} has no digest, so machines could run different images", now or fix


def _container(key: str, definition: WorkloadSettings, add: Add) -> None:
    """Add the errors of a workload's container, and of keys that need one or exclude one."""
    if definition.container is None:
        for name in ("registry", "ports", "args", "capabilities", "read_only"):
            if getattr(definition, name):
                add(f"{key}.{to_camel(name)}", "is for a workload with container", "Take it out")
        if definition.user is not None and definition.user[0].isdigit():
            add(f"{key}.user", "is a number", "Name a user of the machine, as www-data")
        return
    if "@" not in definition.container:
        add(*without_digest(definition))
    for name in ("files", "artifact", "packages"):
        if getattr(definition, name):
            add(f"{key}.{name}", "is there beside container", "Put it into the image")
    if definition.registry is not None:
        _secret(f"{key}.registry.password", "password", definition.registry.password.get_secret_value(), add)
    _own_ports(key, definition, add)


def _own_ports(key: str, definition: WorkloadSettings, add: Add) -> None:
    for number, port in enumerate(definition.ports):
        if definition.ports.index(port) != number:
            add(f"{key}.ports[{number}]", "is in it twice", "Name each once", value=str(port))
    for check in definition.check:
        requested = (check.http or check.tcp or "")[1:].partition("/")[0]
        if definition.ports and requested and int(requested) not in definition.ports:
            add(
                f"{key}.check",
                f"asks port {requested}, which is not in ports",
                f"Add {requested} to ports, or correct the check",
            )


def _checks(key: str, definition: WorkloadSettings, add: Add) -> None:
    """Add the errors of a workload's checks. A check that the agent makes itself keeps it from everything else meanwhile."""
    for number, check in enumerate(definition.check):
        where = key if len(definition.check) == 1 else f"{key}[{number}]"
        if [check.http, check.tcp, check.command].count(None) != 2:
            add(where, "has not one of http, tcp and command", "Write one, as {http: ':8080/healthz'}")
        if check.command is None and check.interval is not None:
            add(f"{where}.interval", "is for a command", "Take it out: the agent makes other checks every 2 seconds")
        if definition.nginx is not None and check.grace is not None:
            add(f"{where}.grace", "is for a workload with run or unit", "Take it out")
        if definition.container is not None and check.command is not None:
            add(f"{where}.command", "would not run in the container", "Use http or tcp")
        if definition.nginx is not None and check.command is not None:
            add(f"{where}.command", "is for a workload with run or unit", "Use http or tcp")
    waits = sum(each.timeout or each.TIMEOUT_S for each in definition.check if each.command is None)
    if waits > MOST_WAIT_S and any(each.timeout for each in definition.check if each.command is None):
        add(
            key,
            f"may take {waits} seconds for http and tcp together",
            f"Set timeouts that add up to {MOST_WAIT_S} at the most",
        )
    elif waits > MOST_WAIT_S:
        add(
            key,
            f"may take {waits} seconds for http and tcp together",
            "Set a timeout of 1 for each, or make fewer checks",
        )


def _hooks(settings: Settings, faults: Faults, add: Add) -> None:
    """Refuse a hook that machines could not claim in one bucket.

    Each region has a bucket. Triton machines use the bucket of the stack's region, if they have the key of an IAM user.
    """
    hooked = {
        each.name: each.before for each in settings.workloads if each.before and not _is_faulty(faults, each.name)
    }
    regions: dict[str, FleetSettings] = {}
    for fleet in settings.fleets:
        key = f"{at(_FLEETS, fleet.name)}.runs"
        for name in fleet.runs:
            if name not in hooked:
                continue
            first = regions.setdefault(name, fleet)
            if fleet.cloud != "aws" and not settings.has_iam_user(fleet):
                problem = (
                    f"has {name}. The `before` of {name} needs a bucket, and machines on {fleet.cloud} have the key of one only if their "
                    "fleet joins a service in Route53"
                )
                fix = "Let it join one, let fleets on aws run it, or run the command before `pulumi up` and take `before` out"
                add(key, problem, fix)
            elif _bucket_of(fleet) != _bucket_of(first):
                problem = (
                    f"has {name}. The `before` of {name} runs once, and fleet {first.name} runs it in another region"
                )
                add(key, problem, "Let fleets of one region run it")
            least = hooked[name].timeout + HOOK_MARGIN_S
            if fleet.timeout < least:
                problem = f"is {fleet.timeout}, and the hook of {name} may take {hooked[name].timeout} seconds without progress"
                add(f"{at(_FLEETS, fleet.name)}.timeout", problem, f"Set it to {least} or more")


def _bucket_of(fleet: FleetSettings) -> str:
    """Return the region of the bucket that the machines of a fleet use. An empty text is the stack's region."""
    return fleet.region or "" if fleet.cloud == "aws" else ""


def _runs(settings: Settings, fleet: FleetSettings, add: Add) -> None:
    key = f"{at(_FLEETS, fleet.name)}.runs"
    known = [*(each.name for each in settings.workloads), *SAMPLES]
    for name in fleet.runs:
        if name not in known:
            add(key, f"is not a workload{near(name, known)}", f"Name one of {', '.join(known)}", value=name)
    _sites(settings, fleet, key, add)
    if not fleet.runs:
        return
    if len(" ".join(fleet.runs)) > LONGEST_VALUE:
        add(key, f"has names of over {LONGEST_VALUE} characters, which are a tag of the machine", "Shorten them")
    own = settings.workloads_of(fleet)
    served = _served(settings, fleet)
    _ports(settings, fleet, key, served, add)
    if len(served) > 1:
        add(key, f"has {' and '.join(served)}, which nginx serves at the same port", "Keep one of them")
    checks = {each.check_words for each in own if each.check}
    if len(checks) > 1 and _needs_check(settings, fleet):
        add(key, "has workloads with several checks", "Set check of the sites and of the services that it joins")


def _ports(settings: Settings, fleet: FleetSettings, key: str, served: Sequence[str], add: Add) -> None:
    """Refuse a port that two workloads of a machine would listen on, as far as the configuration shows it."""
    users = dict.fromkeys((SITE_PORT, CLOSED_PORT) if served else (), "nginx")
    for workload in settings.workloads_of(fleet):
        for port in workload.ports:
            first = users.setdefault(port, workload.name)
            if first != workload.name:
                add(key, f"has {workload.name} and {first}, which listen on port {port}", "Change the port of one")


def _sites(settings: Settings, fleet: FleetSettings, key: str, add: Add) -> None:
    """Check that the workloads of a fleet serve the sites that it joins. A fleet without `runs` runs the sample site."""
    runs = fleet.runs or SAMPLES[:1]
    served = _served(settings, fleet) if fleet.runs else runs
    for site in (each for each in settings.sites if each.join in fleet.joins):
        if site.proxied and not served:
            problem = "has no workload with nginx, which serves a proxied site's TLS"
            add(key, problem, f"Add one, or set {site.key}.proxied to false")
        if not site.proxied and site.port != SITE_PORT and len(served) == len(runs):
            fix = f"Take {site.key}.port out, or add a workload with run"
            add(key, f"serves {site.join} at {SITE_PORT} by nginx", fix)
        kind, _, name = (site.check or "").partition(":")
        if kind == "workload" and name not in runs and any(each.name == name for each in settings.workloads):
            problem = f"lacks {name}, which checks whether a machine may join {site.join}"
            add(key, problem, f"Add {name}, or change {site.key}.check")


def _served(settings: Settings, fleet: FleetSettings) -> list[str]:
    """Return the names of the workloads of a fleet that nginx serves."""
    own = [each.name for each in settings.workloads_of(fleet) if each.nginx is not None]
    return own + [each for each in fleet.runs if each == SAMPLES[0]]


def _needs_check(settings: Settings, fleet: FleetSettings) -> bool:
    """Return whether a fleet joins something that has no separate check."""
    directory = settings.service_discovery
    services = directory.services if directory is not None else ()
    own = [each for each in settings.sites if each.join in fleet.joins]
    return any(each.check is None for each in own) or any(
        each.check is None for each in services if any(join.startswith(f"{each.name}/") for join in fleet.joins)
    )
