"""Keep the state of a roll-out in the live settings of the fleet's machines: the gate.

Each machine has one gate for each workload, `rollcall-gate-WORKLOAD`, and all machines of a fleet have the same ones. A roll-out is written
to all machines before the first machine gets its release. So whoever reads the machines knows what to continue, without a store.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from rollcall.in_place import GATE
from rollcall.setting_values import LONGEST_VALUE, SettingsError

_GATE = re.compile(
    r"(?P<state>[a-z]+) to=(?P<to>[0-9a-f]{64}) from=(?P<former>[0-9a-f]{64}|-) rollout=(?P<rollout>[0-9a-f]{8}) number=(?P<number>\d{1,9})"
)


class State(Enum):
    """How far a roll-out is. If two writers give the same number, the state that comes later here counts."""

    DONE = "done"
    ROLLING = "rolling"
    # An operator let a canary go on, or let a refused release be rolled out again.
    PROMOTED = "promoted"
    # A machine did not become healthy. All machines go back. The next `up` tries the release again.
    FAILED = "failed"
    # An operator went back. All machines go back, and `up` does not roll the release out again.
    REFUSED = "refused"


_ORDER = {state: at for at, state in enumerate(State)}


@dataclass(frozen=True, kw_only=True)
class Record:
    """The last roll-out of a fleet.

    `to` are the releases that it rolls out, and `former` those that the fleet had before, as digests by workload. A workload without a
    former release is not in `former`. `rollout` is its id, 8 hex digits. Each change of a record has the next `number`.
    """

    state: State
    to: Mapping[str, str]
    former: Mapping[str, str]
    rollout: str
    number: int

    @property
    def goes_back(self) -> bool:
        return self.state in (State.FAILED, State.REFUSED)

    @property
    def goal(self) -> Mapping[str, str]:
        """The releases that all machines should have in the end."""
        return self.former if self.goes_back and self.former else self.to

    @property
    def base(self) -> Mapping[str, str]:
        """The releases that the fleet has until the roll-out is complete. Empty if it has none."""
        return self.to if self.state is State.DONE else self.former

    def settings(self) -> dict[str, str]:
        """Return the gates of each machine, by their keys. Raises SettingsError if a cloud would not accept them."""
        return {f"{GATE}{name}": self._words(name) for name in sorted(self.to)}

    def as_outputs(self) -> dict[str, Any]:
        """Return it as plain JSON, as the state has it."""
        return {
            "state": self.state.value,
            "to": dict(self.to),
            "former": dict(self.former),
            "rollout": self.rollout,
            "number": self.number,
        }

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, Any] | None) -> Record | None:
        """Return the record that `as_outputs` gave. Numbers come back from the state as floats."""
        if not outputs:
            return None
        return cls(
            state=State(outputs["state"]),
            to=dict(outputs["to"]),
            former=dict(outputs["former"]),
            rollout=outputs["rollout"],
            number=int(outputs["number"]),
        )

    def _words(self, name: str) -> str:
        text = (
            f"{self.state.value} to={self.to[name]} from={self.former.get(name, '-')} rollout={self.rollout} "
            f"number={self.number}"
        )
        if len(text) > LONGEST_VALUE or not _GATE.fullmatch(text):
            raise SettingsError(f"{GATE}{name}: {text!r} is not the words of a roll-out")
        return text


def record_in(live: Mapping[str, str]) -> Record | None:
    """Return the roll-out in the live settings of one machine. Gates that are no gates, or of an earlier roll-out, are left out."""
    found = {
        key[len(GATE) :]: match
        for key, text in live.items()
        if key.startswith(GATE) and (match := _GATE.fullmatch(text))
    }
    known = {name: each for name, each in found.items() if each["state"] in {state.value for state in State}}
    if not known:
        return None
    number = max(int(each["number"]) for each in known.values())
    newest = {name: each for name, each in known.items() if int(each["number"]) == number}
    first = next(iter(newest.values()))
    return Record(
        state=State(first["state"]),
        to={name: each["to"] for name, each in sorted(newest.items())},
        former={name: each["former"] for name, each in sorted(newest.items()) if each["former"] != "-"},
        rollout=first["rollout"],
        number=number,
    )


def newest(lives: Iterable[Mapping[str, str]]) -> Record | None:
    """Return the last roll-out that any of these machines knows. A writer that was killed has written it to some machines only."""
    return last_of(record_in(live) for live in lives)


def last_of(records: Iterable[Record | None]) -> Record | None:
    """Return the last of these roll-outs; None if there is none."""
    found = [record for record in records if record is not None]
    return max(found, key=lambda each: (each.number, _ORDER[each.state], each.rollout), default=None)
