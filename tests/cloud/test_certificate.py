"""The Certificate resource and a machine's certificates against a real ACME server: issue, renew by either, revoke, and what fails."""

from __future__ import annotations

import base64
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from pulumi.dynamic.dynamic import serialize_provider

from components.commands.certificates import certificates_of
from components.dns.acme_account import Account
from components.resources import certificate
from components.resources.certificate import CertificateError, CertificateProvider, renewal
from rollcall import acme_client, certificates
from rollcall.acme_client import Bundle, pointers
from rollcall.certificates import RENEW_AT, TURN, Certificates, newest, pem_of
from rollcall.errors import TransientError
from rollcall.settings import KINDS, CloudflareJoin, SiteJoin
from tests.cloud.acme_server import HOST, Acme, acme_server
from tests.cloud.cloudflare_server import OPERATOR, ZONE

pytestmark = pytest.mark.clouds
SECRET, DAY_S = "tls-www", 86400.0
FIRST, SECOND = "198.51.100.10", "198.51.100.11"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acme]:
    with acme_server(tmp_path_factory.mktemp("acme")) as made:
        yield made


@pytest.fixture
def acme(server: Acme, monkeypatch: pytest.MonkeyPatch) -> Iterator[Acme]:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", OPERATOR)
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", server.cloudflare_url)
    monkeypatch.setenv("ROLLCALL_DNS", f"127.0.0.1:{server.dns_port}")
    monkeypatch.setenv("ROLLCALL_ACME_URL", server.url)
    monkeypatch.setenv("ROLLCALL_CA_FILE", server.trust)
    monkeypatch.setattr(certificate, "_WITHIN_S", 5.0)
    yield server
    server.faults.clear()
    for text in server.texts().list():
        server.texts().remove(text)


def props(acme: Acme, **other: Any) -> dict[str, Any]:
    usual = {
        "site": "www", "host": HOST, "domain": ZONE, "directory": "https://acme-v02.api.letsencrypt.org/directory",
        "email": "", "provider": "cloudflare", "zone": acme.zone, "server": "", "renewal": "",
    }  # fmt: skip
    return {**usual, **other}


def created(acme: Acme, **other: Any) -> dict[str, Any]:
    return dict(CertificateProvider().create(props(acme, **other)).outs or {})


def refreshed(outs: dict[str, Any]) -> dict[str, Any]:
    return dict(CertificateProvider().read("id", outs).outs)


def serial(outs: dict[str, Any]) -> int:
    return of_chain(Bundle.parse(outs["bundle"]).chain)


def of_chain(chain: str) -> int:
    return x509.load_pem_x509_certificate(chain.encode()).serial_number


def published(acme: Acme) -> list[str]:
    return [each.path for each in pointers(acme.texts().list())]


def test_what_is_created_is_trusted_and_is_named_in_dns(acme: Acme) -> None:
    outs = created(acme)
    bundle = Bundle.parse(outs["bundle"])
    assert bundle.until == outs["until"] and bundle.left(time.time()) > 0.99
    assert len(outs["bundle"].encode()) < certificate.LONGEST_BYTES
    assert len(published(acme)) == 1
    assert acme.texts().list() == [pointers(acme.texts().list())[0].text], "no challenge stays"
    again = refreshed(outs)
    assert again["renewal"] == ""
    assert not CertificateProvider().diff("id", again, {**props(acme)}).changes


@pytest.mark.parametrize(
    ("key", "value", "replaces"),
    [
        ("host", "new.scalability.expert", True),
        ("directory", "https://ca.example/dir", True),
        ("email", "a@b.c", False),
    ],
)
def test_another_host_or_authority_is_another_certificate(acme: Acme, key: str, value: str, replaces: bool) -> None:
    found = CertificateProvider().diff("id", props(acme), props(acme, **{key: value}))
    assert found.changes and bool(found.replaces) is replaces


# what is wrong, the fault, what `up` says
FAULTS = [
    ("the CA is down", "acme drop", "reason=unreachable .*Nothing was changed. Run `pulumi up` again when"),
    ("the CA fails", "acme status=503", "reason=api-failing .*Nothing was changed. Run `pulumi up` again when"),
    ("a rate limit", "acme:POST:order-plz throttle", "reason=rate-limited .*retry after 2030.*letsencrypt-staging"),
]


@pytest.mark.parametrize(("fault", "message"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_up_says_why_there_is_no_certificate(acme: Acme, fault: str, message: str) -> None:
    acme.faults.add(fault)
    with pytest.raises(
        CertificateError, match=rf"rollcall:sites.www.tls: no certificate was issued for {HOST} .*{message}"
    ):
        created(acme)
    assert acme.texts().list() == []


def test_up_says_what_the_ca_refuses(acme: Acme) -> None:
    with pytest.raises(CertificateError, match=r"reason=refused .*rejectedIdentifier.*Correct what it names"):
        created(acme, host="refused.scalability.expert")


def test_up_says_that_a_challenge_is_not_visible(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acme_client, "VISIBLE_WITHIN_S", 1.0)
    acme.faults.add("dns refused")
    with pytest.raises(CertificateError, match=r"reason=challenge-not-visible .*Check the name servers of the zone"):
        created(acme)


def at_age(monkeypatch: pytest.MonkeyPatch, outs: dict[str, Any], part: float) -> float:
    """Set the clock of the program so that `part` of the validity is left."""
    bundle = Bundle.parse(outs["bundle"])
    now = bundle.until - part * (bundle.until - bundle.since)
    monkeypatch.setattr("components.resources.certificate.time.time", lambda: now)
    return now


def test_near_its_end_it_is_a_difference_and_is_renewed_with_the_same_key(
    acme: Acme, monkeypatch: pytest.MonkeyPatch
) -> None:
    outs = created(acme)
    at_age(monkeypatch, outs, 0.34)
    assert refreshed(outs)["renewal"] == ""
    at_age(monkeypatch, outs, 0.33)
    due = refreshed(outs)
    assert due["renewal"] == "30 days left"
    found = CertificateProvider().diff("id", due, props(acme))
    assert found.changes and not found.replaces
    after = CertificateProvider().update("id", due, props(acme)).outs
    assert serial(after) != serial(outs) and after["word"] != outs["word"]
    assert Bundle.parse(after["bundle"]).key == Bundle.parse(outs["bundle"]).key
    assert "Valid" in acme.status(serial(outs))


def test_a_ca_that_is_down_does_not_stop_an_up_while_the_certificate_is_valid(
    acme: Acme, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = created(acme)
    at_age(monkeypatch, outs, 0.2)
    due = refreshed(outs)
    acme.faults.add("acme drop")
    after = CertificateProvider().update("id", due, props(acme)).outs
    assert after["bundle"] == outs["bundle"] and "The present certificate ends in 18 days" in capsys.readouterr().err
    at_age(monkeypatch, outs, -0.1)
    with pytest.raises(CertificateError, match="reason=unreachable"):
        CertificateProvider().update("id", refreshed(outs), props(acme))


def test_a_successor_revokes_it_as_compromised_and_a_removal_as_given_up(acme: Acme) -> None:
    first = created(acme)
    second = created(acme)
    CertificateProvider().delete("id", first)
    assert "Revoked" in acme.status(serial(first)) and '"Reason": 1' in acme.status(serial(first))
    assert "Valid" in acme.status(serial(second)) and len(published(acme)) == 1
    with pytest.raises(Exception, match="code=unauthorized"):
        old = Bundle.parse(first["bundle"])
        Account(acme.url, old.account, acme.trust).download("/certZ/1")
    CertificateProvider().delete("id", second)
    assert '"Reason": 5' in acme.status(serial(second)) and acme.texts().list() == []


# how long after the issue, in parts of the validity, and the fault
STATUS = [
    (0.0, ""),
    (0.89, ""),
    (0.91, f"the certificate of {HOST} ends at "),
    (1.01, f"the certificate of {HOST} expired at "),
]


@pytest.mark.parametrize(("age", "fault"), STATUS)
def test_status_says_when_it_ends_and_what_is_wrong(acme: Acme, age: float, fault: str) -> None:
    outs = created(acme)
    resource = {"type": "pulumi-python:dynamic/rollcall:Certificate", "outputs": outs}
    now = outs["since"] + age * (outs["until"] - outs["since"])
    (found,) = certificates_of([resource, {"type": "other"}], {}, now)
    assert found.host == HOST and found.ends.endswith("+00:00")
    assert found.fault.startswith(fault) and bool(found.fault) is bool(fault)
    # A machine has renewed it since.
    pointer = pointers(acme.texts().list())[-1]
    acme.texts().add(replace(pointer, path="/certZ/9", until=outs["until"] + 60 * 86400).text)
    (renewed,) = certificates_of([resource], {}, now)
    assert renewed.fault == "" and renewed.ends > found.ends


@dataclass
class Machine:
    """A machine of the site: its cloud's secret and address, what DNS answers, its clock, and its disk."""

    acme: Acme
    home: Path
    bundle: str
    members: frozenset[str] = frozenset({FIRST, SECOND})
    address: str = FIRST
    word: str = ""
    now: float = field(default_factory=time.time)
    made: Certificates = field(init=False)

    def __post_init__(self) -> None:
        trust = self.acme.trust
        self.made = Certificates(
            self,  # type: ignore[arg-type]
            home=self.home,
            now=lambda: self.now,
            ask=self._ask,
            install=lambda: None,
            texts=lambda *_: self.acme.texts(),
            client=lambda _, account: Account(self.acme.url, account, trust),
        )

    def secret(self, name: str) -> str:
        assert name == SECRET
        return self.bundle

    def addresses(self) -> tuple[str, ...]:
        return (self.address,)

    def _ask(self, name: str, rtype: str, zone: str, everywhere: bool) -> frozenset[str]:
        if rtype == "A":
            return self.members
        return frozenset(f'"{each}"' for each in self.acme.texts().list())

    @property
    def served(self) -> Bundle:
        return newest(Bundle.parse(self.bundle), HOST, self.home)

    def at(self, part: float) -> None:
        """Pass time until `part` of the validity is left."""
        bundle = Bundle.parse(self.bundle)
        self.now = bundle.until - part * (bundle.until - bundle.since)

    def step(self) -> None:
        word = self.word or Bundle.parse(self.bundle).word
        self.made.step([CloudflareJoin(zone=self.acme.zone, host=HOST, token="t", tls=SECRET, certificate=word)])

    def until_taken(self) -> None:
        """Step as its thread does. Pebble refuses some nonces on purpose, so a try may fail."""
        before, end = self.made.taken, self.now + 2 * DAY_S
        while self.made.taken == before and self.now < end:
            self.now += 3600
            self.step()


@pytest.fixture
def machines(acme: Acme, tmp_path: Path) -> tuple[Machine, Machine]:
    bundle = created(acme)["bundle"]
    return Machine(acme, tmp_path / "1", bundle), Machine(acme, tmp_path / "2", bundle, address=SECOND)


def test_a_machine_renews_when_a_third_is_left_and_another_one_takes_it(
    acme: Acme, machines: tuple[Machine, Machine]
) -> None:
    first, second = machines
    for each in machines:
        each.at(RENEW_AT + 0.01)
        each.step()
    assert first.made.taken == second.made.taken == 0 and first.made.faults == {}
    first.at(RENEW_AT - 0.001)
    second.at(RENEW_AT - 0.001)
    second.step()
    assert second.made.taken == 0, "it is the turn of the first machine"
    first.until_taken()
    second.until_taken()
    assert first.served.chain == second.served.chain != Bundle.parse(first.bundle).chain
    assert pem_of(first.served).startswith(f"until={first.served.until}\n-----BEGIN PRIVATE KEY-----")
    assert first.home.joinpath(f"{HOST}.pem").read_text().count("PRIVATE") == 0


def test_the_second_machine_renews_a_day_later_if_the_first_one_does_not(machines: tuple[Machine, Machine]) -> None:
    _, second = machines
    second.at(RENEW_AT - TURN + 0.001)
    second.step()
    assert second.made.taken == 0
    second.at(RENEW_AT - TURN - 0.001)
    second.until_taken()
    assert second.made.taken == 1


def test_a_machine_that_joins_later_takes_the_newest_one(acme: Acme, machines: tuple[Machine, Machine]) -> None:
    first, _ = machines
    first.at(RENEW_AT - 0.001)
    first.until_taken()
    late = Machine(acme, first.home.with_name("late"), first.bundle, address="198.51.100.12", now=first.now)
    assert late.served.chain == Bundle.parse(first.bundle).chain, "at first it serves what its cloud has"
    late.until_taken()
    assert late.served.chain == first.served.chain


def test_the_program_takes_what_a_machine_renewed(
    acme: Acme, machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = machines
    outs = {**props(acme), "bundle": first.bundle, "word": "w", "until": Bundle.parse(first.bundle).until}
    first.at(RENEW_AT - 0.001)
    first.until_taken()
    monkeypatch.setattr("components.resources.certificate.time.time", lambda: time_of(outs))
    # Pebble's certificates begin now, and the clock of this test is 60 days later.
    monkeypatch.setattr(certificate, "RENEW_AT", 0.2)
    after = CertificateProvider().update("id", {**outs, "renewal": "30 days left"}, props(acme)).outs
    assert of_chain(Bundle.parse(after["bundle"]).chain) == of_chain(first.served.chain)


def time_of(outs: dict[str, Any]) -> float:
    return float(outs["until"]) - 30 * DAY_S


@pytest.mark.parametrize(("fault", "message"), [(row[1], row[2].partition(" ")[0]) for row in FAULTS])
def test_a_machine_goes_on_with_its_certificate_and_says_why(
    acme: Acme, machines: tuple[Machine, Machine], fault: str, message: str
) -> None:
    first, _ = machines
    acme.faults.add(fault)
    first.at(RENEW_AT - 0.001)
    first.step()
    assert message in first.made.faults[HOST] and f"certificate={HOST}" in first.made.faults[HOST]
    assert first.served.chain == Bundle.parse(first.bundle).chain
    tried = first.made._due[HOST]
    first.now += 60
    first.step()
    assert first.made._due[HOST] == tried, "it does not try again at once"
    acme.faults.clear()
    first.until_taken()
    assert first.made.taken == 1 and first.made.faults == {}


def test_a_pointer_of_another_key_or_to_another_certificate_changes_nothing(
    acme: Acme, machines: tuple[Machine, Machine]
) -> None:
    first, second = machines
    far = int(first.now + 400 * DAY_S)
    own = pointers(acme.texts().list())[-1]
    acme.texts().add(replace(own, key="0" * 16, until=far).text)
    first.step()
    assert first.made.faults == {} and first.made.taken == 0
    acme.texts().add(replace(own, path="/certZ/0", until=far).text)
    first.now += 2 * 3600
    first.step()
    assert "doing=download error=ClientError" in first.made.faults[HOST] and first.made.taken == 0
    first.at(RENEW_AT - 0.001)
    first.until_taken()
    second.at(RENEW_AT - 0.001)
    second.until_taken()
    assert first.served.chain == second.served.chain, "nor does it prevent a renewal"


def test_a_key_that_was_rotated_ends_what_the_machine_renewed(acme: Acme, machines: tuple[Machine, Machine]) -> None:
    first, _ = machines
    first.at(RENEW_AT - 0.001)
    first.until_taken()
    rotated = created(acme)["bundle"]
    first.bundle = rotated
    assert first.served == Bundle.parse(rotated)


def test_a_store_that_still_has_the_former_one_is_asked_again_soon(
    acme: Acme, machines: tuple[Machine, Machine]
) -> None:
    first, _ = machines
    rotated = created(acme)["bundle"]
    first.word = Bundle.parse(rotated).word
    for _ in range(3):
        first.step()
        first.now += certificates.AGAIN_S
    assert first.made.taken == 0 and first.made.faults == {}
    first.bundle = rotated
    first.step()
    assert first.made.taken == 1, "so that nginx gets it"
    first.now += certificates.AGAIN_S
    first.step()
    assert first.made.taken == 1


def test_the_library_is_installed_once_it_is_needed_and_the_reason_is_shown(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = machines

    def fails() -> None:
        raise TransientError("reason=package-missing package=python3-acme")

    monkeypatch.setattr(first.made, "_install", fails)
    first.step()
    assert "package=python3-acme" in first.made.faults[HOST]
    first.made.step([])
    assert first.made.faults == {}


# As a state of this version has it: users' states are read by later ones.
STORED = "gASVPwAAAAAAAACMIGNvbXBvbmVudHMucmVzb3VyY2VzLmNlcnRpZmljYXRllIwTQ2VydGlmaWNhdGVQcm92aWRlcpSTlCmBlC4="


def test_the_provider_in_an_old_state_is_found_and_written_again_the_same() -> None:
    assert CertificateProvider.serialize_as_secret_always is False
    assert serialize_provider(CertificateProvider()) == STORED
    assert type(pickle.loads(base64.b64decode(STORED))) is CertificateProvider  # noqa: S301


def test_each_provider_of_sites_has_challenges() -> None:
    assert acme_client._TEXTS.keys() == {kind for kind, each in KINDS.items() if issubclass(each, SiteJoin)}


def test_program_and_machines_renew_at_the_same_moment() -> None:
    assert renewal(Bundle(directory="d", since=0, until=90, key="", account="", chain=""), 10) == ""
    assert certificates.RENEW_AT == certificate.RENEW_AT
