"""rollcall.aws and rollcall.route53api: credentials, and every reply that a server or what is before it may give."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from rollcall import aws
from rollcall.aws import AccessKey, AwsClient, AwsRefusedError, InstanceRole, parsed_xml
from rollcall.errors import FatalError, RollcallError, TransientError
from rollcall.imds import InstanceMetadata
from rollcall.route53api import ConflictError, Route53Client
from rollcall.sigv4 import Credentials
from tests.unit.agent.fakes import Reply, Scripted

SECRET = "a-secret-that-nobody-may-see"
KEY = f"AKIAIOSFODNN7EXAMPLE {SECRET}"
SETS = (
    '<?xml version="1.0"?>\n<ListResourceRecordSetsResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/">'
    "<ResourceRecordSets>{sets}</ResourceRecordSets>{more}<MaxItems>300</MaxItems></ListResourceRecordSetsResponse>"
)
LAST = "<IsTruncated>false</IsTruncated>"


def error(code: str, message: str) -> bytes:
    return (
        '<?xml version="1.0"?><ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    ).encode()


@pytest.fixture(scope="module")
def shared() -> Iterator[Scripted]:
    made = Scripted(lambda *_: (500, {}, b""))
    yield made
    made.stop()


@pytest.fixture
def server(shared: Scripted) -> Scripted:
    shared.requests.clear()
    return shared


def client(server: Scripted, within: float = 30.0) -> Route53Client:
    return Route53Client(AccessKey(KEY), within, server.url)


def listed(server: Scripted, body: str | bytes, status: int = 200) -> list[dict[str, object]]:
    server.answer = lambda *_: (status, {}, body.encode() if isinstance(body, str) else body)
    found: list[dict[str, object]] = client(server).list_resource_record_sets(HostedZoneId="Z1")["ResourceRecordSets"]
    return found


def refused(server: Scripted, status: int, body: bytes, **headers: str) -> RollcallError:
    server.answer = lambda *_: (status, headers, body)
    with pytest.raises(RollcallError) as caught:
        client(server).change_resource_record_sets(HostedZoneId="Z1", ChangeBatch={"Changes": []})
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return caught.value


class TestRoute53:
    def test_a_page_is_as_boto3_has_it(self, server: Scripted) -> None:
        sets = (
            "<ResourceRecordSet><Name>\\052.unilans.net.</Name><Type>SRV</Type><TTL>5</TTL><ResourceRecords><ResourceRecord>"
            "<Value>1 2 3 a&amp;b.</Value></ResourceRecord><ResourceRecord><Value>1 2 3 &lt;b&gt;.</Value></ResourceRecord>"
            "</ResourceRecords></ResourceRecordSet><ResourceRecordSet><Name>a.</Name><Type>A</Type><SetIdentifier>x"
            "</SetIdentifier><AliasTarget><DNSName>b.</DNSName></AliasTarget></ResourceRecordSet>"
        )
        more = "<IsTruncated>true</IsTruncated><NextRecordName>b.</NextRecordName><NextRecordType>A</NextRecordType>"
        server.answer = lambda *_: (200, {}, SETS.format(sets=sets, more=more).encode())
        page = client(server).list_resource_record_sets(HostedZoneId="/hostedzone/Z1", StartRecordName="a b")
        first, second = page["ResourceRecordSets"]
        assert first == {
            "Name": "\\052.unilans.net.",
            "Type": "SRV",
            "TTL": "5",
            "ResourceRecords": [{"Value": "1 2 3 a&b."}, {"Value": "1 2 3 <b>."}],
        }
        assert "AliasTarget" in second and second["SetIdentifier"] == "x" and second["ResourceRecords"] == []
        assert (page["NextRecordName"], page["NextRecordType"]) == ("b.", "A")
        assert server.requests == ["GET /2013-04-01/hostedzone/Z1/rrset"]

    @pytest.mark.parametrize(
        ("status", "code", "message", "kind", "expected"),
        [
            (400, "Throttling", "Rate exceeded", TransientError, "reason=api-failing api=route53 code=Throttling"),
            (400, "PriorRequestNotComplete", "x", TransientError, "code=PriorRequestNotComplete"),
            (429, "SlowDown", "x", TransientError, "reason=api-failing api=route53 code=SlowDown"),
            (500, "InternalFailure", "x", TransientError, "reason=api-failing api=route53 code=InternalFailure"),
            (
                400,
                "InvalidChangeBatch",
                "[Tried to delete resource record set [name='a.', type='SRV'] but it was not found]",
                ConflictError,
                "reason=contended",
            ),
            (
                400,
                "InvalidChangeBatch",
                "[... but the values provided do not match the current values]",
                ConflictError,
                "reason=contended",
            ),
            (400, "InvalidChangeBatch", "[RRSet with DNS name a. is no]", FatalError, "code=InvalidChangeBatch"),
            (
                403,
                "AccessDenied",
                "User: x is not authorized",
                FatalError,
                "reason=refused api=route53 code=AccessDenied",
            ),
            (404, "NoSuchHostedZone", "No hosted zone found with ID: Z1", FatalError, "code=NoSuchHostedZone"),
            (
                403,
                "SignatureDoesNotMatch",
                "Signature expired: 1 is now earlier",
                FatalError,
                "message='Signature expired",
            ),
            (403, "RequestTimeTooSkewed", "x" * 9999, FatalError, "code=RequestTimeTooSkewed message='xxx"),
        ],
    )
    def test_what_it_refuses_is_reported_in_its_own_words(
        self, server: Scripted, status: int, code: str, message: str, kind: type[RollcallError], expected: str
    ) -> None:
        fault = refused(server, status, error(code, message))
        assert type(fault) is kind and expected in str(fault)

    def test_the_older_form_of_a_refused_batch_is_understood(self, server: Scripted) -> None:
        body = (
            '<InvalidChangeBatch xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Messages><Message>Tried to create'
            " resource record set [name='a.', type='A'] but it already exists</Message></Messages></InvalidChangeBatch>"
        )
        assert isinstance(refused(server, 400, body.encode()), ConflictError)

    @pytest.mark.parametrize(
        ("status", "body", "kind", "message"),
        [
            (503, b"<html>down</html>", TransientError, "reason=api-failing api=route53 code=503"),
            (502, b"", TransientError, "code=502"),
            (403, b"<html><p>blocked", FatalError, "reason=refused api=route53 code=403 message=''"),
            (403, b"{broken", FatalError, "code=403"),
            (302, b"", FatalError, "code=302"),
        ],
    )
    def test_an_error_of_whatever_is_between_has_its_status(
        self, server: Scripted, status: int, body: bytes, kind: type[RollcallError], message: str
    ) -> None:
        fault = refused(server, status, body, Location="https://elsewhere.invalid/")
        assert type(fault) is kind and message in str(fault)
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "no XML",
            "<html/>",
            "<ListResourceRecordSetsResponse/>",
            SETS.format(sets="<ResourceRecordSet><Type>A</Type></ResourceRecordSet>", more=LAST),
            SETS.format(
                sets="<ResourceRecordSet><Name>a.</Name><Type>A</Type><TTL>x</TTL></ResourceRecordSet>", more=LAST
            ),
            SETS.format(sets="", more="<IsTruncated>true</IsTruncated>"),
            SETS.format(sets="", more=LAST)[:-9],
            b"\xff\xfe<\x00a\x00/\x00>\x00",
            '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>',
        ],
    )
    def test_a_reply_of_another_form_may_be_another_one_at_the_next_try(
        self, server: Scripted, body: str | bytes
    ) -> None:
        with pytest.raises(TransientError, match="reason=garbled-reply api=route53"):
            listed(server, body)

    def test_a_reply_without_end_is_not_read_to_its_end(
        self, server: Scripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(aws, "_REPLY_LIMIT_BYTES", 1000)
        assert listed(server, SETS.format(sets="", more=LAST)) == []
        for status in (200, 403):
            with pytest.raises(TransientError, match="error=too-long"):
                listed(server, "x" * 1001, status)

    def test_a_compressed_reply_is_not_unpacked(self, server: Scripted) -> None:
        import gzip

        packed = gzip.compress(b"<a>" + b"x" * 10_000_000)
        server.answer = lambda *_: (200, {"Content-Encoding": "gzip"}, packed)
        with pytest.raises(TransientError, match="garbled-reply"):
            client(server).list_resource_record_sets(HostedZoneId="Z1")

    def test_after_its_time_it_asks_nothing(self, server: Scripted) -> None:
        with pytest.raises(TransientError, match="reason=too-slow api=route53"):
            client(server, within=0.0).list_resource_record_sets(HostedZoneId="Z1")
        made = client(server)
        made.close()
        with pytest.raises(TransientError, match="reason=too-slow api=route53"):
            made.list_resource_record_sets(HostedZoneId="Z1")
        assert server.requests == []

    def test_no_connection_is_worth_another_try(self) -> None:
        with pytest.raises(TransientError, match="reason=unreachable api=route53 error=ConnectionError"):
            Route53Client(AccessKey(KEY), 30.0, "http://127.0.0.1:9").list_resource_record_sets(HostedZoneId="Z1")

    def test_a_body_that_breaks_off_is_worth_another_try(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> None:
                line, _ = listener.accept()
                with line:
                    line.recv(9999)
                    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n<ListRe")

            serving = threading.Thread(target=serve)
            serving.start()
            with pytest.raises(TransientError, match=r"reason=(unreachable|garbled-reply) api=route53"):
                Route53Client(
                    AccessKey(KEY), 30.0, f"http://127.0.0.1:{listener.getsockname()[1]}"
                ).list_resource_record_sets(HostedZoneId="Z1")
            serving.join()

    def test_netrc_does_not_replace_the_signature(
        self, server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        seen: list[str] = []

        def answer(_: str, __: str, headers: Mapping[str, str]) -> Reply:
            seen.append(headers["authorization"])
            return 200, {}, SETS.format(sets="", more=LAST).encode()

        server.answer = answer
        client(server).list_resource_record_sets(HostedZoneId="Z1")
        assert seen[0].startswith("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/")


@pytest.mark.parametrize("key", ["AKIA", "a b c", "one\ntwo three"])
def test_an_access_key_of_another_form_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(FatalError, match="reason=bad-access-key") as caught:
        AccessKey(key)
    assert "AKIA" not in str(caught.value)


class Role:
    """A metadata service with a role, on a clock."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.number = 1
        self.lasts = 3600.0
        self.status = 200
        self.reads = 0

    def __call__(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        if method == "PUT":
            return 200, {}, b"token"
        if headers.get("x-aws-ec2-metadata-token") != "token" or self.status != 200:
            return self.status if self.status != 200 else 401, {}, b""
        if path == "/latest/meta-data/iam/security-credentials/":
            return 200, {}, b"a-role"
        assert path == "/latest/meta-data/iam/security-credentials/a-role"
        self.reads += 1
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now + self.lasts))
        document = {"Code": "Success", "AccessKeyId": f"ASIA{self.number}", "SecretAccessKey": "s", "Token": "t"}
        return 200, {}, json.dumps({**document, "Expiration": end}).encode()


class TestInstanceRole:
    @pytest.fixture
    def role(self, server: Scripted) -> Role:
        made = Role()
        server.answer = made
        return made

    @pytest.fixture
    def source(self, server: Scripted, role: Role) -> InstanceRole:
        return InstanceRole(InstanceMetadata(server.url), lambda: role.now)

    def test_credentials_are_read_once_and_again_before_they_end(self, role: Role, source: InstanceRole) -> None:
        assert source.current() == source.current() == Credentials("ASIA1", "s", "t", role.now + 3600)
        assert role.reads == 1
        role.now, role.number = role.now + 3600 - 299, 2
        assert source.current().key_id == "ASIA2" and role.reads == 2

    def test_old_ones_serve_as_long_as_they_last_while_the_service_is_silent(
        self, role: Role, source: InstanceRole
    ) -> None:
        source.current()
        role.status = 503
        role.now += 3599
        assert source.current().key_id == "ASIA1"
        role.now += 2
        with pytest.raises(TransientError, match="reason=no-metadata"):
            source.current()

    def test_renewing_says_whether_they_are_others(self, role: Role, source: InstanceRole) -> None:
        source.current()
        assert not source.renew()
        role.number = 2
        assert source.renew() and source.current().key_id == "ASIA2"

    def test_an_instance_without_a_role_is_reported(self, server: Scripted, source: InstanceRole) -> None:
        server.answer = lambda method, *_: (200, {}, b"token") if method == "PUT" else (404, {}, b"")
        with pytest.raises(TransientError, match="reason=no-credentials fix='give the instance its role'"):
            source.current()

    @pytest.mark.parametrize(
        "message",
        [b"", b"[]", b'{"Code": "AssumeRoleUnauthorizedAccess"}', b'{"Expiration": 3}', b'{"Expiration": "soon"}'],
    )
    def test_an_invalid_credential_is_tried_again(self, server: Scripted, source: InstanceRole, message: bytes) -> None:
        server.answer = lambda method, path, _: (
            200,
            {},
            b"token" if method == "PUT" else b"a-role" if path.endswith("/") else message,
        )
        with pytest.raises(TransientError, match="reason=no-credentials error="):
            source.current()


class Source:
    """Credentials that a test renews."""

    def __init__(self, *keys: str) -> None:
        self.keys = [*keys]

    def current(self) -> Credentials:
        return Credentials(self.keys[0], "s")

    def renew(self) -> bool:
        del self.keys[0]
        return True


def only(key: str) -> Callable[[str, str, Mapping[str, str]], Reply]:
    """Let in `key` alone; any other has ended."""

    def answer(_: str, __: str, headers: Mapping[str, str]) -> Reply:
        if f"Credential={key}/" in headers["authorization"]:
            return 200, {}, b"done"
        return 400, {}, b'{"__type": "com.amazonaws.ssm#ExpiredTokenException", "message": "The token is expired"}'

    return answer


def test_credentials_that_have_ended_are_read_once_more(server: Scripted) -> None:
    server.answer = only("NEW")
    assert AwsClient("ssm", "eu-west-1", Source("OLD", "NEW"), server.url).call("POST", "/", body=b"{}") == b"done"
    assert len(server.requests) == 2
    with pytest.raises(AwsRefusedError, match="code=ExpiredTokenException message='The token is expired'"):
        AwsClient("ssm", "eu-west-1", Source("OLD", "OLDER", "NEW"), server.url).call("POST", "/", body=b"{}")
    assert len(server.requests) == 4


def test_an_access_key_that_is_refused_is_asked_once(server: Scripted) -> None:
    server.answer = only("NEW")
    with pytest.raises(AwsRefusedError, match="code=ExpiredTokenException"):
        AwsClient("ssm", "eu-west-1", AccessKey(KEY), server.url).call("POST", "/", body=b"{}")
    assert len(server.requests) == 1


def test_xml_with_names_of_any_namespace_is_read() -> None:
    assert parsed_xml(b'<a xmlns="urn:b"><c>1</c></a>').findtext("c") == "1"
