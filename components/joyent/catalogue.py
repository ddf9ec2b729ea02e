"""List what a data centre offers: images, packages, networks.

Find the one that a text means, or say why there is none.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Generic, Protocol, TypeVar

from components.joyent.client import CloudApi
from components.joyent.errors import AmbiguousError, NotFoundError, RefusedError
from components.joyent.records import ImageRecord, NetworkRecord, PackageRecord

_FRESH = 60.0
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORT_ID = re.compile(r"[0-9a-f]{8}")
T = TypeVar("T")


class _Offer(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


_O = TypeVar("_O", bound=_Offer)


def is_uuid(text: str) -> bool:
    return bool(_UUID.fullmatch(text))


class _Cached(Generic[T]):
    """The result of a call, kept for a minute. It is asked for once, however many threads want it."""

    def __init__(self, fetch: Callable[[], T]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._cached: tuple[float, T] | None = None

    def __call__(self) -> T:
        with self._lock:
            if self._cached is None or time.monotonic() - self._cached[0] > _FRESH:
                self._cached = (time.monotonic(), self._fetch())
            return self._cached[1]


class Catalogue:
    """What a data centre offers.

    Look-ups raise NotFoundError (with similar names), AmbiguousError (with all matches), or RefusedError (inactive).
    """

    def __init__(self, api: CloudApi) -> None:
        self._api = api
        self.images: Callable[[], Sequence[ImageRecord]] = _Cached(api.list_images)
        self.packages: Callable[[], Sequence[PackageRecord]] = _Cached(api.list_packages)
        self.networks: Callable[[], Sequence[NetworkRecord]] = _Cached(api.list_networks)
        self.datacenters: Callable[[], Mapping[str, str]] = _Cached(api.list_datacenters)
        self.volumes: Callable[[], Sequence[str] | None] = _Cached(lambda: _volumes(api))
        """The names of the account's volumes; None where the data centre has no volumes at all."""
        self.cns_enabled: Callable[[], bool] = _Cached(lambda: bool(api.get_account().get("triton_cns_enabled")))

    def image(self, text: str) -> ImageRecord:
        """Return an image by id, `name@version`, the first 8 characters of an id, or the newest with that name."""
        images = self.images()
        if is_uuid(text):
            found = next((image for image in images if image.id == text), None)
            return found or self._inactive(text)
        if "@" in text:
            name, _, version = text.partition("@")
            return _only(
                text, [each for each in images if (each.name, each.version) == (name, version)], images, "image"
            )
        named = [image for image in images if image.name == text]
        if named:
            newest = max(image.published_at for image in named)
            return _only(text, [image for image in named if image.published_at == newest], images, "image")
        short = [image for image in images if image.id.startswith(text)] if _SHORT_ID.fullmatch(text) else []
        return _only(text, short, images, "image")

    def package(self, text: str) -> PackageRecord:
        """Return a package by id or name.

        Of several active ones with a name CloudAPI takes the highest version, and so do we.
        """
        packages = self.packages()
        if is_uuid(text):
            return _only(text, [each for each in packages if each.id == text], packages, "package")
        named = sorted((each for each in packages if each.name == text), key=lambda each: _version(each.version))
        return _only(text, named[-1:], packages, "package")

    def network(self, text: str) -> NetworkRecord:
        """Return a network by id or name. A pool is found like a network, its members are not listed."""
        networks = self.networks()
        by_id = is_uuid(text)
        return _only(
            text, [each for each in networks if text == (each.id if by_id else each.name)], networks, "network"
        )

    def datacenter(self, name: str) -> str:
        """Return the URL of the data centre with that name."""
        known = self.datacenters()
        if name not in known:
            names = ", ".join(f"{each} ({url})" for each, url in sorted(known.items())) or "none at all"
            raise NotFoundError(f"data centre {name!r}: does not exist. Name one of {names}.")
        return known[name].rstrip("/")

    def _inactive(self, image: str) -> ImageRecord:
        try:
            found = ImageRecord.of(self._api.get(f"/images/{image}"))
        except NotFoundError as unknown:
            raise NotFoundError(
                f"image {image}: the account may use no such image in this data centre. Choose one that `triton image list` shows."
            ) from unknown
        if found.state != "active":
            raise RefusedError(f"image {found}: is {found.state}, not active. Choose another (`triton images`).")
        return found


def _only(text: str, found: Sequence[_O], all_: Iterable[_O], what: str) -> _O:
    if len(found) == 1:
        return found[0]
    if found:
        raise AmbiguousError(f"{what} {text!r}: is ambiguous: {', '.join(map(str, found))}. Give the id of one.")
    names = sorted({each.name for each in all_})
    near = get_close_matches(text.partition("@")[0], names, n=3) or names[:8]
    raise NotFoundError(
        f"{what} {text!r}: does not exist in this data centre. Name one of {', '.join(near) or 'none'} "
        f"(`triton {what} list` shows all)."
    )


def _volumes(api: CloudApi) -> list[str] | None:
    try:
        return [str(each["name"]) for each in api.get("/volumes")]
    except NotFoundError:
        return None


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))
