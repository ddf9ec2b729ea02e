"""`rollcall status`: program, state, clouds and DNS of a stack side by side, differences first.

    rollcall status [--stack prod] [--json]        (the same as python -m components.commands.status; default: the selected stack)

Needs what `pulumi up` needs: the engine on the PATH, the backend, and the clouds' credentials, which it takes from the
stack's configuration and the environment as `pulumi up` does. It only reads. A machine that is not in all four is a
difference, and so is one that does not have the release of its fleet.

Exit code 0: in step; 1: something differs; 2: it could not be found out (why, on stderr).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from components.aws import api_errors
from components.commands import census, fleet_releases
from components.commands.certificates import CertificateStatus, certificates_of
from components.commands.fleet_releases import MachineRelease
from components.compute.base import releases_in
from components.compute.locations import Location
from components.compute.registry import cloud_of
from components.config.errors import ConfigurationError
from components.config.models import KEYS, FleetSettings, Settings, SiteSettings
from components.config.reader import decoded, read
from components.config.site_zones import ZoneSettings
from components.dns.cloudflare_access import cloudflare_token, cloudflare_token_key, cloudflare_url
from components.dns.cloudflare_api import CloudflareApi
from components.joyent.errors import CloudApiError
from components.model import DesiredState, DnsRecord, Instance, Member
from components.preflight import cloudflare_tokens, lost_tokens, zone_names
from components.registration.diff import Cause, Drift, Finding, Kind, find_drift, owned
from components.registration.inventory import Registries
from components.registration.messages import line, since
from components.registration.props import desired_of, registries_of
from components.registration.roll_call import proven
from components.resources.tags import named
from components.rollout.planning import Progress
from rollcall.errors import RollcallError
from rollcall.escaping import escaped, escaped_lines
from rollcall.settings import FLEET, GENERATION, MACHINE, STACK

_ROLL_CALL = "pulumi-python:dynamic/rollcall:RollCall"
_DEREGISTRATION = "pulumi-python:dynamic/rollcall:Deregistration"


class StatusError(Exception):
    """The stack cannot be compared; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class MachineStatus:
    """One machine: as the state names it, as its cloud lists it, and the record sets that have it. `since` is when it was created, on EC2
    when it was last started (ISO 8601, UTC). `hold` says since when an operator keeps it out of DNS, and why; empty: nobody does.
    `releases` are those of its workloads."""

    name: str
    instance: str
    state: str
    addresses: tuple[str, ...]
    since: str
    record_sets: tuple[str, ...]
    note: str = ""
    hold: str = ""
    releases: tuple[MachineRelease, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FleetStatus:
    """A fleet's machines, and each way in which program, state, cloud and DNS differ. `region` is the AWS region, or Triton's data
    centre where it is not the configured one. `notes` say what is wrong with the zones' name servers, and where resolvers have another
    view. They are not differences of the stack. `roll_out` is how far the last roll-out is; None: the fleet does not change in
    place, or has no release yet."""

    fleet: str
    cloud: str
    region: str
    machines: tuple[MachineStatus, ...]
    differences: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    roll_out: Progress | None = None

    @property
    def in_step(self) -> bool:
        return not any(self.differences.values())


def status_of(
    access: Location,
    roll: DesiredState,
    records: Sequence[DnsRecord],
    instances: Sequence[Instance],
    found: Drift,
    steps: Mapping[str, str] | None = None,
) -> FleetStatus:
    """Return what is shown of one fleet: a pure function. `steps` has the last step of each unhealthy machine, by instance."""
    listed = {machine.instance: machine for machine in instances}
    return FleetStatus(
        fleet=roll.fleet,
        cloud=access.cloud,
        region=access.region,
        machines=tuple(_machine(member, roll, records, listed.get(member.instance)) for member in roll.members),
        differences=_differences(found, steps=steps),
    )


def _machine(
    member: Member, roll: DesiredState, records: Iterable[DnsRecord], instance: Instance | None
) -> MachineStatus:
    mine = owned(records, roll.stack, [member])
    return MachineStatus(
        name=member.name,
        instance=member.instance,
        state=instance.state if instance else "not listed by its cloud",
        addresses=tuple(dict.fromkeys((*instance.addresses, *instance.private_addresses))) if instance else (),
        since=instance.since if instance else "",
        record_sets=tuple(str(key) for key in sorted({record.key for record in mine})),
        note=instance.note if instance else "",
        hold=f"on hold{since(instance.hold)}: {instance.hold.reason}" if instance and instance.hold else "",
    )


@dataclass(frozen=True, kw_only=True)
class State:
    """What an exported state has: the properties of its roll calls, Deregistrations and Releases, by fleet, and its machines."""

    stacks: tuple[str, ...]
    roll_calls: Mapping[str, Mapping[str, Any]]
    deregistrations: Mapping[str, Sequence[Mapping[str, Any]]]
    machines: tuple[census.StateMachine, ...]
    releases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def fleets(self) -> list[str]:
        return sorted({*self.roll_calls, *self.deregistrations, *(each.member.fleet for each in self.machines)})


def state_in(resources: Iterable[Mapping[str, Any]]) -> State:
    """Read the machines of an exported state, and what the stack's resources know of them."""
    listed = list(resources)
    ours = [each for each in listed if each.get("type") in (_ROLL_CALL, _DEREGISTRATION)]
    roll_calls = {
        str(each["outputs"]["fleet"]): each["outputs"]
        for each in ours
        if each["type"] == _ROLL_CALL and not each.get("delete")
    }
    deregistrations: dict[str, list[Mapping[str, Any]]] = {}
    for each in (each["outputs"] for each in ours if each["type"] == _DEREGISTRATION):
        deregistrations.setdefault(str(each["fleet"]), []).append(each)
    counted = {str(member["instance"]) for props in roll_calls.values() for member in props["members"]}
    urn = next((str(each["urn"]).split("::") for each in listed if "::" in str(each.get("urn"))), None)
    now = [named(urn[1], urn[0].rpartition(":")[2])] if urn else []
    return State(
        stacks=tuple(dict.fromkeys((*now, *(str(each["outputs"]["stack"]) for each in ours)))),
        roll_calls=roll_calls,
        deregistrations=deregistrations,
        machines=tuple(found for each in listed if (found := _machine_in(each, counted)) is not None),
        releases=fleet_releases.release_props(listed),
    )


def _machine_in(resource: Mapping[str, Any], counted: Collection[str]) -> census.StateMachine | None:
    """Return the machine that this resource is, by its id, which has the form of a cloud's, and by its tags."""
    id_, outputs = str(resource.get("id") or ""), resource.get("outputs") or {}
    # Triton keeps the settings of a machine in its metadata.
    tags, metadata = outputs.get("tags"), outputs.get("metadata")
    if not cloud_of(id_) or not isinstance(tags, Mapping) or not {STACK, FLEET, MACHINE, GENERATION} <= {*tags}:
        return None
    names = {"fleet": tags[FLEET], "machine": str(tags[MACHINE]), "generation": tags[GENERATION], "stack": tags[STACK]}
    member = Member(instance=id_, **names)
    settings = {**tags, **(metadata if isinstance(metadata, Mapping) else {})}
    return census.StateMachine(
        member=member, counted=id_ in counted, going=bool(resource.get("delete")), releases=releases_in(settings)
    )


def declared(stack: str, config: Mapping[str, str]) -> dict[str, FleetSettings]:
    """Return the fleets of the program, by name. `stack` is the stack's id. Raises ConfigurationError."""
    if config.get("rollcall:fleets") is None:
        return {}
    # A zone that the configuration gives by its id may have been deleted, and no fleet needs its name.
    names = dict.fromkeys((zone_names.SITES, zone_names.DIRECTORY), lambda _: "zone.example")
    return {each.name: each for each in program(stack, config, names).fleets}


def program(stack: str, config: Mapping[str, str], names: Mapping[str, Callable[[str], str]]) -> Settings:
    """Return the settings of the program. `names` look up the name of a zone that is given by its id. Raises ConfigurationError."""
    given = {key: value for key in KEYS if (value := config.get(f"rollcall:{key}")) is not None}
    secret = config.secrets if isinstance(config, Configuration) else frozenset[str]()
    hidden = [key for key in KEYS if f"rollcall:{key}" in secret]
    return read(stack, zone_names.named(decoded(given), names), hidden)


def lost_tokens_of(resources: Iterable[Mapping[str, Any]], config: Mapping[str, str]) -> list[str]:
    """Say which of Cloudflare's tokens of this stack no state has. Raises the errors of CloudflareApi."""
    listed, token = list(resources), cloudflare_token(config.get)
    made = {str(each["id"]) for each in listed if each.get("type") in lost_tokens.TYPES}
    if not made or not token or config.get(cloudflare_tokens.KEY):
        return []
    api = CloudflareApi(cloudflare_url(config.get), token, cloudflare_token_key(config.get))
    try:
        own = cloudflare_tokens.verified(api, lambda: _accounts(api, config))
    except cloudflare_tokens.InactiveError:
        return []
    return [str(each) for stack in state_in(listed).stacks for each in lost_tokens.lost(api, own.owner, stack, made)]


def _accounts(api: CloudflareApi, config: Mapping[str, str]) -> list[str]:
    """Return the ids of the accounts of the sites' zones."""
    sections = json.loads(config.get("rollcall:sites") or "{}").values()
    sites = (
        SiteSettings(zone=str(each.get("zone") or ""), account_id=str(each.get("accountId") or "") or None)
        for each in sections
        if isinstance(each, Mapping)
    )
    return cloudflare_tokens.accounts_seen(api, [ZoneSettings(sites=(each,)) for each in sites])


def compare(resources: Iterable[Mapping[str, Any]], config: Mapping[str, str]) -> list[FleetStatus]:
    """Return every fleet of the program and of an exported state, compared with its cloud and DNS as they are now.

    Raises the errors of the clouds' clients, and ConfigurationError.
    """
    state = state_in(resources)
    # Where nothing is deployed, the name is not needed yet.
    program = declared(next(iter(state.stacks), "stack"), config)
    return [_compare(name, program.get(name), state, config) for name in sorted({*program, *state.fleets})]


def _compare(name: str, declared: FleetSettings | None, state: State, config: Mapping[str, str]) -> FleetStatus:
    machines = [each for each in state.machines if each.member.fleet == name]
    props = roll_call_props(name, machines, state)
    if props is None:
        lacks = census.missing(name, declared.count if declared else None, machines, ())
        access = Location(cloud=declared.cloud, region=declared.region or "") if declared else Location(cloud="")
        return FleetStatus(
            fleet=name,
            cloud=access.cloud,
            region=access.region,
            machines=(),
            differences={**_differences(Drift()), **_lacking(lacks)},
        )
    registries, roll = registries_of(props, config), desired_of(props)
    records = registries.dns_records()
    instances = [each for stack in state.stacks for each in registries.instances(stack)]
    drift = proven(registries, roll, find_drift(roll, records, instances, registries.answers()))
    steps = _unhealthy_steps(drift, registries, instances)
    found = status_of(Location.from_inputs(props["cloud"]), roll, records, instances, drift, steps)
    lacks = census.missing(name, declared.count if declared else None, machines, instances)
    releases = fleet_releases.found(registries, props, state.releases.get(name), machines, instances, drift)
    gone = [f"the zone {zone} was deleted" for zone in registries.gone]
    return replace(
        found,
        machines=tuple(replace(each, releases=releases.machines.get(each.instance, ())) for each in found.machines),
        roll_out=releases.roll_out,
        differences={
            **found.differences,
            **_lacking(lacks),
            "release": releases.differences,
            "zone": tuple(gone),
        },
        notes=(*registries.sources, *registries.notes, *(registries.compared(drift.unanswered) or registries.split())),
    )


def _unhealthy_steps(drift: Drift, registries: Registries, instances: Sequence[Instance]) -> Mapping[str, str]:
    """Return the last step of each machine that is unhealthy and stays in DNS, by instance."""
    unhealthy = [each.member for each in drift.findings if each.cause is Cause.UNHEALTHY and each.member]
    return registries.steps(unhealthy, instances) if unhealthy else {}


def _differences(drift: Drift, steps: Mapping[str, str] | None = None) -> dict[str, tuple[str, ...]]:
    """Return the lines of each kind of finding. The line of an unhealthy machine ends with its last step."""
    return {kind.value: tuple(_described(each, steps or {}) for each in drift.of(kind)) for kind in Kind}


def _described(finding: Finding, steps: Mapping[str, str]) -> str:
    step = steps.get(finding.member.instance) if finding.member and finding.cause is Cause.UNHEALTHY else None
    return f"{line(finding)}: {step}" if step else line(finding)


def _lacking(lacks: census.Missing) -> dict[str, tuple[str, ...]]:
    return {f"not_{key}": lines for key, lines in asdict(lacks).items()}


def roll_call_props(name: str, machines: Sequence[census.StateMachine], state: State) -> dict[str, Any] | None:
    """Return the properties of the fleet's roll call, with all machines of the state as members; without a roll call, those of the
    machines' Deregistrations. None: the state has neither."""
    props = state.roll_calls.get(name)
    if props is None:
        made = state.deregistrations.get(name)
        if not made:
            return None
        props = {**made[0], "fleets": state.fleets, "members": []}
    drained = {str(each["instance"]) for each in props.get("drained", ())}
    known = {str(each["instance"]) for each in props["members"]} | drained
    more = [each.member for each in machines if each.member.instance not in known]
    more = [replace(each, stack="") if each.stack == props["stack"] else each for each in more]
    former = [each for each in state.stacks if each != props["stack"]]
    return {**props, "members": [*props["members"], *(each.as_inputs() for each in more)], "former_stacks": former}


def shown(
    fleets: Sequence[FleetStatus], lost: Sequence[str] = (), certificates: Sequence[CertificateStatus] = ()
) -> str:
    """Return the same for people, differences first. `lost` are tokens that are in no state."""
    lines = [
        f"  {fleet.fleet}: {key.replace('_', ' ')}: {text}"
        for fleet in fleets
        for key, listed in fleet.differences.items()
        for text in listed
    ]
    lines += [f"  {line}" for line in (*lost, *(each.fault for each in certificates if each.fault))]
    if not fleets and not lost:
        return "Nothing is deployed: the stack's state has no fleet."
    lines = ["Differences", *lines, ""] if lines else ["In step: state, clouds and DNS say the same.", ""]
    notes = list(dict.fromkeys(f"  {each}" for fleet in fleets for each in fleet.notes))
    lines += ["Name servers", *notes, ""] if notes else []
    lines += ["Certificates", *(f"  {each}" for each in certificates), ""] if certificates else []
    on_hold = [
        f"  {each.name} ({each.instance}): {each.hold}" for fleet in fleets for each in fleet.machines if each.hold
    ]
    lines += ["On hold: `rollcall release-hold MACHINE` lets a machine join again", *on_hold, ""] if on_hold else []
    for fleet in fleets:
        where = f"{fleet.cloud} {fleet.region}".strip()
        lines.append(f"{fleet.fleet} ({where})" if where else fleet.fleet)
        if fleet.roll_out:
            lines.append(f"  roll-out: {fleet.roll_out.state}: {fleet.roll_out.line}")
        for machine in fleet.machines:
            addresses = ", ".join(machine.addresses) or "no address"
            row = f"  {machine.name:<16} {machine.instance:<37} {machine.state:<9} {addresses:<16} {machine.since}"
            lines.append(row.rstrip())
            lines += [f"      {each}" for each in machine.releases]
            lines += [f"      at {key}" for key in machine.record_sets]
    return "\n".join(map(escaped, lines))


def exported(stack: str) -> tuple[list[Mapping[str, Any]], Configuration]:
    """Return the resources in the stack's state, and its configuration. An empty `stack` is the selected one. Raises StatusError."""
    chosen = ("--stack", stack) if stack else ()
    state = json.loads(_pulumi("stack", "export", *chosen) or "{}")
    return state.get("deployment", {}).get("resources") or [], configuration(stack)


class Configuration(dict[str, str]):
    """The stack's configuration as the engine hands it to the program.

    A secret that could not be decrypted is not in it, and to ask for it raises StatusError: without it, the credentials of another
    account might be used. No message may show the values of the keys in `secrets`.
    """

    def __init__(
        self, values: Mapping[str, str], sealed: Iterable[str] = (), reason: str = "", secrets: Iterable[str] = ()
    ) -> None:
        super().__init__(values)
        self._sealed, self._reason, self.secrets = frozenset(sealed), reason, frozenset(secrets)

    def get(self, key: str, default: Any = None) -> Any:
        if key in self._sealed:
            fix = "Set PULUMI_CONFIG_PASSPHRASE, or get the right to use the key"
            raise StatusError(f"{key}: cannot be decrypted ({self._reason}). {fix}.")
        return super().get(key, default)


def configuration(stack: str) -> Configuration:
    """Return the configuration of a stack, or of the selected one. Raises StatusError."""
    chosen = ("--stack", stack) if stack else ()
    reason = ""
    try:
        printed = _pulumi("config", "--json", "--show-secrets", *chosen)
    except StatusError as refused:
        reason, printed = str(refused), _pulumi("config", "--json", *chosen)
    found = json.loads(printed or "{}")
    values = {key: str(each["value"]) for key, each in found.items() if "value" in each}
    secrets = [key for key, each in found.items() if each.get("secret")]
    return Configuration(values, found.keys() - values.keys(), reason, secrets)


def _pulumi(*words: str) -> str:
    try:
        done = subprocess.run(
            ["pulumi", *words, "--non-interactive"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except OSError as missing:
        raise StatusError(f"pulumi: cannot be started ({missing.strerror}). Put the engine on the PATH.") from missing
    if done.returncode:
        last_line = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise StatusError(f"pulumi {words[0]}: failed ({last_line}). Correct what it names.")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall status", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stack", default="", help="default: the selected stack")
    parser.add_argument("--json", action="store_true", help="for programs")
    chosen = parser.parse_args(arguments)

    # A region that cannot be asked is not a difference: its machines are not known.
    try:
        stack = exported(chosen.stack)
        fleets, lost, certificates = compare(*stack), lost_tokens_of(*stack), certificates_of(*stack)
    except (StatusError, ConfigurationError, RollcallError, CloudApiError) as fault:
        print(escaped_lines(f"rollcall status: {fault}"), file=sys.stderr)
        return 2
    except api_errors.failures() as failed:
        print(escaped_lines(f"rollcall status: {api_errors.message_of(failed)}"), file=sys.stderr)
        return 2
    in_step = all(each.in_step for each in fleets) and not lost and not any(each.fault for each in certificates)
    if chosen.json:
        listed = {"fleets": [asdict(each) for each in fleets], "certificates": [asdict(each) for each in certificates]}
        print(json.dumps({"in_step": in_step, **listed, "lost_tokens": lost}))
    else:
        print(shown(fleets, lost, certificates))
    return 0 if in_step else 1


if __name__ == "__main__":
    sys.exit(main())
