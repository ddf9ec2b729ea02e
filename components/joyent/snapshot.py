"""Create a Snapshot: a state of a machine from which it can be started again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

import pulumi
from pulumi.dynamic import Resource

from components.joyent import engine
from components.joyent.account_resources import Body, Fault, ThingField, ThingProvider
from components.joyent.errors import CloudApiError, FatalError, NotFoundError, WaitTimeoutError
from components.joyent.machine_fields import snapshot_tag
from components.joyent.pacing import wait_until
from components.joyent.session import Session


@dataclass(frozen=True, kw_only=True)
class SnapshotArgs:
    """The inputs of a Snapshot.

    `machine`: its id. `snapshot_name` is unique on the machine. `timeout` in seconds, for taking it and for removing
    it. `adopt`: an existing snapshot with this name becomes this resource; otherwise it is an error.
    """

    machine: pulumi.Input[str]
    snapshot_name: pulumi.Input[str]
    adopt: pulumi.Input[bool] = False
    timeout: pulumi.Input[float] = 600
    datacenter: pulumi.Input[str] | None = None


class Snapshot(Resource, module="joyent", name="Snapshot"):  # type: ignore[misc, call-arg]
    """A snapshot. `state` is created once it can be used.

    A snapshot that failed is replaced by the next `up`. Every change replaces it.
    """

    state: pulumi.Output[str]

    def __init__(self, name: str, args: SnapshotArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        mark = f"{pulumi.get_project()}/{pulumi.get_stack()}/{name}"
        props = {**vars(args), "mark": mark, "wanted": "created", "state": None}
        super().__init__(SnapshotProvider(), name, props, opts)


class _Snapshots:
    fields = (
        ThingField("machine", "replace", needed=True),
        ThingField("snapshot_name", "replace", needed=True),
        ThingField("wanted", "replace"),
        ThingField("adopt", "none", hidden=True),
        ThingField("mark", "none", hidden=True),
        ThingField("timeout", hidden=True),
    )

    def faults(self, inputs: Body) -> Iterable[Fault]:
        if "/" in str(inputs["snapshot_name"]) or not inputs["snapshot_name"]:
            yield "snapshot_name", f"{inputs['snapshot_name']!r} must be a text without '/'. Correct it"

    def find(self, session: Session, inputs: Body) -> tuple[str, Body] | None:
        try:
            body = self.fetch(session, "", inputs)
        except NotFoundError:
            return None
        if body["state"] == "failed":
            return None
        if not (inputs.get("adopt") or self._marked(session, inputs)):
            raise FatalError(
                f"machine {inputs['machine']}: has a snapshot {inputs['snapshot_name']!r} already. "
                f"Set adopt=True to take it over, or choose another snapshot_name."
            )
        return _id(inputs), body

    def make(self, session: Session, inputs: Body) -> tuple[str, Body]:
        """Take the snapshot and wait for it. Raise nothing once it is requested: its state says whether it failed.

        A snapshot has no place for a mark, so a tag of its machine has it, from before the request.
        """
        if inputs.get("mark"):
            with contextlib.suppress(NotFoundError):
                session.api.merge_tags(inputs["machine"], {snapshot_tag(inputs["snapshot_name"]): inputs["mark"]})
        body = session.api.post(f"/machines/{inputs['machine']}/snapshots", {"name": inputs["snapshot_name"]})
        try:
            body = wait_until(
                f"snapshot {_id(inputs)}",
                lambda: found if (found := self.fetch(session, "", inputs))["state"] in ("created", "failed") else None,
                timeout=float(inputs["timeout"]),
                sleep=session.sleep,
            )
        except CloudApiError as fault:
            engine.say(f"snapshot {_id(inputs)} is asked for but not awaited: {fault}")
        return _id(inputs), body

    def _marked(self, session: Session, inputs: Body) -> bool:
        """Return whether an interrupted attempt of this same resource has requested it."""
        if not inputs.get("mark"):
            return False
        tags = session.api.get_tags(inputs["machine"])
        return bool(tags.get(snapshot_tag(inputs["snapshot_name"])) == inputs["mark"])

    def fetch(self, session: Session, id_: str, props: Body) -> Body:
        body: Body = session.api.get(_path(props))
        if body["state"] == "deleted":
            # CloudAPI continues to show a snapshot that was removed.
            raise NotFoundError(
                f"snapshot {props['snapshot_name']}: is deleted. Run `pulumi up --refresh` to take it again."
            )
        return body

    def live(self, inputs: Body, body: Body) -> Body:
        # A snapshot that is still being taken counts as wanted. A failed one differs from it, so it is replaced.
        return {"snapshot_name": body["name"], "wanted": "failed" if body["state"] == "failed" else "created"}

    def outputs(self, body: Body) -> Body:
        return {"state": body["state"]}

    def change(self, session: Session, id_: str, inputs: Body, changed: Iterable[str]) -> Body:
        return self.fetch(session, id_, inputs)

    def remove(self, session: Session, id_: str, props: Body) -> None:
        session.api.delete(_path(props))
        with contextlib.suppress(NotFoundError):
            session.api.delete_tag(props["machine"], snapshot_tag(props["snapshot_name"]))

        def gone() -> bool | None:
            try:
                self.fetch(session, id_, props)
            except NotFoundError:
                return True
            return None

        try:
            wait_until(f"snapshot {id_} removed", gone, timeout=float(props["timeout"]), sleep=session.sleep)
        except WaitTimeoutError as slow:
            raise WaitTimeoutError(str(slow)) from slow


class SnapshotProvider(ThingProvider):
    kind = _Snapshots()


def _id(inputs: Body) -> str:
    return f"{inputs['machine']}/{inputs['snapshot_name']}"


def _path(inputs: Body) -> str:
    return f"/machines/{inputs['machine']}/snapshots/{quote(inputs['snapshot_name'], safe='')}"
