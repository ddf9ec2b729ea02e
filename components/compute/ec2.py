"""List, drain, stop and end the stack's machines on EC2, and write and read their settings."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from components.compute.base import public, releases_in, reports_of, utc
from components.compute.s3_reports import S3Reports
from components.model import Instance
from components.workloads.release import Release
from rollcall.escaping import escaped
from rollcall.in_place import LIVE, VIEWS, ReleaseReport
from rollcall.resolver_view import VALID_S, ResolverReport, parse_resolver_report
from rollcall.settings import DRAIN, FLEET, GENERATION, MACHINE, STACK, STORE

# A console takes a call for each machine, so only the first few of many waiting machines are asked.
_MOST_CONSOLES = 10
# The agent's status, or why boot.sh failed.
_STATUS_LINE = re.compile(r"(?:rollcall|ERROR boot): ([^\r\n]*)")

_NOT_FOUND = "InvalidInstanceID.NotFound"
# A request takes 1,000 resources, and EC2 recommends smaller batches:
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateTags.html
_MOST_TAGGED = 500


def group_description(stack: str, fleet: str) -> str:
    """Return the description of a fleet's security group.

    It cannot be changed, so it proves which stack an instance belongs to.
    """
    return f"Rollcall {stack} {fleet}"


def role_description(stack: str, fleet: str) -> str:
    """Return the description of the role of a fleet's instances."""
    return f"Machines of Rollcall's stack {stack}, fleet {fleet}"


class Ec2View:
    """EC2 by boto3, in the account that the stack's configuration and the environment select (components/aws/session.py)."""

    def __init__(self, region: str, config: Mapping[str, str] | None = None) -> None:
        self._region = region
        self._config = config or {}
        self._made: Any = None
        self._reports = S3Reports(lambda region: self.client("s3", region))
        self._views = S3Reports(lambda region: self.client("s3", region), VIEWS, VALID_S)

    @property
    def _ec2(self) -> Any:
        if self._made is None:
            self._made = self.client("ec2", self._region)
        return self._made

    def client(self, service: str, region: str = "") -> Any:
        """Return the client of a service in the account of the stack."""
        from components.aws.session import session_of

        return session_of(self._config.get).client(service, region)

    def machines(self, stack: str) -> tuple[Instance, ...]:
        return self._listed(f"tag:{STACK}", [stack])

    def of(self, instances: Sequence[str]) -> tuple[Instance, ...]:
        # EC2 takes 200 values of a filter.
        parts = [list(instances[first : first + 200]) for first in range(0, len(instances), 200)]
        return tuple(each for part in parts for each in self._listed("instance-id", part))

    def _listed(self, name: str, values: list[str]) -> tuple[Instance, ...]:
        pages = self._ec2.get_paginator("describe_instances").paginate(Filters=[{"Name": name, "Values": values}])
        found = [each for page in pages for reservation in page["Reservations"] for each in reservation["Instances"]]
        return tuple(ec2_instance(each) for each in found if each["State"]["Name"] != "terminated")

    def drain(self, stack: str, instances: Sequence[str]) -> None:
        alive = [each.instance for each in self.machines(stack) if each.instance in instances]
        if alive:
            self._ec2.create_tags(Resources=alive, Tags=[{"Key": DRAIN, "Value": "true"}])

    def undrain(self, stack: str, instances: Sequence[str]) -> None:
        marked = [each.instance for each in self.machines(stack) if each.instance in instances and each.drained]
        if marked:
            self._ec2.delete_tags(Resources=marked, Tags=[{"Key": DRAIN}])

    def stop(self, stack: str, instances: Sequence[str]) -> None:
        """Do nothing: a termination is an orderly shutdown, and many run at the same time."""

    def steps(self, machines: Sequence[Instance]) -> dict[str, str]:
        """Read the steps from the console, where the agent's unit prints them: an instance may not tag itself."""
        from botocore.exceptions import BotoCoreError, ClientError

        found = {}
        for machine in machines[:_MOST_CONSOLES]:
            with contextlib.suppress(BotoCoreError, ClientError):
                printed = str(self._ec2.get_console_output(InstanceId=machine.instance, Latest=True).get("Output", ""))
                lines = _STATUS_LINE.findall(printed)
                if lines:
                    found[machine.instance] = escaped(lines[-1].strip())
        return found

    def console(self, machine: Instance) -> str | None:
        """Return the last 64 KiB of the console, the newest that EC2 has.

        Only instances on Nitro have it immediately. For others, EC2 shows it some minutes after a boot.
        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html (Latest)
        """
        from botocore.exceptions import ClientError

        try:
            found = self._ec2.get_console_output(InstanceId=machine.instance, Latest=True)
        except ClientError as refused:
            if refused.response.get("Error", {}).get("Code") != "UnsupportedOperation":
                raise
            found = self._ec2.get_console_output(InstanceId=machine.instance)
        return str(found.get("Output", ""))

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
        """Check what only the creator of an instance, or a user who may change its network and its role, can give it.

        These are one of the fleet's security groups, with a description that cannot be changed, and an instance profile
        with the fleet's role.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html (GroupDescription),
        https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html (CreateTags changes
        neither)
        """
        from botocore.exceptions import BotoCoreError, ClientError

        doubts: dict[str, str] = {}
        for machine in machines:
            try:
                doubts[machine.instance] = self._doubt(stack, machine)
            except (BotoCoreError, ClientError) as failed:
                code = getattr(failed, "response", {}).get("Error", {}).get("Code") or type(failed).__name__
                doubts[machine.instance] = f"what would prove more cannot be read, {code}"
        return {instance: doubt for instance, doubt in doubts.items() if doubt}

    def _doubt(self, stack: str, machine: Instance) -> str:
        """Return the reason why this instance may not be the stack's; an empty text where it is."""
        found = self._ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": [machine.instance]}])
        listed = [each for reservation in found["Reservations"] for each in reservation["Instances"]]
        groups = [group["GroupId"] for each in listed for group in each.get("SecurityGroups", ())]
        named = self._ec2.describe_security_groups(Filters=[{"Name": "group-id", "Values": groups}]) if groups else {}
        descriptions = {group.get("Description") for group in named.get("SecurityGroups", ())}
        if group_description(stack, machine.fleet) not in descriptions:
            return "it is in no security group of the fleet's"
        arns = [str((each.get("IamInstanceProfile") or {}).get("Arn", "")) for each in listed]
        roles = {role for arn in arns if arn for role in self._roles(arn.rpartition("/")[2])}
        if role_description(stack, machine.fleet) not in roles:
            return "its instance profile has no role of the fleet's"
        return ""

    def _roles(self, profile: str) -> list[str]:
        """Return the descriptions of an instance profile's roles."""
        iam = self.client("iam")
        found = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
        return [str(each.get("Description", "")) for each in found]

    def end(self, instances: Sequence[str]) -> None:
        from botocore.exceptions import ClientError

        for instance in instances:
            try:
                self._ec2.terminate_instances(InstanceIds=[instance])
            except ClientError as refused:
                if refused.response.get("Error", {}).get("Code") != _NOT_FOUND:
                    raise

    def set_settings(self, stack: str, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        """Write the same change of many machines by one request.

        EC2 refuses the whole request if one of the machines is gone. Then list them again.
        """
        from botocore.exceptions import ClientError

        for last in (False, False, True):
            alive = {each.instance for each in self.machines(stack)}
            try:
                for instances, change in _grouped({each: changes[each] for each in changes if each in alive}):
                    self._write_tags(instances, change)
                return
            except ClientError as refused:
                if last or refused.response.get("Error", {}).get("Code") != _NOT_FOUND:
                    raise

    def _write_tags(self, instances: Sequence[str], change: Mapping[str, str | None]) -> None:
        written = [{"Key": key, "Value": value} for key, value in change.items() if value is not None]
        removed = [{"Key": key} for key, value in change.items() if value is None]
        if written:
            self._ec2.create_tags(Resources=instances, Tags=written)
        if removed:
            self._ec2.delete_tags(Resources=instances, Tags=removed)

    def reports(self, machines: Sequence[Instance]) -> dict[str, ReleaseReport]:
        return reports_of(self._reports.read(machines))

    def resolver_reports(self, machines: Sequence[Instance]) -> dict[str, ResolverReport]:
        found = {each: parse_resolver_report(text) for each, text in self._views.read(machines).items()}
        return {each: report for each, report in found.items() if report is not None and report.instance == each}

    def deliver(self, instances: Sequence[str], releases: Sequence[Release]) -> None:
        """Do nothing: each machine fetches its releases from the stack's bucket."""


def _grouped(changes: Mapping[str, Mapping[str, str | None]]) -> list[tuple[list[str], Mapping[str, str | None]]]:
    """Return instances with the same change together, as many as one request takes."""
    groups: dict[tuple[tuple[str, str | None], ...], list[str]] = {}
    for instance, change in changes.items():
        # None cannot be compared with a text, but no key occurs twice.
        groups.setdefault(tuple(sorted(change.items())), []).append(instance)
    return [
        (instances[first : first + _MOST_TAGGED], dict(change))
        for change, instances in groups.items()
        if change
        for first in range(0, len(instances), _MOST_TAGGED)
    ]


def ec2_instance(instance: Mapping[str, Any]) -> Instance:
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())}
    state = instance["State"]["Name"]
    ipv6 = [
        each["Ipv6Address"] for nic in instance.get("NetworkInterfaces", ()) for each in nic.get("Ipv6Addresses", ())
    ]
    return Instance(
        instance=instance["InstanceId"],
        fleet=escaped(tags.get(FLEET, "")),
        machine=escaped(tags.get(MACHINE, "")),
        generation=escaped(tags.get(GENERATION, "")),
        running=state in ("pending", "running", "stopping", "shutting-down"),
        addresses=public([instance.get("PublicIpAddress"), *ipv6]),
        state=state,
        drained=tags.get(DRAIN) == "true",
        note=escaped((instance.get("StateReason") or {}).get("Message", "")) if state == "stopped" else "",
        since=utc(_first_launch(instance)),
        live={key: escaped(value) for key, value in tags.items() if key.startswith(LIVE)},
        store=escaped(tags.get(STORE, "")),
        releases=releases_in(tags),
        private_addresses=tuple(filter(None, [instance.get("PrivateIpAddress"), *ipv6])),
    )


def _first_launch(instance: Mapping[str, Any]) -> Any:
    """Return when the instance was created. `LaunchTime` changes at each start; the primary interface is attached once.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html (launchTime)
    """
    attached = [each.get("Attachment") or {} for each in instance.get("NetworkInterfaces", ())]
    primary = (each.get("AttachTime") for each in attached if each.get("DeviceIndex") == 0)
    return next(primary, None) or instance.get("LaunchTime")
