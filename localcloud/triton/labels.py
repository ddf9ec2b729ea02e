"""Tags and metadata of machines (lib/tags.js, lib/metadata.js).

A reply to a change is what should come out of it, not what is stored: the change is a job.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from localcloud.triton import machinejobs
from localcloud.triton.call import Call, Reply
from localcloud.triton.errors import invalid_argument, not_found
from localcloud.triton.model import Machine, passwords
from localcloud.triton.tagrules import check_deletable, check_metadata, check_tags

# Parameters of the API itself, which are therefore never keys.
_NO_TAGS = ("account", "machine", "uuid", "owner_uuid", "context", "image")
_NO_METADATA = ("account", "machine", "uuid", "owner_uuid", "credentials", "image")
_UNDELETABLE = ("credentials", "administrator_pw", "root_authorized_keys")
_INVALID_TAGS, _INVALID_METADATA = "Invalid tag parameters", "Invalid metadatum parameters"


def list_tags(call: Call) -> Reply:
    return Reply(200, dict(call.machine().tags))


def get_tag(call: Call) -> Reply:
    """An empty text for a value that is a number or a boolean."""
    key, tags = call.path["tag"], call.machine().tags
    if key not in tags:
        raise not_found(f'tag "{key}" not found')
    return Reply(200, tags[key] if isinstance(tags[key], str) else "")


def add_tags(call: Call) -> Reply:
    machine, given = call.machine(), _given(call, _NO_TAGS)
    check_tags(given, _INVALID_TAGS)
    _change(call, machine, "set_tags", given)
    return _guess({**machine.tags, **given})


def replace_tags(call: Call) -> Reply:
    machine, given = call.machine(), _given(call, _NO_TAGS)
    check_tags(given, _INVALID_TAGS)
    check_deletable({key: value for key, value in machine.tags.items() if key not in given})
    action = "replace_tags" if machine.tags.keys() - given.keys() else "set_tags"
    _change(call, machine, action, given, remove=None)
    return _guess(given)


def delete_tag(call: Call) -> Reply:
    key, machine = call.path["tag"], call.machine()
    if key not in machine.tags:
        raise not_found(f'tag "{key}" not found')
    check_deletable({key: ""})
    _change(call, machine, "remove_tags", {}, remove=[key])
    return Reply(204)


def delete_tags(call: Call) -> Reply:
    machine = call.machine()
    check_deletable(machine.tags)
    _change(call, machine, "remove_tags", {}, remove=None)
    return Reply(204)


def list_metadata(call: Call) -> Reply:
    machine = call.machine()
    if not call.params.get("credentials"):
        return Reply(200, dict(machine.metadata))
    return Reply(200, {**machine.metadata, "credentials": passwords(machine.internal)})


def get_metadata(call: Call) -> Reply:
    key, machine = call.path["key"], call.machine()
    if key == "credentials":
        return Reply(200, passwords(machine.internal))
    if key not in machine.metadata:
        raise not_found(f'metadatum "{key}" not found')
    if not isinstance(machine.metadata[key], str):
        raise not_found(f"{key} is not metadata")
    return Reply(200, machine.metadata[key])


def add_metadata(call: Call) -> Reply:
    machine = call.machine()
    given = {key: value for key, value in _given(call, _NO_METADATA).items() if not key.endswith("_pw")}
    check_metadata(given, _INVALID_METADATA)
    _change(call, machine, "set_metadata", given, tags=False)
    return _guess({**machine.metadata, **given})


def delete_metadata(call: Call) -> Reply:
    key, machine = call.path["key"], call.machine()
    if key in _UNDELETABLE:
        raise invalid_argument(f"Metadata key {key} can not be deleted")
    if key not in machine.metadata:
        raise not_found(f'metadatum "{key}" not found')
    _change(call, machine, "remove_metadata", {}, remove=[key], tags=False)
    return Reply(204)


def delete_all_metadata(call: Call) -> Reply:
    """All but what cannot be deleted."""
    machine = call.machine()
    going = [key for key in machine.metadata if key not in _UNDELETABLE]
    _change(call, machine, "replace_metadata", {}, remove=going, tags=False)
    return Reply(204)


def _given(call: Call, reserved: tuple[str, ...]) -> dict[str, Any]:
    """Every parameter of the request, from its query too, is a key: so are `as-role` and the like."""
    return {key: value for key, value in call.params.items() if key not in reserved}


def _change(
    call: Call,
    machine: Machine,
    action: str,
    given: dict[str, Any],
    *,
    remove: Sequence[str] | None = (),
    tags: bool = True,
) -> None:
    """`remove` None: everything that is not given."""

    def change() -> None:
        old = machine.tags if tags else machine.metadata
        staying = {} if remove is None else {key: value for key, value in old.items() if key not in remove}
        if tags:
            machine.tags = {**staying, **given}
        else:
            machine.metadata = {**staying, **given}

    call.store.jobs.add(machine, machinejobs.change(call.store, machine, action, call.caller, change))


def _guess(shown: dict[str, Any]) -> Reply:
    return Reply(200, shown, {"x-job-uuid": str(uuid.uuid4())})
