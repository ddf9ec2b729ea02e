"""Create an Image: a custom image, made from a machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import Resource

from components.joyent import engine
from components.joyent.account_resources import Body, Fault, ThingField, ThingProvider, chosen
from components.joyent.errors import CloudApiError, NotFoundError
from components.joyent.machine_fields import MARK_TAG
from components.joyent.pacing import wait_until
from components.joyent.session import Session

_DESCRIBING = ("version", "description", "homepage", "eula", "acl")


@dataclass(frozen=True, kw_only=True)
class ImageArgs:
    """The inputs of an Image.

    `machine`: the id of a prepared and stopped machine. `timeout` in seconds, for making it. `acl`: ids of accounts
    that may use it.
    """

    machine: pulumi.Input[str]
    image_name: pulumi.Input[str]
    version: pulumi.Input[str]
    description: pulumi.Input[str] | None = None
    homepage: pulumi.Input[str] | None = None
    eula: pulumi.Input[str] | None = None
    acl: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    tags: pulumi.Input[Mapping[str, pulumi.Input[str]]] | None = None
    timeout: pulumi.Input[float] = 1800
    datacenter: pulumi.Input[str] | None = None


class Image(Resource, module="joyent", name="Image"):  # type: ignore[misc, call-arg]
    """A custom image.

    `state` is active once machines can be created from it. An image that failed is replaced by the next `up`. `machine`
    replaces it, the rest changes in place.
    """

    state: pulumi.Output[str]

    def __init__(self, name: str, args: ImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        mark = f"{pulumi.get_project()}/{pulumi.get_stack()}/{name}"
        super().__init__(ImageProvider(), name, {**vars(args), "mark": mark, "wanted": "active", "state": None}, opts)


class _Images:
    fields = (
        ThingField("machine", "replace", needed=True, hidden=True),
        ThingField("image_name", needed=True),
        *(ThingField(name, needed=name == "version") for name in _DESCRIBING),
        ThingField("tags"),
        ThingField("wanted", "replace"),
        ThingField("mark", "none", hidden=True),
        ThingField("timeout", hidden=True),
    )

    def faults(self, inputs: Body) -> Iterable[Fault]:
        if MARK_TAG in (inputs.get("tags") or {}):
            yield "tags", f"{MARK_TAG!r} is reserved. Choose another key"

    def find(self, session: Session, inputs: Body) -> tuple[str, Body] | None:
        """Find our image by the mark in its tags, since name and version are not unique.

        A failed attempt is not returned.
        """
        for body in session.api.get("/images", [("state", "all"), ("name", inputs["image_name"])]):
            usable = body.get("state") in ("active", "creating", "unactivated")
            if usable and inputs.get("mark") and (body.get("tags") or {}).get(MARK_TAG) == inputs["mark"]:
                return str(body["id"]), self._awaited(session, body, inputs)
        return None

    def make(self, session: Session, inputs: Body) -> tuple[str, Body]:
        body = session.api.post("/images", {"machine": inputs["machine"], **_manifest(inputs)})
        return str(body["id"]), self._awaited(session, body, inputs)

    def _awaited(self, session: Session, body: Body, inputs: Body) -> Body:
        """Return the image when it is made.

        Raises nothing: its id would be lost, and its state says whether it failed.
        """
        try:
            return wait_until(
                f"image {inputs['image_name']} ({body['id']})",
                lambda: found if (found := self.fetch(session, body["id"], inputs))["state"] != "creating" else None,
                timeout=float(inputs["timeout"]),
                sleep=session.sleep,
            )
        except CloudApiError as fault:
            engine.say(f"image {body['id']} is asked for but not awaited: {fault}")
            return body

    def fetch(self, session: Session, id_: str, props: Body) -> Body:
        body: Body = session.api.get(f"/images/{id_}")
        if body.get("state") == "destroyed":
            raise NotFoundError(f"image {id_}: is destroyed. Run `pulumi up --refresh` to make it again.")
        return body

    def live(self, inputs: Body, body: Body) -> Body:
        tags = {key: value for key, value in (body.get("tags") or {}).items() if key in (inputs.get("tags") or {})}
        wanted = "failed" if body.get("state") == "failed" else "active"
        return {
            "image_name": body["name"],
            "tags": tags,
            "wanted": wanted,
            **{name: body.get(name, "") for name in _DESCRIBING},
        }

    def outputs(self, body: Body) -> Body:
        return {"state": body.get("state", "")}

    def change(self, session: Session, id_: str, inputs: Body, changed: Iterable[str]) -> Body:
        manifest = _manifest(inputs)
        tags = (self.fetch(session, id_, inputs).get("tags") or {}) if "tags" in manifest else {}
        if tags:
            # An image's tags are replaced as a whole, so tags of others are kept.
            manifest["tags"] = {**tags, **manifest["tags"]}
        body: Body = session.api.post(f"/images/{id_}?action=update", manifest, idempotent=True)
        return body

    def remove(self, session: Session, id_: str, props: Body) -> None:
        session.api.delete(f"/images/{id_}")


class ImageProvider(ThingProvider):
    kind = _Images()


def _manifest(inputs: Body) -> dict[str, Any]:
    mark = {MARK_TAG: inputs["mark"]} if inputs.get("mark") else {}
    return {"name": inputs["image_name"], **chosen(inputs, _DESCRIBING), "tags": {**(inputs.get("tags") or {}), **mark}}
