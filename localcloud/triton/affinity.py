"""Placement rules. They are parsed and refused as CloudAPI does, but they have no effect here and are not stored."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from localcloud.triton.errors import invalid_argument, validation_failed
from localcloud.triton.model import dnsified

# lib/triton-affinity.js, EXPR_KEY_RE and EXPR_VALUE_RE: keys of one character are not read.
_RULE = re.compile(r"[a-z_][a-z0-9\-_.]+(==|!=)~?[-a-z0-9:_\s.*/()?+\[\]\\^$|]+", re.IGNORECASE)

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def check(params: Mapping[str, Any]) -> None:
    """Raise ApiError for rules that cannot be parsed, and if a request uses both forms of rules."""
    rules = params.get("affinity")
    if params.get("locality") and not rules:
        _check_locality(params["locality"])
    if not rules:
        return
    if params.get("locality"):
        raise invalid_argument('cannot specify both "locality" (deprecated) and "affinity"')
    for rule in rules if isinstance(rules, list) else [rules]:
        if not isinstance(rule, str) or not _RULE.fullmatch(rule):
            raise invalid_argument(f'invalid affinity rule "{rule}"')


def _check_locality(locality: Any) -> None:
    """Check VMAPI's validLocality: an object with `near` and `far`, which are UUIDs or lists of them."""
    wrong = "malformed locality object" if not isinstance(locality, Mapping) else ""
    for key in ("near", "far"):
        value = locality.get(key) if not wrong else None
        each = [value] if isinstance(value, str) else value
        if each is not None and not isinstance(each, list):
            wrong = wrong or "locality entry is neither string nor array"
        elif not all(isinstance(text, str) and _UUID.fullmatch(text) for text in each or ()):
            wrong = wrong or "locality contains malformed UUID"
    if wrong:
        raise validation_failed("Invalid VM parameters: Invalid locality", "locality", "Invalid", wrong)


def as_json(value: Any) -> Any:
    """An object, given as such or as JSON text; None for what is neither."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None


def host(name: str) -> str:
    """The host name of a machine on an account with CNS."""
    return dnsified(name)
