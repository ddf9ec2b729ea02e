"""Find the digest that the tag of a container's image has now, by the API of its registry.

- https://github.com/opencontainers/distribution-spec/blob/main/spec.md ("Pulling manifests"): HEAD, and `Docker-Content-Digest`
- https://distribution.github.io/distribution/spec/auth/token/: a 401 names where to get a token, and for which scope
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.config.errors import Faults
from components.config.models import Settings, WorkloadSettings, without_tag
from components.config.workload_checks import without_digest

if TYPE_CHECKING:
    import requests

_TIMEOUT_S = 10.0
# In a rehearsal this address has the images, because no registry is reached (localcloud/runtime/published.py).
_LOCAL = "ROLLCALL_REGISTRY_URL"
# The host behind the name docker.io: https://docs.docker.com/registry/spec/api/ has it as registry-1.docker.io.
_HOSTS = {"docker.io": "registry-1.docker.io"}
# An index of images for several architectures comes first. A registry answers with the first that it has.
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REASONS = {
    401: "the registry refuses the login",
    403: "the registry refuses access",
    404: "the registry has no such image",
}


class RegistryError(Exception):
    """A registry gives no digest. The text is the reason."""


@dataclass(frozen=True)
class Image:
    """An image as its registry has it."""

    host: str
    path: str
    tag: str

    @classmethod
    def of(cls, text: str) -> Image:
        """Read a name like `ghcr.io/acme/cart:1.4`. Without a tag, the tag is `latest`."""
        name = without_tag(text)
        host, _, path = name.partition("/")
        # An image of Docker Hub with one word is in the folder `library`.
        path = f"library/{path}" if host == "docker.io" and "/" not in path else path
        return cls(host, path, text[len(name) + 1 :] or "latest")


def with_digests(settings: Settings, faults: Sequence[str]) -> list[str]:
    """Return the faults. Those of containers without a digest get the digest that the registry has now, or why it is not known."""
    lacking = [each for each in settings.workloads if each.container and "@" not in each.container]
    if not lacking:
        return list(faults)
    with ThreadPoolExecutor(len(lacking)) as pool:
        fixes = list(pool.map(_fix, lacking))
    found = {_fault(each): _fault(each, fix) for each, fix in zip(lacking, fixes, strict=True)}
    return [found.get(each, each) for each in faults]


def _fault(workload: WorkloadSettings, fix: str = "") -> str:
    faults = Faults()
    faults.add(*without_digest(workload, fix))
    return faults.found[0]


def _fix(workload: WorkloadSettings) -> str:
    text, login = workload.container or "", workload.registry
    credentials = (login.user, login.password.get_secret_value()) if login else None
    try:
        return f"The digest that it has now: {text}@{digest_of(Image.of(text), credentials)}"
    except RegistryError as unknown:
        _, _, fix = without_digest(workload)
        return f"{fix} (here, {unknown})"


def digest_of(image: Image, credentials: tuple[str, str] | None = None) -> str:
    """Return the digest of an image: of the index, if it is for several architectures. `credentials` are a user and a password.

    Raises RegistryError.
    """
    import requests

    try:
        return _digest(image, credentials)
    except requests.RequestException as failed:
        raise RegistryError(f"{image.host} does not answer: {type(failed).__name__}") from failed


def _digest(image: Image, credentials: tuple[str, str] | None) -> str:
    host = _HOSTS.get(image.host, image.host)
    base = os.environ.get(_LOCAL) or f"https://{host}"
    url = f"{base}/v2/{image.path}/manifests/{image.tag}"
    reply, authorization = _request("HEAD", url, "", host=host), ""
    if reply.status_code == 401:
        authorization = _authorization(reply.headers.get("WWW-Authenticate", ""), image, credentials)
        reply = _request("HEAD", url, authorization, host=host)
    found = reply.headers.get("Docker-Content-Digest", "")
    if reply.status_code == 200 and not found:
        # The header is optional. The digest is that of the bytes of the manifest.
        reply = _request("GET", url, authorization, host=host)
        found = f"sha256:{hashlib.sha256(reply.content).hexdigest()}"
    if reply.status_code != 200:
        raise RegistryError(
            _REASONS.get(reply.status_code, f"{image.host} answers with the status {reply.status_code}")
        )
    if not _DIGEST.fullmatch(found):
        raise RegistryError(f"{image.host} gives no SHA-256")
    return found


def _authorization(challenge: str, image: Image, credentials: tuple[str, str] | None) -> str:
    """Return the header for what a registry demands: the credentials themselves, or a token from the service that it names."""
    basic = f"Basic {base64.b64encode(':'.join(credentials).encode()).decode()}" if credentials else ""
    scheme, _, rest = challenge.partition(" ")
    if scheme.lower() == "basic" and basic:
        return basic
    words = {name.lower(): value for name, value in _PARAMETER.findall(rest)}
    if scheme.lower() != "bearer" or not words.get("realm", "").startswith("https://"):
        raise RegistryError(
            f"{image.host} demands a login. Set registry" if not basic else "the registry refuses the login"
        )
    query = {"scope": f"repository:{image.path}:pull", "service": words.get("service", "")}
    reply = _request("GET", words["realm"], basic, query)
    if reply.status_code != 200:
        raise RegistryError(
            _REASONS.get(reply.status_code, f"the token service answers with the status {reply.status_code}")
        )
    try:
        found = reply.json()
        token = found.get("token") or found["access_token"]
    except (ValueError, KeyError, AttributeError) as wrong:
        raise RegistryError("the token service gives no token") from wrong
    return f"Bearer {token}"


def _request(
    method: str, url: str, authorization: str, query: Mapping[str, str] | None = None, host: str = ""
) -> requests.Response:
    import requests

    def authorized(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Given as a function, it is used in place of a ~/.netrc.
        request.headers.update({"Authorization": authorization} if authorization else {})
        return request

    headers = {"Accept": ", ".join(_MANIFESTS)}
    # The local server answers for every registry.
    headers |= {"Host": host} if host and os.environ.get(_LOCAL) else {}
    return requests.request(
        method, url, params=query, headers=headers, auth=authorized, timeout=_TIMEOUT_S, allow_redirects=True
    )
