"""The rest of the account in memory: keys, firewall rules, fabric, snapshots, images. Part of the fake CloudAPI."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any

from components.joyent.fingerprints import md5_of

Answer = tuple[int, Any]
GONE: Answer = (404, {"code": "ResourceNotFound", "message": "not found"})


class FakeThings:
    def __init__(self) -> None:
        self.stores: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
        self.networks_in_use = 0
        self.outcome = {"snapshots": "created", "images": "active"}

    def store(self, *path: str) -> dict[str, dict[str, Any]]:
        return self.stores.setdefault(path, {})

    def route(self, method: str, words: list[str], body: dict[str, Any]) -> Answer:
        """Every collection is alike but for what `_made` and `_refused` say of it."""
        for length in (len(words), len(words) - 1):
            path = tuple(words[:length])
            if path and path[-1] in ("keys", "fwrules", "vlans", "networks", "snapshots", "images"):
                return self._collection(method, path, words[length:], body)
        return GONE

    def _collection(self, method: str, path: tuple[str, ...], rest: list[str], body: dict[str, Any]) -> Answer:
        store = self.store(*path)
        if not rest:
            return (200, list(store.values())) if method == "GET" else self._made(path, store, body)
        found = store.get(rest[0])
        if found is None:
            return GONE
        if method == "DELETE":
            if path[-1] == "networks" and self.networks_in_use:
                self.networks_in_use -= 1
                return 409, {"code": "InvalidArgument", "message": "network has NICs"}
            del store[rest[0]]
            return 204, None
        if method == "GET":
            self._progress(path, found)
        else:
            found.update(_stored(path, body))
        return 200, found

    def _made(self, path: tuple[str, ...], store: dict[str, dict[str, Any]], body: dict[str, Any]) -> Answer:
        made = _stored(path, body)
        field = {"keys": "fingerprint", "vlans": "vlan_id", "snapshots": "name"}.get(path[-1], "id")
        key = str(made.setdefault(field, str(uuid.uuid4())))
        if key in store:
            return 409, {"code": "InvalidArgument", "message": "is taken"}
        if path[-1] in self.outcome:
            made["state"], made["polls"] = "creating", 1
        store[key] = made
        return 201, made

    def _progress(self, path: tuple[str, ...], found: dict[str, Any]) -> None:
        if found.get("state") == "creating":
            found["polls"] -= 1
            if found["polls"] < 0:
                found["state"] = self.outcome[path[-1]]


def _stored(path: tuple[str, ...], body: Mapping[str, Any]) -> dict[str, Any]:
    stored = dict(body)
    if path[-1] == "keys":
        stored["fingerprint"] = md5_of(base64.b64decode(body["key"].split()[1]))
        stored["key"] = body["key"] + "\n"
    if path[-1] == "fwrules" and "rule" in body:
        # As FWAPI does: keywords in capitals, action and protocol in small letters, tags quoted.
        words = body["rule"].split()
        capital = ("from", "to", "port", "any", "and", "or")
        stored["rule"] = " ".join(word.upper() if word.lower() in capital else word for word in words).replace(
            " ALLOW ", " allow "
        )
    return stored
