"""The resource types of a stand-in: a table of inputs, and methods that use a client of the cloud.

A type's inputs are checked as the real plugin does: an unknown one is refused by name, a required one that is missing too.
Each input says whether a change is made in place or replaces the resource (the provider's ForceNew).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

Values = Mapping[str, Any]


class UnknownValue:
    """A value that is not known yet, as a preview has them."""

    def __repr__(self) -> str:
        return "<unknown>"


UNKNOWN = UnknownValue()


class PluginError(Exception):
    """A cloud refused a request, or the stand-in does not support it. The message is for the user."""


class GoneError(Exception):
    """The resource no longer exists."""


class PartialError(Exception):
    """The resource exists, but its creation was not finished; the cause says why. The engine keeps it in the state, and
    updates it the next time: `outputs` says None of the inputs that it does not have yet."""

    def __init__(self, identity: str, outputs: Values) -> None:
        super().__init__(identity)
        self.identity, self.outputs = identity, outputs


@contextmanager
def keeping(identity: str, outputs: Values | None = None) -> Iterator[None]:
    """Guard the part of a `create` after the resource exists: if it raises, the engine still keeps the resource."""
    try:
        yield
    except Exception as error:
        raise PartialError(identity, outputs or {}) from error


@dataclass(frozen=True, kw_only=True)
class Input:
    """`replaces`: a change makes a new resource. `default`: what the provider fills in. `computed`: the cloud fills it in
    when it is not given, so its absence is not a difference. `choices`: an enum's values."""

    required: bool = False
    replaces: bool = False
    default: Any = None
    computed: bool = False
    kind: type | tuple[type, ...] = object
    choices: tuple[Any, ...] = ()


def text(**options: Any) -> Input:
    return Input(kind=str, **options)


def flag(**options: Any) -> Input:
    return Input(kind=bool, **options)


def number(**options: Any) -> Input:
    return Input(kind=(int, float), **options)


def several(**options: Any) -> Input:
    return Input(kind=Sequence, **options)


def mapping(**options: Any) -> Input:
    return Input(kind=Mapping, **options)


class Type:
    """One resource type. `api` is the plugin's client. Subclasses say what each verb does.

    `create` returns the id and the outputs, `read` the outputs and the inputs as the cloud has them now (it raises
    GoneError), `update` the outputs.
    """

    token: ClassVar[str]
    inputs: ClassVar[Mapping[str, Input]]
    named: ClassVar[str] = ""
    deletes_first: ClassVar[bool] = False
    # Whether the provider's delete succeeds where there is nothing any more.
    deletes_what_is_gone: ClassVar[bool] = True

    def __init__(self, api: Any) -> None:
        self.api = api

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        raise NotImplementedError

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        raise NotImplementedError

    def identity(self, given: str) -> str:
        """The id that the state gets, of an id that an import was given."""
        return given

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        raise NotImplementedError

    def delete(self, identity: str, state: Values) -> None:
        raise NotImplementedError

    def completed(self, given: Values) -> Values:
        """Return the inputs with the additions of the plugin's settings, as the cloud gets them. The state keeps the given inputs."""
        return given

    def known(self, state: Values) -> Values:
        """Return an old state with the additions that its inputs got then."""
        return state

    def own(self, now: Values, before: Values) -> Values:
        """Inputs as the cloud has them, without what the plugin's settings add and `before` did not give."""
        return now

    def differs_beside(self, state: Values, new: Values) -> Sequence[str]:
        """Outputs that an update will change though no input differs."""
        return ()

    def always(self) -> Values:
        """Outputs that the resource has after every verb, beside those that the verb returns."""
        return {}

    def filled(self, urn: str, old: Values, new: Values) -> dict[str, Any]:
        """Return the inputs with defaults, and with a name like `web-1a2b3c4` if the user gave none."""
        result = {key: value for key, value in new.items() if value is not None}
        for key, spec in self.inputs.items():
            if key not in result and spec.default is not None:
                result[key] = spec.default
        if self.named and self.named not in result:
            old_name = old.get(self.named)
            result[self.named] = old_name or f"{urn.rpartition('::')[2]}-{secrets.token_hex(4)[:7]}"
        return result

    def faults(self, given: Values) -> list[tuple[str, str]]:
        """Return the errors of the inputs: each property with the reason."""
        found = [
            (key, f"{self.token} has no input {key!r}")
            for key in given
            if key not in self.inputs and not key.startswith("__")
        ]
        for key, spec in self.inputs.items():
            value = given.get(key)
            if value is None:
                if spec.required:
                    found.append((key, f"{self.token} needs {key!r}"))
            elif value is not UNKNOWN and not _is(value, spec.kind):
                found.append((key, f"{key!r} of {self.token} is a {type(value).__name__}"))
            elif spec.choices and value is not UNKNOWN and value not in spec.choices:
                found.append(
                    (key, f"{key!r} of {self.token} must be one of {', '.join(map(str, spec.choices))}, not {value!r}")
                )
        return found

    def differences(self, old: Values, new: Values) -> dict[str, str]:
        """Return for each input that differs: add, update or delete, with `_replace` if the change replaces the resource."""
        found = {}
        for key, spec in self.inputs.items():
            before, after = old.get(key), new.get(key)
            # A value that is not known yet counts as a change, because `same` cannot compare it.
            if after is None and spec.computed:
                continue
            if not unknown_in(after) and self.same(key, before, after):
                continue
            kind = "add" if before is None else "delete" if after is None else "update"
            found[key] = f"{kind}_replace" if spec.replaces else kind
        return found

    def same(self, key: str, before: Any, after: Any) -> bool:
        return bool(plain(before) == plain(after))


def unknown_in(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(unknown_in, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(map(unknown_in, value))
    return value is UNKNOWN


def plain(value: Any) -> Any:
    """Values of the wire, comparable: whole floats as integers, empty collections as nothing."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in sorted(value.items()) if item is not None} or None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value] or None
    return value


def type_of_urn(urn: str) -> str:
    """`urn:pulumi:STACK::PROJECT::PARENTS$TYPE::NAME` -> TYPE"""
    return re.split(r"\$", urn.split("::")[2])[-1]


def _is(value: Any, kind: Any) -> bool:
    if kind is object:
        return True
    if isinstance(value, bool):
        return kind is bool
    if kind is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str)
    return isinstance(value, kind)
