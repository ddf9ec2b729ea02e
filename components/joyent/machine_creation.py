"""Get a machine for a resource: adopt it by name or id, find it from an interrupted attempt, or create it, once.

CloudAPI has no idempotency key and takes no id from its clients. The unique name is the only guard against a second
machine. The mark in a tag shows whether a machine is from our attempt or belongs to others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from components.joyent import engine
from components.joyent.catalogue import is_uuid
from components.joyent.errors import AmbiguousError, FatalError, LostReplyError, NotFoundError, RefusedError
from components.joyent.machine_changes import Change
from components.joyent.machine_fields import MARK_TAG, Inputs, create_fields, live_inputs, owned_tags, same
from components.joyent.pacing import wait_until
from components.joyent.records import MachineRecord
from components.joyent.session import Session

# After a lost reply: how often to search for the machine before asking again, and the seconds between.
_SEARCHES = 3
_SEARCH_PAUSE_S = 2.0
_ATTEMPTS = 3
# The inputs that CloudAPI shows and that cannot be changed on an existing machine.
_FIXED = ("image", "brand", "encrypted")


class Birth:
    """One creation. `machine` raises a CloudApiError only while no machine has been created for it."""

    def __init__(self, session: Session, inputs: Inputs) -> None:
        self._session, self._api, self._inputs = session, session.api, inputs
        self._name, self._mark = str(inputs["machine_name"]), inputs.get("mark")

    def machine(self) -> MachineRecord:
        """Return the one machine of these inputs. A machine that was found is brought in line and noted as adopted."""
        earlier = self._ours(self._session.machines.at_first().values())
        if earlier is not None and self._session.machines.find(earlier.id, 1.0) is not None:
            return self._taken(earlier)
        if self._inputs.get("adopt"):
            named = self._to_adopt(str(self._inputs["adopt"]))
            if named is not None:
                machine = self._taken(named)
                script = "; its user-script runs at its next boot" if self._inputs.get("userdata") else ""
                engine.say(f"machine {machine.name} ({machine.id}) is adopted as {self._name}{script}")
                return machine
        return self._made()

    def _to_adopt(self, text: str) -> MachineRecord | None:
        """Return the machine to adopt, which is named, once. When a machine has our mark, a new one takes its place.

        But if it has all our tags, too, its adoption was cut short before it got its new name.
        """
        had = [
            each
            for each in self._session.machines.at_first().values()
            if self._mark and same(each.tags.get(MARK_TAG), self._mark)
        ]
        tags = owned_tags(self._inputs)
        # Tags alone may be copied: it must be the machine that is named, under its old name or the new one.
        named = (each for each in had if text in (each.id, each.name) or each.name == self._name)
        begun = (each for each in named if all(key in each.tags and same(each.tags[key], tags[key]) for key in tags))
        return (
            next((each for each in begun if each.id not in self._session.deleted), None) if had else self._named(text)
        )

    def _made(self) -> MachineRecord:
        fields = create_fields(self._inputs, self._session.catalogue)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._api.create_machine(fields)
            except LostReplyError:
                # The request may have been carried out. Search several times: the machine may take a moment to be listed.
                found = self._interrupted_attempt()
                if found is not None:
                    return found
                if attempt == _ATTEMPTS:
                    raise
            except RefusedError as refused:
                holder = next((each for each in self._api.list_machines(name=self._name)), None)
                if holder is None:
                    raise
                if self._ours([holder]) is not None:
                    return self._taken(holder)
                if holder.id in self._session.deleted and attempt < _ATTEMPTS:
                    continue  # It was this machine's predecessor, and is gone by now.
                raise FatalError(
                    f"machine_name {self._name}: is taken by machine {holder.id}, {_holder(holder)}. {_fix(holder)}."
                ) from refused
            finally:
                self._session.machines.changed()
        raise AssertionError("the last attempt returns or raises")

    def _interrupted_attempt(self) -> MachineRecord | None:
        for attempt in range(_SEARCHES):
            if attempt:
                self._session.sleep(_SEARCH_PAUSE_S)
            found = self._ours(self._api.list_machines(name=self._name))
            if found is not None:
                return found
        return None

    def _ours(self, machines: Iterable[MachineRecord]) -> MachineRecord | None:
        """Return the machine with our name and our mark. Wait until a predecessor that this run has deleted is gone."""
        for machine in machines:
            if machine.name == self._name and self._mark and same(machine.tags.get(MARK_TAG), self._mark):
                if machine.id not in self._session.deleted:
                    return machine
                self._await_end(machine.id)
        return None

    def _await_end(self, machine: str) -> None:
        timeout = float(self._inputs.get("delete_timeout") or 120)
        wait_until(
            f"machine {machine} deleted, since its name {self._name} is needed again",
            lambda: True if self._session.machines.find(machine, 1.0) is None else None,
            timeout=timeout,
            sleep=self._session.sleep,
        )

    def _named(self, text: str) -> MachineRecord:
        if is_uuid(text):
            return self._api.get_machine(text)
        found = self._api.list_machines(name=text)
        if len(found) > 1:
            raise AmbiguousError(
                f"adopt: {text!r} names {len(found)} machines: {', '.join(each.id for each in found)}. Give one id."
            )
        if not found:
            raise NotFoundError(
                f"adopt: there is no such machine as {text!r}. Give the name or id of one, or leave adopt out."
            )
        return found[0]

    def _taken(self, machine: MachineRecord) -> MachineRecord:
        if machine.id not in self._session.adopted:
            image = self._session.catalogue.image(str(self._inputs["image"])).id
            live = live_inputs(self._inputs, machine, image, self._session.catalogue)
            wrong = [name for name in _FIXED if name in live and live[name] != self._inputs[name]]
            if wrong:
                differences = ", ".join(f"{name} is {live[name]}, not {self._inputs[name]}" for name in wrong)
                raise FatalError(
                    f"machine {machine.name} ({machine.id}): cannot be adopted: {differences}. Describe it as it is, or delete it."
                )
            self._session.adopted.add(machine.id)
            Change(self._session, machine.id, live, self._inputs, float(self._inputs["update_timeout"])).carry_out()
        return machine


def _holder(holder: MachineRecord) -> str:
    tags: Mapping[str, object] = holder.tags
    return f"which belongs to {tags[MARK_TAG]}" if MARK_TAG in tags else "which no program has made"


def _fix(holder: MachineRecord) -> str:
    return f"Choose another machine_name, or set adopt={holder.id!r} to take it over"
