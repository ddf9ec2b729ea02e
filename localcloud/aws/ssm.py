"""SSM parameters: moto keeps them; a SecureString's text leaves only when it was asked for decrypted."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import json
import re
import secrets
from typing import Any

from localcloud.aws import tagrules
from localcloud.aws.catalogue import images
from localcloud.aws.moto_backends import Moto
from localcloud.aws.wire import AwsError, Call, Reply

_PUBLIC = "/aws/service/"
# https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html
_LONGEST_STANDARD = 4096
_LONGEST_ADVANCED = 8192
# https://docs.aws.amazon.com/general/latest/gr/ssm.html#limits_ssm
_MOST_STANDARD = 10_000
# https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html (Name). The 1,011 characters include what is in
# front of the name in its ARN.
_LONGEST_NAME, _MOST_LEVELS = 1011, 15


class SsmApi:
    def __init__(self, moto: Moto) -> None:
        self._moto = moto
        self._mask = secrets.token_bytes(32)
        self.most_standard = _MOST_STANDARD
        self._publish()

    def answer(self, call: Call) -> Reply:
        """Raises AwsError."""
        if not call.action:
            raise AwsError("UnknownOperationException", "The request names no operation")
        parameters = call.json()
        if call.action == "SendCommand":
            raise _not_managed(parameters, self._moto.account)
        if call.action == "PutParameter":
            self._check_name(str(parameters.get("Name", "")))
            _check_size(parameters)
            self._check_count(parameters)
            _check_nesting(str(parameters.get("Value", "")))
        if isinstance(parameters.get("Tags"), list):
            tagrules.check([(each.get("Key", ""), each.get("Value", "")) for each in parameters["Tags"]], tagrules.SSM)
        reply = self._moto.answer(call)
        if reply.status != 200 or not reply.body:
            return reply
        document = json.loads(reply.body)
        if call.action == "DescribeParameters":
            document["Parameters"] = [each for each in document["Parameters"] if not each["Name"].startswith(_PUBLIC)]
        if parameters.get("WithDecryption") is not True:
            self._hide(document)
        return Reply(status=reply.status, body=json.dumps(document).encode(), content_type="application/x-amz-json-1.1")

    def _check_name(self, name: str) -> None:
        arn = f"arn:aws:ssm:{self._moto.region}:{self._moto.account}:parameter/{name.lstrip('/')}"
        if len(arn) > _LONGEST_NAME:
            raise AwsError("ValidationException", f"The parameter name is longer than {_LONGEST_NAME} characters.")
        if name.strip("/").count("/") >= _MOST_LEVELS:
            raise AwsError(
                "HierarchyLevelLimitExceededException", f"A hierarchy can have a maximum of {_MOST_LEVELS} levels."
            )

    def _check_count(self, parameters: dict[str, Any]) -> None:
        """https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html#API_PutParameter_Errors"""
        known = [name for name, versions in self._moto.ssm._parameters.items() if versions]
        own = [name for name in known if not name.startswith(_PUBLIC)]
        if (
            parameters.get("Name") not in own
            and len(own) >= self.most_standard
            and parameters.get("Tier") != "Advanced"
        ):
            raise AwsError(
                "ParameterLimitExceeded",
                "You have exceeded the number of parameters for this AWS account. Delete one or more parameters and try again.",
            )

    def _hide(self, value: Any) -> None:
        """moto's undecrypted text is the plain text with a prefix; real SSM gives the ciphertext."""
        if isinstance(value, list):
            for each in value:
                self._hide(each)
        elif isinstance(value, dict):
            if value.get("Type") == "SecureString" and "Value" in value:
                digest = hmac.new(self._mask, str(value["Value"]).encode(), hashlib.sha512).digest()
                value["Value"] = base64.b64encode(b"\x01\x02\x02\x00" + digest).decode()
            for each in value.values():
                self._hide(each)

    def _publish(self) -> None:
        parameter = importlib.import_module("moto.ssm.models").Parameter
        now = importlib.import_module("moto.core.utils").utcnow()
        for image in images(self._moto.region):
            for name in image.parameters:
                made = parameter(
                    account_id=self._moto.account,
                    name=name,
                    value=image.ami,
                    parameter_type="String",
                    description=None,
                    allowed_pattern=None,
                    keyid=None,
                    last_modified_date=now,
                    version=1,
                    data_type="aws:ec2:image",
                )
                self._moto.ssm._parameters[name].append(made)


def _not_managed(parameters: dict[str, Any], account: str) -> AwsError:
    """Return the refusal of a command for instances without the SSM agent. The local images do not have it.

    https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_SendCommand.html (InvalidInstanceId)
    """
    listed = ", ".join(map(str, parameters["InstanceIds"]))
    return AwsError("InvalidInstanceId", f"Instances [[{listed}]] not in a valid state for account {account}")


def _check_size(parameters: dict[str, Any]) -> None:
    size = len(str(parameters.get("Value", "")).encode())
    if parameters.get("Tier") == "Advanced":
        if size > _LONGEST_ADVANCED:
            raise AwsError(
                "ValidationException", f"Advanced tier parameters support a maximum of {_LONGEST_ADVANCED} bytes."
            )
    elif size > _LONGEST_STANDARD and parameters.get("Tier") != "Intelligent-Tiering":
        raise AwsError(
            "ValidationException",
            f"Standard tier parameters support a maximum parameter value of {_LONGEST_STANDARD} characters. To create a "
            "larger parameter value, upgrade the parameter to use the advanced-parameter tier.",
        )


def _check_nesting(value: str) -> None:
    """https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html (Value)"""
    if re.search(r"\{\{.*\}\}", value, re.DOTALL):
        raise AwsError(
            "ValidationException",
            'Parameter value can\'t nest another parameter. Do not use "{{}}" in the value.',
        )
