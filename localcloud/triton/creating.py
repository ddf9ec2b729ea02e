"""CreateMachine: the checks of CloudAPI and VMAPI in their order (lib/machines.js, VMAPI's lib/common/validation.js)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.triton import affinity, disks
from localcloud.triton.call import Call, Reply
from localcloud.triton.catalogue import OPERATOR_ID, Image, Package
from localcloud.triton.errors import ApiError, invalid_argument, missing_parameter, not_found, validation_failed
from localcloud.triton.machinejobs import provision
from localcloud.triton.model import HVM, Machine, Nic
from localcloud.triton.netdata import Network
from localcloud.triton.packages import package_named
from localcloud.triton.tagrules import check_metadata, check_tags

UUID = re.compile(r"[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}")
_ANY_UUID = re.compile(UUID.pattern, re.IGNORECASE)
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
LONGEST_NAME, LONGEST_CNS_NAME = 189, 63
_INVALID_VM = "Invalid VM parameters"


@dataclass(frozen=True)
class _WantedNic:
    """`network` None: there is no such network, which is refused later than everything about the form of the request."""

    network: Network | None
    ip: str | None


def create(call: Call) -> Reply:
    image, package = _chosen(call)
    if not call.store.approved:
        raise invalid_argument("User is not currently approved for provisioning")
    keys = _keys(call, image)
    brand = _brand(call.params, image, package)
    nics = _networks(call, package)
    drives = disks.of(call.params, image, package, brand)
    machine = Machine(str(call.params.get("name") or ""), image, package, brand, call.store.clock(), disks=drives)
    _fill(call, machine, keys)
    if image.requirements.get("min_ram", 0) > package.memory:
        raise invalid_argument(
            f"You must use a package with at least {image.requirements['min_ram']} MiB of RAM in order to"
            " provision the selected image"
        )
    if package.os and package.os != image.os:
        raise invalid_argument(
            f'The package and image must have the same OS, but package has "{image.os}" while image has "{package.os}"'
        )
    if call.store.cns and len(machine.name) > LONGEST_CNS_NAME:
        raise too_long_for_cns()
    if call.params.get("volumes") and brand in HVM:
        raise invalid_argument(f'volumes not yet supported with brand "{brand}"')
    if call.params.get("volumes"):
        raise invalid_argument("Support for automounting volumes is not enabled")
    networks = [nic.network for nic in nics if nic.network is not None]
    if len(networks) < len(nics):
        raise invalid_argument("Invalid Networks")
    if sum(network.public for network in networks) > 1:
        raise invalid_argument("Can specify a maximum of 1 public networks")
    affinity.check(call.params)
    _check_vm(call, machine)
    machine.wanted_nics = _addresses(machine, list(zip(networks, nics, strict=True)))
    call.store.machines[machine.id] = machine
    shown = machine.body()
    call.store.jobs.add(machine, provision(call.store, machine, call.caller))
    return Reply(201, shown, {"Location": f"/{call.store.login}/machines/{machine.id}"})


def too_long_for_cns() -> ApiError:
    return invalid_argument(
        f"Name cannot be longer than {LONGEST_CNS_NAME} characters, because you have triton_cns_enabled set on your Account."
    )


def _chosen(call: Call) -> tuple[Image, Package]:
    """Return the image and the package. Both are found before either is checked: an unknown UUID is 404, any other unknown text 409."""
    params = call.params
    wanted = str(params.get("image") or params.get("dataset") or "")
    image = call.store.image(wanted) if UUID.fullmatch(wanted) else None
    name = str(params.get("package") or "")
    package = package_named(call.store, name) if name else None
    if params.get("image") and params.get("dataset"):
        raise invalid_argument("image and dataset are mutually exclusive parameters.")
    if image is None:
        raise (
            invalid_argument(f"{wanted} is not a valid image")
            if wanted
            else missing_parameter("image must be specified")
        )
    _check_image(call, image)
    return image, active_package(package, name)


def _check_image(call: Call, image: Image) -> None:
    wanted = image.id
    if image.state != "active":
        raise invalid_argument(f"image {wanted} is not active")
    shared = image.owner not in (call.store.id, OPERATOR_ID) and call.store.id in image.acl
    if call.version >= (9, 0, 0) and shared and call.params.get("allow_shared_images") is not True:
        raise invalid_argument(
            f"{wanted} is a shared image - to provision a shared image you can either clone the image or set"
            ' "allow_shared_images" to true.'
        )


def active_package(package: Package | None, name: str) -> Package:
    """Raises ApiError unless `name` named an active package."""
    if package is None:
        raise (
            invalid_argument(f"{name} is not a valid package")
            if name
            else missing_parameter("package must be specified")
        )
    if not package.active:
        raise invalid_argument(f"{name} is inactive. Must use an active package")
    return package


def _keys(call: Call, image: Image) -> list[str]:
    """The keys that may log in as root; an image with a password needs none."""
    if image.requirements.get("password"):
        if not (call.params.get("password") or call.params.get("administrator_pw")):
            raise missing_parameter(f"{image.id} requires a password")
        return []
    members = [user.keys.all() for user in call.store.users.values() if user.administrator]
    keys = [key.openssh for ring in (call.store.keys.all(), *members) for key in ring]
    if not keys:
        raise ApiError(409, "KeyRequired", "At least one SSH key is required to provision")
    return keys


def _brand(params: Mapping[str, Any], image: Image, package: Package) -> str:
    wanted = params.get("brand")
    if wanted and wanted not in HVM:
        raise invalid_argument(f'Unknown brand "{wanted}". Brand is restricted to one of ["bhyve","kvm"]')
    needed = image.requirements.get("brand")
    brand = str(wanted or needed or package.brand or ("bhyve" if image.type == "zvol" else "lx"))
    for owner, wants in (("Package", package.brand), ("Image", needed)):
        if wants and wants != brand:
            raise invalid_argument(f'{owner} requires brand "{wants}", but brand "{brand}" was selected')
    if brand in HVM and image.type != "zvol":
        raise invalid_argument(f'Brand "{brand}" requires the image type to be "zvol"')
    if brand not in HVM and image.type == "zvol":
        raise invalid_argument(f'Brand "{brand}" cannot use an image of type "zvol"')
    if params.get("delegate_dataset") is True and brand in HVM:
        raise invalid_argument(f"delegate_dataset is not supported with brand {brand}")
    return brand


def _networks(call: Call, package: Package) -> list[_WantedNic]:
    """The networks asked for without duplicates, or one external and one internal. Raises ApiError."""
    wanted = call.params.get("networks")
    allows = _allows_fabrics(call, package)
    if not isinstance(wanted, list):
        names = call.params.get("default_networks") or ["external", "internal"]
        usable = [each for each in call.store.networks if allows or not each.fabric]
        return [
            _WantedNic(first, None)
            for name, public in (("external", True), ("internal", False))
            if name in names and (first := next((each for each in usable if each.public is public), None))
        ]
    kinds = {type(each) for each in wanted}
    found: dict[str, _WantedNic] = {}
    for at, each in enumerate(wanted):
        if not isinstance(each, str | dict) or (isinstance(each, dict) and call.version < (7, 3, 0)):
            raise invalid_argument(f'property "networks[{at}]": array of strings or objects expected')
        network_id = str(each.get("ipv4_uuid")) if isinstance(each, dict) else each
        ip = network_object(call, each) if isinstance(each, dict) else None
        network = call.store.network(network_id)
        if network is not None and network.fabric and not allows:
            raise ApiError(
                409,
                "InvalidFabricPackage",
                "Fabric network cannot be used with this package. Only packages with names starting with the following can be "
                f"used with a fabric network: {', '.join(call.store.options.fabric_packages)}",
            )
        found.setdefault(network_id, _WantedNic(network, ip))
    # The check for a mixture is dead code in the source; it ends here by accident.
    return list(found.values()) if len(kinds) < 2 else [_WantedNic(None, None)]


def _allows_fabrics(call: Call, package: Package) -> bool:
    """pkgAllowsFabric of lib/machines.js."""
    prefixes = call.store.options.fabric_packages
    return not prefixes or package.name.startswith(prefixes)


def network_object(call: Call, wanted: Mapping[str, Any]) -> str | None:
    """Return the address that `{ipv4_uuid, ipv4_ips: [one], ipv4_count: 1}` asks for (lib/validation/networks.js). Raises ApiError."""
    network_id, ips = wanted.get("ipv4_uuid"), wanted.get("ipv4_ips")
    if not network_id:
        raise missing_parameter("network objects must contain ipv4_uuid")
    if not isinstance(network_id, str):
        raise invalid_argument("ipv4_uuid must be a string")
    if not _ANY_UUID.fullmatch(network_id):
        raise invalid_argument(f"ipv4_uuid: {network_id} is not a uuid")
    _check_ipv4_count(wanted.get("ipv4_count"), ips)
    if ips is None:
        return None
    address = _only_address(network_id, ips)
    network = call.store.network(network_id)
    if network is None:
        raise not_found(f"ipv4_uuid: network {network_id} not found")
    if network.members:
        raise invalid_argument(f"ipv4_uuid: {network_id} cannot specify IP on a network pool")
    if network.owner is None:
        raise invalid_argument(f"ipv4_uuid: {network_id} cannot specify IP on a public network")
    return address


def _check_ipv4_count(count: Any, ips: Any) -> None:
    if count is not None and ips is not None:
        raise invalid_argument("ipv4_count and ipv4_ips cannot be specified together")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int | float)):
        raise invalid_argument("ipv4_count must be a number")
    if count not in (None, 1):
        raise invalid_argument("ipv4_count can only be set to 1")


def _only_address(network_id: str, ips: Any) -> str:
    if not isinstance(ips, list):
        raise invalid_argument("ipv4_ips must be an array with a single IP")
    if len(ips) != 1:
        raise invalid_argument(f"ipv4_ips: network with ipv4_uuid {network_id} should contain a single IP array")
    if not isinstance(ips[0], str):
        raise invalid_argument("ipv4_ips[0]: string expected")
    return ips[0]


def _fill(call: Call, machine: Machine, keys: list[str]) -> None:
    """Name, tags, metadata and switches. `=== true` in the source: a text "true" counts as false."""
    params = call.params
    short = machine.id.partition("-")[0]
    machine.name = machine.name.replace("{{shortId}}", short) if machine.name else short
    for key, value in params.items():
        if key.startswith("tag."):
            machine.tags[key.removeprefix("tag.")] = value
        elif key.startswith("metadata.") and not key.endswith("_pw"):
            machine.metadata[key.removeprefix("metadata.")] = value
    password = params.get("administrator_pw") or params.get("password")
    if password:
        machine.internal["administrator_pw"] = password
    if keys:
        machine.metadata["root_authorized_keys"] = "".join(f"{key}\n" for key in keys)
    credentials = affinity.as_json(machine.metadata.pop("credentials", None))
    if isinstance(credentials, Mapping):
        machine.internal.update({f"{user.removesuffix('_pw')}_pw": word for user, word in credentials.items()})
    machine.protected = params.get("deletion_protection") is True
    machine.firewall = params.get("firewall_enabled") in (True, "true")
    if params.get("delegate_dataset") is True:
        machine.delegate_dataset = True
    if params.get("encrypted") is True:
        machine.internal["encrypted"] = True
    if call.store.cns:
        machine.hostname, machine.dns_domain = affinity.host(machine.name), call.store.suffixes()[1]


def _check_vm(call: Call, machine: Machine) -> None:
    """VMAPI's own checks."""
    store = call.store
    if not valid_name(machine.name):
        raise validation_failed(
            f"{_INVALID_VM}: Invalid machine name", "alias", "Invalid", "String does not match regexp"
        )
    check_name_free(call, machine.name)
    check_metadata(machine.metadata)
    check_tags(machine.tags)
    quota = store.options.quota
    full = quota is not None and sum(1 for _ in store.alive()) >= quota
    if full or store.switch("capacity") is not None:
        raise validation_failed(
            f"{_INVALID_VM}: Insufficient capacity in datacenter to provision machine",
            "quota" if full else "ram",
            "InsufficientCapacity",
            f"The account may have {quota} machines" if full else "No compute resources available",
        )


def check_name_free(call: Call, name: str, other_than: str = "") -> None:
    if any(each.name == name and each.id != other_than for each in call.store.alive()):
        message = f"{_INVALID_VM}: Invalid machine name"
        raise validation_failed(message, "alias", "Duplicate", "Already exists for this owner_uuid")


def _addresses(machine: Machine, wanted: list[tuple[Network, _WantedNic]]) -> list[Nic]:
    """Return NICs with addresses. The first external one is primary, at any position."""
    nics: list[Nic] = []
    try:
        for network, each in wanted:
            real = network.real()
            nics.append(Nic(real, real.addresses.take(machine.id, each.ip)))
    except ApiError:
        for nic in nics:
            nic.network.addresses.release(nic.ip)
        raise
    primary = next((nic for nic in nics if nic.network.public), nics[0] if nics else None)
    if primary is not None:
        primary.primary = True
    return nics


def valid_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and len(name) <= LONGEST_NAME
