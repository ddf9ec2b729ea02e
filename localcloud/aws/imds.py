"""The instance metadata service, version 2 (and 1 where an instance allows it), as the machine at an address sees it.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from localcloud.aws.ec2 import ipv6
from localcloud.aws.ec2.power import Power
from localcloud.aws.identity import Sessions

Answer = tuple[int, dict[str, str], bytes]
# A leaf is a text or bytes, or is made when it is asked for; a folder is a mapping.
Node = str | bytes | Callable[[], str] | dict[str, Any]
VERSIONS = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04",
    "2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19", "2016-06-30",
    "2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03", "2021-03-23",
    "2021-07-15", "2022-09-24", "2024-04-11", "latest",
)  # fmt: skip
_TOKEN = "x-aws-ec2-metadata-token"
_TTL = "x-aws-ec2-metadata-token-ttl-seconds"
_LONGEST_TTL = 21600
# Tags in metadata came with this version.
_TAGS_SINCE = "2021-03-23"


class Imds:
    """The metadata service of a region. `store` is the account's EC2 backend, and `power` finds the instance with an address."""

    def __init__(
        self,
        *,
        store: Any,
        power: Power,
        sessions: Sessions,
        region: str,
        lock: threading.RLock,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._power = power
        self._sessions = sessions
        self._region = region
        self._lock = lock
        self._clock = clock
        self._tokens: dict[str, tuple[str, float]] = {}

    def answer(self, address: str, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        """Return (status, headers, body) for a request from the machine with this address; 404 for any other address."""
        lower_headers = {name.lower(): value for name, value in headers.items()}
        with self._lock:
            instance = self._power.at(address)
            if instance is None:
                return _text(404, "")
            options = instance.metadata_options
            if options.http_endpoint == "disabled":
                return _text(403, "")
            parts = [part for part in path.partition("?")[0].split("/") if part]
            if method == "PUT" and parts == ["latest", "api", "token"]:
                return self._new_token(instance.id, lower_headers)
            if method not in ("GET", "HEAD"):
                return _text(405, "")
            if not self._admitted(instance.id, lower_headers.get(_TOKEN), options.http_tokens):
                return _text(401, "")
            return self._get(instance, parts)

    def _new_token(self, instance_id: str, headers: Mapping[str, str]) -> Answer:
        if "x-forwarded-for" in headers:
            # A proxy must not give tokens to clients outside.
            return _text(403, "")
        ttl = headers.get(_TTL, "")
        if not ttl.isdecimal() or not 1 <= int(ttl) <= _LONGEST_TTL:
            return _text(400, "")
        now = self._clock()
        self._tokens = {token: each for token, each in self._tokens.items() if each[1] > now}
        token = base64.urlsafe_b64encode(secrets.token_bytes(40)).decode()
        self._tokens[token] = (instance_id, now + int(ttl))
        return 200, {"Content-Type": "text/plain", _TTL: ttl}, token.encode()

    def _admitted(self, instance_id: str, token: str | None, tokens: str) -> bool:
        if token is None:
            return tokens != "required"
        holder, until = self._tokens.get(token, ("", 0.0))
        return holder == instance_id and until > self._clock()

    def _get(self, instance: Any, parts: list[str]) -> Answer:
        if not parts:
            return _text(200, "\n".join(VERSIONS))
        version, *rest = parts
        if version not in VERSIONS:
            return _text(404, "")
        node: Node = self._tree(instance, version)
        for part in rest:
            if not isinstance(node, dict) or part not in node:
                return _text(404, "")
            node = node[part]
        if isinstance(node, dict):
            return _text(200, "\n".join(_listing(node)))
        value = node() if callable(node) else node
        return (
            _text(200, value) if isinstance(value, str) else (200, {"Content-Type": "application/octet-stream"}, value)
        )

    def _tree(self, instance: Any, version: str) -> dict[str, Any]:
        document = {"document": lambda: json.dumps(self._identity(instance), indent=2)}
        tree: dict[str, Any] = {
            "dynamic": {"instance-identity": document},
            "meta-data": self._metadata(instance, version),
        }
        if instance.user_data is not None:
            encoded = instance.user_data
            text = encoded.as_bytes() if hasattr(encoded, "as_bytes") else str(encoded).encode()
            tree["user-data"] = base64.b64decode(text)
        return tree

    def _metadata(self, instance: Any, version: str) -> dict[str, Any]:
        nic, zone = instance.nics[0], instance.availability_zone
        public = nic.public_ip
        tree: dict[str, Any] = {
            "ami-id": instance.image_id,
            "ami-launch-index": str(instance.ami_launch_index),
            "ami-manifest-path": "(unknown)",
            "block-device-mapping": {"ami": instance.root_device_name, "root": instance.root_device_name},
            "hostname": instance.private_dns_name,
            "instance-action": "none",
            "instance-id": instance.id,
            "instance-life-cycle": "on-demand",
            "instance-type": instance.instance_type,
            "local-hostname": instance.private_dns_name,
            "local-ipv4": instance.private_ip_address,
            "mac": nic.mac_address,
            "network": {"interfaces": {"macs": {nic.mac_address: self._interface(instance)}}},
            "placement": {
                "availability-zone": zone,
                "availability-zone-id": self._zone_id(zone),
                "region": self._region,
            },
            "profile": "default-hvm",
            "reservation-id": self._reservation(instance.id),
            "security-groups": "\n".join(group.name for group in instance.security_groups) or "default",
            "services": {"domain": "amazonaws.com", "partition": "aws"},
        }
        if public:
            tree["public-hostname"], tree["public-ipv4"] = instance.public_dns_name, public
        if nic.ipv6_addresses:
            tree["ipv6"] = nic.ipv6_addresses[0]
        pair = self._store.key_pairs.get(instance.key_name)
        if pair is not None:
            material = pair.material_public
            key = material.decode() if isinstance(material, bytes) else str(material)
            tree["public-keys"] = {"0": {"openssh-key": key}, "": f"0={pair.key_name}"}
        profile = self._profile(instance.id)
        if profile is not None:
            tree["iam"] = self._iam(instance.id, profile)
        if instance.metadata_options.instance_metadata_tags == "enabled" and version >= _TAGS_SINCE:
            tags = self._store.tags.get(instance.id, {})
            tree["tags"] = {"instance": {key: value for key, value in sorted(tags.items()) if key[:4] != "aws:"}}
        return tree

    def _interface(self, instance: Any) -> dict[str, Any]:
        nic, subnet = instance.nics[0], instance.nics[0].subnet
        vpc = self._store.get_vpc(subnet.vpc_id)
        groups = sorted(nic.group_set, key=lambda group: str(group.id))
        tree: dict[str, Any] = {
            "device-number": "0",
            "interface-id": nic.id,
            "local-hostname": instance.private_dns_name,
            "local-ipv4s": nic.private_ip_address,
            "mac": nic.mac_address,
            "owner-id": nic.owner_id,
            "security-group-ids": "\n".join(group.id for group in groups),
            "security-groups": "\n".join(group.name for group in groups),
            "subnet-id": subnet.id,
            "subnet-ipv4-cidr-block": subnet.cidr_block,
            "vpc-id": subnet.vpc_id,
            "vpc-ipv4-cidr-block": vpc.cidr_block,
            "vpc-ipv4-cidr-blocks": vpc.cidr_block,
        }
        if nic.public_ip:
            tree["ipv4-associations"] = {nic.public_ip: nic.private_ip_address}
            tree["public-hostname"], tree["public-ipv4s"] = instance.public_dns_name, nic.public_ip
        if nic.ipv6_addresses:
            tree["ipv6s"] = "\n".join(nic.ipv6_addresses)
            tree["subnet-ipv6-cidr-blocks"] = "\n".join(ipv6.blocks_of(subnet))
            tree["vpc-ipv6-cidr-blocks"] = "\n".join(ipv6.vpc_blocks_of(vpc))
        return tree

    def _iam(self, instance_id: str, profile: Any) -> dict[str, Any]:
        info = {
            "Code": "Success",
            "LastUpdated": _stamp(self._clock()),
            "InstanceProfileArn": profile.arn,
            "InstanceProfileId": profile.id,
        }
        roles = {role.name: lambda role=role: self._credentials(instance_id, role) for role in profile.roles}
        return {"info": json.dumps(info, indent=2), "security-credentials": roles}

    def _credentials(self, instance_id: str, role: Any) -> str:
        made = self._sessions.for_instance(role, instance_id)
        document = {
            "Code": "Success",
            "LastUpdated": _stamp(made.issued),
            "Type": "AWS-HMAC",
            "AccessKeyId": made.key_id,
            "SecretAccessKey": made.secret,
            "Token": made.token,
            "Expiration": _stamp(made.expires),
        }
        return json.dumps(document, indent=2)

    def _identity(self, instance: Any) -> dict[str, Any]:
        return {
            "accountId": self._store.account_id,
            "architecture": self._store.amis[instance.image_id].architecture,
            "availabilityZone": instance.availability_zone,
            "billingProducts": None,
            "devpayProductCodes": None,
            "marketplaceProductCodes": None,
            "imageId": instance.image_id,
            "instanceId": instance.id,
            "instanceType": instance.instance_type,
            "kernelId": None,
            "pendingTime": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "privateIp": instance.private_ip_address,
            "ramdiskId": None,
            "region": self._region,
            "version": "2017-09-30",
        }

    def _profile(self, instance_id: str) -> Any | None:
        association = self._store.iam_instance_profile_associations.get(instance_id)
        return association.iam_instance_profile if association is not None else None

    def _zone_id(self, zone: str) -> str:
        zones = self._store.describe_availability_zones()
        return next((str(each.zone_id) for each in zones if each.name == zone), "")

    def _reservation(self, instance_id: str) -> str:
        for reservation in self._store.reservations.values():
            if any(each.id == instance_id for each in reservation.instances):
                return str(reservation.id)
        return ""


def _listing(node: dict[str, Any]) -> list[str]:
    """Folders end with a slash, except that public keys are shown as `0=NAME` and tags never are folders."""
    if isinstance(node.get(""), str):
        return str(node[""]).splitlines()
    return [f"{name}/" if isinstance(child, dict) else name for name, child in sorted(node.items())]


def _text(status: int, text: str) -> Answer:
    return status, {"Content-Type": "text/plain"}, text.encode()


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
