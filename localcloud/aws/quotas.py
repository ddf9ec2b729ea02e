"""Service Quotas: the vCPUs that on-demand instances may have, by class.

https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/Welcome.html
"""

from __future__ import annotations

import json
from typing import Any

from localcloud.aws.wire import AwsError, Call, Reply

# The local account has one limit for all classes together, which is each class's quota.
_EC2 = {
    "L-1216C47A": "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    "L-DB2E81BA": "Running On-Demand G and VT instances",
    "L-417A185B": "Running On-Demand P instances",
    "L-7295265B": "Running On-Demand X instances",
}
_UNRAISED = 5.0


class QuotasApi:
    """The quotas of an account. `vcpus` is its applied quota; None means that no increase over the default of 5 was ever requested."""

    def __init__(self, account: str, region: str, vcpus: int | None) -> None:
        self._account, self._region, self._vcpus = account, region, vcpus

    def answer(self, call: Call) -> Reply:
        """Raises AwsError."""
        parameters = call.json()
        if call.action == "GetServiceQuota":
            return _reply(Quota=self._quota(parameters, self._vcpus))
        if call.action == "GetAWSDefaultServiceQuota":
            return _reply(Quota=self._quota(parameters, _UNRAISED))
        if call.action == "ListServiceQuotas":
            codes = _EC2 if parameters.get("ServiceCode") == "ec2" and self._vcpus is not None else {}
            return _reply(
                Quotas=[self._quota({"ServiceCode": "ec2", "QuotaCode": code}, self._vcpus) for code in codes]
            )
        raise AwsError("UnknownOperationException", f"The local Service Quotas has no {call.action}")

    def _quota(self, parameters: dict[str, Any], value: float | None) -> dict[str, Any]:
        service, code = parameters.get("ServiceCode"), parameters.get("QuotaCode")
        if service != "ec2" or code not in _EC2 or value is None:
            raise AwsError(
                "NoSuchResourceException", "The request failed because the specified service does not exist."
            )
        arn = f"arn:aws:servicequotas:{self._region}:{self._account}:ec2/{code}"
        names = {"ServiceCode": service, "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)", "QuotaArn": arn}
        kind = {"Value": float(value), "Unit": "None", "Adjustable": True, "GlobalQuota": False}
        return {**names, "QuotaCode": code, "QuotaName": _EC2[str(code)], **kind}


def _reply(**content: Any) -> Reply:
    return Reply(body=json.dumps(content).encode(), content_type="application/x-amz-json-1.1")
