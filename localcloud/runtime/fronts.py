"""The services between the clouds and a machine: real host names, the metadata address, the package repository."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localcloud.machines.image import SUITES, USUAL, current

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from localcloud.network.http import WSGIApp


class Guest:
    """A Joyent machine's metadata as its guest tools see it."""

    def __init__(self, api: Any, machine: str) -> None:
        self._api, self._machine = api, machine

    def get(self, key: str) -> str | None:
        found: str | None = self._api.metadata_get(self._machine, key)
        return found

    def put(self, key: str, value: str) -> None:
        self._api.metadata_put(self._machine, key, value)

    def delete(self, key: str) -> None:
        self._api.metadata_delete(self._machine, key)

    def keys(self) -> list[str]:
        return list(self._api.metadata_list(self._machine))


def by_host(apps: dict[str, WSGIApp]) -> WSGIApp:
    """Return an app that selects the app of the host that a request names, or of a parent domain of it."""

    def choose(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "").partition(":")[0].lower()
        # A copy, because files may be published meanwhile (localcloud/runtime/published.py).
        app = next((app for name, app in tuple(apps.items()) if host == name or host.endswith(f".{name}")), None)
        if app is None:
            start_response("421 Misdirected Request", [("Content-Length", "0")])
            return [b""]
        return app(environ, start_response)

    return choose


def imds(aws: Any, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Instance metadata for the machine that asks, by its address."""
    headers = {
        key[5:].replace("_", "-").lower(): str(value) for key, value in environ.items() if key.startswith("HTTP_")
    }
    path = environ.get("PATH_INFO", "/")
    status, given, body = aws.imds(environ["REMOTE_ADDR"], environ["REQUEST_METHOD"], path, headers)
    passed = [(key, value) for key, value in dict(given).items() if key.lower() != "content-length"]
    start_response(f"{status} Metadata", [*passed, ("Content-Length", str(len(body)))])
    return [body]


def files(folder: Path) -> WSGIApp:
    """Return an app that serves a package repository under any path that a sources.list names."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        file = folder / Path(environ.get("PATH_INFO", "/")).name
        if not file.is_file():
            start_response("404 Not Found", [("Content-Length", "0")])
            return [b""]
        body = file.read_bytes()
        start_response("200 OK", [("Content-Length", str(len(body))), ("Content-Type", "application/octet-stream")])
        return [body]

    return serve


def repositories(offered: Path | None = None) -> WSGIApp:
    """The package repositories of all images: that of the usual release, and the others' below their names.

    `offered` may have a folder that is named after a release: then its machines get that repository in place of the image's
    (localcloud/machines/packages.py).
    """
    apps = {release: files(current(release).repository) for release in SUITES}

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        first = environ.get("PATH_INFO", "/").lstrip("/").partition("/")[0]
        release = first if first in apps else USUAL
        if offered is not None and (offered / release).is_dir():
            return files(offered / release)(environ, start_response)
        return apps[release](environ, start_response)

    return serve
