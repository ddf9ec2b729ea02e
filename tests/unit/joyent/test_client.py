from __future__ import annotations

import json
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import BaseAdapter

from components.joyent.client import PAGE, CloudApi
from components.joyent.credentials import Credentials
from components.joyent.errors import (
    AuthenticationError,
    CloudApiError,
    ConfigurationError,
    FatalError,
    LostReplyError,
    NotFoundError,
    RefusedError,
    TransientError,
    WaitTimeoutError,
)
from components.joyent.pacing import RateLimiter, back_off, retry_after, wait_until
from components.joyent.transport import Transport
from tests.unit.joyent.fake import PEM, FakeCloud

Answer = tuple[int, Any, dict[str, str]] | Exception


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Answers(BaseAdapter):
    """Gives the answers in turn, the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__()
        self.answers = list(answers)
        self.requests: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.status_code = answer[0]
        response._content = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
        response.headers.update(answer[2])
        return response

    def close(self) -> None:
        pass


def api(answers: BaseAdapter, clock: Clock | None = None, **options: Any) -> CloudApi:
    clock = clock or Clock()
    given = Credentials(url="http://cloudapi.test", account="rollcall", key_material=PEM)
    return CloudApi(Transport(given, sleep=clock.sleep, clock=clock, environ={}, adapter=answers, **options))


OK: Answer = (200, [], {})
REFUSED_CONNECTION = requests.ConnectionError(
    urllib3.exceptions.MaxRetryError(None, "/", urllib3.exceptions.NewConnectionError(None, "refused"))  # type: ignore[arg-type]
)
LOST = requests.ConnectionError("reset by peer")


@pytest.mark.parametrize(
    "answer", [(429, {}, {}), (503, {}, {}), (500, {}, {}), (502, b"<html>", {}), REFUSED_CONNECTION, LOST]
)
def test_a_read_is_repeated(answer: Answer) -> None:
    answers = Answers(answer, answer, OK)
    assert api(answers).list_networks() == []
    assert len(answers.requests) == 3


@pytest.mark.parametrize(
    ("answer", "attempts"),
    [
        ((429, {}, {}), 2),
        ((503, {}, {}), 2),
        (REFUSED_CONNECTION, 2),
        ((500, {}, {}), 1),
        ((502, {}, {}), 1),
        (LOST, 1),
    ],
)
def test_a_creation_is_repeated_only_if_it_was_not_carried_out(answer: Answer, attempts: int) -> None:
    answers = Answers(answer, (201, {"id": "x"}, {}))
    if attempts == 1:
        with pytest.raises(LostReplyError):
            api(answers).create_machine({"name": "x"})
    else:
        assert api(answers).create_machine({"name": "x"}).id == "x"
    assert len(answers.requests) == attempts


def test_every_attempt_is_signed_again() -> None:
    answers = Answers((429, {}, {}), OK)
    api(answers).list_networks()
    assert all(request.headers["Authorization"].startswith("Signature ") for request in answers.requests)
    assert answers.requests[0] is not answers.requests[1]


def test_netrc_credentials_do_not_replace_the_signature(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine cloudapi.test login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    answers = Answers(OK)
    api(answers).list_networks()
    assert answers.requests[0].headers["Authorization"].startswith("Signature ")


def test_a_url_that_never_answered_is_given_up_soon_and_one_that_did_is_not() -> None:
    never, once = Answers(REFUSED_CONNECTION), Answers(OK, REFUSED_CONNECTION)
    with pytest.raises(TransientError):
        api(never).list_networks()
    client = api(once)
    client.list_networks()
    with pytest.raises(TransientError):
        client.list_networks()
    assert (len(never.requests), len(once.requests)) == (4, 9)


def test_attempts_are_bounded() -> None:
    answers = Answers((503, {"code": "ServiceUnavailable", "message": "read-only mode"}, {}))
    with pytest.raises(TransientError, match="503 ServiceUnavailable: read-only mode"):
        api(answers, attempts=4).list_networks()
    assert len(answers.requests) == 4


@pytest.mark.parametrize(
    "header", ["7", formatdate(1_000_007, usegmt=True)], ids=["seconds", "date"]
)  # The date is measured from the server's clock, whatever ours says.
def test_a_server_that_says_when_is_asked_then(header: str) -> None:
    clock = Clock()
    headers = {"Retry-After": header, "Date": formatdate(1_000_000, usegmt=True)}
    api(Answers((503, {}, headers), OK), clock).list_networks()
    assert clock.slept == [7.0]


def test_a_server_that_says_much_later_is_not_waited_for() -> None:
    clock = Clock()
    with pytest.raises(TransientError):
        api(Answers((503, {}, {"Retry-After": "3600"})), clock).list_networks()
    assert clock.slept == []


@pytest.mark.parametrize("text", ["soon", "Mon, 99 Nov 2026"])
def test_a_retry_after_that_cannot_be_read_counts_as_none(text: str) -> None:
    assert retry_after(text, None) is None


def test_back_off_has_full_jitter() -> None:
    assert [back_off(attempt, chance=lambda low, high: low) for attempt in (0, 9)] == [0, 0]
    assert [back_off(attempt, chance=lambda low, high: high) for attempt in (0, 1, 2, 9)] == [0.5, 1, 2, 20]


def test_the_limiter_gives_thirty_at_once_and_then_ten_a_second() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    assert [limiter.reserve() for _ in range(30)] == [0.0] * 30
    assert [round(limiter.reserve(), 3) for _ in range(3)] == [0.1, 0.2, 0.3]
    clock.sleep(100)
    assert [limiter.reserve() for _ in range(30)] == [0.0] * 30
    assert limiter.reserve() > 0


def test_a_throttled_answer_empties_the_bucket() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    limiter.empty()
    assert limiter.reserve() == pytest.approx(0.1)


def test_three_hundred_calls_take_twenty_seven_seconds() -> None:
    clock = Clock()
    client = api(Answers(OK), clock)
    for _ in range(300):
        client.list_networks()
    assert clock.now - 1000 == pytest.approx(27, abs=0.2)


REFUSALS: tuple[tuple[int, dict[str, Any], type[CloudApiError], str], ...] = (
    (401, {"code": "InvalidCredentials", "message": "no"}, AuthenticationError, "public key of TRITON_KEY_ID"),
    (403, {"code": "NotAuthorized", "message": "You do not have permission to access /x"}, AuthenticationError, "may not do that"),
    (403, {"code": "NotAuthorized", "message": "Account or user is disabled"}, AuthenticationError, "Have Triton's operator enable it.$"),
    (403, {"code": "NotAuthorized", "message": "Forbidden (not sold here)"}, AuthenticationError, "may not use this data centre. Have"),
    (401, {"code": "InvalidCredentials", "message": "DSA-SHA1 is not a supported signing algorithm"}, AuthenticationError,
     "supported signing algorithm. Sign with an RSA, ECDSA or Ed25519 key.$"),
    (501, {"code": "NotImplemented", "message": "no"}, RefusedError,
     "501 NotImplemented: no; this data centre cannot do that. Choose another.$"),
    (404, {"code": "ResourceNotFound", "message": "no"}, NotFoundError, "404"),
    (410, {"id": "x", "state": "deleted"}, NotFoundError, "410"),
    (409, {"code": "ValidationFailed", "message": "Invalid", "errors": [{"field": "ram", "code": "InsufficientCapacity"}]},
     RefusedError, "ram: InsufficientCapacity"),
    (409, {"code": "KeyRequired", "message": "no key"}, RefusedError, "Add an SSH key"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"), REFUSALS, ids=[str(each[0]) + each[3][:9] for each in REFUSALS]
)
def test_each_refusal_is_one_message_and_is_not_repeated(
    status: int, body: dict[str, Any], kind: type[CloudApiError], message: str
) -> None:
    answers = Answers((status, body, {}))
    with pytest.raises(kind, match=message) as raised:
        api(answers).get_machine("x")
    assert raised.value.status == status
    assert "\n" not in str(raised.value)
    assert len(answers.requests) == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (429, "CloudAPI throttles this account. Wait, and run it again."),
        (503, "CloudAPI is busy or in maintenance, the key and the account are not at fault. Try again later."),
        (500, "CloudAPI fails, the key and the account are not at fault. Try again later."),
        (502, "CloudAPI fails, the key and the account are not at fault. Try again later."),
    ],
)
def test_a_temporary_failure_is_not_blamed_on_the_key_or_the_account(status: int, message: str) -> None:
    with pytest.raises(TransientError, match=f"GET /rollcall: {status} .*; {message}$"):
        api(Answers((status, {"code": "Text", "message": "so"}, {})), attempts=2).get_account()


def test_a_skewed_clock_is_reported_by_how_much() -> None:
    headers = {"Date": formatdate(time.time() - 1000, usegmt=True)}
    body = {"code": "InvalidHeader", "message": "clock skew of 1000s was greater than 300s"}
    with pytest.raises(AuthenticationError, match=r"Set this machine's clock \(it is \d+ s ahead\)"):
        api(Answers((400, body, headers))).get_account()


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (REFUSED_CONNECTION, "cannot be reached.*Check TRITON_URL"),
        (requests.exceptions.SSLError("certificate verify failed"), "TLS failed.*TRITON_TLS_INSECURE=1"),
        (LOST, "gave no answer"),
    ],
)
def test_an_unreachable_url_is_one_message(failure: Exception, message: str) -> None:
    with pytest.raises(CloudApiError, match=f"http://cloudapi.test.*{message}"):
        api(Answers(failure), attempts=2).get_account()


def test_a_server_that_is_not_a_cloudapi_is_reported() -> None:
    with pytest.raises(FatalError, match=r"not JSON. Set TRITON_URL"):
        api(Answers((200, b"<html>", {}))).get_account()


def page(first: int, count: int) -> Answer:
    return 200, [{"id": f"m{number}"} for number in range(first, first + count)], {}


def test_pages_are_read_to_the_end_and_what_moved_between_them_is_listed_once() -> None:
    answers = Answers(page(0, PAGE), page(PAGE - 1, PAGE), page(2 * PAGE - 1, 0))
    machines = api(answers).list_machines()
    assert len(machines) == len({machine.id for machine in machines}) == 2 * PAGE - 1
    assert [str(request.url).rpartition("offset=")[2] for request in answers.requests] == ["0", "1000", "2000"]


def test_a_short_page_is_the_last() -> None:
    answers = Answers(page(0, PAGE - 1))
    api(answers).list_machines()
    assert len(answers.requests) == 1


def test_filters_are_typed_and_encoded() -> None:
    answers = Answers(OK)
    api(answers).list_machines(name="a b", tags={"spare": True, "n": 1})
    assert "name=a+b&tag.spare=true&tag.n=1&limit=1000&offset=0" in str(answers.requests[0].url)


ENVIRONMENT = {"TRITON_URL": "https://a.example/", "TRITON_ACCOUNT": "me", "TRITON_KEY_ID": "k"}


def test_triton_names_come_before_sdc_names() -> None:
    sdc = {"SDC_URL": "https://old.example", "SDC_ACCOUNT": "old", "SDC_USER": "bob", "SDC_KEY_ID": "o"}
    given = Credentials.read({**ENVIRONMENT, **sdc})
    assert (given.url, given.account, given.user, given.key_id) == ("https://a.example", "me", "bob", "k")
    assert Credentials.read(sdc).account == "old"


def test_the_environment_comes_before_the_settings() -> None:
    settings = {"url": "https://s.example", "account": "s", "user": "u", "keyId": "sk", "keyFile": "/f"}
    assert Credentials.read({}, settings).key_file == "/f"
    given = Credentials.read(ENVIRONMENT, settings)
    assert (given.account, given.user, given.key_id, given.key_file) == ("me", "u", "k", "")


def test_everything_that_lacks_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"TRITON_URL .* and TRITON_ACCOUNT"):
        Credentials.read({})


@pytest.mark.parametrize("url", ["cloudapi.example", "ftp://x", "https://"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the URL of a CloudAPI"):
        Credentials.read({**ENVIRONMENT, "TRITON_URL": url})


@pytest.mark.parametrize(
    ("environ", "insecure"),
    [
        ({}, False), ({"TRITON_TLS_INSECURE": "1"}, True), ({"SDC_TLS_INSECURE": "true"}, True), ({"SDC_TESTING": "no"}, True),
        ({"TRITON_TLS_INSECURE": "0", "SDC_TLS_INSECURE": "1"}, False), ({"TRITON_TLS_INSECURE": "", "SDC_TESTING": ""}, False),
    ],
)  # fmt: skip
def test_insecure_is_read_as_the_official_client_reads_it(environ: dict[str, str], insecure: bool) -> None:
    assert Credentials.read({**ENVIRONMENT, **environ}).insecure is insecure


def test_a_truth_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="TRITON_TLS_INSECURE: 'maybe' is not"):
        Credentials.read({**ENVIRONMENT, "TRITON_TLS_INSECURE": "maybe"})


def test_secrets_are_not_shown() -> None:
    given = Credentials.read({**ENVIRONMENT, "TRITON_KEY_MATERIAL": PEM, "TRITON_KEY_PASSPHRASE": "sesame"})
    assert "PRIVATE" not in repr(given)
    assert "sesame" not in repr(given)


def test_waiting_ends_with_what_was_found() -> None:
    clock, found = Clock(), iter([None, None, "it"])
    assert wait_until("it", lambda: next(found), timeout=60, sleep=clock.sleep, clock=clock) == "it"
    assert clock.slept == [1.0, 1.5]


def test_waiting_ends_at_its_bound_after_a_last_check() -> None:
    clock = Clock()
    probe: Callable[[], None] = lambda: None  # noqa: E731
    with pytest.raises(WaitTimeoutError, match="the thing: not within 10 s"):
        wait_until("the thing", probe, timeout=10, sleep=clock.sleep, clock=clock)
    assert clock.now == 1010
    assert max(clock.slept) <= 3.0


def test_the_client_needs_no_pulumi() -> None:
    import subprocess
    import sys

    code = "import sys, components.joyent.client; sys.exit('pulumi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_fake_machine_goes_all_the_way_round() -> None:
    cloud = FakeCloud()
    client = cloud.session().api
    made = client.create_machine({"name": "a", "package": "g1.nano", "image": "i"})
    client.list_machines()
    assert [(each.id, each.state, each.public_ip) for each in client.list_machines()] == [
        (made.id, "running", "203.0.113.10")
    ]
