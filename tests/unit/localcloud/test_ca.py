"""localcloud.network.ca: one authority that signs for whatever name a client asks for, and leaves no key on the disk."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from localcloud.network.ca import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca") / "keys")


def shake_hands(context: ssl.SSLContext, trusted: str, name: str) -> dict[str, Any]:
    """The certificate that a client which trusts `trusted` accepts for `name`."""
    client, server = socket.socketpair()
    client.settimeout(5)
    server.settimeout(5)

    def serve() -> None:
        try:
            with context.wrap_socket(server, server_side=True) as secured:
                secured.recv(1)
        except OSError:
            server.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        with client, ssl.create_default_context(cadata=trusted).wrap_socket(client, server_hostname=name) as secured:
            found: dict[str, Any] = dict(secured.getpeercert() or {})
            return found
    finally:
        client.close()
        thread.join(timeout=5)
        assert not thread.is_alive()


@pytest.mark.parametrize("name", ["localhost", "ec2.us-west-2.amazonaws.com", "www.scalability.expert"])
def test_each_requested_name_gets_its_own_certificate(authority: Authority, name: str) -> None:
    assert shake_hands(authority.context(), authority.pem, name)["subjectAltName"] == (("DNS", name),)


def test_a_client_that_does_not_trust_the_authority_refuses_its_certificates(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(authority.context(), other.pem, "localhost")


def test_the_authority_may_sign_servers_and_no_further_authority(authority: Authority) -> None:
    found = x509.load_pem_x509_certificate(authority.pem.encode())
    limits = found.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, 0)


def test_no_key_stays_on_the_disk_and_the_folder_is_the_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made = Authority(folder)
    made.context()
    made._context_for("api.cloudflare.com")
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_name_with_a_path_in_it_touches_no_file_outside_the_folder(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.pem"
    theirs.write_text("kept")
    Authority(tmp_path / "keys")._context_for("../theirs")
    assert theirs.read_text() == "kept"


def test_a_name_is_signed_once(authority: Authority) -> None:
    assert authority._context_for("once.example") is authority._context_for("once.example")
    assert authority._context_for("once.example") is not authority._context_for("twice.example")
