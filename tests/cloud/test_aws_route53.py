"""The local Route53 through boto3: zones, lists, batches, pace, propagation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from localcloud.aws.route53 import HARSH, UNLIMITED
from localcloud.dns.server import Authority
from tests.cloud.aws_cloud import Cloud, running

pytestmark = pytest.mark.clouds
ZONE = "unilans.net"
NAME = f"v1._theService._tcp.{ZONE}"


@pytest.fixture(scope="module")
def shared() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


@pytest.fixture
def lab(shared: Cloud) -> Iterator[Lab]:
    made = Lab(shared)
    yield made
    shared.faults.clear()
    shared.clock.ahead = 0.0
    shared.aws.route53.limits = UNLIMITED
    made.clear()


class Lab:
    """One zone, new for each test."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.api = cloud.client("route53")
        self.zone = cloud.aws.add_zone(ZONE)

    def batch(self, *changes: dict[str, Any]) -> Any:
        return self.api.change_resource_record_sets(HostedZoneId=self.zone, ChangeBatch={"Changes": list(changes)})

    def sets(self, **requested: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.list_resource_record_sets(HostedZoneId=self.zone, **requested)[
            "ResourceRecordSets"
        ]
        return found

    def at(self, name: str) -> Any:
        found = self.cloud.aws.lookup(ZONE, name)
        return None if found is None else {each.type: (each.ttl, each.values) for each in found}

    def clear(self) -> None:
        kept = [each for each in self.sets() if each["Type"] not in ("SOA", "NS") or each["Name"] != f"{ZONE}."]
        if kept:
            self.batch(*({"Action": "DELETE", "ResourceRecordSet": each} for each in kept))
        self.api.delete_hosted_zone(Id=self.zone)


def change(action: str, name: str, kind: str, *values: str, ttl: int = 30, **more: Any) -> dict[str, Any]:
    records = [{"Value": value} for value in values]
    return {
        "Action": action,
        "ResourceRecordSet": {"Name": name, "Type": kind, "TTL": ttl, "ResourceRecords": records, **more},
    }


def refusal(act: Callable[[], Any]) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        act()
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


class TestChanges:
    def test_a_change_is_in_sync_and_answered_at_once(self, lab: Lab) -> None:
        info = lab.batch(change("CREATE", NAME, "SRV", f"10 10 4218 a.{ZONE}"))["ChangeInfo"]
        assert info["Status"] == "PENDING" and info["Id"].startswith("/change/C")
        assert lab.api.get_change(Id=info["Id"])["ChangeInfo"]["Status"] == "INSYNC"
        assert lab.at(NAME) == {"SRV": (30, (f"10 10 4218 a.{ZONE}",))}
        assert lab.at(f"_tcp.{ZONE}") == {}

    def test_a_batch_with_one_bad_change_does_nothing(self, lab: Lab) -> None:
        lab.batch(change("CREATE", NAME, "SRV", f"10 10 4218 a.{ZONE}"))
        code, status, message = refusal(
            lambda: lab.batch(
                change("CREATE", f"h.rc.{ZONE}", "A", "198.51.100.10"),
                change("DELETE", NAME, "SRV", f"10 10 4218 b.{ZONE}"),
            )
        )
        assert (code, status) == ("InvalidChangeBatch", 400)
        assert message == (
            f"[Tried to delete resource record set [name='{NAME.lower()}.', type='SRV'] "
            "but the values provided do not match the current values]"
        )
        assert lab.at(f"h.rc.{ZONE}") is None and len(lab.sets()) == 3

    def test_swapping_the_exact_set_succeeds_once(self, lab: Lab) -> None:
        lab.batch(change("CREATE", NAME, "SRV", f"10 10 4218 a.{ZONE}"))
        swap = (
            change("DELETE", NAME, "SRV", f"10 10 4218 a.{ZONE}"),
            change("CREATE", NAME, "SRV", f"10 10 4218 a.{ZONE}", f"10 10 4218 b.{ZONE}"),
        )
        lab.batch(*swap)
        assert refusal(lambda: lab.batch(*swap))[0] == "InvalidChangeBatch"
        assert len(lab.at(NAME)["SRV"][1]) == 2

    def test_names_come_back_normalized(self, lab: Lab) -> None:
        lab.batch(change("CREATE", f"*.{ZONE}", "A", "198.51.100.10"), change("CREATE", NAME, "TXT", '"path=/"'))
        assert [each["Name"] for each in lab.sets()] == [
            f"{ZONE}.", f"{ZONE}.", f"\\052.{ZONE}.", f"{NAME.lower()}.",
        ]  # fmt: skip
        assert lab.at(f"anything.{ZONE}") == {"A": (30, ("198.51.100.10",))}
        lab.batch(change("DELETE", f"\\052.{ZONE}.", "A", "198.51.100.10"))
        assert lab.at(f"anything.{ZONE}") is None

    def test_a_set_that_was_there_from_the_start_is_like_any_other(self, lab: Lab) -> None:
        lab.cloud.aws.add_record_set(lab.zone, f"Kept.{ZONE}", "TXT", 300, '"by hand"')
        assert lab.at(f"kept.{ZONE}") == {"TXT": (300, ('"by hand"',))}
        lab.batch(change("DELETE", f"kept.{ZONE}", "TXT", '"by hand"', ttl=300))

    def test_an_upsert_makes_or_replaces(self, lab: Lab) -> None:
        for ttl, value in ((30, "198.51.100.10"), (60, "198.51.100.11")):
            lab.batch(change("UPSERT", f"h.{ZONE}", "A", value, ttl=ttl))
        assert lab.at(f"h.{ZONE}") == {"A": (60, ("198.51.100.11",))}

    @pytest.mark.parametrize(
        ("what", "expected"),
        [
            (change("CREATE", "www.example.com", "A", "198.51.100.10"), "is not permitted in zone"),
            (change("CREATE", f"h.{ZONE}", "A", "nonsense"), "ARRDATAIllegalIPv4Address"),
            (change("CREATE", f"h.{ZONE}", "SRV", "10 10 4218"), "4 fields"),
            (change("CREATE", f"h.{ZONE}", "TXT", "bare"), "enclosed in quotation marks"),
            (change("CREATE", ZONE, "CNAME", "elsewhere.example"), "apex"),
            (change("CREATE", f"h.{ZONE}", "A", "198.51.100.10", "198.51.100.10"), "Duplicate Resource Record"),
            (change("CREATE", f"{'x' * 64}.{ZONE}", "A", "198.51.100.10"), "DomainLabelTooLong"),
        ],
    )
    def test_what_cannot_be_is_refused(self, lab: Lab, what: dict[str, Any], expected: str) -> None:
        code, status, message = refusal(lambda: lab.batch(what))
        assert (code, status) == ("InvalidChangeBatch", 400) and expected in message

    def test_routed_sets_and_aliases_keep_what_they_were_given(self, lab: Lab) -> None:
        alias = {"HostedZoneId": lab.zone, "DNSName": f"h.{ZONE}.", "EvaluateTargetHealth": False}
        lab.batch(
            change("CREATE", f"h.{ZONE}", "A", "198.51.100.10", SetIdentifier="one", Weight=70),
            change("CREATE", f"h.{ZONE}", "A", "198.51.100.11", SetIdentifier="two", Weight=0),
            {"Action": "CREATE", "ResourceRecordSet": {"Name": f"alias.{ZONE}", "Type": "A", "AliasTarget": alias}},
        )
        found = {(each["Name"], each.get("SetIdentifier")): each for each in lab.sets()}
        assert found[f"h.{ZONE}.", "one"]["Weight"] == 70 and found[f"alias.{ZONE}.", None]["AliasTarget"] == alias
        assert lab.at(f"alias.{ZONE}")["A"][1] == ("198.51.100.10",)
        assert (
            refusal(lambda: lab.batch(change("CREATE", f"h.{ZONE}", "A", "198.51.100.12")))[0] == "InvalidChangeBatch"
        )


class TestLists:
    def test_pages_go_through_all_sets_in_order(self, lab: Lab) -> None:
        names = [f"b.a.{ZONE}", f"a.b.{ZONE}", f"z.{ZONE}", f"a.{ZONE}"]
        lab.batch(*(change("CREATE", name, kind, value) for name in names for kind, value in
                    (("A", "198.51.100.10"), ("TXT", '"x"'))))  # fmt: skip
        pages = lab.api.get_paginator("list_resource_record_sets").paginate(
            HostedZoneId=lab.zone, PaginationConfig={"PageSize": 3}
        )
        seen = [(each["Name"], each["Type"]) for page in pages for each in page["ResourceRecordSets"]]
        own = [(f"{ZONE}.", "NS"), (f"{ZONE}.", "SOA")]
        ordered = [f"a.{ZONE}", f"b.a.{ZONE}", f"a.b.{ZONE}", f"z.{ZONE}"]
        assert seen == own + [(f"{name}.", kind) for name in ordered for kind in ("A", "TXT")]

    def test_a_list_starts_at_a_name_and_type(self, lab: Lab) -> None:
        lab.batch(change("CREATE", NAME, "SRV", f"10 10 4218 a.{ZONE}"), change("CREATE", NAME, "TXT", '"path=/"'))
        found = lab.sets(StartRecordName=NAME, StartRecordType="SRV", MaxItems="1")
        assert [(each["Name"], each["Type"]) for each in found] == [(f"{NAME.lower()}.", "SRV")]
        assert [each["Type"] for each in lab.sets(StartRecordName=NAME, StartRecordType="TXT")] == ["TXT"]
        assert refusal(lambda: lab.sets(StartRecordType="TXT"))[0] == "InvalidInput"


class TestZones:
    def test_a_zone_is_made_once_by_its_reference(self, lab: Lab) -> None:
        made = lab.api.create_hosted_zone(
            Name="Example.COM", CallerReference="one", HostedZoneConfig={"Comment": "mine"}
        )
        zone = made["HostedZone"]
        assert (zone["Name"], zone["Config"]["Comment"]) == ("example.com.", "mine")
        assert len(made["DelegationSet"]["NameServers"]) == 4
        assert refusal(lambda: lab.api.create_hosted_zone(Name="example.com", CallerReference="one"))[:2] == (
            "HostedZoneAlreadyExists", 409,
        )  # fmt: skip
        found = lab.api.get_hosted_zone(Id=zone["Id"])
        assert found["HostedZone"]["ResourceRecordSetCount"] == 2 and found["DelegationSet"] == made["DelegationSet"]
        assert "example.com" in lab.cloud.aws.zones()
        lab.api.delete_hosted_zone(Id=zone["Id"])
        assert refusal(lambda: lab.api.get_hosted_zone(Id=zone["Id"]))[:2] == ("NoSuchHostedZone", 404)
        assert "example.com" not in lab.cloud.aws.zones()

    def test_only_an_empty_zone_can_be_deleted(self, lab: Lab) -> None:
        lab.batch(change("CREATE", f"h.{ZONE}", "A", "198.51.100.10"))
        assert refusal(lambda: lab.api.delete_hosted_zone(Id=lab.zone))[0] == "HostedZoneNotEmpty"

    def test_zones_are_found_by_name(self, lab: Lab) -> None:
        found = lab.api.list_hosted_zones_by_name(DNSName=ZONE, MaxItems="1")["HostedZones"]
        assert [(each["Id"], each["Name"]) for each in found] == [(f"/hostedzone/{lab.zone}", f"{ZONE}.")]
        assert [each["Name"] for each in lab.api.list_hosted_zones()["HostedZones"]] == [f"{ZONE}."]
        assert lab.api.get_hosted_zone_count()["HostedZoneCount"] == 1

    def test_zones_have_tags(self, lab: Lab) -> None:
        lab.api.change_tags_for_resource(
            ResourceType="hostedzone",
            ResourceId=lab.zone,
            AddTags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}],
        )
        lab.api.change_tags_for_resource(ResourceType="hostedzone", ResourceId=lab.zone, RemoveTagKeys=["a"])
        tag_set = lab.api.list_tags_for_resource(ResourceType="hostedzone", ResourceId=lab.zone)["ResourceTagSet"]
        assert (tag_set["ResourceId"], tag_set["Tags"]) == (lab.zone, [{"Key": "b", "Value": "2"}])

    def test_an_unknown_zone_or_change_is_reported(self, lab: Lab) -> None:
        assert refusal(lambda: lab.api.list_resource_record_sets(HostedZoneId="Z0"))[:2] == ("NoSuchHostedZone", 404)
        assert refusal(lambda: lab.api.get_change(Id="C0"))[0] == "NoSuchChange"


class TestTrouble:
    def test_a_change_is_pending_until_it_has_propagated(self, lab: Lab) -> None:
        lab.cloud.faults.add("route53 propagation=30")
        info = lab.batch(change("CREATE", f"h.{ZONE}", "A", "198.51.100.10"))["ChangeInfo"]
        assert lab.api.get_change(Id=info["Id"])["ChangeInfo"]["Status"] == "PENDING"
        assert lab.at(f"h.{ZONE}") is None and len(lab.sets()) == 3
        lab.cloud.clock.ahead = 31.0
        assert lab.at(f"h.{ZONE}") is not None
        assert lab.api.get_change(Id=info["Id"])["ChangeInfo"]["Status"] == "INSYNC"

    def test_the_sixth_request_of_a_second_is_throttled_by_the_harsh_profile(self, lab: Lab) -> None:
        lab.cloud.aws.route53.limits = HARSH
        outcomes = []
        for _ in range(12):
            try:
                lab.sets()
                outcomes.append("ok")
            except ClientError as refused:
                response = refused.response
                outcomes.append(response["Error"]["Code"])
                assert response["Error"]["Message"] == "Rate exceeded"
                assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert outcomes[:6] == ["ok"] * 5 + ["Throttling"]

    def test_the_harsh_profile_can_be_switched_on_as_a_fault(self, lab: Lab) -> None:
        lab.cloud.faults.add("route53 harsh")
        for _ in range(5):
            lab.sets()
        assert refusal(lab.sets)[0] == "Throttling"

    def test_a_prior_request_in_the_way_changes_nothing(self, lab: Lab) -> None:
        lab.cloud.faults.add("route53 prior-request times=1")
        what = change("CREATE", f"h.{ZONE}", "A", "198.51.100.10")
        assert refusal(lambda: lab.batch(what))[:2] == ("PriorRequestNotComplete", 400)
        assert lab.at(f"h.{ZONE}") is None
        lab.batch(what)

    def test_a_lost_reply_has_acted_and_a_throttled_request_has_not(self, lab: Lab) -> None:
        lab.cloud.faults.add("route53:POST throttle times=1")
        what = change("CREATE", f"h.{ZONE}", "A", "198.51.100.10")
        assert refusal(lambda: lab.batch(what))[0] == "Throttling"
        assert lab.at(f"h.{ZONE}") is None
        lab.cloud.faults.add("route53:POST lose times=1")
        with pytest.raises(BotoCoreError):
            lab.batch(what)
        assert lab.at(f"h.{ZONE}") is not None

    def test_broken_xml_is_refused(self, lab: Lab) -> None:
        def cut(request: Any, **_: Any) -> None:
            request.data = request.data[:-5]

        event = "before-sign.route53.ChangeResourceRecordSets"
        lab.api.meta.events.register(event, cut)
        try:
            assert refusal(lambda: lab.batch(change("CREATE", f"h.{ZONE}", "A", "198.51.100.10")))[0] == "MalformedXML"
        finally:
            lab.api.meta.events.unregister(event, cut)


class TestHealthChecks:
    def test_there_are_none(self, lab: Lab) -> None:
        """octoDNS lists them before it changes anything."""
        assert lab.api.list_health_checks()["HealthChecks"] == []
        assert lab.api.list_health_checks(MaxItems="5")["IsTruncated"] is False
        assert lab.api.get_health_check_count()["HealthCheckCount"] == 0

    def test_a_set_cannot_have_one_that_there_is_not(self, lab: Lab) -> None:
        options: dict[str, Any] = {"SetIdentifier": "a", "Weight": 1, "HealthCheckId": "0a1b2c"}
        code, status, message = refusal(
            lambda: lab.batch(change("CREATE", f"h.{ZONE}", "A", "198.51.100.1", **options))
        )
        assert (code, status) == ("NoSuchHealthCheck", 404) and "0a1b2c" in message


class TestWhatIsNotEmulated:
    def test_it_says_so_and_what_is_unknown_says_that(self, lab: Lab) -> None:
        made = {"CallerReference": "1", "HealthCheckConfig": {"Type": "TCP", "IPAddress": "198.51.100.1", "Port": 80}}
        for name, act in (
            ("CreateHealthCheck", lambda: lab.api.create_health_check(**made)),
            ("ListTrafficPolicies", lab.api.list_traffic_policies),
            ("ListQueryLoggingConfigs", lab.api.list_query_logging_configs),
            ("GetDNSSEC", lambda: lab.api.get_dnssec(HostedZoneId=lab.zone)),
        ):
            code, status, message = refusal(act)
            assert (code, status) == ("UnsupportedOperation", 400) and f"does not emulate {name}: " in message


class TestNames:
    """Each through the API, its list, and the DNS server."""

    @staticmethod
    def ask(lab: Lab, name: dns.name.Name, kind: str) -> dns.message.Message:
        authority = Authority([lab.cloud.aws], {"ns.example": "127.0.0.1"})
        reply = authority.answer(dns.message.make_query(name, kind).to_wire())
        assert reply is not None
        return dns.message.from_wire(reply)

    @pytest.mark.parametrize(
        ("written", "listed", "label"),
        [
            (r"\351t\351", r"\351t\351", b"\xe9t\xe9"),
            (r"\303\251", r"\303\251", "é".encode()),
            (r"\200\377", r"\200\377", b"\x80\xff"),
            (r"\311X", r"\311x", b"\xc9x"),
            (r"a\056b", r"a\056b", b"a.b"),
            (r"0/25", r"0\05725", b"0/25"),
            (r"a\040b", r"a\040b", b"a b"),
            (r"\134x", r"\134x", b"\\x"),
        ],
    )
    def test_a_byte_that_is_not_a_letter_comes_back_as_it_was_written(
        self, lab: Lab, written: str, listed: str, label: bytes
    ) -> None:
        lab.batch(change("CREATE", f"{written}.{ZONE}", "A", "198.51.100.10"))
        assert f"{listed}.{ZONE}." in [each["Name"] for each in lab.sets()]
        (found,) = lab.sets(StartRecordName=f"{written}.{ZONE}", StartRecordType="A", MaxItems="1")
        assert found["Name"] == f"{listed}.{ZONE}."
        requested = dns.name.Name((label, *dns.name.from_text(ZONE).labels))
        reply = self.ask(lab, requested, "A")
        assert [str(each) for each in reply.answer[0]] == ["198.51.100.10"] and reply.answer[0].name == requested

    def test_a_zone_may_have_such_a_name(self, lab: Lab) -> None:
        zone = lab.api.create_hosted_zone(Name="0/25.100.51.198.in-addr.arpa", CallerReference="classless")
        identity = zone["HostedZone"]["Id"]
        assert zone["HostedZone"]["Name"] == r"0\05725.100.51.198.in-addr.arpa."
        made = change("CREATE", "7.0/25.100.51.198.in-addr.arpa", "PTR", f"www.{ZONE}")
        lab.api.change_resource_record_sets(HostedZoneId=identity, ChangeBatch={"Changes": [made]})
        reply = self.ask(lab, dns.name.from_text("7.0/25.100.51.198.in-addr.arpa"), "PTR")
        assert [str(each) for each in reply.answer[0]] == [f"www.{ZONE}."]
        made["Action"] = "DELETE"
        lab.api.change_resource_record_sets(HostedZoneId=identity, ChangeBatch={"Changes": [made]})
        lab.api.delete_hosted_zone(Id=identity)

    @pytest.mark.parametrize("name", ["été", "a b"])
    def test_other_characters_must_be_escaped(self, lab: Lab, name: str) -> None:
        code, _, message = refusal(lambda: lab.batch(change("CREATE", f"{name}.{ZONE}", "A", "198.51.100.10")))
        assert code == "InvalidChangeBatch" and "UnsupportedCharacter" in message

    @pytest.mark.parametrize(
        ("kind", "value", "sent"),
        [
            ("SVCB", "1 svc.example alpn=h2", '1 svc.example. alpn="h2"'),
            ("HTTPS", "0 other.example", "0 other.example."),
            ("NAPTR", '100 50 "s" "SIP+D2U" "" _sip._udp.example', '100 50 "s" "SIP+D2U" "" _sip._udp.example.'),
            ("MX", "10 mail.example", "10 mail.example."),
            ("TXT", r'"\351" "b"', r'"\233" "b"'),
            ("CAA", '0 issue "ca.example"', '0 issue "ca.example"'),
        ],
    )
    def test_what_it_takes_is_served(self, lab: Lab, kind: str, value: str, sent: str) -> None:
        lab.batch(change("CREATE", f"v.{ZONE}", kind, value))
        reply = self.ask(lab, dns.name.from_text(f"v.{ZONE}"), kind)
        assert [str(each) for each in reply.answer[0]] == [sent]

    def test_what_could_not_be_served_is_refused(self, lab: Lab) -> None:
        code, status, message = refusal(lambda: lab.batch(change("CREATE", f"v.{ZONE}", "DS", "60485 5 1 2BB")))
        assert (
            (code, status) == ("InvalidChangeBatch", 400)
            and "DSRRDATAInvalid" in message
            and "60485 5 1 2BB" in message
        )

    def test_below_a_delegation_is_a_referral(self, lab: Lab) -> None:
        lab.batch(change("CREATE", f"child.{ZONE}", "NS", "ns1.elsewhere.example"))
        for name in (f"child.{ZONE}", f"www.child.{ZONE}", f"a.b.child.{ZONE}"):
            reply = self.ask(lab, dns.name.from_text(name), "A")
            assert reply.rcode() == dns.rcode.NOERROR and not reply.answer and not reply.flags & dns.flags.AA
            assert [(str(each.name), str(each[0])) for each in reply.authority] == [
                (f"child.{ZONE}.", "ns1.elsewhere.example.")
            ]
