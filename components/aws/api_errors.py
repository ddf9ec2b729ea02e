"""Describe an error of an AWS client: which one it was and what to do. Most refusals do not mention the credentials.

https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

import os
import re
from typing import Any

CREDENTIALS = "AWS credentials"
_KEY = "AWS_ACCESS_KEY_ID"
_BUSY = (
    *("Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "TooManyRequestsException"),
    *("PriorRequestNotComplete", "RequestThrottled", "SlowDown", "BandwidthLimitExceeded"),
)
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
_UNKNOWN = (
    *(
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "AuthFailure",
        "InvalidAccessKeyId",
        "MissingAuthenticationToken",
    ),
    *("InvalidSecurity", "IncompleteSignature", "InvalidSignatureException", "SignatureDoesNotMatch", "InvalidToken"),
)
_DENIED = (
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "Client.UnauthorizedOperation",
    "NotAuthorized",
)
_CLOCK = ("RequestTimeTooSkewed", "RequestInTheFuture")
_ACCOUNT = ("OptInRequired", "Blocked", "PendingVerification", "AccountNotVerified")
# The text of SignatureDoesNotMatch and similar errors shows whether the clock is wrong.
_LATE = re.compile(r"(?i)signature expired|not yet current|is now earlier|skew")
# https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html#access-denied-error-examples . A
# denial by the caller's policies is the common case, and has the common message.
_OTHERS = "service control policy|resource control policy|permissions boundary|session policy|VPC endpoint policy"
_DENY = re.compile(rf"with an explicit deny in an? ({_OTHERS})")
_SILENT = re.compile(rf"because no ({_OTHERS}) allows")


def failures() -> tuple[type[Exception], ...]:
    """Return the exceptions that an AWS client raises.

    It is a function, so that a program without a client imports none.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return ClientError, BotoCoreError, ResponseParserError


def message_of(
    error: Exception, where: str = CREDENTIALS, *, key_source: str = "", role_key: str = "", profile: str = ""
) -> str:
    """Return `WHERE: PROBLEM. FIX.` for one of `failures`.

    `where` is what was asked, if the credentials are not at fault. `key_source` is the key of the configuration that the
    credentials are from, and `role_key` the key of the roles that they assume. `profile` is the profile that the configuration names.
    """
    from botocore.exceptions import ClientError

    return (
        _refused(error, where, key_source, role_key)
        if isinstance(error, ClientError)
        else _unanswered(error, where, key_source, profile or os.environ.get("AWS_PROFILE", ""))
    )


def is_denied(error: Any) -> bool:
    """Return whether AWS knows the identity and does not allow the call."""
    return code_of(error) in _DENIED


def is_unknown(error: Any) -> bool:
    """Return whether AWS does not know the identity: the key is wrong, or the account has not enabled the region."""
    return code_of(error) in _UNKNOWN and not _LATE.search(str(error))


def is_blameless(error: Exception) -> bool:
    """Return whether AWS did not answer, failed, or throttled: nothing is known about the credentials then."""
    from botocore import exceptions as botocore
    from botocore.parsers import ResponseParserError

    if not isinstance(error, botocore.ClientError):
        return isinstance(error, botocore.ConnectionError | botocore.HTTPClientError | ResponseParserError)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    return code_of(error) in _BUSY or status >= 500


def code_of(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code") or "refused")


def _refused(error: Any, where: str, key_source: str, role_key: str) -> str:
    code, message = code_of(error), str(error.response.get("Error", {}).get("Message") or "")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    operation = f"{error.operation_name} ({code})"
    if code in _BUSY:
        return f"{where}: AWS throttles {operation}, also after retries. The credentials are not at fault. Wait, and run it again."
    if code in _CLOCK or (code in _UNKNOWN and _LATE.search(message)):
        return f"{CREDENTIALS}: AWS refuses {operation}, since this machine's clock is wrong: {message}. Set the clock."
    if code in _EXPIRED:
        return (
            f"{CREDENTIALS}: they have expired, says {operation}. Sign in again (`aws sso login`), or export new ones."
        )
    if code in _UNKNOWN:
        return f"{key_source or _KEY}: AWS does not accept the credentials, says {operation}. Give valid ones."
    if error.operation_name == "AssumeRoleWithWebIdentity":
        return f"aws:assumeRoleWithWebIdentity: AWS does not let the token assume the role ({message or code}). Correct it."
    if code in _DENIED and error.operation_name == "AssumeRole":
        key = role_key or key_source or "AWS_PROFILE"
        return f"{key}: AWS does not let the credentials assume the role ({message or code}). Correct the role or its trust."
    if code in _DENIED:
        return _denied(operation, message)
    if code in _ACCOUNT:
        return f"{where}: AWS refuses {operation} to this account: {message.rstrip('.')}. Finish what it asks for in the account's console."
    if status >= 500:
        return (
            f"{where}: AWS fails at {operation} (HTTP {status}). The credentials are not at fault. Try again later; "
            "https://health.aws.amazon.com shows outages."
        )
    return f"{where}: AWS refuses {operation}: {message.rstrip('.')}. Correct what it names."


def _denied(operation: str, message: str) -> str:
    deny, silent = _DENY.search(message), _SILENT.search(message)
    if deny:
        return (
            f"{CREDENTIALS}: an explicit deny in a {deny[1]} forbids {operation}, whatever their own permissions are. "
            "Have it changed, or use another account or region."
        )
    if silent:
        return (
            f"{CREDENTIALS}: no {silent[1]} allows {operation}, whatever their own permissions are. Have one allow it."
        )
    return f"{CREDENTIALS}: AWS does not let them {operation}. Give them the action; docs/operations.md has the policy."


def _unanswered(error: Exception, where: str, key_source: str, profile: str) -> str:
    from botocore import exceptions as botocore
    from botocore.parsers import ResponseParserError

    if isinstance(error, ResponseParserError):
        return f"{where}: what answers is not AWS's API ({str(error)[:100]!r}). Check AWS_ENDPOINT_URL, and the proxy on the way."
    if isinstance(error, botocore.ConnectionError | botocore.HTTPClientError):
        return f"{where}: AWS cannot be reached ({type(error).__name__}: {error}). Check the network, and the region's name."
    if isinstance(error, botocore.SSOError | botocore.TokenRetrievalError | botocore.UnauthorizedSSOTokenError):
        command = f"aws sso login --profile {profile}" if profile else "aws sso login"
        return f"{key_source or CREDENTIALS}: the sign-in of the profile is over ({error}). Run `{command}`."
    if isinstance(error, botocore.ProfileNotFound):
        return f"{key_source or 'AWS_PROFILE'}: {error}. Name a profile of ~/.aws/config, or unset it."
    if isinstance(error, botocore.NoCredentialsError | botocore.PartialCredentialsError):
        give = "Correct it." if key_source else "Export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        return f"{key_source or CREDENTIALS}: {error}. {give}"
    if isinstance(error, botocore.CredentialRetrievalError):
        return f"{CREDENTIALS}: what gives them out failed ({error}). Correct `credential_process` or the role in ~/.aws/config."
    return f"{where}: {error}. Correct what it names."
