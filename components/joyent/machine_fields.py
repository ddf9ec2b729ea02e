"""Describe a machine: the table of its inputs, and their values on an existing machine.

The table's names are the names in the state: they are never changed. Triton's word for our userdata is `user-script`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pulumi.output import Unknown
from pulumi.runtime import rpc

from components.joyent.catalogue import Catalogue, is_uuid
from components.joyent.records import MachineRecord, PackageRecord, TagValue
from components.joyent.session import opened, seal

Inputs = Mapping[str, Any]
MARK_TAG = "pulumi-resource"
USER_SCRIPT = "user-script"
_SNAPSHOT_TAG = f"{MARK_TAG}:"
# What CloudAPI itself writes into a machine's metadata.
SYSTEM_METADATA = ("root_authorized_keys", USER_SCRIPT)
# What Rollcall's agents, roll calls and roll-outs write there beside what the program declares, by the names of rollcall.settings and
# rollcall.in_place. This provider alone does not need these modules.
ROLLCALLS_METADATA = ("rollcall-status", "rollcall-drain", "rollcall-report", "rollcall-hold", "rollcall-patch")
ROLLCALLS_PREFIXES = ("rollcall-wanted-", "rollcall-gate-", "rollcall-carried-")


@dataclass(frozen=True)
class Field:
    """An input. `change`: what a new value of this input does. `note`: what a user should know before it happens."""

    name: str
    change: Literal["in place", "replace", "none"]
    note: str = ""


FIELDS = (
    Field("machine_name", "in place"),
    Field("package", "in place", "a kvm machine, or bhyve without flexible disk, is replaced"),
    Field("image", "replace"),
    Field("networks", "in place", "reboots the machine"),
    Field("tags", "in place"),
    Field("metadata", "in place"),
    Field("secret_metadata", "in place"),
    Field("userdata", "in place", "works from the next boot on"),
    Field("firewall_enabled", "in place"),
    Field("deletion_protection", "in place"),
    Field("delete_protected", "none"),
    Field("power", "in place"),
    Field("mark", "in place"),
    Field("affinity", "replace"),
    Field("brand", "replace"),
    Field("delegate_dataset", "replace"),
    Field("allow_shared_images", "none"),
    Field("fixed_ips", "replace"),
    Field("locality", "replace"),
    Field("disks", "replace"),
    Field("volumes", "replace"),
    Field("encrypted", "replace"),
    Field("administrator_password", "replace"),
    Field("datacenter", "replace"),
    Field("adopt", "none"),
    Field("update_timeout", "none"),
    Field("delete_timeout", "none"),
)
# The inputs that CreateMachine takes under the same name and in the same form.
_AS_THEY_ARE = (
    "firewall_enabled",
    "deletion_protection",
    "affinity",
    "locality",
    "brand",
    "delegate_dataset",
    "allow_shared_images",
    "volumes",
    "encrypted",
)
NAMES = tuple(field.name for field in FIELDS)


def inputs_of(props: Inputs) -> dict[str, Any]:
    """Return the inputs among a resource's properties, without those that are not declared."""
    return {name: plain(props[name]) for name in NAMES if props.get(name) is not None}


def plain(value: Any) -> Any:
    """Return numbers as CloudAPI has them. They come from the engine as floats; CloudAPI's tags are typed.

    A whole number becomes an int. A value that is not known yet, even one inside a map, is the engine's word for that.
    """
    if isinstance(value, Unknown):
        return rpc.UNKNOWN
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def snapshot_tag(name: str) -> str:
    """Return the tag of a machine that says which resource the snapshot of that name belongs to."""
    return f"{_SNAPSHOT_TAG}{name}"


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal in value and type: to CloudAPI the tag 1 is neither "1" nor true."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def owned_tags(inputs: Inputs) -> dict[str, TagValue]:
    """Return the tags that are ours on this machine: the declared ones and the mark of the resource."""
    mark = inputs.get("mark")
    return {**(inputs.get("tags") or {}), **({MARK_TAG: mark} if mark else {})}


def owned_metadata(inputs: Inputs) -> dict[str, str]:
    """Return the metadata that are ours, as the state has them: secrets and the userdata as fingerprints."""
    userdata = {USER_SCRIPT: inputs["userdata"]} if inputs.get("userdata") else {}
    return {**(inputs.get("metadata") or {}), **(inputs.get("secret_metadata") or {}), **userdata}


def opened_metadata(inputs: Inputs, keys: Iterable[str]) -> dict[str, str]:
    """Return the text of some of our metadata, as the machine gets it.

    Raises FatalError where a fingerprint's text is not known.
    """
    owned, sealed = owned_metadata(inputs), _sealed_keys(inputs)
    return {key: opened(owned[key]) if key in sealed else owned[key] for key in keys}


def create_fields(inputs: Inputs, catalogue: Catalogue) -> dict[str, Any]:
    """Return the body of CreateMachine: flat `tag.K` and `metadata.K` (nested objects are ignored), booleans as JSON booleans."""
    fields: dict[str, Any] = {
        "name": inputs["machine_name"],
        "package": catalogue.package(inputs["package"]).id,
        "image": catalogue.image(inputs["image"]).id,
    }
    if inputs.get("networks"):
        fields["networks"] = wanted_networks(inputs, catalogue)
    fields.update({name: inputs[name] for name in _AS_THEY_ARE if inputs.get(name) is not None})
    if inputs.get("disks"):
        first, *others = inputs["disks"]
        fields["disks"] = [{"boot": True, "size": first}, *({"size": each} for each in others)]
    if inputs.get("administrator_password"):
        fields["password"] = opened(inputs["administrator_password"])
    fields.update({f"tag.{key}": value for key, value in owned_tags(inputs).items()})
    texts = opened_metadata(inputs, owned_metadata(inputs))
    fields.update({f"metadata.{key}": value for key, value in texts.items()})
    return fields


def wanted_networks(inputs: Inputs, catalogue: Catalogue) -> list[Any]:
    """Return the declared networks as CloudAPI takes them: all ids, or all objects as soon as one has a fixed address.

    CloudAPI takes no mixture.
    """
    fixed = {catalogue.network(text).id: ip for text, ip in (inputs.get("fixed_ips") or {}).items()}
    ids = [catalogue.network(text).id for text in inputs.get("networks") or ()]
    if not fixed:
        return list(ids)
    return [{"ipv4_uuid": each, **({"ipv4_ips": [fixed[each]]} if each in fixed else {})} for each in ids]


def live_inputs(declared: Inputs, machine: MachineRecord, image_id: str, catalogue: Catalogue) -> dict[str, Any]:
    """Return the declared inputs as they are on the machine, so that each drift is a difference in a property.

    What CloudAPI does not show (affinity, locality, volumes, time-outs), or not in the description's words (disks),
    stays as declared. Undeclared inputs, tags and metadata are ignored. `image_id` is the id of the declared image when
    the machine was created.
    """
    live = inputs_of(declared)
    sealed = {key: seal(value) for key, value in machine.metadata.items() if key in _sealed_keys(live)}
    shown: dict[str, Any] = {
        "machine_name": machine.name,
        "package": _package(str(live.get("package", "")), machine, catalogue),
        "image": live.get("image") if machine.image == image_id else machine.image,
        "tags": _undeclared(live.get("tags"), machine.tags),
        "metadata": _undeclared(live.get("metadata"), machine.metadata),
        "secret_metadata": _undeclared(live.get("secret_metadata"), sealed),
        "userdata": sealed.get(USER_SCRIPT, ""),
        "firewall_enabled": machine.firewall_enabled,
        "deletion_protection": machine.deletion_protection,
        "power": _power(machine.state, str(live.get("power", ""))),
        "mark": machine.tags.get(MARK_TAG, ""),
        "brand": machine.brand,
        "encrypted": machine.encrypted,
    }
    if "networks" in live:
        shown["networks"] = _networks(live["networks"], machine, catalogue)
    live.update({name: value for name, value in shown.items() if name in live})
    return live


def foreign(inputs: Inputs, machine: MachineRecord) -> dict[str, list[str]]:
    """Return the names of tags and metadata that others put on the machine. Values may be secret; names are shown."""
    declared = {*(inputs.get("metadata") or {}), *(inputs.get("secret_metadata") or {})}
    ours = {*declared, *SYSTEM_METADATA, *ROLLCALLS_METADATA}
    return {
        "foreign_tags": sorted(
            key for key in set(machine.tags) - set(owned_tags(inputs)) - {MARK_TAG} if not key.startswith(_SNAPSHOT_TAG)
        ),
        "foreign_metadata": sorted(
            key for key in set(machine.metadata) - ours if not key.startswith(ROLLCALLS_PREFIXES)
        ),
    }


def needs_new_machine(brand: str, package: PackageRecord) -> bool:
    """Return whether this machine cannot be resized: kvm never, bhyve only to packages with a flexible disk."""
    return brand == "kvm" or (brand == "bhyve" and not package.flexible_disk)


def _sealed_keys(inputs: Inputs) -> set[str]:
    return {*(inputs.get("secret_metadata") or {}), *([USER_SCRIPT] if inputs.get("userdata") else [])}


def _undeclared(declared: Mapping[str, Any] | None, live: Mapping[str, Any]) -> dict[str, Any]:
    return {key: live[key] for key in declared or {} if key in live}


def _package(declared: str, machine: MachineRecord, catalogue: Catalogue) -> str:
    """Return the machine's package.

    CloudAPI shows it by name, and "" where it does not know; an id of that package is as declared.
    """
    if not machine.package or not is_uuid(declared):
        return machine.package or declared
    name = next((each.name for each in catalogue.packages() if each.id == declared), "")
    return declared if name == machine.package else machine.package


def _power(state: str, declared: str) -> str:
    if state == "failed":
        return "failed"
    if state in ("stopped", "stopping"):
        return "stopped"
    return "running" if state in ("running", "ready", "provisioning") and declared == "stopped" else declared


def _networks(declared: Sequence[str], machine: MachineRecord, catalogue: Catalogue) -> list[str]:
    """Return the machine's networks in the words of the declaration, in its order.

    A machine on a pool shows the member that it got, which no list has. Such a network counts as a declared one that is
    missing.
    """
    if not machine.networks and machine.state == "provisioning":
        return list(declared)
    listed = {network.id: network.name for network in catalogue.networks()}
    left = list(machine.networks)
    matched: set[int] = set()
    for at, text in enumerate(declared):
        own = next((each for each in left if text in (each, listed.get(each))), None)
        if own is not None:
            left.remove(own)
            matched.add(at)
    for at in range(len(declared)):
        member = next((each for each in left if each not in listed), None)
        if at not in matched and member is not None:
            left.remove(member)
            matched.add(at)
    return [text for at, text in enumerate(declared) if at in matched] + left


def differing(old: Inputs, new: Inputs, names: Iterable[str] = NAMES) -> list[str]:
    """Return the inputs that differ. An input that is no longer declared differs too, if it was declared."""
    return [name for name in names if not same(plain(old.get(name)), plain(new.get(name)))]
