"""Read plain values into models, and name every error of a run.

`read(stack, values)` returns `Settings`, or raises ConfigurationError with every error: its key, what is wrong, and the fix. pydantic is
imported, and the validator built, when the first configuration is read.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from components.config.errors import ConfigurationError, Faults, at
from components.config.messages import KEY, Node, node_at, problem_and_fix

if TYPE_CHECKING:
    from components.config.models import Settings

T = TypeVar("T")
# The deepest key has eight names in its path. A deeper value is always an error.
_DEEPEST = 20
_MOST_REPAIRS = 20
_TYPED = {"integer": "-?(?:0|[1-9][0-9]{0,17})", "boolean": "true|false"}
# The names that pydantic gives to fields and that are not keys.
NOT_A_KEY = "\0"
# Values that no message shows, encrypted or not: the secrets of a workload, and the access keys of a mirror.
SECRETS = {"secrets", "accessKey", "secretKey", "password"}


class Model(Generic[T]):
    """A model for the keys of a namespace of the configuration, `rollcall` or `aws`. It is built at first use."""

    def __init__(self, namespace: str, kind: type[T], others: Mapping[str, Node] | None = None) -> None:
        """`others` are keys of the namespace that the model does not have."""
        self._namespace, self._kind, self._others = namespace, kind, dict(others or {})

    @cached_property
    def schema(self) -> Node:
        """The JSON Schema of the namespace's keys, without those that the program fills in."""
        found: dict[str, Any] = self._adapter.json_schema()
        for each in (found, *found.get("$defs", {}).values()):
            each.get("properties", {}).pop(NOT_A_KEY, None)
        found["properties"] |= self._others
        return found

    def read(self, values: Mapping[str, Any], faults: Faults, hidden: Collection[str] = ()) -> T:
        """Return the model of these values, and add each error. Defaults and examples replace what is wrong.

        `hidden` are the keys, without the namespace, with values that no message may show.
        """
        given = plain(values)
        errors = self._errors(given)
        if isinstance(errors, list) and (typed := self._typed_secrets(given, errors, hidden)):
            given, errors = typed, self._errors(typed)
        for error in errors if isinstance(errors, list) else ():
            path = [each for each in error["loc"] if each != KEY]
            secret = bool(path) and (path[0] in hidden or not SECRETS.isdisjoint(path))
            faults.add(self.where(*path), *problem_and_fix(error, self.schema, hidden=secret))
        for _ in range(_MOST_REPAIRS):
            if not isinstance(errors, list):
                return errors
            given = self._repaired(given, errors)
            errors = self._errors(given)
        raise AssertionError(f"{self._namespace}: the examples of the model do not fit it")

    def where(self, *path: str | int) -> str:
        """Return a key as messages name it: `rollcall:sites.www.zone`."""
        first, *rest = path or ("",)
        return at(f"{self._namespace}:{first}", *rest)

    @cached_property
    def _adapter(self) -> Any:
        from pydantic import TypeAdapter

        return TypeAdapter(self._kind)

    def _errors(self, given: dict[str, Any]) -> T | list[Any]:
        """Return the model of these values, or the errors that prevent it.

        No exception of pydantic leaves this function: its message, which a traceback shows, quotes values.
        """
        from pydantic import ValidationError

        try:
            found: T = self._adapter.validate_python(given)
        except ValidationError as wrong:
            return list(wrong.errors(include_url=False))
        return found

    def _typed_secrets(
        self, given: dict[str, Any], errors: Sequence[Any], hidden: Collection[str]
    ) -> dict[str, Any] | None:
        """Return the values with numbers and booleans where a secret has them as text. None: there is nothing to change.

        `pulumi config set --secret --path` writes them as text.
        """
        typed, found = copy.deepcopy(given), False
        for error in (each for each in errors if each["loc"] and each["loc"][0] in hidden):
            form = _TYPED.get(node_at(self.schema, error["loc"]).get("type", ""))
            above = _mapping_at(typed, _to_mapping(error["loc"])[:-1])
            if form and above is not None and re.fullmatch(form, str(error["input"])):
                above[error["loc"][-1]], found = json.loads(str(error["input"])), True
        return typed if found else None

    def _repaired(self, given: dict[str, Any], errors: Sequence[Any]) -> dict[str, Any]:
        """Return the values without the wrong ones. A required value becomes its example."""
        repaired = copy.deepcopy(given)
        for error in errors:
            path = _to_mapping(error["loc"])
            above = _mapping_at(repaired, path[:-1])
            if above is None or not path:
                continue
            above.pop(path[-1], None)
            if path[-1] in node_at(self.schema, path[:-1]).get("required", ()):
                above[path[-1]] = copy.deepcopy(node_at(self.schema, path)["examples"][0])
        return repaired


def _mapping_at(values: dict[str, Any], path: Sequence[str]) -> dict[str, Any] | None:
    """Return the mapping at `path`, an empty one instead of null. None: it was removed because of an error above it."""
    found: Any = values
    for name in path:
        if found.get(name) is None and name in found:
            found[name] = {}
        found = found.get(name)
        if not isinstance(found, dict):
            return None
    return found  # type: ignore[no-any-return]


def _to_mapping(path: Sequence[str | int]) -> list[str]:
    """Return the path of the value that can be left out: a list's item cannot."""
    names: list[str] = []
    for each in path:
        if isinstance(each, int) or each == KEY:
            break
        names.append(each)
    return names


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON has it: the keys of mappings are texts, none of them NOT_A_KEY, and each text can be encoded."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if depth > _DEEPEST:
        return value
    if isinstance(value, Mapping):
        return {plain(str(key)).replace(NOT_A_KEY, r"\0"): plain(item, depth + 1) for key, item in value.items()}
    return [plain(item, depth + 1) for item in value] if isinstance(value, list | tuple) else value


def decoded(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of the keys `rollcall:…`, given without `rollcall:`.

    The engine gives each value as text. A value that is not text is given as JSON. A text that is not JSON stays as it
    is, and is an error of its key.
    """
    from components.config.models import TEXTS

    return {key: text if key in TEXTS else as_value(text) for key, text in texts.items()}


def as_value(text: str) -> Any:
    """Return the value of a key that the engine gives as this text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


@cache
def rollcall_keys() -> Model[Settings]:
    """Return the model of the keys `rollcall:…`."""
    from components.config.models import SECRET_KEYS, Settings

    return Model("rollcall", Settings, SECRET_KEYS)


def read(stack: str, values: Mapping[str, Any], hidden: Collection[str] = ()) -> Settings:
    """Return the settings in `values` (`site`, `directory`, `fleets`, … as YAML has them).

    Raises ConfigurationError with every error.
    """
    settings, faults = read_whole(stack, values, hidden)
    if faults:
        raise ConfigurationError(faults)
    return settings


def read_whole(stack: str, values: Mapping[str, Any], hidden: Collection[str] = ()) -> tuple[Settings, list[str]]:
    """Return the settings in `values`, with defaults instead of what is wrong, and every error."""
    from components.config.checks import check
    from components.config.models import SECRET_KEYS

    faults = Faults()
    # Pulumi.yaml declares it as an empty mapping.
    given = {
        key: value
        for key, value in values.items()
        if key not in SECRET_KEYS and not (key == "serviceDiscovery" and value == {})
    }
    settings = replace(rollcall_keys().read(given, faults, hidden), stack=stack).with_secured()
    return check(settings, faults, hidden), faults.found
