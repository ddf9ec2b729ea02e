"""Each mistake of a user is reported in one whole message with its fix. Every test runs against the local CloudAPI over HTTP."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from components.joyent.client import CloudApi as Client
from components.joyent.credentials import Credentials
from components.joyent.errors import CloudApiError
from components.joyent.fingerprints import md5_of
from components.joyent.machine import MachineProvider
from components.joyent.pacing import RateLimiter
from components.joyent.session import Session
from components.joyent.signing import blob_of
from components.joyent.transport import Transport
from tests.cloud.cloudapi_server import RSA_KEY, Front, Lab, PrivateKey
from tests.cloud.test_joyent_provider import MACHINE, Thing
from tests.hurried import Hurried

pytestmark = pytest.mark.clouds

UNKNOWN = "0d5ecf6c-5b1c-4c4f-8a76-6f5f3a1f8b10"
STRANGER = ed25519.Ed25519PrivateKey.generate()


@pytest.fixture
def lab() -> Iterator[Lab]:
    front = Front()
    yield Lab(front, {"quota": 1})
    front.stop()


def pem(key: PrivateKey, passphrase: bytes = b"") -> str:
    form = serialization.PrivateFormat.PKCS8
    sealed = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, sealed).decode()


def client(url: str, material: str = pem(RSA_KEY), **others: Any) -> Client:
    given = Credentials(url=url, account="rollcall", key_material=material, **others)
    return Client(Transport(given, limiter=RateLimiter(burst=10_000), environ={}))


def signing(lab: Lab, material: str, **others: str) -> Callable[[], Any]:
    return lambda: client(lab.url, material, **others).get_account()


KEYS: tuple[tuple[str, str, dict[str, str], str], ...] = (
    (
        "a key that the account does not have", pem(STRANGER), {},
        "GET /rollcall: 401 InvalidCredentials: Invalid authorization credentials supplied. Check TRITON_ACCOUNT and TRITON_USER, "
        "and that the account has the public key of TRITON_KEY_ID.",
    ),
    (
        "another key than the key id says", pem(STRANGER), {"key_id": md5_of(blob_of(RSA_KEY.public_key()))},
        f"TRITON_KEY_MATERIAL: is the key {md5_of(blob_of(STRANGER.public_key()))}, not {md5_of(blob_of(RSA_KEY.public_key()))} "
        "as the key id says. Correct one of them.",
    ),
    (
        "an encrypted key without its passphrase", pem(RSA_KEY, b"open sesame"), {},
        "TRITON_KEY_MATERIAL: is encrypted and there is no passphrase. Set TRITON_KEY_PASSPHRASE, or add the key to an ssh-agent.",
    ),
    (
        "an encrypted key with a wrong passphrase", pem(RSA_KEY, b"open sesame"), {"passphrase": "open barley"},
        "TRITON_KEY_MATERIAL: the passphrase is wrong. Correct TRITON_KEY_PASSPHRASE.",
    ),
    (
        "a public key", "ssh-ed25519 AAAA", {},
        "TRITON_KEY_MATERIAL: is a public key. Name the private key that signs the requests (OpenSSH or PEM).",
    ),
)  # fmt: skip


@pytest.mark.parametrize(("material", "others", "message"), [each[1:] for each in KEYS], ids=[each[0] for each in KEYS])
def test_a_wrong_key(lab: Lab, material: str, others: dict[str, str], message: str) -> None:
    with pytest.raises(CloudApiError) as given:
        signing(lab, material, **others)()
    assert str(given.value) == message


@pytest.mark.parametrize(("skew", "which"), [(900, "behind"), (-900, "ahead")])
def test_a_skewed_clock(lab: Lab, skew: int, which: str) -> None:
    lab.faults.add(f"cloudapi skew={skew}")
    with pytest.raises(CloudApiError) as given:
        client(lab.url).get_account()
    assert re.fullmatch(
        r"GET /rollcall: 400 InvalidHeader: Authorization header invalid: clock skew of (899|90\d)\.?\d*s was greater than 300s\. "
        rf"Set this machine's clock \(it is (899|90\d) s {which}\)\.",
        str(given.value),
    )


OFFERS: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "an unknown image", {"image": "debain-12"},
        "image: image 'debain-12': does not exist in this data centre. Name one of debian-12, debian-13, debian-12-hvm "
        "(`triton image list` shows all).",
    ),
    (
        "an unknown image id", {"image": UNKNOWN},
        f"image: image {UNKNOWN}: the account may use no such image in this data centre. "
        "Choose one that `triton image list` shows.",
    ),
    (
        "an unknown package", {"package": "g1.mirco"},
        "package: package 'g1.mirco': does not exist in this data centre. Name one of g1.micro (`triton package list` shows all).",
    ),
    (
        "an unknown network", {"networks": ["Joyent-SDC-Pubilc"]},
        "networks: network 'Joyent-SDC-Pubilc': does not exist in this data centre. Name one of Joyent-SDC-Public, Joyent-SDC-Private "
        "(`triton network list` shows all).",
    ),
    (
        "locality beside affinity", {"locality": {"near": [UNKNOWN]}, "affinity": ["role!=db"]},
        "locality: cannot be used with affinity, which replaces it. Keep one of the two.",
    ),
    (
        "locality by name", {"locality": {"near": ["web-1"]}},
        "locality: 'web-1' in near is not the id of a machine. Give its UUID.",
    ),
    (
        "locality of no known form", {"locality": {"close": UNKNOWN}},
        f"locality: {{'close': '{UNKNOWN}'}} is not a locality. Write it as {{near: [ids of machines], far: [ids], strict: true}}.",
    ),
    (
        "disks on a package without flexible disk", {"disks": [20480]},
        "disks: {nano} has no flexible disk. Choose a package that has one: b1.small, b1.medium.",
    ),
    (
        "too many disks", {"disks": [20480, *[1] * 8], "package": "b1.small", "image": "debian-12-hvm"},
        "disks: are 9, and CloudAPI takes 8. Leave some out.",
    ),
    (
        "two disks for the rest", {"disks": [20480, "remaining", "remaining"], "package": "b1.small", "image": "debian-12-hvm"},
        "disks: only one of them can be the text remaining. Give the others a size.",
    ),
    (
        "disks larger than the package", {"disks": [51200, 1], "package": "b1.small", "image": "debian-12-hvm"},
        "disks: are larger than the 51200 MiB of {small}. Make them smaller.",
    ),
    (
        "a disk of no size", {"disks": [20480, "large"], "package": "b1.small", "image": "debian-12-hvm"},
        "disks: 'large' is not a size. Give MiB as a whole number, or the text remaining.",
    ),
    (
        "disks that leave nothing", {"disks": [51200, "remaining"], "package": "b1.small", "image": "debian-12-hvm"},
        "disks: leave nothing of the 51200 MiB of {small} as remaining. Make them smaller.",
    ),
    (
        "a boot disk that is smaller than the image", {"disks": [1024], "package": "b1.small", "image": "debian-12-hvm"},
        "disks: begin with 1024 MiB for the boot disk, and the image takes 10240. Make it larger.",
    ),
    (
        "a rest for the boot disk that is smaller than the image",
        {"disks": ["remaining", 51000], "package": "b1.small", "image": "debian-12-hvm"},
        "disks: begin with 200 MiB for the boot disk, and the image takes 10240. Make it larger.",
    ),
    (
        "a package of another brand", {"package": "k1.medium"},
        "package: {k1} is for machines of brand kvm, not lx. Choose another package.",
    ),
    (
        "an image of a virtual machine for a container's package", {"package": "b1.small", "image": "debian-12"},
        "package: {small} is for machines of brand bhyve, not lx. Choose another package.",
    ),
    (
        "a brand that is not the package's", {"brand": "kvm", "package": "b1.small", "image": "debian-12-hvm"},
        "brand: {small} is for machines of brand bhyve, not kvm. Choose another package.",
    ),
    (
        "volumes where there are none", {"volumes": [{"name": "data", "mountpoint": "/data"}]},
        "volumes: are not offered by this data centre. Leave them out.",
    ),
    (
        "a fixed address on a public network", {"fixed_ips": {"Joyent-SDC-Public": "203.0.113.9"}},
        "fixed_ips: {public} is public, where CloudAPI chooses the address. Leave Joyent-SDC-Public out.",
    ),
    (
        "a fixed address on a network that the machine is not on", {"fixed_ips": {"Joyent-SDC-Private": "10.88.1.1"}},
        "fixed_ips: Joyent-SDC-Private is not among the machine's networks. Add it there, in the same words.",
    ),
    ("encryption as a text", {"encrypted": "true"}, "encrypted: must be true or false, not 'true'. Correct it."),
)  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [each[1:] for each in OFFERS], ids=[each[0] for each in OFFERS])
def test_what_the_data_centre_does_not_offer(lab: Lab, change: dict[str, Any], message: str) -> None:
    session = Session(client(lab.url))
    public = session.catalogue.network("Joyent-SDC-Public")
    nano, small, k1 = (session.catalogue.package(name) for name in ("g1.nano", "b1.small", "k1.medium"))
    provider = MachineProvider()
    provider.fixed_session = session
    found = [f"{each.property}: {each.reason}" for each in provider.check({}, {**MACHINE, **change}).failures]
    for name, value in (("nano", nano), ("small", small), ("k1", k1), ("public", public)):
        message = message.replace(f"{{{name}}}", str(value))
    assert found == [message]


REFUSED_BY_THE_API: tuple[dict[str, Any], ...] = (
    {"locality": {"near": [UNKNOWN]}, "affinity": ["role!=db"]},
    {"locality": {"near": ["web-1"]}},
    # Of an image that is no virtual machine's CloudAPI drops them without a word.
    {"disks": [{"size": 20480}], "package": "b1.rigid", "image": "debian-12-hvm"},
    {"disks": [{"size": 20480}, *[{"size": 1}] * 8], "package": "b1.small", "image": "debian-12-hvm"},
    {
        "disks": [{"size": 20480}, {"size": "remaining"}, {"size": "remaining"}],
        "package": "b1.small",
        "image": "debian-12-hvm",
    },
    {"disks": [{"size": 51200}, {"size": 1}], "package": "b1.small", "image": "debian-12-hvm"},
    {"disks": [{"size": 20480}, {"size": "large"}], "package": "b1.small", "image": "debian-12-hvm"},
    {"disks": [{"size": 51200}, {"size": "remaining"}], "package": "b1.small", "image": "debian-12-hvm"},
    {"disks": [{"size": 1024}], "package": "b1.small", "image": "debian-12-hvm"},
    {"disks": [{"size": "remaining"}, {"size": 51000}], "package": "b1.small", "image": "debian-12-hvm"},
    {"package": "k1.medium", "image": "debian-12"},
    {"package": "b1.small", "image": "debian-12"},
    {"brand": "kvm", "package": "b1.small", "image": "debian-12-hvm"},
    {"brand": "kvm", "package": "g1.nano", "image": "debian-12"},
    *({"affinity": [rule]} for rule in ("r==x", "1role==x", "ro:le==x", "role==a&b", "role=x", "db != x")),
    {"volumes": [{"name": "data", "mountpoint": "/data"}]},
)


@pytest.mark.parametrize("fields", REFUSED_BY_THE_API, ids=str)
def test_what_is_refused_at_preview_is_refused_by_the_api_too(lab: Lab, fields: dict[str, Any]) -> None:
    usual = {"package": "g1.nano", "image": "debian-12", "name": "m"}
    wanted = {**usual, **fields}
    response = lab.raw("POST", "/machines", {**wanted, "image": lab.image(wanted["image"])})
    assert response.status_code == 409, response.text


def test_an_ambiguous_name(lab: Lab) -> None:
    api = client(lab.url).post
    api("/fabrics/default/vlans", {"vlan_id": 5, "name": "v"})
    net = {
        "subnet": "10.1.0.0/24",
        "provision_start_ip": "10.1.0.10",
        "provision_end_ip": "10.1.0.20",
        "internet_nat": False,
    }
    twin = api("/fabrics/default/vlans/5/networks", {"name": "Joyent-SDC-Private", **net})["id"]
    provider = MachineProvider()
    provider.fixed_session = Session(client(lab.url))
    (found,) = provider.check({}, {**MACHINE, "networks": ["Joyent-SDC-Private"]}).failures
    first = lab.network("Joyent-SDC-Private")
    assert found.reason == (
        f"network 'Joyent-SDC-Private': is ambiguous: Joyent-SDC-Private ({first}), Joyent-SDC-Private ({twin}). Give the id of one."
    )


def created(lab: Lab, **change: Any) -> Thing:
    session = Hurried(client(lab.url))
    return Thing(session, MachineProvider()).create({**MACHINE, **change})


def test_a_name_that_is_taken(lab: Lab) -> None:
    holder = created(lab).id
    with pytest.raises(CloudApiError) as given:
        created(lab, mark="p/s/other")
    assert str(given.value) == (
        f"machine_name web-0: is taken by machine {holder}, which belongs to p/s/web-0. Choose another machine_name, or set "
        f"adopt='{holder}' to take it over."
    )


def test_a_quota_that_is_reached(lab: Lab) -> None:
    created(lab)
    with pytest.raises(CloudApiError) as given:
        created(lab, machine_name="web-1", mark="p/s/web-1")
    assert str(given.value) == (
        "POST /rollcall/machines: 409 ValidationFailed: Invalid VM parameters: Insufficient capacity in datacenter to provision "
        "machine; quota: The account may have 1 machines. Delete machines that are not needed, or have the account's limit raised."
    )


def test_a_data_centre_without_room(lab: Lab) -> None:
    lab.faults.add("cloudapi capacity")
    with pytest.raises(CloudApiError) as given:
        created(lab)
    assert str(given.value) == (
        "POST /rollcall/machines: 409 ValidationFailed: Invalid VM parameters: Insufficient capacity in datacenter to provision "
        "machine; ram: No compute resources available. Choose a smaller package, or try again later."
    )


def test_a_url_where_nothing_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    given = Credentials(url=url, account="rollcall", key_material=pem(RSA_KEY))
    began = time.monotonic()
    with pytest.raises(CloudApiError) as error:
        Client(Transport(given, environ={})).get_account()
    assert str(error.value) == (
        f"CloudAPI at {url}: cannot be reached ([Errno 111] Connection refused). Check TRITON_URL and the network."
    )
    assert time.monotonic() - began < 15


def test_a_url_that_is_none() -> None:
    with pytest.raises(CloudApiError) as given:
        Credentials.read({"TRITON_URL": "us-central-1.api.example.com", "TRITON_ACCOUNT": "a"})
    assert str(given.value) == (
        "TRITON_URL: 'us-central-1.api.example.com' is not the URL of a CloudAPI. Write it as https://us-central-1.api.example.com."
    )


def test_a_url_that_is_not_a_cloudapi_is_reported() -> None:
    front = Front()
    front.cloud = type("Web", (), {"app": staticmethod(_page)})()  # type: ignore[assignment]
    try:
        with pytest.raises(CloudApiError) as given:
            client(front.url).get_account()
        assert str(given.value) == "GET /rollcall: the answer is not JSON. Set TRITON_URL to the URL of a CloudAPI."
    finally:
        front.stop()


def _page(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"<html>"]


def test_nothing_configured() -> None:
    with pytest.raises(CloudApiError) as given:
        Credentials.read({})
    assert (
        str(given.value)
        == "TRITON_URL: is not set. Set TRITON_URL (config: url) and TRITON_ACCOUNT (config: account) to reach CloudAPI."
    )


def test_no_message_shows_a_secret(lab: Lab) -> None:
    secret = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    with pytest.raises(CloudApiError) as given:
        signing(lab, secret, passphrase="open sesame")()
    assert "open sesame" not in repr(given.value)
    assert secret.splitlines()[1] not in repr(given.value)
