"""Who may ask, and how: signatures, key ids, clocks, versions, bodies, rate limit and read-only mode."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from localcloud.triton import Throttle
from tests.cloud.cloudapi_server import RSA_KEY, Front, Lab, PrivateKey, Signer, public_text

pytestmark = pytest.mark.clouds


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front) -> Lab:
    return Lab(front)


def status(lab: Lab, signer: Signer, path: str = "/packages", **options: Any) -> int:
    return lab.raw("GET", path, signer=signer, **options).status_code


KEYS: dict[str, tuple[PrivateKey, tuple[str, ...]]] = {
    "rsa": (RSA_KEY, ("rsa-sha1", "rsa-sha256", "rsa-sha512")),
    "p256": (ec.generate_private_key(ec.SECP256R1()), ("ecdsa-sha256", "ecdsa-sha512")),
    "p384": (ec.generate_private_key(ec.SECP384R1()), ("ecdsa-sha512",)),
    "p521": (ec.generate_private_key(ec.SECP521R1()), ("ecdsa-sha512",)),
    "ed25519": (ed25519.Ed25519PrivateKey.generate(), ("ed25519-sha512",)),
}


@pytest.mark.parametrize(("kind", "algorithm"), [(kind, each) for kind, (_, names) in KEYS.items() for each in names])
def test_each_kind_of_key_signs_with_its_algorithms(lab: Lab, kind: str, algorithm: str) -> None:
    key = KEYS[kind][0]
    if kind != "rsa":
        lab.cloud.add_key(kind, public_text(key))
    name = "operator" if kind == "rsa" else kind
    signer = Signer(key, f"/rollcall/keys/{name}", algorithm)
    assert status(lab, signer) == 200
    assert status(lab, signer, query={"name": "g1.*"}) == 200


def test_a_p384_key_cannot_use_its_usual_sha384(lab: Lab) -> None:
    key = KEYS["p384"][0]
    lab.cloud.add_key("p384", public_text(key))
    signer = Signer(key, "/rollcall/keys/p384", "ecdsa-sha384")
    lab.refused("GET", "/packages", None, 400, "InvalidHeader", signer=signer)


@pytest.mark.parametrize("algorithm", ["rsa-sha384", "rsa-md5", "RSA-SHA256", "hs2019", "ecdsa-sha1"])
def test_other_algorithms_are_an_invalid_header(lab: Lab, algorithm: str) -> None:
    signer = Signer(RSA_KEY, lab.signer.key_id)
    signer.sign = lambda text: "AAAA"  # type: ignore[method-assign]
    signer.algorithm = algorithm
    lab.refused("GET", "/packages", None, 400, "InvalidHeader", signer=signer)


def test_a_signature_of_another_key_or_text_is_refused(lab: Lab) -> None:
    stranger = Signer(rsa.generate_private_key(public_exponent=65537, key_size=2048), lab.signer.key_id)
    lab.refused("GET", "/packages", None, 401, "InvalidCredentials", signer=stranger)
    moved = Signer(RSA_KEY, lab.signer.key_id)
    honest = moved.headers
    moved.headers = lambda method, target, given: honest(method, target + "?x=1", given)  # type: ignore[method-assign]
    lab.refused("GET", "/packages", None, 401, "InvalidCredentials", signer=moved)


def test_an_rsa_signature_does_not_pass_as_ecdsa(lab: Lab) -> None:
    signer = Signer(RSA_KEY, lab.signer.key_id, "ecdsa-sha256")
    lab.refused("GET", "/packages", None, 401, "InvalidCredentials", signer=signer)


@pytest.mark.parametrize(
    "key_id",
    [
        "/rollcall/keys/none", "/nobody/keys/operator", "/my/keys/operator", "rollcall/keys/operator", "operator",
        "/rollcall/users/nobody/keys/operator", "/rollcall/user/eve/keys/operator", "/rollcall/keys/operator/x",
    ],
)  # fmt: skip
def test_key_ids_that_lead_nowhere_all_look_alike(lab: Lab, key_id: str) -> None:
    lab.refused("GET", "/packages", None, 401, "InvalidCredentials", signer=Signer(RSA_KEY, key_id))


def test_a_sub_user_needs_a_role(lab: Lab) -> None:
    key = KEYS["ed25519"][0]
    lab.cloud.add_user("eve")
    lab.cloud.add_key("eve-key", public_text(key), user="eve")
    eve = Signer(key, "/rollcall/users/eve/keys/eve-key")
    lab.refused("GET", "/packages", None, 403, "NotAuthorized", signer=eve)
    boss = lab.cloud.add_user("boss", administrator=True)
    other = KEYS["p256"][0]
    lab.cloud.add_key("boss-key", public_text(other), user="boss")
    assert status(lab, Signer(other, "/rollcall/users/boss/keys/boss-key")) == 200
    assert status(lab, Signer(other, f"/rollcall/users/{boss}/keys/boss-key")) == 200
    # Six parts are understood from API 7.2 on.
    old = {"Accept-Version": "~7.1"}
    lab.refused(
        "GET", "/packages", None, 401, "InvalidCredentials",
        signer=Signer(other, "/rollcall/users/boss/keys/boss-key"), headers=old,
    )  # fmt: skip


def test_only_the_date_may_be_signed_but_it_must_be(lab: Lab) -> None:
    assert status(lab, Signer(RSA_KEY, lab.signer.key_id, names="date")) == 200
    assert status(lab, Signer(RSA_KEY, lab.signer.key_id, names="host date"), headers={"Host": "x.test"}) == 200
    unsigned = Signer(RSA_KEY, lab.signer.key_id, names="(request-target)")
    message = lab.refused("GET", "/packages", None, 400, "InvalidHeader", signer=unsigned)
    assert "date was not a signed header" in message["message"]


def test_x_date_takes_the_place_of_the_date(lab: Lab) -> None:
    now = formatdate(usegmt=True)
    signer = Signer(RSA_KEY, lab.signer.key_id, names="x-date")
    assert status(lab, signer, headers={"x-date": now}) == 200
    dated = Signer(RSA_KEY, lab.signer.key_id, names="date")
    lab.refused("GET", "/packages", None, 400, "InvalidHeader", signer=dated, headers={"x-date": now})


@pytest.mark.parametrize("off", [-301, 301])
def test_a_skewed_clock_is_reported_before_the_key_is_looked_up(lab: Lab, off: float) -> None:
    signer = Signer(RSA_KEY, "/rollcall/keys/none", clock=lambda: time.time() + off)
    message = lab.refused("GET", "/packages", None, 400, "InvalidHeader", signer=signer)
    assert "clock skew of" in message["message"]
    assert "greater than 300s" in message["message"]
    assert status(lab, Signer(RSA_KEY, lab.signer.key_id, clock=lambda: time.time() + off * 0.9)) == 200


def test_the_servers_own_clock_can_be_skewed(lab: Lab) -> None:
    lab.faults.add("cloudapi skew=400")
    message = lab.refused("GET", "/packages", None, 400, "InvalidHeader")
    assert "clock skew" in message["message"]
    lab.faults.clear()
    assert status(lab, lab.signer) == 200


def test_a_space_between_parameters_is_an_error(lab: Lab) -> None:
    signer = Signer(RSA_KEY, lab.signer.key_id)
    honest = signer.headers

    def spaced(method: str, target: str, given: dict[str, str]) -> dict[str, str]:
        sent = honest(method, target, given)
        return {**sent, "Authorization": sent["Authorization"].replace('",', '", ')}

    signer.headers = spaced  # type: ignore[method-assign]
    message = lab.refused("GET", "/packages", None, 400, "InvalidHeader", signer=signer)
    assert "bad param format" in message["message"]


@pytest.mark.parametrize(("algorithm", "expected"), [("rsa-sha256", 200), ("RSA-SHA256", 200)])
def test_the_obsolete_form_signs_the_bare_date(lab: Lab, algorithm: str, expected: int) -> None:
    date = formatdate(usegmt=True)
    signature = Signer(RSA_KEY, "", algorithm).sign(date)
    header = f'Signature keyId="{lab.signer.key_id}",algorithm="{algorithm}" {signature}'
    response = lab.front.http.get(f"{lab.url}/rollcall/packages", headers={"Date": date, "Authorization": header})
    assert response.status_code == expected, response.text


def test_the_obsolete_form_takes_no_ecdsa(lab: Lab) -> None:
    key = KEYS["p256"][0]
    lab.cloud.add_key("p256", public_text(key))
    date = formatdate(usegmt=True)
    header = f'Signature keyId="/rollcall/keys/p256",algorithm="ecdsa-sha256" {Signer(key, "").sign(date)}'
    response = lab.front.http.get(f"{lab.url}/rollcall/packages", headers={"Date": date, "Authorization": header})
    assert (response.status_code, response.json()["code"]) == (400, "InvalidHeader")


def test_no_signature_and_basic_are_refused_but_ping_needs_none(lab: Lab) -> None:
    bare = lab.front.http.get(f"{lab.url}/rollcall/packages")
    assert (bare.status_code, bare.json()["code"]) == (401, "InvalidCredentials")
    basic = lab.front.http.get(f"{lab.url}/rollcall/packages", auth=("rollcall", "secret"))
    assert basic.status_code == 401
    ping = lab.front.http.get(f"{lab.url}/--ping")
    assert ping.json()["ping"] == "pong"
    assert "9.0.0" in ping.json()["cloudapi"]["versions"]


def test_the_path_names_the_account_its_id_or_my(lab: Lab) -> None:
    for account in ("rollcall", "my", lab.cloud.account_id):
        assert lab.raw("GET", "/packages", account=account).status_code == 200
    lab.refused("GET", "/packages", None, 403, "NotAuthorized", account="admin")
    lab.refused("GET", "/packages", None, 404, "ResourceNotFound", account="nobody")


def test_a_disabled_account_may_do_nothing(lab: Lab) -> None:
    lab.cloud.disable()
    lab.refused("GET", "/packages", None, 403, "NotAuthorized")


VERSIONS = (
    ("~9||~8", "9.0.0"), ("8", "8.0.0"), ("~8", "8.0.0"), ("*", "9.0.0"), ("^7.1", "7.3.0"), ("~7.1", "7.1.0"),
    ("7.2.0", "7.2.0"), (">=7.1 <8", "7.3.0"), ("<7.2", "7.1.0"), ("7.x", "7.3.0"), ("~6.5 || ~7", "7.3.0"),
)  # fmt: skip


@pytest.mark.parametrize(("wanted", "given"), VERSIONS)
def test_accept_version_is_a_range(lab: Lab, wanted: str, given: str) -> None:
    response = lab.raw("GET", "/packages", headers={"Accept-Version": wanted})
    assert (response.status_code, response.headers["Api-Version"]) == (200, given)


@pytest.mark.parametrize("wanted", ["~6.5", "10", ">9", "nonsense"])
def test_a_version_that_is_not_offered_is_reported(lab: Lab, wanted: str) -> None:
    lab.refused("GET", "/packages", None, 400, "InvalidVersion", headers={"Accept-Version": wanted})


def test_replies_carry_the_headers_of_the_real_server(lab: Lab) -> None:
    response = lab.raw("GET", "/packages")
    assert response.headers["Server"].endswith("cloudapi/9.20.0")
    for name in ("Request-Id", "Response-Time", "Date", "Access-Control-Allow-Origin"):
        assert response.headers[name]
    digest = base64.b64encode(hashlib.md5(response.content).digest()).decode()  # noqa: S324
    assert response.headers["Content-MD5"] == digest


def test_bodies_may_be_json_form_or_query_and_the_body_wins(lab: Lab) -> None:
    image = lab.image("debian-12")
    form = f"package=g1.nano&image={image}&name=by-form".encode()
    made = lab.raw(
        "POST", "/machines", data=form, headers={"Content-Type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    assert (made.status_code, made.json()["name"]) == (201, "by-form")
    made = lab.raw("POST", "/machines", query={"package": "g1.nano", "image": image, "name": "by-query"})
    assert (made.status_code, made.json()["name"]) == (201, "by-query")
    body = {"package": "g1.micro", "image": image}
    made = lab.raw("POST", "/machines", body, query={"package": "g1.nano"})
    assert made.json()["package"] == "g1.micro"


def test_damaged_bodies_are_refused(lab: Lab) -> None:
    json_type = {"Content-Type": "application/json"}
    lab.refused("POST", "/machines", None, 400, "InvalidContent", data=b"{", headers=json_type)
    lab.refused(
        "POST", "/machines", None, 415, "UnsupportedMediaType", data=b"<x/>", headers={"Content-Type": "text/xml"}
    )
    lab.refused("POST", "/machines", {"a": 1}, 400, "BadDigest", headers={"Content-MD5": "AAAA"})
    lab.refused("POST", "/machines", {"metadata.user-script": "x" * 100_000}, 413, "RequestEntityTooLarge")
    lab.refused("GET", "/packages", None, 406, "WrongAccept", headers={"Accept": "application/xml"})


def test_unknown_paths_and_methods_are_reported(lab: Lab) -> None:
    lab.refused("GET", "/nothing", None, 404, "ResourceNotFound")
    lab.refused("DELETE", "/packages", None, 405, "MethodNotAllowed")


def test_head_answers_as_get_without_a_body(lab: Lab) -> None:
    lab.running()
    response = lab.raw("HEAD", "/machines")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["x-resource-count"] == "1"


def test_each_family_of_endpoints_has_its_bucket(front: Front) -> None:
    now = [1000.0]
    lab = Lab(front, {"throttle": Throttle(burst=3, rate=1), "clock": lambda: now[0]})
    lab.signer.clock = lambda: now[0]
    assert [lab.raw("GET", "/machines").status_code for _ in range(3)] == [200] * 3
    refused = lab.raw("GET", "/fwrules")
    assert (refused.status_code, refused.json()["code"]) == (429, "TooManyRequestsError")
    assert "Retry-After" not in refused.headers
    assert lab.raw("GET", "/images").status_code == 200
    now[0] += 1
    assert [lab.raw("GET", "/machines").status_code for _ in range(2)] == [200, 429]


def test_read_only_mode_refuses_writes_and_says_when_it_may_end(lab: Lab) -> None:
    lab.faults.add("cloudapi readonly")
    assert "Retry-After" not in lab.raw("POST", "/machines", {}).headers
    lab.refused("POST", "/machines", {}, 503, "ServiceUnavailable")
    assert lab.raw("GET", "/machines").status_code == 200
    lab.faults.clear()
    lab.faults.add("cloudapi readonly=30")
    given_settings = parsedate_to_datetime(lab.raw("POST", "/machines", {}).headers["Retry-After"]).timestamp()
    assert 25 < given_settings - time.time() <= 31
