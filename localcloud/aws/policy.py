"""IAM policies, evaluated: a pure function of policies and a request.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html and, for conditions,
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-logic-multiple-context-keys-or-values.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

Policy = Mapping[str, Any]
Value = str | tuple[str, ...]
_VARIABLE = re.compile(r"\$\{([^},]+)(?:, *'([^']*)')?\}")
_LITERALS = {"*": "*", "?": "?", "$": "$"}


class Decision(Enum):
    ALLOWED = "allowed"
    NOT_ALLOWED = "not allowed"
    DENIED = "denied"


@dataclass(frozen=True, kw_only=True)
class Request:
    """`action` is `service:Action`, `resource` an ARN or `*`. `context` maps condition keys to their value; a tuple is a key
    with several values (tuple of none: present but empty)."""

    action: str
    resource: str
    context: Mapping[str, Value] = field(default_factory=dict)

    def values(self, key: str) -> tuple[str, ...] | None:
        """A condition key's values, None where the request has no such key. Keys are not case-sensitive."""
        found = next((value for name, value in self.context.items() if name.lower() == key.lower()), None)
        return (found,) if isinstance(found, str) else found


def evaluate(policies: Iterable[Policy], request: Request) -> Decision:
    """What identity policies say: an explicit deny wins, then any allow; else not allowed."""
    decision = Decision.NOT_ALLOWED
    for policy in policies:
        for statement in _listed(policy.get("Statement", [])):
            if not _applies(statement, request):
                continue
            if statement.get("Effect") == "Deny":
                return Decision.DENIED
            decision = Decision.ALLOWED
    return decision


def _applies(statement: Policy, request: Request) -> bool:
    actions, resources = statement.get("Action"), statement.get("Resource")
    if actions is not None:
        if not any(_like(pattern.lower(), request.action.lower()) for pattern in _listed(actions)):
            return False
    elif any(_like(pattern.lower(), request.action.lower()) for pattern in _listed(statement.get("NotAction", "*"))):
        return False
    if resources is not None:
        if not any(_resource(pattern, request) for pattern in _listed(resources)):
            return False
    elif any(_resource(pattern, request) for pattern in _listed(statement.get("NotResource", "*"))):
        return False
    return all(
        _condition(operator, key, tuple(_text(value) for value in _listed(values)), request)
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    )


def _condition(operator: str, key: str, wanted: Sequence[str], request: Request) -> bool:
    quantifier, _, name = operator.rpartition(":")
    name, if_exists = (name[:-8], True) if name.endswith("IfExists") else (name, False)
    present = request.values(key)
    if name == "Null":
        return any((present is None or present == ()) == (value.lower() == "true") for value in wanted)
    test = _OPERATORS.get(name)
    if test is None:
        return False
    negated = name.startswith(("StringNot", "NumericNot", "DateNot", "ArnNot", "NotIp"))
    wanted = [_filled(value, request) for value in wanted]

    def holds(value: str) -> bool:
        return not any(test(each, value) for each in wanted) if negated else any(test(each, value) for each in wanted)

    if quantifier == "ForAllValues":
        # True where the key is missing or empty: a policy needs `Null: false` beside it.
        return all(holds(value) for value in present or ())
    if present is None or present == ():
        return quantifier == "" and (negated or if_exists)
    if quantifier == "" and negated:
        return all(holds(value) for value in present)
    return any(holds(value) for value in present)


def _resource(pattern: str, request: Request) -> bool:
    return _like(_filled(pattern, request), request.resource)


def _filled(pattern: str, request: Request) -> str:
    """Policy variables replaced; one without a value and default stays as it is and so matches nothing."""

    def value(found: re.Match[str]) -> str:
        name, default = found[1].strip(), found[2]
        if name in _LITERALS:
            return _LITERALS[name]
        values = request.values(name)
        return values[0] if values else (default if default is not None else found[0])

    return _VARIABLE.sub(value, pattern) if "${" in pattern else pattern


@lru_cache(maxsize=2048)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern), re.DOTALL)


def _like(pattern: str, text: str) -> bool:
    return _pattern(pattern).fullmatch(text) is not None


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _date(text: str) -> float:
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return float(text)
    parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _compared(convert: Callable[[str], Any], compare: Callable[[Any, Any], bool]) -> Callable[[str, str], bool]:
    """A test of (the policy's value, the request's value); a value that cannot be converted never fits."""

    def test(wanted: str, value: str) -> bool:
        try:
            return compare(convert(value), convert(wanted))
        except ValueError:
            return False

    return test


def _equal(wanted: str, value: str) -> bool:
    return wanted == value


def _equal_ignoring_case(wanted: str, value: str) -> bool:
    return wanted.lower() == value.lower()


def _arn_like(wanted: str, value: str) -> bool:
    """Each of the six parts by itself, so that `*` never reaches over a colon."""
    patterns, parts = wanted.split(":", 5), value.split(":", 5)
    return len(patterns) == len(parts) == 6 and all(map(_like, patterns, parts))


def _in_network(wanted: str, value: str) -> bool:
    try:
        return ip_address(value) in ip_network(wanted, strict=False)
    except ValueError:
        return False


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": _equal,
    "StringNotEquals": _equal,
    "StringEqualsIgnoreCase": _equal_ignoring_case,
    "StringNotEqualsIgnoreCase": _equal_ignoring_case,
    "StringLike": _like,
    "StringNotLike": _like,
    "Bool": _equal_ignoring_case,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "ArnNotEquals": _arn_like,
    "ArnNotLike": _arn_like,
    "IpAddress": _in_network,
    "NotIpAddress": _in_network,
    **{
        f"{kind}{name}": _compared(convert, compare)
        for kind, convert in (("Numeric", float), ("Date", _date))
        for name, compare in (
            ("Equals", lambda value, wanted: value == wanted),
            ("NotEquals", lambda value, wanted: value == wanted),
            ("LessThan", lambda value, wanted: value < wanted),
            ("LessThanEquals", lambda value, wanted: value <= wanted),
            ("GreaterThan", lambda value, wanted: value > wanted),
            ("GreaterThanEquals", lambda value, wanted: value >= wanted),
        )
    },
}
