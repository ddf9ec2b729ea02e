"""The two calls of Route53's API that a machine makes, in the form of boto3.

https://docs.aws.amazon.com/Route53/latest/APIReference/API_ListResourceRecordSets.html
https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Protocol
from xml.etree.ElementTree import Element, SubElement, tostring

from rollcall.aws import AwsClient, AwsRefusedError, CredentialSource, parsed_xml
from rollcall.errors import FatalError, RollcallError, TransientError
from rollcall.sigv4 import encoded

_URL = "https://route53.amazonaws.com"
_NAMESPACE = "https://route53.amazonaws.com/doc/2013-04-01/"
_BUSY = "Throttling", "ThrottlingException", "PriorRequestNotComplete", "ServiceUnavailable", "InternalError"
_QUERY = {"StartRecordName": "name", "StartRecordType": "type", "StartRecordIdentifier": "identifier"}


class ConflictError(TransientError):
    """A record set differs from the values in the batch. The caller must read it again."""


class Route53Api(Protocol):
    """Raises TransientError, FatalError, and ConflictError if a batch was refused because a set has changed."""

    def list_resource_record_sets(self, **given: str) -> Mapping[str, Any]:
        """Return one page: `ResourceRecordSets`, and `NextRecordName`, `NextRecordType`, `NextRecordIdentifier` if there are more."""

    def change_resource_record_sets(self, **given: Any) -> object:
        """Do all changes of `ChangeBatch` in `HostedZoneId`, or none."""


class Route53Client:
    """Route53's API with the credentials of `source`, for `within` seconds. It does not retry: the caller knows what to read again."""

    def __init__(self, source: CredentialSource, within: float = math.inf, url: str = "") -> None:
        # Route53 is one service for all regions, and requests to it are signed for this region.
        # https://docs.aws.amazon.com/general/latest/gr/r53.html
        self._aws = AwsClient("route53", "us-east-1", source, url or os.environ.get("AWS_ENDPOINT_URL") or _URL, within)

    def list_resource_record_sets(self, **given: str) -> dict[str, Any]:
        query = {_QUERY[name]: value for name, value in given.items() if name in _QUERY}
        reply = self._call("GET", _path(given["HostedZoneId"]), query=query)
        try:
            root = parsed_xml(reply)
            sets = root.find("ResourceRecordSets")
            if sets is None:
                raise ValueError(root.tag)
            page: dict[str, Any] = {"ResourceRecordSets": [_as_dict(each) for each in sets]}
            if root.findtext("IsTruncated") == "true":
                page |= {each.tag: each.text or "" for each in root if each.tag.startswith("NextRecord")}
                page["NextRecordName"]
        except (KeyError, ValueError) as other:
            raise TransientError(f"reason=garbled-reply api=route53 error={type(other).__name__}") from other
        return page

    def change_resource_record_sets(self, **given: Any) -> None:
        root = Element("ChangeResourceRecordSetsRequest", xmlns=_NAMESPACE)
        changes = SubElement(SubElement(root, "ChangeBatch"), "Changes")
        for change in given["ChangeBatch"]["Changes"]:
            record = change["ResourceRecordSet"]
            made = SubElement(changes, "Change")
            SubElement(made, "Action").text = change["Action"]
            made = SubElement(made, "ResourceRecordSet")
            for name in ("Name", "Type", "TTL"):
                SubElement(made, name).text = str(record[name])
            values = SubElement(made, "ResourceRecords")
            for value in record["ResourceRecords"]:
                SubElement(SubElement(values, "ResourceRecord"), "Value").text = value["Value"]
        body = tostring(root, "utf-8", xml_declaration=True)
        self._call("POST", f"{_path(given['HostedZoneId'])}/", body=body, headers={"Content-Type": "text/xml"})

    def close(self) -> None:
        """Close the connections, and send no more requests."""
        self._aws.close()

    def _call(self, method: str, path: str, **given: Any) -> bytes:
        try:
            return self._aws.call(method, path, **given)
        except AwsRefusedError as refused:
            raise api_error(refused.status, refused.code, refused.message) from refused


def api_error(status: int, code: str, message: str) -> RollcallError:
    """Return the error for a refusal of Route53."""
    if code in _BUSY or status == 429 or status >= 500:
        return TransientError(f"reason=api-failing api=route53 code={code}")
    if code == "InvalidChangeBatch" and ("but it" in message or "do not match" in message):
        return ConflictError("reason=contended")
    return FatalError(f"reason=refused api=route53 code={code} message={message[:200]!r}")


def _path(zone: str) -> str:
    return f"/2013-04-01/hostedzone/{encoded(zone.rpartition('/')[2])}/rrset"


def _as_dict(record: Element) -> dict[str, Any]:
    """Return a record set in the form of boto3: an element with children is a mapping, and `ResourceRecords` is a list of mappings."""
    found: dict[str, Any] = {each.tag: each.text or "" for each in record}
    found["Name"], found["Type"], int(found.get("TTL", 0))
    found["ResourceRecords"] = [
        {"Value": each.text or ""} for each in record.findall("ResourceRecords/ResourceRecord/Value")
    ]
    return found
