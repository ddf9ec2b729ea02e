"""Create a Machine: one Triton machine.

Its id is in the state as soon as CloudAPI has accepted it; `Ready` waits for it to run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from components.joyent import engine
from components.joyent.client import CloudApi
from components.joyent.errors import AmbiguousError, CloudApiError, FatalError, NotFoundError, WaitTimeoutError
from components.joyent.machine_changes import Change, power, unprotect
from components.joyent.machine_checks import faults
from components.joyent.machine_creation import Birth
from components.joyent.machine_fields import (
    FIELDS,
    differing,
    foreign,
    inputs_of,
    live_inputs,
    needs_new_machine,
)
from components.joyent.provider import DATACENTER, JoyentProvider, unknown
from components.joyent.records import MachineRecord
from components.joyent.session import Session, seal

_REPLACING = tuple(field.name for field in FIELDS if field.change == "replace")
_COMPUTED = ("image_id", "machine_brand", "foreign_tags", "foreign_metadata")
# The greatest age, in seconds, of the list of machines that all refreshes share.
_REFRESH_AGE = 10.0


@dataclass(frozen=True, kw_only=True)
class MachineArgs:
    """What a machine should be. Tags, metadata and everything else that is not declared here stay as they are. Time-outs are in seconds.

    - `machine_name`: unique in the account. With a part that is new for each replacement (a generation), a successor
      can be created before its predecessor is deleted.
    - `package`: name or id.
    - `image`: id, `name@version`, first 8 characters of an id, or a name (then the newest at creation; a newer one
      later replaces nothing).
    - `networks`: names or ids, in the NICs' order; left out, CloudAPI chooses.
    - `tags` keep their types.
    - `deletion_protection`: CloudAPI refuses to delete the machine. This provider refuses too, unless `delete_protected`
      is true: then it turns the protection off when the machine is deleted or replaced.
    - `secret_metadata` and `userdata` (a script that runs at every boot) are in the state as SHA-256 only.
    - `fixed_ips`: addresses on private networks, `{network: address}`.
    - `affinity` (rules like `role!=db`) or the older `locality` (`{near: [ids], far: [ids], strict: bool}`) is for the
      placement at creation.
    - `disks` (bhyve with a flexible package): sizes in MiB or "remaining", the boot disk's first.
    - `volumes`: `{name: …, mountpoint: …, mode: ro|rw}`.
    - `administrator_password` is for Windows images.
    - `datacenter`: the name or URL of the machine's data centre, if it is not the configured one.
    - `adopt`: the id or name of an existing machine that becomes this resource.
    """

    machine_name: pulumi.Input[str]
    package: pulumi.Input[str]
    image: pulumi.Input[str]
    networks: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    tags: pulumi.Input[Mapping[str, pulumi.Input[str | bool | int | float]]] | None = None
    metadata: pulumi.Input[Mapping[str, pulumi.Input[str]]] | None = None
    secret_metadata: pulumi.Input[Mapping[str, pulumi.Input[str]]] | None = None
    userdata: pulumi.Input[str] | None = None
    firewall_enabled: pulumi.Input[bool] | None = None
    deletion_protection: pulumi.Input[bool] | None = None
    delete_protected: pulumi.Input[bool] | None = None
    power: pulumi.Input[Literal["running", "stopped"]] | None = "running"
    affinity: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    brand: pulumi.Input[str] | None = None
    delegate_dataset: pulumi.Input[bool] | None = None
    allow_shared_images: pulumi.Input[bool] | None = None
    fixed_ips: pulumi.Input[Mapping[str, pulumi.Input[str]]] | None = None
    locality: pulumi.Input[Mapping[str, Any]] | None = None
    disks: pulumi.Input[Sequence[pulumi.Input[int | str]]] | None = None
    volumes: pulumi.Input[Sequence[Mapping[str, Any]]] | None = None
    encrypted: pulumi.Input[bool] | None = None
    administrator_password: pulumi.Input[str] | None = None
    datacenter: pulumi.Input[str] | None = None
    adopt: pulumi.Input[str] | None = None
    update_timeout: pulumi.Input[float] = 300
    delete_timeout: pulumi.Input[float] = 120


class Machine(Resource, module="joyent", name="Machine"):  # type: ignore[misc, call-arg]
    """A machine; `id` is its UUID. Addresses are outputs of `Ready`, which also waits until it runs.

    Replacing it with the same `machine_name` deletes it first, because CloudAPI's names are unique.
    """

    image_id: pulumi.Output[str]

    def __init__(self, name: str, args: MachineArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        props: dict[str, Any] = {field.name: getattr(args, field.name) for field in fields(args)}
        if args.secret_metadata is not None:
            props["secret_metadata"] = pulumi.Output.secret(args.secret_metadata)
        if args.administrator_password is not None:
            props["administrator_password"] = pulumi.Output.secret(args.administrator_password)
        # The mark makes a machine ours even if the program was killed before its id came into the state.
        props["mark"] = f"{pulumi.get_project()}/{pulumi.get_stack()}/{name}"
        super().__init__(MachineProvider(), name, {**props, "image_id": None}, opts)


class MachineProvider(JoyentProvider):
    """The provider over CloudAPI; see `machine_fields` for what changes in place and what replaces."""

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Check the inputs, and replace the userdata and the secrets by fingerprints, so that no text of theirs gets into a checkpoint.

        A data centre may no longer offer what a machine was created from. That is not a fault of an existing machine
        (for a replacement the engine asks without `_olds`).
        """
        inputs = inputs_of(news)
        misplaced = self.location_faults(inputs)
        # The catalogue of a data centre that is not known yet cannot be asked.
        found = (
            [] if misplaced or unknown(inputs.get(DATACENTER)) else faults(inputs, self.session_for(inputs).catalogue)
        )
        found = [each for each in found if each[0] not in _unchanged(inputs_of(_olds), inputs)]
        for name in ("userdata", "administrator_password"):
            if inputs.get(name) and not unknown(inputs[name]):
                inputs[name] = seal(inputs[name])
        if isinstance(inputs.get("secret_metadata"), Mapping):
            inputs["secret_metadata"] = {
                key: text if unknown(text) else seal(text) for key, text in inputs["secret_metadata"].items()
            }
        return CheckResult(
            inputs, [*misplaced, *(CheckFailure(name, f"{reason.removesuffix('.')}.") for name, reason in found)]
        )

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        old, new = inputs_of(_olds), inputs_of(_news)
        changed = differing(old, new)
        moved = DATACENTER in changed
        if "networks" in changed and not moved and self._same_networks(old, new):
            changed.remove("networks")
        # Another data centre has another catalogue: nothing of the old one can be compared with it.
        replaces = (
            [DATACENTER]
            if moved
            else [name for name in changed if name in _REPLACING and self._needs_replacement(name, _olds, new)]
        )
        if "package" in changed and not moved and not unknown(new.get("package")):
            package = self.session_for(old).catalogue.package(new["package"])
            replaces += ["package"] if needs_new_machine(str(_olds.get("machine_brand", "")), package) else []
        if old.get("power") == "failed":
            replaces.append("power")
        if replaces:
            engine.say(f"machine {old.get('machine_name')} ({_id}) must be replaced: {_reasons(replaces, _olds, new)}")
        notes = [
            f"{field.name} {field.note}" for field in FIELDS if field.name in changed and field.note and not replaces
        ]
        if notes:
            engine.say(f"machine {old.get('machine_name')} ({_id}): {'; '.join(notes)}")
        return DiffResult(
            changes=bool(changed),
            replaces=replaces,
            delete_before_replace=bool(replaces) and not moved and old.get("machine_name") == new.get("machine_name"),
        )

    def _needs_replacement(self, name: str, olds: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
        """Return whether a changed input is more than another word for the same thing, or one that is no longer declared."""
        if new.get(name) is None:
            return False
        if name == "image" and not unknown(new["image"]):
            return self.session_for(olds).catalogue.image(new["image"]).id != olds.get("image_id")
        return name != "brand" or new["brand"] != olds.get("machine_brand")

    def _same_networks(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
        """Return whether the networks are the same under other words: an id, or a name that the operator has changed."""
        if unknown(new.get("networks")) or not old.get("networks") or not new.get("networks"):
            return False
        catalogue = self.session_for(old).catalogue
        try:
            ids = [[catalogue.network(each).id for each in inputs["networks"]] for inputs in (old, new)]
        except (AmbiguousError, NotFoundError):
            return False
        return ids[0] == ids[1]

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Return when CloudAPI has accepted the machine.

        Raise nothing after that, because the id would not be stored.
        """
        inputs = inputs_of(props)
        session = self.session_for(inputs)
        machine = Birth(session, inputs).machine()
        if inputs.get("power") == "stopped" and machine.id not in session.adopted:
            _stop_new(session, machine, float(inputs["update_timeout"]))
        # With everything that a refresh shows: otherwise the first preview after it would always show a difference.
        found = {**foreign(inputs, machine), "image_id": machine.image, "machine_brand": machine.brand}
        return CreateResult(machine.id, {**inputs, **found})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        session = self.session_for(props)
        machine = session.machines.find(id_, _REFRESH_AGE)
        if machine is None:
            return ReadResult("", {})
        live = live_inputs(props, machine, str(props.get("image_id", "")), session.catalogue)
        outs = {**live, **foreign(live, machine), "image_id": machine.image, "machine_brand": machine.brand}
        if machine.state == "failed":
            outs["failure"] = failure(session.api, id_)
            engine.say(f"machine {machine.name} ({id_}) has failed: {outs['failure']}")
        return ReadResult(id_, outs, live)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        new = inputs_of(_news)
        Change(self.session_for(new), _id, inputs_of(_olds), new, float(new["update_timeout"])).carry_out()
        computed: dict[str, Any] = {name: _olds[name] for name in _COMPUTED if name in _olds}
        return UpdateResult({**computed, **new})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Stop the machine in order (DELETE alone is a power cut), then return when its deletion is accepted."""
        session = self.session_for(_props)
        if _id in session.adopted:
            # An unforced replacement under the same name found this same machine again: it is the successor now.
            return
        # Deletions of other machines at the same time change nothing about this one, so a list from before them is good enough.
        machine = session.machines.find(_id, _REFRESH_AGE, own_writes=False)
        if machine is None:
            return
        if machine.deletion_protection and not _props.get("delete_protected"):
            raise FatalError(
                f"machine {machine.name} ({_id}): is protected. Set deletion_protection to False, `pulumi up`, then delete it."
            )
        if machine.state in ("running", "stopping"):
            try:
                power(session, _id, "stopped", float(_props.get("delete_timeout") or 120))
            except WaitTimeoutError as slow:
                engine.say(f"{slow}; its power is cut")
        if machine.deletion_protection:
            unprotect(session.api, _id, float(_props.get("update_timeout") or 300), session.sleep)
        with contextlib.suppress(NotFoundError):
            session.api.delete_machine(_id)
        session.deleted.add(_id)
        session.machines.changed()


def _stop_new(session: Session, machine: MachineRecord, timeout: float) -> None:
    """Stop a new machine, since CloudAPI starts every one.

    If that fails, the next refresh shows it and the next `up` does it.
    """
    try:
        power(session, machine.id, "running", timeout)
        power(session, machine.id, "stopped", timeout)
    except CloudApiError as fault:
        engine.say(f"machine {machine.name} ({machine.id}) is made but not stopped: {fault}")


def _unchanged(olds: Mapping[str, Any], news: Mapping[str, Any]) -> set[str]:
    """Return the inputs that name what CloudAPI offers and that a machine was created with.

    A package is chosen for its image.
    """
    same = {name for name in ("image", "package", "networks") if olds.get(name) and olds.get(name) == news.get(name)}
    return same if "image" in same else same - {"package"}


def failure(api: CloudApi, machine: str) -> str:
    """Return why a machine has failed, as far as its audit trail says."""
    try:
        failed = [job for job in api.audit(machine) if job.get("success") == "no"]
    except CloudApiError as fault:
        return f"the audit trail cannot be read: {fault}"
    if not failed:
        return "the audit trail gives no reason"
    return f"{failed[0].get('action', 'a job')} failed at {failed[0].get('time', 'an unknown time')}: {_failure_of(failed[0])}"


def _failure_of(job: Mapping[str, Any]) -> str:
    return str(job.get("error") or job.get("message") or "no reason given")


def _reasons(replaces: Sequence[str], olds: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    def shown(value: Any) -> str:
        return "something not known yet" if unknown(value) else repr(value)

    if olds.get("power") == "failed":
        return f"it has failed ({olds.get('failure', 'no reason given')})"
    return ", ".join(f"{name} changes from {shown(olds.get(name))} to {shown(new.get(name))}" for name in replaces)
