"""Placement groups, which moto does not have: spread and partition groups.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/placement-groups.html , the limits:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/limitations-placement-groups.html , the codes:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from localcloud.aws.ec2.tags import check_specifications
from localcloud.aws.operations import not_emulated
from localcloud.aws.wire import AwsError, Call

MOST_GROUPS = 500
MOST_SPREAD = 7
MOST_PARTITIONS = 7
_DEFAULT_PARTITIONS = 2
_STRATEGIES = ("cluster", "spread", "partition")
_LONGEST = 255
# Seven in a zone are "running instances": one that is stopped has no hardware.
_ON_HARDWARE = ("pending", "running")


@dataclass(frozen=True, kw_only=True)
class Group:
    """`partitions` is 0 for a group of another strategy."""

    id: str
    name: str
    strategy: str
    partitions: int = 0


class PlacementGroups:
    """The placement groups of a region. `state` gives the state of an instance. Callers have the lock of moto's objects."""

    def __init__(self, store: Any, state: Callable[[str], str | None]) -> None:
        self._store, self._state = store, state
        self._groups: dict[str, Group] = {}

    def create(self, call: Call) -> str:
        """Answer CreatePlacementGroup. Raises AwsError."""
        name, strategy = call.get("GroupName") or "", call.get("Strategy") or "cluster"
        if not name or len(name) > _LONGEST or not name.isascii():
            raise AwsError("InvalidParameterValue", f"Value ({name}) for parameter groupName is invalid.")
        if strategy not in _STRATEGIES:
            raise AwsError("InvalidParameterValue", f"Value ({strategy}) for parameter strategy is invalid.")
        if strategy == "cluster" or call.get("SpreadLevel") == "host":
            raise not_emulated(call, "it has spread groups of the level rack, and partition groups")
        partitions = _partitions(call, strategy)
        if name in self._groups:
            raise AwsError("InvalidPlacementGroup.Duplicate", f"The placement group '{name}' already exists.")
        if len(self._groups) >= MOST_GROUPS:
            message = "You've reached the limit on the number of placement groups that you can have."
            raise AwsError("PlacementGroupLimitExceeded", message)
        check_specifications(call)
        made = Group(id=f"pg-{secrets.token_hex(9)[:17]}", name=name, strategy=strategy, partitions=partitions)
        self._groups[name] = made
        tags = _tags(call)
        if tags:
            self._store.tags[made.id].update(tags)
        return f"<return>true</return><placementGroup>{self._shown(made)}</placementGroup>"

    def tag(self, ids: Sequence[str], tags: Mapping[str, str]) -> bool:
        """Give placement groups more tags. Return whether all `ids` are of placement groups; others have nothing to do with them."""
        if not self._are_groups(ids):
            return False
        for each in ids:
            self._store.tags[each].update(tags)
        return True

    def untag(self, ids: Sequence[str], keys: Iterable[str]) -> bool:
        """Remove tags of placement groups. Return as `tag`."""
        if not self._are_groups(ids):
            return False
        for each in ids:
            for key in keys:
                self._store.tags[each].pop(key, None)
        return True

    def _are_groups(self, ids: Sequence[str]) -> bool:
        return bool(ids) and {*ids} <= {each.id for each in self._groups.values()}

    def describe(self, call: Call) -> str:
        """Answer DescribePlacementGroups. Raises AwsError."""
        if call.groups("Filter"):
            raise not_emulated(call, "it lists placement groups by their names or ids")
        names, ids = call.members("GroupName"), call.members("GroupId")
        for each in names:
            self.named(each)
        known = {each.id for each in self._groups.values()}
        for each in ids:
            if each not in known:
                raise AwsError("InvalidPlacementGroupId.Malformed", f'Invalid id: "{each}"')
        found = [each for each in self._groups.values() if not (names or ids) or each.name in names or each.id in ids]
        items = "".join(f"<item>{self._shown(each)}</item>" for each in found)
        return f"<placementGroupSet>{items}</placementGroupSet>"

    def delete(self, call: Call) -> str:
        """Answer DeletePlacementGroup: an empty group only. Raises AwsError."""
        found = self.named(call.get("GroupName") or "")
        if self._members(found, ("pending", "running", "stopping", "stopped", "shutting-down")):
            message = f"The placement group '{found.name}' is in use and may not be deleted."
            raise AwsError("InvalidPlacementGroup.InUse", message)
        del self._groups[found.name]
        self._store.tags.pop(found.id, None)
        return "<return>true</return>"

    def named(self, name: str) -> Group:
        """Return a group. Raises AwsError for an unknown one."""
        if name not in self._groups:
            raise AwsError("InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown.")
        return self._groups[name]

    def check(self, name: str, zone: str, count: int) -> None:
        """Raises AwsError if so many more instances may not be in a zone of this group."""
        group = self.named(name)
        running = [each for each in self._members(group, _ON_HARDWARE) if each.placement.zone == zone]
        if group.strategy == "spread" and len(running) + count > MOST_SPREAD:
            # The documentation has no code: "If you try to start an eighth instance in the same Availability Zone and in the same spread
            # placement group, the instance will not launch."
            message = (
                f"You may have a maximum of {MOST_SPREAD} running instances per Availability Zone in the spread placement "
                f"group '{name}'."
            )
            raise AwsError("InstanceLimitExceeded", message)

    def _members(self, group: Group, states: Sequence[str]) -> list[Any]:
        listed: Iterable[Any] = (i for each in self._store.reservations.values() for i in each.instances)
        return [each for each in listed if each.placement.group_name == group.name and self._state(each.id) in states]

    def _shown(self, group: Group) -> str:
        account, region = self._store.account_id, self._store.region_name
        tags: Mapping[str, str] = self._store.tags.get(group.id, {})
        fields = {
            "groupName": group.name,
            "groupId": group.id,
            "groupArn": f"arn:aws:ec2:{region}:{account}:placement-group/{group.name}",
            "strategy": group.strategy,
            "state": "available",
            **({"partitionCount": group.partitions} if group.partitions else {}),
            **({"spreadLevel": "rack"} if group.strategy == "spread" else {}),
        }
        items = "".join(
            f"<item><key>{escape(key)}</key><value>{escape(value)}</value></item>" for key, value in tags.items()
        )
        shown = "".join(f"<{key}>{escape(str(value))}</{key}>" for key, value in fields.items())
        return f"{shown}<tagSet>{items}</tagSet>"


def _partitions(call: Call, strategy: str) -> int:
    text = call.get("PartitionCount")
    if strategy != "partition":
        if text:
            raise AwsError("InvalidParameterCombination", "PartitionCount is valid only for the partition strategy.")
        return 0
    if text is not None and not (text.isdecimal() and 1 <= int(text) <= MOST_PARTITIONS):
        raise AwsError("InvalidParameterValue", f"Value ({text}) for parameter partitionCount is invalid.")
    return int(text or _DEFAULT_PARTITIONS)


def _tags(call: Call) -> dict[str, str]:
    found = {}
    for specification in call.groups("TagSpecification").values():
        for key, value in specification.items():
            if key.startswith("Tag.") and key.endswith(".Key"):
                found[value] = specification.get(f"{key[:-3]}Value", "")
    return found
