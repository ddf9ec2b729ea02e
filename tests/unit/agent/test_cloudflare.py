"""rollcall.cloudflare: the store against the local Cloudflare, and what it makes of replies that no API should give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from localcloud.cloudflare import RateLimit
from rollcall import cloudflare
from rollcall.cloudflare import CloudflareStore, Record
from rollcall.errors import FatalError, RefusedError, TransientError
from tests.cloud.cloudflare_server import OPERATOR, ZONE, Front, Lab
from tests.unit.agent.fakes import ADDRESS, OTHER_ADDRESS, OWNER, Reply, Scripted

pytestmark = pytest.mark.clouds
HOST = f"www.{ZONE}"


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front) -> Lab:
    return Lab(front)


def store_of(lab: Lab, token: str = OPERATOR) -> CloudflareStore:
    return CloudflareStore(token, lab.url)


def wanted(lab: Lab) -> Record:
    return Record(name=HOST, type="A", content=ADDRESS, ttl=120, comment=str(OWNER), zone=lab.zone)


class TestRecords:
    def test_what_is_created_is_listed_to_the_field(self, lab: Lab) -> None:
        store = store_of(lab)
        made = store.create(wanted(lab))
        assert store.list(lab.zone, HOST) == (made,)
        assert made == replace(wanted(lab), id=made.id) and len(made.id) == 32

    def test_only_the_records_of_the_name_are_listed_whatever_their_type_and_owner(self, lab: Lab) -> None:
        lab.record(name="www", comment="of another user")
        lab.record(name="www", type="TXT", content='"words"')
        lab.record(name="www2")
        lab.record(name="a.www")
        assert {(each.type, each.comment) for each in store_of(lab).list(lab.zone, HOST)} == {
            ("A", "of another user"),
            ("TXT", ""),
        }

    def test_an_update_changes_what_is_given(self, lab: Lab) -> None:
        store = store_of(lab)
        made = store.create(wanted(lab))
        changed = replace(made, content=OTHER_ADDRESS, ttl=60, comment="another")
        assert store.update(changed) == changed
        assert store.list(lab.zone, HOST) == (changed,)

    def test_a_proxied_record_has_an_automatic_ttl(self, lab: Lab) -> None:
        made = store_of(lab).create(replace(wanted(lab), proxied=True, ttl=120))
        assert (made.proxied, made.ttl) == (True, 1)

    def test_every_page_is_read(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cloudflare, "_PAGE", 5)
        contents = {f"198.51.100.{at}" for at in range(1, 13)}
        for each in contents:
            lab.record(content=each)
        assert {each.content for each in store_of(lab).list(lab.zone, HOST)} == contents


class TestGone:
    def test_deleting_a_missing_record_is_not_an_error(self, lab: Lab) -> None:
        store = store_of(lab)
        made = store.create(wanted(lab))
        store.delete(lab.zone, made.id)
        store.delete(lab.zone, made.id)
        assert store.list(lab.zone, HOST) == ()

    def test_updating_what_is_gone_is_refused_with_the_code(self, lab: Lab) -> None:
        store = store_of(lab)
        made = store.create(wanted(lab))
        store.delete(lab.zone, made.id)
        with pytest.raises(FatalError, match="status=404 code=81044"):
            store.update(made)


class TestRefusals:
    def test_a_wrong_token_is_fatal_and_not_repeated_in_the_message(self, lab: Lab) -> None:
        wrong = "x" * 40
        with pytest.raises(FatalError, match="reason=refused api=cloudflare status=40") as refused:
            store_of(lab, wrong).list(lab.zone, HOST)
        assert wrong not in str(refused.value) and OPERATOR not in str(refused.value)

    def test_a_token_of_another_zone_may_not_delete(self, lab: Lab) -> None:
        made = store_of(lab).create(wanted(lab))
        other = lab.cloud.add_zone("example.org")
        scoped = lab.token("DNS Write", resources={f"com.cloudflare.api.account.zone.{other}": "*"})
        with pytest.raises(FatalError, match="reason=refused"):
            store_of(lab, str(scoped.api_token)).delete(lab.zone, made.id)
        assert store_of(lab).list(lab.zone, HOST) == (made,)

    def test_the_same_content_twice_is_refused_with_the_code(self, lab: Lab) -> None:
        store = store_of(lab)
        store.create(wanted(lab))
        with pytest.raises(FatalError, match="code=81058") as refused:
            store.create(wanted(lab))
        assert not isinstance(refused.value, RefusedError) and "\n" not in str(refused.value)

    def test_throttled_it_says_how_long_to_wait(self, front: Front) -> None:
        lab = Lab(front, rate_limit=RateLimit(requests=2, seconds=300))
        store = store_of(lab)
        store.list(lab.zone, HOST)
        store.list(lab.zone, HOST)
        with pytest.raises(TransientError, match="status=429") as throttled:
            store.list(lab.zone, HOST)
        assert throttled.value.after == 300
        lab.clock.now += 300
        assert store.list(lab.zone, HOST) == ()


# name, the reply, the error, its text, seconds to wait
REPLIES: list[tuple[str, Reply, type[Exception], str, float]] = [
    ("the API is down", (503, {}, b""), TransientError, "status=503", 0),
    ("down, with a time", (503, {"Retry-After": "7"}, b"busy"), TransientError, "status=503", 7),
    ("a time that is no number", (429, {"Retry-After": "soon"}, b""), TransientError, "status=429", 0),
    ("a page of a proxy on the way", (200, {}, b"<html>sign in</html>"), TransientError, "garbled-reply", 0),
    ("a proxy's refusal", (403, {}, b"<html>no</html>"), TransientError, "garbled-reply", 0),
    ("a refusal without a reason", (400, {}, b'{"errors": []}'), FatalError, "status=400 code=0", 0),
    ("a refusal with null", (400, {}, b'{"errors": null}'), FatalError, "status=400 code=0", 0),
    (
        "a refusal on two lines",
        (400, {}, b'{"errors": [{"code": 1004, "message": "a\\nb"}]}'),
        FatalError,
        r"code=1004 message='a\\nb'",
        0,
    ),
]


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    made = Scripted(lambda method, path, headers: (500, {}, b""))
    yield made
    made.stop()


@pytest.mark.parametrize(("reply", "error", "text", "after"), [r[1:] for r in REPLIES], ids=[r[0] for r in REPLIES])
def test_a_reply_that_is_not_an_answer(
    scripted: Scripted, reply: Reply, error: type[Exception], text: str, after: float
) -> None:
    scripted.answer = lambda method, path, headers: reply
    with pytest.raises(error, match=text) as failed:
        CloudflareStore("t", scripted.url).list("z", HOST)
    assert getattr(failed.value, "after", 0) == after


def test_the_code_of_a_record_that_is_gone_is_enough(scripted: Scripted) -> None:
    scripted.answer = lambda method, path, headers: (400, {}, b'{"errors": [{"code": 81044, "message": "gone"}]}')
    CloudflareStore("t", scripted.url).delete("z", "1")
    with pytest.raises(FatalError, match="code=81044"):
        CloudflareStore("t", scripted.url).list("z", HOST)


def test_an_api_that_is_out_of_reach_is_worth_another_try(scripted: Scripted) -> None:
    gone = Scripted(scripted.answer)
    gone.stop()
    with pytest.raises(TransientError, match="reason=unreachable api=cloudflare error=ConnectionError"):
        CloudflareStore("t", gone.url).list("z", HOST)


def test_the_address_of_the_api_comes_from_the_environment(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted.answer = lambda method, path, headers: (200, {}, b'{"result": []}')
    scripted.requests.clear()
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", f"{scripted.url}/client/v4/")
    assert CloudflareStore("t").list("z", HOST) == ()
    assert scripted.requests == ["GET /client/v4/zones/z/dns_records"]
