"""A workload's artifact, fetched over https: what is wrong, half, refused, slow or too large is never unpacked, and says why."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from get_release import ReleaseError
from rollcall import workload_units, workloads
from tests.integration.cloud_stubs import self_signed
from tests.replies import Replying

PROGRAM = b"#!/bin/sh\necho served\n" * 400


class Store(Replying):
    """What an artifact's host answers: for each path what is done with the request."""

    answers: ClassVar[dict[str, Callable[[Store], None]]] = {}

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):
            self.answers[self.path](self)

    def trickle(self) -> None:
        self.reply(200, length=len(PROGRAM))
        for at in range(0, len(PROGRAM), 100):
            self.wfile.write(PROGRAM[at : at + 100])
            self.wfile.flush()
            time.sleep(0.05)


def packed(**files: bytes) -> bytes:
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name.replace("_", "/"))
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return found.getvalue()


TAR = packed(bin_api=PROGRAM, readme=b"hello")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an https server with a trusted certificate."""
    pem, tls = self_signed(tmp_path_factory.mktemp("tls"), "localhost")
    trusted = tmp_path_factory.mktemp("ca") / "ca.pem"
    trusted.write_text(pem)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    plain = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    Store.answers = {
        "/api": lambda one: one.reply(200, PROGRAM),
        "/api.tar.gz": lambda one: one.reply(200, TAR),
        "/half": lambda one: one.reply(200, PROGRAM[:99], length=len(PROGRAM)),
        "/403": lambda one: one.reply(403),
        "/404": lambda one: one.reply(404),
        "/500": lambda one: one.reply(500),
        "/slow": Store.trickle,
        "/moved": lambda one: one.reply(302, Location=f"http://127.0.0.1:{plain.server_port}/api"),
    }
    for each in (server, plain):
        threading.Thread(target=each.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
        patch.setenv("NO_PROXY", "*")
        yield f"https://localhost:{server.server_port}"
    for each in (server, plain):
        each.shutdown()
        each.server_close()


def release(url: str, sha256: str) -> io.BytesIO:
    """A workload's release as the program packs it, with nothing but an artifact."""
    text = json.dumps({"artifact": url, "sha256": sha256, "run": "./api"}).encode()
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as archive:
        member = tarfile.TarInfo(workload_units.DEFINITION)
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    found.seek(0)
    return found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_program_is_written_as_one_that_can_be_run(host: str, tmp_path: Path) -> None:
    workloads.unpack_release(release(f"{host}/api", sha256(PROGRAM)), tmp_path)
    made = tmp_path / "files/api"
    assert made.read_bytes() == PROGRAM and made.stat().st_mode & 0o777 == 0o755
    assert sorted(each.name for each in (tmp_path / "files").iterdir()) == ["api"]


def test_a_tar_is_unpacked(host: str, tmp_path: Path) -> None:
    workloads.unpack_release(release(f"{host}/api.tar.gz", sha256(TAR)), tmp_path)
    assert (tmp_path / "files/bin/api").read_bytes() == PROGRAM
    assert (tmp_path / "files/readme").read_bytes() == b"hello"


@pytest.mark.parametrize(
    ("path", "wanted", "reason"),
    [
        ("/api", b"another", "reason=another-artifact "),
        ("/api.tar.gz", b"another", "reason=another-artifact "),
        ("/half", PROGRAM, "reason=(artifact-unreachable|another-artifact) "),
        ("/403", PROGRAM, "reason=artifact-forbidden .* status=403"),
        ("/404", PROGRAM, "reason=artifact-missing .* status=404"),
        ("/500", PROGRAM, "reason=artifact-failed .* status=500"),
        ("/slow", PROGRAM, "reason=artifact-too-slow .* seconds=0"),
        ("/moved", PROGRAM, "reason=artifact-not-https "),
    ],
)
def test_what_is_not_the_artifact_is_never_unpacked(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, wanted: bytes, reason: str
) -> None:
    if path == "/slow":
        monkeypatch.setattr(workloads, "ARTIFACT_S", 0.3)
    with pytest.raises(ReleaseError, match=reason) as failed:
        workloads.unpack_release(release(f"{host}{path}", sha256(wanted)), tmp_path)
    assert re.search(r"host=localhost:\d+", str(failed.value))
    assert list((tmp_path / "files").iterdir()) == []


def test_one_that_is_too_large_is_given_up(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "ARTIFACT_LIMIT", len(PROGRAM) - 1)
    with pytest.raises(ReleaseError, match=f"reason=artifact-too-large .* limit={len(PROGRAM) - 1}"):
        workloads.unpack_release(release(f"{host}/api", sha256(PROGRAM)), tmp_path)
    assert list((tmp_path / "files").iterdir()) == []


def test_where_nothing_answers_the_reason_names_the_host(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"reason=artifact-unreachable .* host=127\.0\.0\.1:1 error=ConnectionError"):
        workloads.unpack_release(release("https://127.0.0.1:1/api", sha256(PROGRAM)), tmp_path)


def test_a_host_without_a_trusted_certificate_is_refused(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(ReleaseError, match=r"reason=artifact-unreachable .* error=SSLError"):
        workloads.unpack_release(release(f"{host}/api", sha256(PROGRAM)), tmp_path)
