"""Capacity of availability zones, and on-demand capacity reservations, which moto does not have.

A zone has room for every type, unless the fault `ec2 capacity=ZONE[/TYPE]` is on. What EC2 then answers:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html#troubleshooting-launch-capacity , with the HTTP status 500
(https://github.com/hashicorp/terraform-provider-aws/pull/21293).
Reservations: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateCapacityReservation.html
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from localcloud.aws import filters
from localcloud.aws.ec2.tags import check_specifications
from localcloud.aws.operations import not_emulated
from localcloud.aws.wire import AwsError, Call

if TYPE_CHECKING:
    from localcloud.network.faults import Fault, Faults

SWITCH = "capacity"
_PLATFORMS = ("Linux/UNIX", "Red Hat Enterprise Linux", "SUSE Linux", "Windows")
_MOST = 1000
_ID = re.compile(r"cr-[0-9a-f]{17}")


@dataclass(frozen=True, kw_only=True)
class _Reservation:
    """`ends` is a time in seconds, None where it is not limited. `state` is `active`, `cancelled` or `expired`."""

    id: str
    type: str
    zone: str
    platform: str
    count: int
    made: float
    ends: float | None
    state: str = "active"


class Capacity:
    """The capacity of a region's zones, with the account's reservations. Callers have the lock of moto's objects."""

    def __init__(self, store: Any, faults: Faults | None, clock: Callable[[], float]) -> None:
        self._store, self._faults, self._clock = store, faults, clock
        self._reservations: dict[str, _Reservation] = {}

    def check(self, zone: str, kind: str) -> None:
        """Raises AwsError if the zone has no capacity for this instance type."""

        def hits(fault: Fault) -> bool:
            where, _, only = fault.value.partition("/")
            return fault.action == SWITCH and where == zone and only in ("", kind)

        if self._faults is None or self._faults.take("ec2", "", "", hits) is None:
            return
        others = ", ".join(sorted(each for each in self._offering(kind) if each != zone))
        raise AwsError(
            "InsufficientInstanceCapacity",
            f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested ({zone}). Our system will be "
            f"working on provisioning additional capacity. You can currently get {kind} capacity by not specifying an Availability Zone in "
            f"your request or choosing {others}.",
            500,
        )

    def reserved(self) -> list[tuple[str, int]]:
        """Return the type and the number of instances of each active reservation. They count towards the quota of vCPUs."""
        self._expire()
        return [(each.type, each.count) for each in self._reservations.values() if each.state == "active"]

    def reserve(self, call: Call, vcpus_left: Callable[[], int]) -> str:
        """Answer CreateCapacityReservation. Raises AwsError."""
        kind, count = self._type(call), _number(call)
        zone, platform = self._zone(call), call.get("InstancePlatform") or ""
        if platform not in _PLATFORMS:
            raise AwsError("InvalidParameterValue", f"Value ({platform}) for parameter instancePlatform is invalid.")
        if zone not in self._offering(kind):
            message = (
                f"Your requested instance type ({kind}) is not supported in your requested Availability Zone ({zone})."
            )
            raise AwsError("Unsupported", message)
        if call.get("InstanceMatchCriteria") != "targeted":
            raise not_emulated(call, "instances would run in an open reservation. It has targeted ones")
        ends = self._end(call)
        check_specifications(call)
        if call.get("DryRun") == "true":
            raise AwsError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        if self._vcpus(kind) * count > vcpus_left():
            # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html: it can occur when creating a reservation.
            raise AwsError(
                "InstanceLimitExceeded",
                "You have requested more instances than your current instance limit allows for the specified instance type.",
            )
        self.check(zone, kind)
        made = _Reservation(
            id=f"cr-{secrets.token_hex(9)[:17]}",
            type=kind,
            zone=zone,
            platform=platform,
            count=count,
            made=self._clock(),
            ends=ends,
        )
        self._reservations[made.id] = made
        return f"<capacityReservation>{self._shown(made)}</capacityReservation>"

    def cancel(self, call: Call) -> str:
        """Answer CancelCapacityReservation. Raises AwsError."""
        (found,) = self._chosen([call.get("CapacityReservationId") or ""])
        if found.state != "active":
            message = f"The capacity reservation {found.id} is {found.state}"
            raise AwsError("InvalidCapacityReservationState", message)
        self._reservations[found.id] = replace(found, state="cancelled")
        return "<return>true</return>"

    def describe(self, call: Call) -> str:
        """Answer DescribeCapacityReservations. Raises AwsError."""
        if call.groups("Filter") or call.get("NextToken"):
            raise not_emulated(call, "it lists reservations by their ids")
        wanted = call.members("CapacityReservationId")
        found: Iterable[_Reservation] = self._chosen(wanted) if wanted else self._all()
        items = "".join(f"<item>{self._shown(each)}</item>" for each in found)
        return f"<capacityReservationSet>{items}</capacityReservationSet>"

    def _all(self) -> list[_Reservation]:
        self._expire()
        return list(self._reservations.values())

    def _chosen(self, ids: Sequence[str]) -> list[_Reservation]:
        self._expire()
        for each in ids:
            if not _ID.fullmatch(each):
                raise AwsError("InvalidCapacityReservationId.Malformed", f'Invalid id: "{each}"')
            if each not in self._reservations:
                message = f"The capacity reservation ID '{each}' does not exist"
                raise AwsError("InvalidCapacityReservationId.NotFound", message)
        return [self._reservations[each] for each in ids]

    def _expire(self) -> None:
        now = self._clock()
        for known, each in self._reservations.items():
            if each.state == "active" and each.ends is not None and each.ends <= now:
                self._reservations[known] = replace(each, state="expired")

    def _offering(self, kind: str) -> set[str]:
        """Return the zones that offer a type."""
        found = self._store.describe_instance_type_offerings(
            "availability-zone", {"instance-type": filters.Values([kind])}
        )
        return {str(each["Location"]) for each in found}

    def _type(self, call: Call) -> str:
        kind = call.get("InstanceType") or ""
        if not any(each["InstanceType"] == kind for each in self._store.instance_types):
            raise AwsError("InvalidParameterValue", f"Invalid value '{kind}' for InstanceType.")
        return kind

    def _vcpus(self, kind: str) -> int:
        return next(int(e["VCpuInfo"]["DefaultVCpus"]) for e in self._store.instance_types if e["InstanceType"] == kind)

    def _zone(self, call: Call) -> str:
        name, identity = call.get("AvailabilityZone"), call.get("AvailabilityZoneId")
        if bool(name) == bool(identity):
            raise AwsError("InvalidParameterCombination", "Specify either AvailabilityZone or AvailabilityZoneId.")
        for each in self._store.describe_availability_zones():
            if name == each.name or (identity and identity == each.zone_id):
                return str(each.name)
        raise AwsError("InvalidParameterValue", f"Invalid availability zone: [{name or identity}]")

    def _end(self, call: Call) -> float | None:
        """Return the time at which a reservation ends, in seconds. Raises AwsError."""
        text, limited = call.get("EndDate"), call.get("EndDateType") == "limited"
        if bool(text) != limited:
            problem = "requires" if limited else "excludes"
            raise AwsError("InvalidParameterCombination", f"EndDateType {call.get('EndDateType')} {problem} EndDate.")
        if not text:
            return None
        try:
            ends = datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
        except ValueError as wrong:
            raise AwsError("InvalidParameterValue", f"Value ({text}) for parameter endDate is invalid.") from wrong
        if ends <= self._clock():
            raise AwsError("InvalidParameterValue", "The end date must be in the future.")
        return ends

    def _shown(self, each: _Reservation) -> str:
        account, region = self._store.account_id, self._store.region_name
        available = each.count if each.state == "active" else 0
        fields = {
            "capacityReservationId": each.id,
            "capacityReservationArn": f"arn:aws:ec2:{region}:{account}:capacity-reservation/{each.id}",
            "ownerId": account,
            "instanceType": each.type,
            "instancePlatform": each.platform,
            "availabilityZone": each.zone,
            "tenancy": "default",
            "totalInstanceCount": each.count,
            "availableInstanceCount": available,
            "instanceMatchCriteria": "targeted",
            "state": each.state,
            "endDateType": "unlimited" if each.ends is None else "limited",
            "createDate": _stamp(each.made),
            **({"endDate": _stamp(each.ends)} if each.ends is not None else {}),
        }
        return "".join(f"<{key}>{escape(str(value))}</{key}>" for key, value in fields.items())


def _number(call: Call) -> int:
    text = call.get("InstanceCount") or ""
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise AwsError("InvalidParameterValue", f"Value ({text}) for parameter instanceCount is invalid.")
    return int(text)


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
