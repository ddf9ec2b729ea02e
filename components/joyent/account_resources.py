"""Define the account resources that are simpler than a machine: one provider for all, and a `Kind` for what differs.

A create first searches for what an interrupted attempt has left, as far as CloudAPI lets us recognise ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, ReadResult, UpdateResult

from components.joyent.errors import LostReplyError, NotFoundError
from components.joyent.machine_fields import plain, same
from components.joyent.provider import DATACENTER, JoyentProvider, unknown
from components.joyent.session import Session

Body = Mapping[str, Any]
Fault = tuple[str, str]


@dataclass(frozen=True)
class ThingField:
    """An input: what a change of it does, and whether it is required.

    `beside`: a replacement creates the successor first. `hidden`: CloudAPI does not show it.
    """

    name: str
    change: Literal["in place", "replace", "beside", "none"] = "in place"
    needed: bool = False
    hidden: bool = False


class Kind(Protocol):
    """One kind of resource. `fetch`, `change` and `remove` raise NotFoundError when it is gone."""

    @property
    def fields(self) -> tuple[ThingField, ...]: ...

    def faults(self, inputs: Body) -> Iterable[Fault]:
        """Return (input, what is wrong and how to fix it). Values may be unknown."""

    def find(self, session: Session, inputs: Body) -> tuple[str, Body] | None:
        """Return what an earlier, interrupted attempt at exactly this has left: its id and body.

        Raises where only a person can fix it.
        """

    def make(self, session: Session, inputs: Body) -> tuple[str, Body]: ...

    def fetch(self, session: Session, id_: str, props: Body) -> Body: ...

    def live(self, inputs: Body, body: Body) -> Body:
        """Return the inputs that CloudAPI shows, in the words of `inputs` where they mean the same."""

    def outputs(self, body: Body) -> Body: ...

    def change(self, session: Session, id_: str, inputs: Body, changed: Iterable[str]) -> Body: ...

    def remove(self, session: Session, id_: str, props: Body) -> None: ...


class ThingProvider(JoyentProvider):
    """The provider of all kinds.

    `kind` is a class attribute, so that the state contains only a reference to the class.
    """

    kind: Kind

    @property
    def fields(self) -> tuple[ThingField, ...]:
        """Return the inputs of the kind, and its location."""
        return (*self.kind.fields, ThingField(DATACENTER, "beside", hidden=True))

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        inputs = self._inputs(news)
        lacking = [(field.name, "is missing") for field in self.fields if field.needed and field.name not in inputs]
        found = lacking or [each for each in self.kind.faults(inputs) if not unknown(inputs.get(each[0]))]
        return CheckResult(
            inputs,
            [
                *self.location_faults(inputs),
                *(CheckFailure(name, f"{reason.removesuffix('.')}.") for name, reason in found),
            ],
        )

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = self._changed(_olds, _news)
        how = {field.name: field.change for field in self.fields if field.name in changed}
        replaces = [name for name, change in how.items() if change in ("replace", "beside")]
        # Names and numbers of these resources are unique, so a successor cannot exist beside its predecessor. It can in
        # another data centre, or where the kind has no unique names.
        beside = "beside" in how.values()
        return DiffResult(changes=bool(changed), replaces=replaces, delete_before_replace=bool(replaces) and not beside)

    def create(self, props: dict[str, Any]) -> CreateResult:
        inputs = self._inputs(props)
        session = self.session_for(inputs)
        found = self.kind.find(session, inputs)
        if found is None:
            try:
                found = self.kind.make(session, inputs)
            except LostReplyError:
                # It did not exist a moment ago, so what exists now is what we asked for.
                found = self.kind.find(session, {**inputs, "adopt": True})
                if found is None:
                    raise
        return CreateResult(found[0], {**inputs, **self.kind.outputs(found[1])})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        try:
            body = self.kind.fetch(self.session_for(props), id_, props)
        except NotFoundError:
            return ReadResult("", {})
        inputs = self._inputs(props)
        shown = self.kind.live(inputs, body)
        hidden = {field.name for field in self.fields if field.hidden}
        live = {name: value if name in hidden else shown.get(name, value) for name, value in inputs.items()}
        return ReadResult(id_, {**live, **self.kind.outputs(body)}, live)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        inputs = self._inputs(_news)
        body = self.kind.change(self.session_for(inputs), _id, inputs, self._changed(_olds, _news))
        return UpdateResult({**inputs, **self.kind.outputs(body)})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        with contextlib.suppress(NotFoundError):
            self.kind.remove(self.session_for(_props), _id, _props)

    def _inputs(self, props: Body) -> dict[str, Any]:
        return {field.name: plain(props[field.name]) for field in self.fields if props.get(field.name) is not None}

    def _changed(self, olds: Body, news: Body) -> list[str]:
        old, new = self._inputs(olds), self._inputs(news)
        return [field.name for field in self.fields if not same(old.get(field.name), new.get(field.name))]


def chosen(inputs: Body, names: Iterable[str]) -> dict[str, Any]:
    """Return some of the inputs, as far as they are declared."""
    return {name: inputs[name] for name in names if name in inputs}
