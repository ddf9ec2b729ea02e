"""EC2's rule for filters, in place of moto's many.

Case counts, `*` is any text, `?` one character, and a backslash takes the character after it as it is. Several values of a
filter are joined with OR, several filters with AND; a name that the action does not have is an error.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html#Filtering_Resources_CLI ,
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from localcloud.aws.operations import model, not_emulated
from localcloud.aws.wire import AwsError, Call

# Fields of moto's instances that its table of filters does not have.
_OF_INSTANCES = {"instance-state-code": "state_code", "launch-time": "launch_time"}
# A filter that is no longer documented but that EC2 still accepts.
_OLD = frozenset({"tag-value"})
# moto reads the others and does nothing with them.
_OF_STATUSES = frozenset({"instance-state-code", "instance-state-name"})


class Values(list[str]):
    """The values of one filter. `in` is true for a text that one of them matches, because moto uses `in` for all comparisons."""

    def __contains__(self, value: object) -> bool:
        return any(pattern(each).fullmatch(text) for text in _texts(value) for each in self)


@functools.lru_cache(maxsize=1024)
def pattern(value: str) -> re.Pattern[str]:
    """Return the regular expression for what a filter's value matches."""
    wild = {"*": ".*", "?": "."}
    parts = re.findall(r"\\(.)|(.)", value, re.DOTALL)
    return re.compile("".join(wild.get(plain) or re.escape(plain or escaped) for escaped, plain in parts), re.DOTALL)


def install() -> None:
    """Give moto this rule. Its modules have copied its own functions from each other, so each copy is replaced."""
    rule: dict[str, Any] = {
        "is_filter_matching": lambda resource, name, values: resource.get_filter_value(name) in _values(values),
        "instance_value_in_filter_values": lambda value, values: value in _values(values),
        "tag_filter_matches": _is_tag_matching,
        "simple_aws_filter_to_re": lambda value: rf"(?s:{pattern(value).pattern})\Z",
        "filter_resources": _filtered,
        "aws_api_matches": lambda value, text: str(text) in Values([value]),
    }
    importlib.import_module("moto.ec2.utils").filter_dict_attribute_mapping.update(_OF_INSTANCES)
    for module in [each for name, each in sys.modules.items() if name.startswith("moto.ec2.")]:
        for name in rule.keys() & vars(module).keys():
            setattr(module, name, rule[name])
    base = importlib.import_module("moto.ec2.responses._base_response").EC2BaseResponse
    read = base._filters_from_querystring
    base._filters_from_querystring = lambda response: {name: Values(each) for name, each in read(response).items()}


def check_names(call: Call) -> None:
    """Raises AwsError for a filter that the action does not have, or that moto reads and does nothing with."""
    names = [each["Name"] for each in call.groups("Filter").values() if each.get("Name")]
    operation = model(call) if names else None
    members = operation.input_shape.members if operation is not None and operation.input_shape else {}
    documentation = str(members["Filters"].documentation) if "Filters" in members else ""
    # Of some filters the text has other names too ("you can also use cidr"), and EC2 takes isDefault for is-default.
    known = {*re.findall(r"<code>([^<]+)</code>", documentation), *_OLD}
    for name in names:
        dashed = re.sub(r"(?<=[a-z])[A-Z]", lambda letter: f"-{letter[0].lower()}", name)
        if known > _OLD and not {name, dashed} & known and not name.startswith("tag:"):
            raise AwsError("InvalidParameterValue", f"The filter '{name}' is invalid")
        if call.action == "DescribeInstanceStatus" and name not in _OF_STATUSES:
            raise not_emulated(call, f"it has no filter '{name}'")


def _values(values: Any) -> Values:
    """Return the values as a list. moto itself sometimes gives a text instead of a list of one."""
    return values if isinstance(values, Values) else Values([values] if isinstance(values, str) else values)


def _filtered(resources: list[Any], filters: Mapping[str, Any], pairs: Iterable[tuple[str, ...]]) -> list[Any]:
    """Return the resources that match all filters.

    `pairs` has the name of each filter, the field of a resource, and the key in that field if there is one. moto ignores other filters.
    """
    fields = {name: (field, *key) for name, field, *key in pairs}
    for name in filters:
        if name not in fields and not name.startswith("tag:"):
            raise NotImplementedError(f"The filter '{name}'")

    def value(resource: Any, field: str, key: str | None = None) -> Any:
        found = getattr(resource, field)
        return found if key is None else found.get(key)

    return [
        each
        for each in resources
        if all(value(each, *fields[name]) in _values(values) for name, values in filters.items() if name in fields)
    ]


def _is_tag_matching(resource: Any, name: str, values: Any) -> bool:
    tags = {each["key"]: each["value"] for each in resource.get_tags()}
    shown: dict[str, Iterable[str]] = {"tag-key": tags, "tag-value": tags.values()}
    if name in shown:
        return shown[name] in _values(values)
    return tags.get(name.removeprefix("tag:")) in _values(values)


def _texts(value: object) -> Iterator[str]:
    """Yield a resource's value as EC2 writes it; each one, if there are several."""
    if isinstance(value, bool):
        yield str(value).lower()
    elif isinstance(value, datetime):
        yield value.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    elif isinstance(value, str | int):
        yield str(value)
    elif isinstance(value, Iterable):
        for each in value:
            yield from _texts(each)
