"""Service Quotas: what the account may have of vCPUs, by class, of security groups, their rules, elastic addresses, and buckets.

https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/Welcome.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from localcloud.aws.wire import AwsError, Call, Reply

GROUPS, RULES, BUCKETS = "L-E79EC296", "L-0EA8095F", "L-DC2B2D3D"
ADDRESSES, GROUPS_OF_INTERFACE = "L-0263D0A3", "L-2AFB9258"


@dataclass(frozen=True)
class _Quota:
    service: str
    name: str
    default: float


# https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html#vpc-limits-security-groups ,
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/BucketRestrictions.html . The local account has one limit for the vCPUs of all
# classes together, which is each class's quota.
_QUOTAS = {
    "L-1216C47A": _Quota("ec2", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 5),
    "L-DB2E81BA": _Quota("ec2", "Running On-Demand G and VT instances", 5),
    "L-417A185B": _Quota("ec2", "Running On-Demand P instances", 5),
    "L-7295265B": _Quota("ec2", "Running On-Demand X instances", 5),
    GROUPS: _Quota("vpc", "VPC security groups per Region", 2500),
    RULES: _Quota("vpc", "Inbound or outbound rules per security group", 60),
    BUCKETS: _Quota("s3", "General purpose buckets", 10_000),
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/elastic-ip-addresses-eip.html#using-instance-addressing-limit
    ADDRESSES: _Quota("ec2", "EC2-VPC Elastic IPs", 5),
    GROUPS_OF_INTERFACE: _Quota("vpc", "Security groups per network interface", 5),
}
_NAMES = {
    "ec2": "Amazon Elastic Compute Cloud (Amazon EC2)",
    "vpc": "Amazon Virtual Private Cloud (Amazon VPC)",
    "s3": "Amazon Simple Storage Service (Amazon S3)",
}


class QuotasApi:
    """The quotas of an account.

    `vcpus` is its applied quota of vCPUs; None means that no increase over the default of 5 was ever requested. `raised` are the applied
    values of other quotas, by their codes.
    """

    def __init__(self, account: str, region: str, vcpus: int | None) -> None:
        self._account, self._region, self._vcpus = account, region, vcpus
        self.raised: dict[str, float] = {}

    def value(self, code: str) -> float:
        """Return the quota that the account has."""
        known = self._applied(code)
        return _QUOTAS[code].default if known is None else known

    def answer(self, call: Call) -> Reply:
        """Raises AwsError."""
        parameters = call.json()
        if call.action == "GetServiceQuota":
            return _reply(Quota=self._quota(parameters, self._applied(str(parameters.get("QuotaCode")))))
        if call.action == "GetAWSDefaultServiceQuota":
            known = _QUOTAS.get(str(parameters.get("QuotaCode")))
            return _reply(Quota=self._quota(parameters, known.default if known else None))
        if call.action == "ListServiceQuotas":
            service = parameters.get("ServiceCode")
            applied = {code: self._applied(code) for code, each in _QUOTAS.items() if each.service == service}
            given = {code: value for code, value in applied.items() if value is not None}
            return _reply(
                Quotas=[self._quota({"ServiceCode": service, "QuotaCode": code}, given[code]) for code in given]
            )
        raise AwsError("UnknownOperationException", f"The local Service Quotas has no {call.action}")

    def _applied(self, code: str) -> float | None:
        known = _QUOTAS.get(code)
        is_of_vcpus = known is not None and known.service == "ec2" and code != ADDRESSES
        return self._vcpus if is_of_vcpus else self.raised.get(code)

    def _quota(self, parameters: dict[str, Any], value: float | None) -> dict[str, Any]:
        service, code = parameters.get("ServiceCode"), str(parameters.get("QuotaCode"))
        if code not in _QUOTAS or service != _QUOTAS[code].service or value is None:
            raise AwsError(
                "NoSuchResourceException", "The request failed because the specified service does not exist."
            )
        arn = f"arn:aws:servicequotas:{self._region}:{self._account}:{service}/{code}"
        names = {"ServiceCode": service, "ServiceName": _NAMES[_QUOTAS[code].service], "QuotaArn": arn}
        kind = {"Value": float(value), "Unit": "None", "Adjustable": True, "GlobalQuota": service == "s3"}
        return {**names, "QuotaCode": code, "QuotaName": _QUOTAS[code].name, **kind}


def _reply(**content: Any) -> Reply:
    return Reply(body=json.dumps(content).encode(), content_type="application/x-amz-json-1.1")
