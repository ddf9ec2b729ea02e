"""What CloudAPI refuses, with the status and code that its server gives (restify-errors 3.0.0, lib/errors.js, VMAPI)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ApiError(Exception):
    """A refusal. `errors` are `{field, code, message}`; `headers` go with the reply."""

    status: int
    code: str
    message: str
    errors: Sequence[Mapping[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.errors:
            body["errors"] = [dict(each) for each in self.errors]
        return body


def invalid_argument(message: str) -> ApiError:
    return ApiError(409, "InvalidArgument", message)


def missing_parameter(message: str) -> ApiError:
    return ApiError(409, "MissingParameter", message)


def validation_failed(message: str, field: str, code: str, detail: str) -> ApiError:
    """VMAPI's refusal, passed on by CloudAPI."""
    return ApiError(409, "ValidationFailed", message, ({"field": field, "code": code, "message": detail},))


def not_found(message: str) -> ApiError:
    return ApiError(404, "ResourceNotFound", message)


def invalid_header(message: str) -> ApiError:
    return ApiError(400, "InvalidHeader", message)


def invalid_credentials(message: str = "Invalid authorization credentials supplied") -> ApiError:
    """Return the same error for an unknown account, user or key and for a wrong signature."""
    return ApiError(401, "InvalidCredentials", message)


def not_authorized(message: str) -> ApiError:
    return ApiError(403, "NotAuthorized", message)


def not_implemented(message: str) -> ApiError:
    return ApiError(501, "NotImplemented", message)


def unallocated(action: str) -> ApiError:
    """VMAPI takes no power action for a machine that is still being provisioned (its endpoints/vms.js, updateVm)."""
    return ApiError(409, "UnallocatedVM", f"Cannot call {action} for a VM that has not been provisioned yet")
