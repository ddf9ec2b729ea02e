"""Images (lib/datasets.js)."""

from __future__ import annotations

import uuid

from localcloud.triton import machinejobs
from localcloud.triton.call import Call, Reply
from localcloud.triton.catalogue import Image
from localcloud.triton.creating import UUID
from localcloud.triton.errors import invalid_argument, missing_parameter, not_authorized, not_found
from localcloud.triton.model import iso

_STATES = ("active", "unactivated", "disabled", "creating", "failed", "all")
_SETTABLE = ("name", "version", "description", "homepage", "eula", "acl", "tags")


def list_images(call: Call) -> Reply:
    """List images, the newest last. By default only active ones; images for docker only with `type`."""
    params = call.params
    state, kind = str(params.get("state") or "active"), params.get("type")
    if state not in _STATES:
        raise invalid_argument(f"{state} is not a valid state")
    if kind and not call.modern:
        if kind not in ("smartmachine", "virtualmachine"):
            raise invalid_argument(f"image type {kind} is not a valid type")
        kind = "zvol" if kind == "virtualmachine" else "zone-dataset"
    wanted = {name: str(params[name]) for name in ("name", "os", "version", "owner") if params.get(name)}
    found = [
        image
        # npm's triton takes the last of several with one name for the newest.
        for image in sorted(call.store.images, key=lambda image: image.published)
        if image.visible_to(call.store.id)
        and state in ("all", image.state)
        and (image.type == kind if kind else image.type != "docker")
        and ("public" not in params or str(params["public"]).lower() == str(image.public).lower())
        and all(getattr(image, name) == value for name, value in wanted.items())
    ]
    return Reply(200, [image.body(call.modern) for image in found])


def get_image(call: Call) -> Reply:
    return Reply(200, _image(call).body(call.modern))


def create(call: Call) -> Reply:
    """From a machine, which must be stopped; made by a job."""
    params, store = call.params, call.store
    for name, what in (("machine", "machine"), ("name", "Image name"), ("version", "Image version")):
        if not params.get(name):
            raise missing_parameter(f"{what} is a required argument")
    machine = store.machine(str(params["machine"]))
    if machine.state == "running":
        raise invalid_argument("VM must be stopped in order to create an image from it")
    if machine.state != "stopped":
        raise invalid_argument(f"cannot create an image from a VM that is {machine.state}")
    image = Image(
        str(params["name"]), str(params["version"]), machine.image.boots, id=str(uuid.uuid4()), os=machine.image.os,
        type=machine.image.type, owner=store.id, public=False, state="creating", origin=machine.image.id,
        requirements=dict(machine.image.requirements), published=iso(store.clock()),
    )  # fmt: skip
    _set(call, image, ("description", "homepage", "eula", "acl", "tags"))
    store.images.append(image)

    def made() -> bool:
        failed = store.switch("failed-image")
        if failed is None:
            image.state, image.published = "active", iso(store.clock())
            return True
        image.state, image.error = "failed", {"code": "PrepareImageDidNotRun", "message": failed or "it did not run"}
        return False

    store.jobs.add(machine, machinejobs.change(store, machine, None, call.caller, made))
    headers = {"Location": f"/{store.login}/images/{image.id}", "x-joyent-jobid": str(uuid.uuid4())}
    return Reply(201, image.body(call.modern), headers)


def update(call: Call) -> Reply:
    action = call.params.get("action")
    if not action:
        raise missing_parameter("action is a required argument")
    if action == "clone":
        return _clone(call)
    if action != "update":
        raise invalid_argument(f"action {action} is not a valid argument")
    image = _own(call)
    _set(call, image, _SETTABLE)
    return Reply(200, image.body(call.modern))


def _clone(call: Call) -> Reply:
    """Copy an image of another account that is shared with this account, so that this account owns it."""
    image = _image(call)
    if call.store.id not in image.acl:
        raise not_authorized("image is not shared with this account")
    own = Image(
        image.name, image.version, image.boots, id=str(uuid.uuid4()), os=image.os, type=image.type, owner=call.store.id,
        public=False, requirements=dict(image.requirements), origin=image.origin, published=image.published,
        description=image.description,
    )  # fmt: skip
    call.store.images.append(own)
    return Reply(200, own.body(call.modern))


def delete(call: Call) -> Reply:
    call.store.images.remove(_own(call))
    return Reply(204)


def _set(call: Call, image: Image, names: tuple[str, ...]) -> None:
    for name in names:
        if name in call.params:
            value = call.params[name]
            kind = {"acl": list, "tags": dict}.get(name, str)
            if not isinstance(value, kind):
                raise invalid_argument(f"{name} is invalid")
            setattr(image, name, value)


def _image(call: Call) -> Image:
    wanted = call.path["image"]
    if not UUID.fullmatch(wanted):
        raise not_found(f"{wanted} not found")
    return call.store.image(wanted)


def _own(call: Call) -> Image:
    image = _image(call)
    if image.owner != call.store.id:
        raise not_authorized("image is not owned by this account")
    return image
