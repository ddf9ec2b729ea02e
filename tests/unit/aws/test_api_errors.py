"""components.aws.api_errors: each way in which AWS refuses or does not answer has its own message."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions as botocore
from botocore.parsers import ResponseParserError

from components.aws.api_errors import is_denied, is_unknown, message_of


def refused(
    code: str, message: str = "text", status: int = 400, operation: str = "RunInstances"
) -> botocore.ClientError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.ClientError(answer, operation)


SCP = "User: x is not authorized to perform: ec2:RunInstances on resource: y "
NOT_THEIRS = ("Give valid ones", "Give them the action")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        *(
            (refused(code, status=503), "key: AWS throttles RunInstances (")
            for code in ("Throttling", "ThrottlingException", "RequestLimitExceeded", "PriorRequestNotComplete", "SlowDown")
        ),
        (refused("ExpiredToken"), "AWS credentials: they have expired, says RunInstances (ExpiredToken). Sign in again"),
        (refused("ExpiredTokenException"), "AWS credentials: they have expired"),
        (refused("RequestExpired"), "AWS credentials: they have expired"),
        (refused("RequestTimeTooSkewed", "The difference …"), "since this machine's clock is wrong: The difference …. Set"),
        (refused("SignatureDoesNotMatch", "Signature expired: 1 is now earlier than 2"), "since this machine's clock is wrong"),
        (refused("InvalidSignatureException", "Signature not yet current: 1"), "since this machine's clock is wrong"),
        (refused("SignatureDoesNotMatch", "The request signature"), "AWS_ACCESS_KEY_ID: AWS does not accept the credentials"),
        (refused("InvalidClientTokenId"), "AWS_ACCESS_KEY_ID: AWS does not accept the credentials"),
        (refused("AuthFailure"), "AWS_ACCESS_KEY_ID: AWS does not accept the credentials"),
        (refused("AccessDenied", f"{SCP}because no identity-based policy allows"), "AWS does not let them RunInstances (AccessDenied)."),
        (refused("UnauthorizedOperation"), "AWS does not let them RunInstances (UnauthorizedOperation). Give them the action"),
        (
            refused("UnauthorizedOperation", f"{SCP}with an explicit deny in a service control policy"),
            "an explicit deny in a service control policy forbids RunInstances (UnauthorizedOperation), whatever their own permissions",
        ),
        (
            refused("AccessDenied", f"{SCP}with an explicit deny in a permissions boundary"),
            "an explicit deny in a permissions boundary forbids RunInstances",
        ),
        (
            refused("AccessDenied", f"{SCP}because no service control policy allows the ec2:RunInstances action"),
            "no service control policy allows RunInstances (AccessDenied), whatever their own permissions",
        ),
        (
            refused("AccessDenied", f"{SCP}with an explicit deny in an identity-based policy"),
            "AWS credentials: AWS does not let them RunInstances (AccessDenied). Give them the action",
        ),
        (refused("OptInRequired", "Subscribe first."), "key: AWS refuses RunInstances (OptInRequired) to this account: Subscribe first."),
        (refused("InternalFailure", status=500), "key: AWS fails at RunInstances (InternalFailure) (HTTP 500). The credentials are not"),
        (refused("ServiceUnavailable", status=503), "AWS fails at RunInstances (ServiceUnavailable) (HTTP 503)"),
        (refused("InvalidParameterValue", "x is wrong."), "key: AWS refuses RunInstances (InvalidParameterValue): x is wrong. Correct"),
        (botocore.EndpointConnectionError(endpoint_url="https://x"), "key: AWS cannot be reached (EndpointConnectionError"),
        (botocore.ConnectTimeoutError(endpoint_url="https://x"), "key: AWS cannot be reached (ConnectTimeoutError"),
        (botocore.SSLError(endpoint_url="https://x", error="y"), "key: AWS cannot be reached (SSLError"),
        (botocore.NoCredentialsError(), "AWS credentials: Unable to locate credentials. Export AWS_ACCESS_KEY_ID"),
        (botocore.ProfileNotFound(profile="x"), "AWS_PROFILE: The config profile (x) could not be found. Name a profile"),
        (botocore.UnauthorizedSSOTokenError(), "AWS credentials: the sign-in of the profile is over ("),
        (botocore.TokenRetrievalError(provider="sso", error_msg="expired"), "AWS credentials: the sign-in of the profile is over ("),
        (botocore.CredentialRetrievalError(provider="process", error_msg="y"), "what gives them out failed ("),
        (ResponseParserError("Unable to parse <html>"), "key: what answers is not AWS's API ('Unable to parse <html>'). Check"),
        (botocore.InvalidRegionError(region_name="x y"), "key: Provided region_name 'x y' doesn't match a supported format"),
    ],
)  # fmt: skip
def test_each_failure_is_reported_as_what_it_is(error: Exception, message: str) -> None:
    found = message_of(error, "key")
    assert message in found
    where, _, rest = found.partition(": ")
    assert where in ("key", "AWS credentials", "AWS_ACCESS_KEY_ID", "AWS_PROFILE") and rest.endswith(".")
    if found.startswith("key: "):
        assert not any(each in found for each in NOT_THEIRS)


def test_an_unknown_key_a_missing_permission_and_a_wrong_clock_differ() -> None:
    assert is_unknown(refused("InvalidClientTokenId")) and is_unknown(refused("AuthFailure"))
    assert not is_unknown(refused("SignatureDoesNotMatch", "Signature expired: …")) and not is_unknown(
        refused("Throttling")
    )
    assert is_denied(refused("AccessDeniedException")) and not is_denied(refused("Throttling"))
