"""The digest of a container's image, from Debian's docker-registry, and from a registry with a token service."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from components.config.models import RegistrySettings
from components.config.reader import read_whole
from components.preflight.container_images import Image, RegistryError, digest_of, with_digests
from localcloud.network.http import Server, listen
from localcloud.runtime.images import digest, served
from localcloud.runtime.published import Published
from tests import container_registry
from tests.container_registry import PASSWORD, USER, Registry
from tests.integration.cloud_stubs import self_signed

pytestmark = pytest.mark.clouds
PAGE = container_registry.Image(files={"page": (b"hello", 0o644)}, command=["/bin/serve"])
ARM = container_registry.Image(files={"page": (b"hello", 0o644)}, architecture="arm64")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def tls(folder: Path) -> tuple[str, ssl.SSLContext]:
    return self_signed(folder, "localhost")


@pytest.fixture(scope="module", params=["public", "private"])
def registry(request: pytest.FixtureRequest, folder: Path, tls: tuple[str, ssl.SSLContext]) -> Iterator[Registry]:
    is_private = request.param == "private"
    with container_registry.running(
        folder / request.param, folder / "server.pem", tls[0], is_private=is_private
    ) as made:
        yield made


@pytest.fixture(autouse=True)
def trusted(folder: Path, tls: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "trusted.pem").write_text(tls[0])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "trusted.pem"))


def test_the_digest_of_an_image_and_of_an_index_for_several_architectures(registry: Registry) -> None:
    one = registry.push("acme/cart", "1.4", PAGE)
    several = registry.push_index("acme/cart", "latest", [PAGE, ARM])
    assert digest_of(Image.of(f"{registry.where}/acme/cart:1.4"), registry.login) == one
    assert digest_of(Image.of(f"{registry.where}/acme/cart"), registry.login) == several != one


def test_a_tag_that_is_not_there_and_a_wrong_login_are_named(registry: Registry) -> None:
    registry.push("acme/cart", "1.4", PAGE)
    with pytest.raises(RegistryError, match=r"^the registry has no such image$"):
        digest_of(Image.of(f"{registry.where}/acme/cart:2"), registry.login)
    if registry.login:
        image = Image.of(f"{registry.where}/acme/cart:1.4")
        with pytest.raises(RegistryError, match=r"^the registry refuses the login$"):
            digest_of(image, (USER, "another-password"))
        with pytest.raises(RegistryError, match=rf"^{registry.where} demands a login\. Set registry$"):
            digest_of(image)


def settings(image: str, **more: Any) -> tuple[Any, list[str]]:
    fleet = {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www"], "runs": ["cart"]}
    config = {"sites": {"www": {"zone": "s.example"}}, "workloads": {"cart": {"container": image, **more}}}
    return read_whole("local", {**config, "fleets": {"web": fleet}})


def test_a_preview_refuses_a_tag_with_the_digest_that_it_has(registry: Registry) -> None:
    image, found = f"{registry.where}/acme/cart:1.4", registry.push("acme/cart", "1.4", PAGE)
    more = {"registry": {"user": USER, "password": PASSWORD}} if registry.login else {}
    (fault,) = with_digests(*settings(image, **more))
    where = "rollcall:workloads.cart.container"
    assert fault == (
        f"{where}: {image} has no digest, so machines could run different images. The digest that it has now: {image}@{found}."
    )
    assert PASSWORD not in fault
    # What it says is taken.
    assert settings(f"{image}@{found}", **more)[1] == []


def test_a_registry_out_of_reach_leaves_the_command_that_finds_the_digest() -> None:
    (fault,) = with_digests(*settings("localhost:1/acme/cart:1.4"))
    assert "skopeo inspect --format '{{.Digest}}' docker://localhost:1/acme/cart:1.4" in fault
    assert fault.endswith(" (here, localhost:1 does not answer: ConnectionError).")


def test_other_faults_stay_and_no_registry_is_asked_for_an_image_with_a_digest() -> None:
    read, faults = settings(f"localhost:1/acme/cart@sha256:{'0' * 64}")
    assert with_digests(read, [*faults, "another: fault."]) == ["another: fault."]


class TokenRegistry(ThreadingHTTPServer):
    """A registry that sends its clients to a token service, as Docker Hub and GitHub do, with one private image.

    https://distribution.github.io/distribution/spec/auth/token/
    """

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _TokenHandler)
        self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.where = f"localhost:{self.server_port}"
        self.manifest, self.has_header = b'{"schemaVersion": 2}', True
        self.field = "token"
        self.scopes: list[str] = []


class _TokenHandler(BaseHTTPRequestHandler):
    server: TokenRegistry

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        at, known = urlsplit(self.path), self.headers.get("Authorization", "")
        if at.path == "/token":
            query = parse_qs(at.query)
            self.server.scopes += query["scope"]
            basic = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
            allowed = known == basic and query["service"] == ["registry.test"]
            # A wrong login is refused. Without one, the token allows nothing.
            status = 200 if allowed or not known else 401
            body = json.dumps({self.server.field: "a-token" if allowed else "useless", "expires_in": 60}).encode()
            return self._reply(status, body if with_body else b"", {})
        if known != "Bearer a-token":
            challenge = f'Bearer realm="https://{self.server.where}/token",service="registry.test",scope="repository:acme/cart:pull"'
            return self._reply(403 if known else 401, b"", {"WWW-Authenticate": challenge})
        assert "application/vnd.oci.image.index.v1+json" in self.headers["Accept"]
        header = {"Docker-Content-Digest": digest(self.server.manifest)}
        return self._reply(200, self.server.manifest if with_body else b"", header if self.server.has_header else {})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def tokens(tls: tuple[str, ssl.SSLContext]) -> Iterator[TokenRegistry]:
    server = TokenRegistry(tls[1])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("field", ["token", "access_token"])
@pytest.mark.parametrize("has_header", [True, False])
def test_a_token_service_gets_the_login_and_the_registry_its_token(
    tokens: TokenRegistry, field: str, has_header: bool
) -> None:
    tokens.field, tokens.has_header = field, has_header
    image = Image.of(f"{tokens.where}/acme/cart:1.4")
    assert digest_of(image, (USER, PASSWORD)) == digest(tokens.manifest)
    assert set(tokens.scopes) == {"repository:acme/cart:pull"}
    with pytest.raises(RegistryError, match="refuses access"):
        digest_of(image)
    with pytest.raises(RegistryError, match="refuses the login"):
        digest_of(image, (USER, "another-password"))


def test_the_login_of_a_workload_is_used(tokens: TokenRegistry) -> None:
    read, faults = settings(f"{tokens.where}/acme/cart:1.4", registry={"user": USER, "password": PASSWORD})
    assert read.workloads[0].registry == RegistrySettings(user=USER, password=SecretStr(PASSWORD))
    (fault,) = with_digests(read, faults)
    assert digest(tokens.manifest) in fault


def test_a_rehearsal_asks_its_own_server_in_place_of_every_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "image/start").write_text("#!/bin/sh")
    published, socket = Published(tmp_path / "published"), listen("127.0.0.1")
    found, files = served("acme/cart", "1.4", tmp_path / "image", ["/start"])
    for number, each in enumerate(files):
        file = tmp_path / str(number)
        file.write_bytes(each.data)
        published.add(f"https://ghcr.io{each.path}", file, each.kind)
    server = Server(published.app, [socket])
    server.start()
    monkeypatch.setenv("ROLLCALL_REGISTRY_URL", f"http://127.0.0.1:{socket.getsockname()[1]}")
    try:
        assert digest_of(Image.of("ghcr.io/acme/cart:1.4")) == found
        for other in ("ghcr.io/acme/cart:2", "quay.io/acme/cart:1.4"):
            with pytest.raises(RegistryError, match="no such image"):
                digest_of(Image.of(other))
    finally:
        server.stop()
