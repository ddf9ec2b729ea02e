"""EC2's API: this module checks or answers what moto is not strict enough for; the rest goes to moto."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from localcloud.aws import filters
from localcloud.aws.ec2 import groups, ipv6, parts, volumes
from localcloud.aws.ec2.capacity import Capacity
from localcloud.aws.ec2.elastic import ElasticAddresses
from localcloud.aws.ec2.interfaces import Interfaces
from localcloud.aws.ec2.launch import check_metadata_options, prepare, subnet_of
from localcloud.aws.ec2.modify import modify
from localcloud.aws.ec2.placement import PlacementGroups
from localcloud.aws.ec2.power import CODES, Change, Power
from localcloud.aws.ec2.replies import done, refuse_dry_run
from localcloud.aws.ec2.tags import check_count, check_metadata_keys, check_specifications, check_tags
from localcloud.aws.moto_backends import Moto
from localcloud.aws.quotas import GROUPS, RULES
from localcloud.aws.wire import AwsError, Call, Reply

if TYPE_CHECKING:
    from localcloud.network.faults import Faults

_MOST_IDS = 100
_PAGE = 1000


class Ec2Api:
    """`vcpu_limit` is the account's quota of vCPUs that run at a time (VcpuLimitExceeded). `quota` gives another quota by its code."""

    def __init__(
        self,
        moto: Moto,
        store: Any,
        power: Power,
        *,
        vcpu_limit: int,
        quota: Callable[[str], float],
        faults: Faults | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._moto = moto
        self._store = store
        self._power = power
        self._vcpu_limit = vcpu_limit
        self._quota = quota
        self._launched: dict[str, tuple[frozenset[tuple[str, str]], Reply]] = {}
        self._launching = threading.Lock()
        self._ipv6 = ipv6.Addresses()
        self._capacity = Capacity(store, faults, clock)
        self._placement = PlacementGroups(store, power.state)
        self._own: dict[str, Callable[[Call], Reply]] = {
            "RunInstances": self._run,
            "StartInstances": self._start,
            "StopInstances": self._stop,
            "RebootInstances": self._reboot,
            "TerminateInstances": self._terminate,
            "DescribeInstances": self._describe,
            "GetConsoleOutput": self._console,
            "CreateSecurityGroup": self._create_group,
            "AuthorizeSecurityGroupIngress": self._authorize,
            "AuthorizeSecurityGroupEgress": self._authorize,
            "CreateTags": self._tag,
            "DeleteTags": self._untag,
            "ModifyInstanceAttribute": self._modify,
            "ModifyInstanceMetadataOptions": self._modify_options,
            "DetachVolume": self._detach,
            "ModifyVolume": self._modify_volume,
            "MonitorInstances": lambda call: self._monitor(call, "enabled"),
            "UnmonitorInstances": lambda call: self._monitor(call, "disabled"),
            "DescribeSubnets": lambda call: self._moto.answer(call, ipv6.subnets_by_id(call, self._store)),
            "AssociateSubnetCidrBlock": self._associate,
            "CreateCapacityReservation": lambda call: self._locked(call, self._reserve),
            "CancelCapacityReservation": lambda call: self._locked(call, self._capacity.cancel),
            "DescribeCapacityReservations": lambda call: self._locked(call, self._capacity.describe),
            "CreatePlacementGroup": lambda call: self._locked(call, self._placement.create),
            "DeletePlacementGroup": lambda call: self._locked(call, self._placement.delete),
            "DescribePlacementGroups": lambda call: self._locked(call, self._placement.describe),
            **ElasticAddresses(moto, store, power, quota).own,
            **Interfaces(moto, store, self._ipv6, quota).own,
        }

    def answer(self, call: Call) -> Reply:
        """Raises AwsError."""
        if not call.action:
            raise AwsError("MissingAction", "The request must contain the parameter Action")
        self._power.tidy()
        filters.check_names(call)
        if call.action in parts.CHECKS:
            with self._moto.lock:
                parts.CHECKS[call.action](call, self._store)
                return self._moto.answer(call)
        return self._own.get(call.action, self._moto.answer)(call)

    def tags_of(self, resource: str) -> dict[str, str]:
        return dict(self._store.tags.get(resource, {}))

    def _run(self, call: Call) -> Reply:
        token = call.get("ClientToken")
        parameters = frozenset(pair for pair in call.form if pair[0] != "ClientToken")
        with self._launching:
            if token and token in self._launched:
                before, reply = self._launched[token]
                if before != parameters:
                    raise AwsError(
                        "IdempotentParameterMismatch",
                        "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
                    )
                return reply
            reply = self._launch(call)
            if token and reply.status == 200:
                self._launched[token] = (parameters, reply)
            return reply

    def _launch(self, call: Call) -> Reply:
        with self._moto.lock:
            fields = prepare(
                call,
                self._store,
                self._moto.iam,
                vcpus_left=self._vcpu_limit - self._vcpus_used(),
                vcpu_limit=self._vcpu_limit,
                addresses_left=self._power.free,
                quota=self._quota,
            )
            self._check_placement(call, int(dict(fields)["MaxCount"]))
            before = set(self._store.reservations)
            reply = self._moto.answer(call, urlencode(fields).encode())
            made = [
                instance
                for known, reservation in self._store.reservations.items()
                if known not in before
                for instance in reservation.instances
            ]
            if reply.status != 200:
                return reply
            for instance in made:
                # moto ignores it at launch.
                instance.disable_api_termination = call.get("DisableApiTermination") == "true"
                instance.placement.group_name = call.get("Placement.GroupName") or ""
                if call.groups("NetworkInterface").get(1, {}).get("NetworkInterfaceId"):
                    _take_interface(instance)
                elif ipv6.requested_addresses(call):
                    self._ipv6.give(instance.nics[0])
                    instance.ipv6_address = instance.nics[0].ipv6_addresses[0]
            self._power.launch(made)
            return self._as_launched(reply, made)

    def _check_placement(self, call: Call, count: int) -> None:
        """Raises AwsError if the zone has no room: of its capacity, or of the placement group."""
        zone, group = str(subnet_of(call, self._store).availability_zone), call.get("Placement.GroupName")
        if group:
            self._placement.check(group, zone, count)
        if call.get("DryRun") != "true":
            # A dry run checks permissions and parameters, and no capacity.
            self._capacity.check(zone, call.get("InstanceType") or "m1.small")

    def _as_launched(self, reply: Reply, made: Sequence[Any]) -> Reply:
        """moto invents public addresses while it makes an instance; EC2's answer has none yet."""
        text = re.sub(r"<ipAddress>[^<]*</ipAddress>", "", reply.body.decode())
        text = re.sub(r"<dnsName>[^<]*</dnsName>", "<dnsName></dnsName>", text)
        text = re.sub(r"<association>.*?</association>", "", text, flags=re.DOTALL)
        return Reply(status=reply.status, body=text.encode(), content_type=reply.content_type)

    def _vcpus_used(self) -> int:
        kinds = {each["InstanceType"]: int(each["VCpuInfo"]["DefaultVCpus"]) for each in self._store.instance_types}
        return sum(kinds[kind] * count for kind, count in self._capacity.reserved()) + sum(
            kinds[instance.instance_type]
            for reservation in self._store.reservations.values()
            for instance in reservation.instances
            if self._power.state(instance.id) in ("pending", "running")
        )

    def _reserve(self, call: Call) -> str:
        return self._capacity.reserve(call, lambda: self._vcpu_limit - self._vcpus_used())

    def _locked(self, call: Call, answer: Callable[[Call], str]) -> Reply:
        with self._moto.lock:
            return done(call, answer(call))

    def _start(self, call: Call) -> Reply:
        with self._moto.lock:
            for each in _ids(call):
                instance = self._store.get_instance_by_id(each)
                if instance is not None and self._power.state(each) == "stopped":
                    self._capacity.check(str(instance.placement.zone), str(instance.instance_type))
            return self._power_reply(call, self._power.start(_ids(call)))

    def _stop(self, call: Call) -> Reply:
        force = "true" in (call.get("Force"), call.get("SkipOsShutdown"))
        refuse_dry_run(call)
        return self._power_reply(call, self._power.stop(_ids(call), force=force))

    def _terminate(self, call: Call) -> Reply:
        force = "true" in (call.get("Force"), call.get("SkipOsShutdown"))
        refuse_dry_run(call)
        return self._power_reply(call, self._power.terminate(_ids(call), force=force))

    def _reboot(self, call: Call) -> Reply:
        refuse_dry_run(call)
        self._power.reboot(_ids(call))
        return done(call, "<return>true</return>")

    def _power_reply(self, call: Call, changes: Sequence[Change]) -> Reply:
        items = "".join(
            f"<item><instanceId>{change.id}</instanceId>{_state('currentState', change.after)}"
            f"{_state('previousState', change.before)}</item>"
            for change in changes
        )
        return done(call, f"<instancesSet>{items}</instancesSet>")

    def _console(self, call: Call) -> Reply:
        """The last 64 KiB. https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html"""
        refuse_dry_run(call)
        instance = call.get("InstanceId") or ""
        self._check_ids([instance])
        # Without Latest, EC2 shows a copy from soon after the last change of state; here there is the one.
        printed = base64.b64encode(self._power.printed(instance).encode()[-65536:]).decode()
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return done(
            call, f"<instanceId>{instance}</instanceId><timestamp>{stamp}</timestamp><output>{printed}</output>"
        )

    def _describe(self, call: Call) -> Reply:
        ids, token = _ids(call), call.get("NextToken")
        wanted = call.get("MaxResults")
        if ids and wanted:
            raise AwsError(
                "InvalidParameterCombination",
                "The parameter instancesSet cannot be used with the parameter maxResults",
            )
        if wanted is not None and not (wanted.isdecimal() and 5 <= int(wanted) <= _PAGE):
            raise AwsError("InvalidParameterValue", f"Value ( {wanted} ) for parameter maxResults is invalid.")
        if token and token not in self._store.reservations:
            raise AwsError("InvalidParameterValue", "Unable to parse pagination token")
        self._check_ids(ids)
        fields = list(call.form)
        if len(ids) > _MOST_IDS:
            # moto cuts a list of ids at 100 reservations; as a filter it does not.
            fields = [(key, value) for key, value in fields if not key.startswith("InstanceId.")]
            number = len(call.groups("Filter")) + 1
            fields.append((f"Filter.{number}.Name", "instance-id"))
            fields += [(f"Filter.{number}.Value.{index}", each) for index, each in enumerate(ids, 1)]
        if wanted is None and (len(ids) > _MOST_IDS or not ids):
            fields.append(("MaxResults", str(_PAGE)))
        return self._moto.answer(call, urlencode(fields).encode())

    def _check_ids(self, ids: Sequence[str]) -> None:
        for each in ids:
            if not re.fullmatch(r"i-[0-9a-f]{8}(?:[0-9a-f]{9})?", each):
                raise AwsError("InvalidInstanceID.Malformed", f'Invalid id: "{each}"')
        missing = [each for each in ids if self._power.state(each) is None]
        if missing:
            what, verb = ("IDs", "do") if len(missing) > 1 else ("ID", "does")
            listed = ", ".join(missing)
            raise AwsError("InvalidInstanceID.NotFound", f"The instance {what} '{listed}' {verb} not exist")

    def _untag(self, call: Call) -> Reply:
        with self._moto.lock:
            keys = [each.get("Key", "") for each in call.groups("Tag").values()]
            if self._placement.untag(call.members("ResourceId"), keys):
                return done(call, "<return>true</return>")
            return self._moto.answer(call)

    def _tag(self, call: Call) -> Reply:
        tags = check_tags(call.groups("Tag").values())
        self._check_ids([each for each in call.members("ResourceId") if each.startswith("i-")])
        with self._moto.lock:
            for resource in call.members("ResourceId"):
                check_count(self.tags_of(resource), tags)
                instance = self._store.get_instance_by_id(resource)
                if instance is not None and instance.metadata_options.instance_metadata_tags == "enabled":
                    check_metadata_keys(tags)
            # A tag without a value is one with an empty value, which moto does not know.
            if self._placement.tag(call.members("ResourceId"), tags):
                return done(call, "<return>true</return>")
            fields = [pair for pair in call.form if not pair[0].startswith("Tag.")]
            for number, (key, value) in enumerate(tags.items(), 1):
                fields += [(f"Tag.{number}.Key", key), (f"Tag.{number}.Value", value)]
            return self._moto.answer(call, urlencode(fields).encode())

    def _modify(self, call: Call) -> Reply:
        instance = call.get("InstanceId") or ""
        self._check_ids([instance])
        refuse_dry_run(call)
        with self._moto.lock:
            if not modify(call, self._store, self._power.state(instance) or "", self._quota):
                return self._moto.answer(call)
        return done(call, "<return>true</return>")

    def _modify_options(self, call: Call) -> Reply:
        instance = call.get("InstanceId") or ""
        self._check_ids([instance])
        check_metadata_options(call, "")
        if call.get("InstanceMetadataTags") == "enabled":
            check_metadata_keys(self.tags_of(instance))
        return self._moto.answer(call)

    def _associate(self, call: Call) -> Reply:
        with self._moto.lock:
            ipv6.check_block(call, self._store)
            return self._moto.answer(call)

    def _create_group(self, call: Call) -> Reply:
        check_specifications(call)
        with self._moto.lock:
            groups.check_count(self._store, self._quota(GROUPS))
            return self._moto.answer(call)

    def _authorize(self, call: Call) -> Reply:
        with self._moto.lock:
            groups.check_rules(call, self._store, self._quota(RULES))
            return self._moto.answer(call)

    def _modify_volume(self, call: Call) -> Reply:
        with self._moto.lock:
            volume = self._store.volumes.get(call.get("VolumeId"))
            if volume is not None:
                volumes.check_change(call, volume)
            reply = self._moto.answer(call)
            if volume is not None and reply.status == 200:
                volumes.settle(call, volume)
            return reply

    def _monitor(self, call: Call, state: str) -> Reply:
        """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_MonitorInstances.html"""
        refuse_dry_run(call)
        self._check_ids(_ids(call))
        with self._moto.lock:
            for each in _ids(call):
                self._store.get_instance(each).monitoring_state = state
        items = "".join(
            f"<item><instanceId>{each}</instanceId><monitoring><state>{state}</state></monitoring></item>"
            for each in _ids(call)
        )
        return done(call, f"<instancesSet>{items}</instancesSet>")

    def _detach(self, call: Call) -> Reply:
        refuse_dry_run(call)
        return self._moto.answer(call, urlencode(parts.volume_of(call, self._store)).encode())


def _take_interface(instance: Any) -> None:
    """Give an instance what it has by its existing network interface. moto takes another address of the subnet for it."""
    interface = instance.nics[0]
    for each in instance._private_ips:
        interface.subnet.del_subnet_ip(each)
    instance._private_ips = set()
    instance.security_groups = list(interface._group_set)
    if interface.ipv6_addresses:
        instance.ipv6_address = interface.ipv6_addresses[0]


def _ids(call: Call) -> list[str]:
    return call.members("InstanceId")


def _state(tag: str, name: str) -> str:
    return f"<{tag}><code>{CODES[name]}</code><name>{escape(name)}</name></{tag}>"
