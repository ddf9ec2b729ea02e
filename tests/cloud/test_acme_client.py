"""rollcall.acme_client against a real ACME server, Pebble: issue, download, revoke, and what it says when the CA does not issue."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from components.dns.acme_account import KEY_COMPROMISE, Account, new_key, text_of
from rollcall import acme_client
from rollcall.acme_client import (
    Bundle,
    Client,
    CloudflareTexts,
    Pointer,
    Rfc2136Texts,
    checked,
    key_hash,
    pointers,
    publish,
)
from rollcall.cloudflare import CloudflareStore
from rollcall.errors import FatalError, TransientError
from tests.cloud.acme_server import HOST, Acme, acme_server
from tests.cloud.cloudflare_server import OPERATOR
from tests.dynamic_zone import SERVERS, running
from tests.programs import unpacked

pytestmark = pytest.mark.clouds
DAY_S = 86400
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acme]:
    with acme_server(tmp_path_factory.mktemp("acme")) as made:
        yield made


@pytest.fixture
def client(acme: Acme) -> Iterator[Account]:
    made = Account(acme.url, new_key(), acme.trust)
    made.register("ops@scalability.expert")
    yield made
    acme.faults.clear()


def issued(acme: Acme, client: Client, key: str, host: str = HOST) -> tuple[str, str]:
    """Issue as a caller does who tries again: Pebble refuses some nonces on purpose."""
    for _ in range(5):
        try:
            return client.issue(key, host, acme.texts(host), lambda text: acme.answered(text, host))
        except TransientError as fault:
            last = fault
    raise last


def serial(chain: str) -> int:
    return x509.load_pem_x509_certificate(chain.encode()).serial_number


def test_a_certificate_is_for_the_key_and_the_host_and_no_challenge_stays(acme: Acme, client: Account) -> None:
    key = new_key()
    chain, path = issued(acme, client, key)
    since, until = checked(chain, key, HOST)
    assert since <= time.time() < until and abs(until - since - 90 * DAY_S) < 60
    assert chain.count("BEGIN CERTIFICATE") == 2, "the leaf and its intermediate"
    assert acme.texts().list() == []
    with pytest.raises(FatalError, match="reason=another-certificate"):
        checked(chain, new_key(), HOST)
    with pytest.raises(FatalError, match="reason=another-certificate"):
        checked(chain, key, "other.scalability.expert")
    assert client.download(path) == chain


def test_another_process_with_the_accounts_key_downloads_and_renews_it_without_an_email(acme: Acme) -> None:
    account, key = new_key(), new_key()
    first = Account(acme.url, account, acme.trust)
    first.register("")
    chain, path = issued(acme, first, key)
    other = Client(acme.url, account, acme.trust)
    assert other.download(path) == chain
    again, _ = issued(acme, other, key)
    assert serial(again) != serial(chain)


@pytest.mark.parametrize("name", SERVERS)
def test_a_machine_with_the_rights_of_the_manual_renews_in_a_zone_with_dynamic_updates(
    name: str, tmp_path: Path
) -> None:
    zone, host, key = "example.org", "www.example.org", new_key()
    for folder in ("server", "acme"):
        (tmp_path / folder).mkdir()
    with (
        running(name, tmp_path / "server", zone) as server,
        acme_server(tmp_path / "acme", dns=f"{server.address}:{server.port}") as acme,
    ):
        texts = Rfc2136Texts(server.client(server.machines), host)
        account = Account(acme.url, new_key(), acme.trust)
        account.register("")

        def answered(text: str) -> bool:
            return f'"{text}"' in server.values(f"_acme-challenge.{host}", "TXT")

        for _ in range(5):
            try:
                chain, path = account.issue(key, host, texts, answered)
                break
            except TransientError as fault:
                print(fault)
        _, until = checked(chain, key, host)
        publish(texts, Pointer(path=path, until=until, key=key_hash(key)))
        assert [each.path for each in pointers(texts.list())] == [path] and len(texts.list()) == 1
        with pytest.raises(FatalError, match="reason=refused api=rfc2136"):
            Rfc2136Texts(server.client(server.machines), f"mail.{zone}").add("x")


def test_a_stranger_gets_no_certificate_of_this_account(acme: Acme, client: Account) -> None:
    _, path = issued(acme, client, new_key())
    stranger = Account(acme.url, new_key(), acme.trust)
    stranger.register("")
    with pytest.raises(FatalError, match="reason=refused"):
        stranger.download(path)


def test_it_is_revoked_by_its_own_key_and_the_account_ends(acme: Acme, client: Account) -> None:
    key = new_key()
    chain, _ = issued(acme, client, key)
    assert "Valid" in acme.status(serial(chain))
    client.revoke(chain, key, KEY_COMPROMISE)
    client.revoke(chain, key, KEY_COMPROMISE)
    assert "Revoked" in acme.status(serial(chain))
    client.deactivate()
    with pytest.raises(FatalError, match=r"reason=refused .* code=unauthorized"):
        issued(acme, client, key)


# what is wrong, the fault, the error, its start
FAULTS = [
    ("the CA is down", "acme drop", TransientError, "reason=unreachable api=acme ca=localhost doing="),
    ("the CA fails", "acme status=503", TransientError, "reason=api-failing api=acme ca=localhost doing="),
    ("a rate limit", "acme:POST:order-plz throttle", TransientError, "reason=rate-limited api=acme .*retry after 2030"),
]


@pytest.mark.parametrize(("fault", "kind", "message"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_the_reason_is_what_the_ca_says(
    acme: Acme, client: Account, fault: str, kind: type[Exception], message: str
) -> None:
    acme.faults.add(fault)
    with pytest.raises(kind, match=message) as caught:
        issued(acme, client, new_key())
    assert acme.texts().list() == []
    if "throttle" in fault:
        assert getattr(caught.value, "after", 0) >= 3600


def test_a_host_that_the_ca_refuses_is_named_with_its_reason(acme: Acme, client: Account) -> None:
    with pytest.raises(
        FatalError, match=r"reason=refused .* code=rejectedIdentifier said=.*refused.scalability.expert"
    ):
        issued(acme, client, new_key(), "refused.scalability.expert")


def test_a_challenge_that_no_name_server_shows_is_not_answered(
    acme: Acme, client: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CA would count a failed validation, and it allows few of them."""
    monkeypatch.setattr(acme_client, "VISIBLE_WITHIN_S", 1.0)
    host = "late.scalability.expert"
    with pytest.raises(TransientError, match=f"reason=challenge-not-visible name=_acme-challenge.{host}"):
        client.issue(new_key(), host, acme.texts(host), lambda _: False)
    assert acme.texts(host).list() == []


def test_a_challenge_that_the_ca_does_not_find_is_a_refusal(acme: Acme, client: Account) -> None:
    host = "lost.scalability.expert"

    class Nowhere(CloudflareTexts):
        def add(self, text: str) -> None: ...

        def remove(self, text: str) -> None: ...

    nowhere = Nowhere(CloudflareStore("no token", acme.cloudflare_url), acme.zone, host)
    with pytest.raises(FatalError, match=r"reason=challenge-failed .* said=.*TXT"):
        client.issue(new_key(), host, nowhere, lambda _: True)


def test_a_pointer_replaces_older_ones_and_touches_nothing_else(acme: Acme) -> None:
    texts, key = acme.texts("news.scalability.expert"), key_hash(new_key())
    texts.add("kept by hand")
    for path, until in (("/certZ/1", 100), ("/certZ/2", 200)):
        publish(texts, Pointer(path=path, until=until, key=key))
    assert sorted(texts.list()) == ["kept by hand", f"rollcall certificate=/certZ/2 until=200 key={key}"]
    (found,) = pointers(texts.list())
    assert (found.path, found.until, found.key) == ("/certZ/2", 200, key)


def test_a_bundle_is_read_as_it_was_written_and_another_text_is_refused_without_its_words() -> None:
    key, account = new_key(), new_key()
    chain = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n" * 2
    bundle = Bundle(directory="https://ca.example/dir", since=100, until=400, key=key, account=account, chain=chain)
    # Triton's tools do not keep line breaks at the end.
    assert Bundle.parse(text_of(bundle).rstrip("\n")) == bundle
    assert bundle.left(100) == 1 and bundle.left(300) == pytest.approx(1 / 3) and bundle.left(500) < 0
    for text in ("", f"acme https://ca.example/dir 1 2\n{key}", "acme x y\nSECRET"):
        with pytest.raises(FatalError, match="reason=bad-certificate-secret") as caught:
            Bundle.parse(text)
        assert "SECRET" not in str(caught.value) and "MI" not in str(caught.value)


ON_DEBIAN = """
import sys
url, trust, api, token, zone, host = sys.argv[1:]
import acme.client, josepy
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rollcall.acme_client import Client, CloudflareTexts, checked
from rollcall.cloudflare import CloudflareStore
from rollcall.errors import TransientError
def new_key():
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(*form).decode()
client = Client(url, new_key(), trust)
key = new_key()
texts = CloudflareTexts(CloudflareStore(token, api), zone, host)
for left in range(5)[::-1]:
    try:
        with client.understood("account"):
            made, messages = client.open()
            made.new_account(messages.NewRegistration(terms_of_service_agreed=True))
        chain, path = client.issue(key, host, texts, lambda _: True)
        assert Client(url, client.account, trust).download(path) == chain
        break
    except TransientError:
        if not left:
            raise
print(*checked(chain, key, host))
"""


def test_the_library_of_debian_12_is_used_in_the_same_way(acme: Acme) -> None:
    """Machines have python3-acme 2.1 with Debian's Python, and the program a newer one."""
    folder = unpacked("python3-acme") / "usr/lib/python3/dist-packages"
    env = {"PYTHONPATH": f"{folder}:{ROOT / 'userdata'}", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    words = ["/usr/bin/python3", "-W", "ignore", "-c", ON_DEBIAN]
    words += [acme.url, acme.trust, acme.cloudflare_url, OPERATOR, acme.zone, HOST]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-1500:]
    since, until = map(int, done.stdout.split())
    assert since <= time.time() < until
