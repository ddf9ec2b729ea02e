"""Create a Key: an SSH key of the account. Its id is its MD5 fingerprint, since CloudAPI's key names are not unique."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

import pulumi
from pulumi.dynamic import Resource

from components.joyent.account_resources import Body, Fault, ThingField, ThingProvider
from components.joyent.errors import FatalError, NotFoundError
from components.joyent.fingerprints import md5_of
from components.joyent.session import Session


@dataclass(frozen=True, kw_only=True)
class KeyArgs:
    """The inputs of a Key.

    `key`: a public key as in authorized_keys; its comment does not matter. `key_name`: its name. `datacenter`: the name
    or URL of its data centre, if it is not the configured one (on all resources).
    """

    key_name: pulumi.Input[str]
    key: pulumi.Input[str]
    datacenter: pulumi.Input[str] | None = None


class Key(Resource, module="joyent", name="Key"):  # type: ignore[misc, call-arg]
    """An SSH key. `fingerprint` is the MD5 fingerprint, as the key's id on the wire. Every change replaces the key."""

    fingerprint: pulumi.Output[str]

    def __init__(self, name: str, args: KeyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        props = {**vars(args), "fingerprint": None}
        super().__init__(KeyProvider(), name, props, opts)


class _Keys:
    fields = (ThingField("key_name", "replace", needed=True), ThingField("key", "replace", needed=True))

    def faults(self, inputs: Body) -> Iterable[Fault]:
        if not _blob(inputs["key"]):
            yield "key", "is not a public key. Give one line as in authorized_keys (`ssh-ed25519 AAAA…`)"

    def find(self, session: Session, inputs: Body) -> tuple[str, Body] | None:
        """Find the key.

        Under the same name it is the one that we would make; under another name it belongs to others.
        """
        try:
            body = self.fetch(session, md5_of(_blob(inputs["key"])), inputs)
        except NotFoundError:
            return None
        if body["name"] != inputs["key_name"]:
            raise FatalError(
                f"key {body['fingerprint']}: is in the account already, as {body['name']!r}. "
                f"Set key_name to that, or `triton key delete` it first."
            )
        return str(body["fingerprint"]), body

    def make(self, session: Session, inputs: Body) -> tuple[str, Body]:
        body = session.api.post("/keys", {"name": inputs["key_name"], "key": inputs["key"].strip()})
        return str(body["fingerprint"]), body

    def fetch(self, session: Session, id_: str, props: Body) -> Body:
        body: Body = session.api.get(f"/keys/{quote(id_, safe='')}")
        return body

    def live(self, inputs: Body, body: Body) -> Body:
        equal = _blob(body["key"]) == _blob(inputs["key"])
        return {"key_name": body["name"], "key": inputs["key"] if equal else body["key"]}

    def outputs(self, body: Body) -> Body:
        return {"fingerprint": body["fingerprint"]}

    def change(self, session: Session, id_: str, inputs: Body, changed: Iterable[str]) -> Body:
        raise FatalError(f"key: cannot be changed in place ({', '.join(changed)}). Declare another key.")

    def remove(self, session: Session, id_: str, props: Body) -> None:
        session.api.delete(f"/keys/{quote(id_, safe='')}")


class KeyProvider(ThingProvider):
    kind = _Keys()


def _blob(key: str) -> bytes:
    words = str(key).split()
    if len(words) < 2:
        return b""
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        return b""
    # The blob begins with the algorithm's name as a string, the same as the line's first word (RFC 4253, 6.6).
    return blob if blob[4:].startswith(words[0].encode()) else b""
