"""Check the keys of a fleet for the machines themselves: disks that EC2 would refuse, and folders that two volumes share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from components.config.errors import at
from components.config.machine_keys import THROUGHPUT_PER_IOPS, VOLUME_TYPES, BlockSettings, VolumeSettings
from components.config.models import FleetSettings, Settings
from rollcall.setting_values import SettingsError

# Folders that belong to the system or to Rollcall. A volume may be at a folder below the first ones.
_SYSTEM = ("apt", "cloud", "dbus", "dpkg", "pam", "polkit-1", "private", "rollcall", "sudo", "systemd")
_ROOTS = ("/opt", "/var/lib")
_TAKEN = (
    "/opt/rollcall",
    *(f"/var/lib/{each}" for each in _SYSTEM),
)
# Tags that the program gives each machine, and prefixes of others (components/resources/tags.py).
_TAGS_SET, _TAGS_OF_ROLLCALL = ("Name", "managed-by", "pulumi-resource"), ("rollcall-",)
# https://github.com/TritonDataCenter/sdc-cloudapi/blob/master/lib/tags.js
_TRITON_RESERVED = ("triton.", "docker:", "sdc_docker")
_LAST_PORT = 65535
_LONGEST_TAG_KEY, _LONGEST_TAG_VALUE = 128, 256
_EC2_TAG = re.compile(r"[0-9a-zA-Z\-_+=,.@:]+")
_Add = Callable[..., None]
_Fault = tuple[str, str, str]


def check_ec2(key: str, fleet: FleetSettings, add: _Add) -> None:
    """Add the errors of an EC2 fleet. `key` is the key of the fleet."""
    for name, problem, fix in volume_faults(fleet.disk, fleet.disk.size, fleet.region):
        add(f"{key}.disk.{name}", problem, fix)
    for number, volume in enumerate(fleet.volumes):
        here = f"{key}.volumes[{number}]"
        for name, problem, fix in volume_faults(volume, volume.size, fleet.region):
            add(f"{here}.{name}", problem, fix)
        _mount(here, volume, fleet.volumes[:number], add)
    _tags(key, fleet, add)
    for name in fleet.tags:
        if not _EC2_TAG.fullmatch(name) or name in (".", "..", "_index"):
            # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html
            fix = "Use a-z, A-Z, 0-9 and - _ + = , . @ : only, since machines read their tags from instance metadata"
            add(at(key, "tags", name), "is a key that instance metadata cannot show", fix)
    try:
        _ = fleet.system_settings
    except SettingsError as wrong:
        add(f"{key}.volumes", "has folders that do not fit a tag", "Shorten them", detail=wrong)


def check_triton(key: str, fleet: FleetSettings, add: _Add) -> None:
    """Add the errors of a Triton fleet: its package has the size of its disk."""
    fix = "Leave it out: the package has the disk of a Triton machine"
    if not fleet.disk.is_default:
        add(f"{key}.disk", "is for EC2 machines", fix)
    if fleet.volumes:
        add(f"{key}.volumes", "is for EC2 machines", fix)
    if fleet.policies is not None:
        add(f"{key}.policies", "is for EC2 machines", "Leave it out: a Triton machine has no role")
    if fleet.monitoring is not None:
        add(f"{key}.monitoring", "is for EC2 machines", "Leave it out: it is a function of CloudWatch")
    _tags(key, fleet, add)
    for name in fleet.tags:
        if name.startswith(_TRITON_RESERVED):
            add(at(key, "tags", name), "is a key that Triton keeps for itself", "Choose another key")


def check_system(key: str, fleet: FleetSettings, add: _Add) -> None:
    """Add the errors of what the system of a machine is set to, the same on each cloud."""
    if fleet.logs is not None and (fleet.logs.syslog is None) == (fleet.logs.http is None):
        add(f"{key}.logs", "needs one of syslog and http", "Write it as {syslog: logs.example.net:514}")
    targets = {"proxy": fleet.proxy, "aptMirror": fleet.apt_mirror}
    targets.update({"logs.syslog": fleet.logs.syslog, "logs.http": fleet.logs.http} if fleet.logs else {})
    for name, target in targets.items():
        port = (target or "").rstrip("/").rpartition(":")[2]
        if port.isdecimal() and not 1 <= int(port) <= _LAST_PORT:
            add(f"{key}.{name}", f"has the port {port}, and ports are 1 to {_LAST_PORT}", "Set another port")


def check_credentials(settings: Settings, add: _Add) -> None:
    """Add an error for each fleet that runs a workload with `awsCredentials` and has no policies, or that is not on EC2."""
    for each in settings.workloads:
        if each.aws_credentials and each.nginx is not None:
            key = at("rollcall:workloads", each.name, "awsCredentials")
            add(key, "is on, and a static site has no program that could use them", "Leave it out")
    for fleet in settings.fleets:
        key = at("rollcall:fleets", fleet.name)
        named = [each.name for each in settings.workloads_of(fleet) if each.aws_credentials]
        if named and fleet.cloud != "aws":
            fix = "Run it on an EC2 fleet, or give it a key as a secret"
            add(f"{key}.runs", f"has {named[0]}, which needs credentials of an EC2 machine", fix)
        elif named and fleet.policies is None:
            fix = "Set it, as {managed: [arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess]}"
            add(f"{key}.policies", f"is missing, and {named[0]} has awsCredentials", fix)


def _tags(key: str, fleet: FleetSettings, add: _Add) -> None:
    """Add the errors of tags that are the same on each cloud.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
    """
    for name, value in fleet.tags.items():
        here = at(key, "tags", name)
        if name.lower().startswith(_TAGS_OF_ROLLCALL) or name in _TAGS_SET:
            add(here, "is a tag that Rollcall sets itself", "Choose another key")
        elif name.lower().startswith("aws:"):
            add(here, "begins with aws:, which AWS keeps for itself", "Choose another key")
        elif not 0 < len(name) <= _LONGEST_TAG_KEY:
            problem = f"has {len(name)} characters, and a key has 1 to {_LONGEST_TAG_KEY}"
            add(f"{key}.tags", problem, "Shorten it", value=name[:40])
        elif len(value) > _LONGEST_TAG_VALUE:
            add(here, f"has a value of {len(value)} characters, AWS takes {_LONGEST_TAG_VALUE}", "Shorten it")


def volume_faults(volume: BlockSettings, size: int | None, region: str | None = None) -> Iterator[_Fault]:
    """Yield what EC2 would refuse of a volume of `size` GiB, each as a key of the volume, the problem and the fix."""
    kind, name = VOLUME_TYPES[volume.type], volume.type
    least, most = kind.size
    if size is not None and not least <= size <= most:
        yield "size", f"is {size}, and {name} takes {least} to {most} GiB", "Set a size in this range"
    yield from _iops_faults(volume, size)
    if volume.throughput is not None and kind.throughput is None:
        yield "throughput", f"is for gp3, and the type is {name}", "Leave it out"
    elif kind.throughput is not None:
        given, iops = volume.performance["throughput"], volume.performance["iops"]
        if given > iops * THROUGHPUT_PER_IOPS:
            fix = f"Set {int(iops * THROUGHPUT_PER_IOPS)} at most, or raise iops"
            yield "throughput", f"is {given}, and gp3 takes a quarter of its {iops} IOPS", fix
    if volume.kms_key is not None and not volume.encrypted:
        yield "kmsKey", "is set, and encrypted is off", "Leave one of them out"
    if volume.kms_key is not None and region is not None and volume.kms_key.split(":")[3] != region:
        yield "kmsKey", f"is a key of another region, and the fleet is in {region}", "Name a key of this region"


def _iops_faults(volume: BlockSettings, size: int | None) -> Iterator[_Fault]:
    kind, name, iops = VOLUME_TYPES[volume.type], volume.type, volume.iops
    if kind.iops is None:
        if iops is not None:
            yield "iops", f"is for gp3, io1 and io2, and the type is {name}", "Leave it out"
        return
    least, most = kind.iops
    if iops is None:
        if not kind.default_iops:
            yield "iops", f"is missing, and {name} needs it", f"Set {least} to {most}"
    elif not least <= iops <= most:
        yield "iops", f"is {iops}, and {name} takes {least} to {most}", "Set a number in this range"
    # Every gp3 volume may have the IOPS that are its default, however small it is.
    elif size is not None and iops > max(size * kind.iops_per_gib, kind.default_iops):
        fix = f"Set {max(size * kind.iops_per_gib, kind.default_iops)} at most, or raise the size"
        yield "iops", f"is {iops}, and {name} takes {kind.iops_per_gib} for each GiB of its {size}", fix


def _mount(key: str, volume: VolumeSettings, before: tuple[VolumeSettings, ...], add: _Add) -> None:
    mount = PurePosixPath(volume.mount)
    if volume.mount in (*_ROOTS, *_TAKEN) or any(str(each) in _TAKEN for each in mount.parents):
        add(f"{key}.mount", "is a folder of the system", "Choose another, as /srv/data")
    for other in (PurePosixPath(each.mount) for each in before):
        if mount == other or mount in other.parents or other in mount.parents:
            add(f"{key}.mount", f"and {other} are in each other", "Choose folders of which none is in another")
            return
