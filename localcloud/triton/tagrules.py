"""Which tags and metadata VMAPI takes (its lib/common/validation.js, and npm's triton-tags for the keys below `triton.`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from localcloud.triton.errors import ApiError, validation_failed

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_SERVICE = re.compile(rf"_?{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?(?::[a-z]+=[0-9]+)*")
_DOCKER = "docker:label:com.docker."
_TEXT_TAGS = ("triton.cns.reverse_ptr", "triton.cmon.groups", "triton._test.string")
_SWITCH_TAGS = ("triton.cns.disable", "triton._test.boolean")


def check_tags(tags: Mapping[str, Any], message: str = "Invalid VM parameters: Invalid tags") -> None:
    """Raises ApiError 409 naming the first tag that is not taken."""
    for key, value in tags.items():
        if not isinstance(value, str | bool | int | float):
            raise _forbidden(message, f"tags.{key}", "Forbidden Data Type")
    for key, value in tags.items():
        wrong = _wrong_tag(key, value)
        if wrong:
            raise _forbidden(message, "tags", wrong)


def check_metadata(
    metadata: Mapping[str, Any], message: str = "Invalid VM parameters: Invalid customer_metadata"
) -> None:
    """Raises ApiError 409 naming the first value that is not taken."""
    for key, value in metadata.items():
        if not isinstance(value, str | bool | int | float):
            raise _forbidden(message, f"customer_metadata.{key}", "Forbidden Data Type")


def check_deletable(tags: Mapping[str, Any]) -> None:
    for key in tags:
        if key.startswith(_DOCKER):
            raise _forbidden("Invalid tag parameters", "tags", f'Special tag "{key}" may not be deleted')


def _forbidden(message: str, field: str, detail: str) -> ApiError:
    return validation_failed(message, field, "Invalid", detail)


def _wrong_tag(key: str, value: Any) -> str:
    if key.startswith(_DOCKER):
        return f'Special tag "{key}" not supported'
    if not key.startswith("triton."):
        return ""
    if key == "triton.cns.services":
        return _wrong_services(value)
    if key in _SWITCH_TAGS:
        return "" if isinstance(value, bool) else f'Triton tag "{key}" value must be a boolean: {value!r}'
    if key in _TEXT_TAGS:
        return "" if isinstance(value, str) else f'Triton tag "{key}" value must be a string: {value!r}'
    return f'Unrecognized special triton tag "{key}"'


def _wrong_services(value: Any) -> str:
    if not isinstance(value, str):
        return f'Triton tag "triton.cns.services" value must be a string: {value!r}'
    for service in value.split(","):
        found = _SERVICE.fullmatch(service)
        port = re.search(r":([0-9]+)", service)
        if found is None or (port is not None and not 0 < int(port[1]) < 65536):
            return f'invalid "triton.cns.services" tag: {service!r} is not a DNS name with a port and options'
    return ""
