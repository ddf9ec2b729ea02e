"""The stack's machines as their clouds list them, and the mark that asks one to leave. One small class for each cloud, in CLOUDS.

One list call serves a whole fleet, whatever its size.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol

from components.joyent.errors import CloudApiError, FatalError, NotFoundError
from components.joyent.machine_fields import USER_SCRIPT
from components.joyent.records import MachineRecord, is_public
from components.registration.diff import Seen
from rollcall.escaping import escaped
from rollcall.settings import DRAIN, FLEET, GENERATION, MACHINE, STACK, STATUS

# A console is a call for each machine, so only the first few of many that are waited for are asked.
_MOST_CONSOLES = 10
# What Rollcall's own user-script, of whatever version, has in it.
BOOT_MARK = "/usr/local/lib/rollcall"
# The agent's status, or why boot.sh failed.
_SAID = re.compile(r"(?:rollcall|ERROR boot): ([^\r\n]*)")


def group_description(stack: str, fleet: str) -> str:
    """What a fleet's security group says of itself. It cannot be changed, and proves whose an instance is."""
    return f"Rollcall {stack} {fleet}"


def role_description(stack: str, fleet: str) -> str:
    """What the role of a fleet's instances says of itself."""
    return f"Machines of Rollcall's stack {stack}, fleet {fleet}"


class CloudView(Protocol):
    def machines(self, stack: str) -> tuple[Seen, ...]:
        """Every machine tagged with this stack that is not destroyed."""

    def of(self, instances: Sequence[str]) -> tuple[Seen, ...]:
        """Those with these ids, whatever they are tagged with."""

    def unproven(self, stack: str, machines: Sequence[Seen]) -> dict[str, str]:
        """Why it is not proven, by instance, that Rollcall made these machines for `stack` and the fleet that they are tagged with.

        A tag proves nothing: whoever may only tag can give any machine any tags. One whose proof cannot be read is unproven."""

    def drain(self, stack: str, instances: Sequence[str]) -> None:
        """Mark machines as leaving: their agents see it within 10 s and leave. One that is gone is no error."""

    def undrain(self, stack: str, instances: Sequence[str]) -> None:
        """Take the mark away where it is."""

    def stop(self, stack: str, instances: Sequence[str]) -> None:
        """Begin to stop machines that are about to be deleted, if their deletion would wait for that one after the other; else
        nothing. One that is gone is no error."""

    def steps(self, machines: Sequence[Seen]) -> dict[str, str]:
        """What each machine's agent last said of itself, by instance, where it has said anything that the cloud shows."""

    def end(self, instances: Sequence[str]) -> None:
        """Terminate, without a drain; one that is gone is no error."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A cloud, by the form of its machines' ids, which no other cloud's have, and by its view: of a region, with the stack's
    configuration."""

    ids: str
    view: Callable[[str, Mapping[str, str]], CloudView]


CLOUDS = {
    "aws": Kind(ids=r"i-.+", view=lambda region, config: Ec2View(region, config)),
    "joyent": Kind(ids=r"[0-9a-f]{8}-.+", view=lambda datacenter, config: JoyentView(config, datacenter)),
}


def view_of(cloud: str, region: str, config: Mapping[str, str]) -> CloudView:
    """`region` is the AWS region, or Triton's data centre by name; empty is the one that is configured."""
    return CLOUDS[cloud].view(region, config)


def cloud_of(instance: str) -> str:
    """The cloud that gives out ids of this form; empty where none does."""
    return next((name for name, kind in CLOUDS.items() if re.fullmatch(kind.ids, instance)), "")


def public(addresses: Iterable[str | None]) -> tuple[str, ...]:
    """The public ones among `addresses`, as given."""
    return tuple(each for each in addresses if each and is_public(each))


def _utc(moment: datetime | str | None) -> str:
    """`2026-11-23T14:00:00Z`, however the cloud's client gives it; what is no time stays as it is."""
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment.replace("Z", "+00:00"))
        except ValueError:
            return str(moment)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


class Ec2View:
    """EC2 by boto3, in the account that the stack's configuration and the environment say (components/aws/session.py)."""

    def __init__(self, region: str, config: Mapping[str, str] | None = None) -> None:
        self._region = region
        self._config = config or {}
        self._made: Any = None

    @property
    def _ec2(self) -> Any:
        if self._made is None:
            from components.aws.session import session_of

            self._made = session_of(self._config.get).client("ec2", self._region)
        return self._made

    def machines(self, stack: str) -> tuple[Seen, ...]:
        return self._listed(f"tag:{STACK}", [stack])

    def of(self, instances: Sequence[str]) -> tuple[Seen, ...]:
        # EC2 takes 200 values of a filter.
        parts = [list(instances[first : first + 200]) for first in range(0, len(instances), 200)]
        return tuple(each for part in parts for each in self._listed("instance-id", part))

    def _listed(self, name: str, values: list[str]) -> tuple[Seen, ...]:
        pages = self._ec2.get_paginator("describe_instances").paginate(Filters=[{"Name": name, "Values": values}])
        found = [each for page in pages for reservation in page["Reservations"] for each in reservation["Instances"]]
        return tuple(_ec2_seen(each) for each in found if each["State"]["Name"] != "terminated")

    def drain(self, stack: str, instances: Sequence[str]) -> None:
        alive = [each.instance for each in self.machines(stack) if each.instance in instances]
        if alive:
            self._ec2.create_tags(Resources=alive, Tags=[{"Key": DRAIN, "Value": "true"}])

    def undrain(self, stack: str, instances: Sequence[str]) -> None:
        marked = [each.instance for each in self.machines(stack) if each.instance in instances and each.drained]
        if marked:
            self._ec2.delete_tags(Resources=marked, Tags=[{"Key": DRAIN}])

    def stop(self, stack: str, instances: Sequence[str]) -> None:
        """A termination is an orderly shutdown, and many go on beside each other."""

    def steps(self, machines: Sequence[Seen]) -> dict[str, str]:
        """From the console, where the agent's unit prints: an instance may not tag itself."""
        from botocore.exceptions import BotoCoreError, ClientError

        found = {}
        for machine in machines[:_MOST_CONSOLES]:
            with contextlib.suppress(BotoCoreError, ClientError):
                printed = str(self._ec2.get_console_output(InstanceId=machine.instance, Latest=True).get("Output", ""))
                said = _SAID.findall(printed)
                if said:
                    found[machine.instance] = escaped(said[-1].strip())
        return found

    def unproven(self, stack: str, machines: Sequence[Seen]) -> dict[str, str]:
        """By what only its creator, or who may change its network and its role, can give an instance: one of the fleet's security groups,
        whose description cannot be changed, and an instance profile with the fleet's role.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html (GroupDescription),
        https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html (CreateTags changes neither)
        """
        from botocore.exceptions import BotoCoreError, ClientError

        why: dict[str, str] = {}
        for machine in machines:
            try:
                why[machine.instance] = self._doubt(stack, machine)
            except (BotoCoreError, ClientError) as failed:
                code = getattr(failed, "response", {}).get("Error", {}).get("Code") or type(failed).__name__
                why[machine.instance] = f"what would prove more cannot be read, {code}"
        return {instance: doubt for instance, doubt in why.items() if doubt}

    def _doubt(self, stack: str, machine: Seen) -> str:
        """Why this instance may not be the stack's; empty where it is."""
        found = self._ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": [machine.instance]}])
        listed = [each for reservation in found["Reservations"] for each in reservation["Instances"]]
        groups = [group["GroupId"] for each in listed for group in each.get("SecurityGroups", ())]
        named = self._ec2.describe_security_groups(Filters=[{"Name": "group-id", "Values": groups}]) if groups else {}
        said = {group.get("Description") for group in named.get("SecurityGroups", ())}
        if group_description(stack, machine.fleet) not in said:
            return "it is in no security group of the fleet's"
        arns = [str((each.get("IamInstanceProfile") or {}).get("Arn", "")) for each in listed]
        roles = {role for arn in arns if arn for role in self._roles(arn.rpartition("/")[2])}
        if role_description(stack, machine.fleet) not in roles:
            return "its instance profile has no role of the fleet's"
        return ""

    def _roles(self, profile: str) -> list[str]:
        """The descriptions of an instance profile's roles."""
        from components.aws.session import session_of

        iam = session_of(self._config.get).client("iam")
        found = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
        return [str(each.get("Description", "")) for each in found]

    def end(self, instances: Sequence[str]) -> None:
        from botocore.exceptions import ClientError

        for instance in instances:
            try:
                self._ec2.terminate_instances(InstanceIds=[instance])
            except ClientError as refused:
                if refused.response.get("Error", {}).get("Code") != "InvalidInstanceID.NotFound":
                    raise


def _ec2_seen(instance: Mapping[str, Any]) -> Seen:
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())}
    state = instance["State"]["Name"]
    ipv6 = [
        each["Ipv6Address"] for nic in instance.get("NetworkInterfaces", ()) for each in nic.get("Ipv6Addresses", ())
    ]
    return Seen(
        instance=instance["InstanceId"],
        fleet=escaped(tags.get(FLEET, "")),
        machine=escaped(tags.get(MACHINE, "")),
        generation=escaped(tags.get(GENERATION, "")),
        running=state in ("pending", "running", "stopping", "shutting-down"),
        addresses=public([instance.get("PublicIpAddress"), *ipv6]),
        state=state,
        drained=tags.get(DRAIN) == "true",
        note=escaped((instance.get("StateReason") or {}).get("Message", "")) if state == "stopped" else "",
        since=_utc(_first_launch(instance)),
    )


def _first_launch(instance: Mapping[str, Any]) -> Any:
    """When the instance was made. `LaunchTime` moves at each start; the primary interface is attached once.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html (launchTime)
    """
    attached = [each.get("Attachment") or {} for each in instance.get("NetworkInterfaces", ())]
    primary = (each.get("AttachTime") for each in attached if each.get("DeviceIndex") == 0)
    return next(primary, None) or instance.get("LaunchTime")


class JoyentView:
    """Triton by CloudAPI: `TRITON_*` from the environment first, `rollcall:joyent` of the stack's configuration second."""

    def __init__(self, config: Mapping[str, str], datacenter: str = "") -> None:
        from components.joyent.session import session_of

        self._api = session_of(json.loads(config.get("rollcall:joyent") or "{}"), datacenter).api

    def machines(self, stack: str) -> tuple[Seen, ...]:
        return tuple(_joyent_seen(each) for each in self._api.list_machines(tags={STACK: stack}))

    def of(self, instances: Sequence[str]) -> tuple[Seen, ...]:
        return tuple(_joyent_seen(each) for each in self._api.list_machines() if each.id in instances)

    def drain(self, stack: str, instances: Sequence[str]) -> None:
        for machine in self.machines(stack):
            if machine.instance in instances and not machine.drained:
                with contextlib.suppress(NotFoundError):
                    self._api.merge_metadata(machine.instance, {DRAIN: "true"})

    def undrain(self, stack: str, instances: Sequence[str]) -> None:
        for machine in self.machines(stack):
            if machine.instance in instances and machine.drained:
                with contextlib.suppress(NotFoundError):
                    self._api.delete_metadata(machine.instance, DRAIN)

    def stop(self, stack: str, instances: Sequence[str]) -> None:
        """Deleting is a power cut, so each machine is stopped first, and four are deleted at a time. One that is protected will
        not be deleted, and serves on. What fails here its deletion does again, and says why."""
        with contextlib.suppress(CloudApiError):
            for machine in self._api.list_machines(tags={STACK: stack}):
                if machine.id in instances and machine.state == "running" and not machine.deletion_protection:
                    # Of one that is gone by now; an API that fails has been asked again and again, and ends it.
                    with contextlib.suppress(FatalError):
                        self._api.act(machine.id, "stop")

    def steps(self, machines: Sequence[Seen]) -> dict[str, str]:
        """From the metadata that the agent puts: each machine was listed with it."""
        return {machine.instance: machine.note for machine in machines if machine.note}

    def unproven(self, stack: str, machines: Sequence[Seen]) -> dict[str, str]:
        """By its metadata, which has its identity and the script that Rollcall boots a machine with: who may only tag a machine
        (AddMachineTags) may not write them (UpdateMachineMetadata).

        https://docs.tritondatacenter.com/public-cloud/rbac/rules (each call is a right of its own)
        """
        wanted = {machine.instance: machine for machine in machines}
        listed = {each.id: each for each in self._api.list_machines() if each.id in wanted}
        why = {instance: _joyent_doubt(stack, each, listed.get(instance)) for instance, each in wanted.items()}
        return {instance: doubt for instance, doubt in why.items() if doubt}

    def end(self, instances: Sequence[str]) -> None:
        for instance in instances:
            with contextlib.suppress(NotFoundError):
                self._api.delete_machine(instance)


def _joyent_doubt(stack: str, machine: Seen, listed: MachineRecord | None) -> str:
    told = listed.metadata if listed is not None else {}
    identity = {STACK: stack, FLEET: machine.fleet, MACHINE: machine.machine, GENERATION: machine.generation}
    if any(not value or told.get(key) != value for key, value in identity.items()):
        return "its metadata do not name it as its tags do"
    return "" if BOOT_MARK in told.get(USER_SCRIPT, "") else "its user-script is not Rollcall's"


def _joyent_seen(machine: MachineRecord) -> Seen:
    tags = {key: escaped(value) for key, value in machine.tags.items()}
    return Seen(
        instance=machine.id,
        fleet=tags.get(FLEET, ""),
        machine=tags.get(MACHINE, ""),
        generation=tags.get(GENERATION, ""),
        running=machine.state in ("provisioning", "ready", "running", "stopping", "offline", "unknown"),
        # The primary one first, which is what its agent registers.
        addresses=public(dict.fromkeys((machine.primary_ip, *machine.ips))),
        state=escaped(machine.state),
        drained=machine.metadata.get(DRAIN) == "true",
        note=escaped(machine.metadata.get(STATUS, "")),
        since=_utc(machine.created),
    )
