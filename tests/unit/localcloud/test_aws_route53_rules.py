"""Route53's rules: names, values, batches, pace, and what name servers answer meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from localcloud.aws.route53.names import BadNameError, from_presentation, normalize, order, parents, presentation
from localcloud.aws.route53.pace import HARSH, PRESENT, UNLIMITED, Throttle
from localcloud.aws.route53.records import BatchError, Change, Key, RecordSet, apply
from localcloud.aws.route53.values import fault
from localcloud.aws.route53.view import View
from localcloud.dns import data

ZONE = "unilans.net"
SRV = RecordSet(
    name=f"v1._theservice._tcp.{ZONE}",
    type="SRV",
    ttl=30,
    values=("10 10 4218 a.rc.unilans.net", "10 10 4218 b.rc.unilans.net"),
)
A = RecordSet(name=f"www.{ZONE}", type="A", ttl=60, values=("198.51.100.10",))
CNAME = RecordSet(name=f"www.{ZONE}", type="CNAME", ttl=60, values=("elsewhere.example",))


def zone(*sets: RecordSet) -> dict[Key, RecordSet]:
    own = (
        RecordSet(name=ZONE, type="SOA", ttl=900, values=("a b 1 7200 900 1209600 86400",)),
        RecordSet(name=ZONE, type="NS", ttl=172800, values=("ns.example.",)),
    )
    return {each.key: each for each in (*own, *sets)}


def messages(sets: dict[Key, RecordSet], *changes: Change) -> str:
    before = dict(sets)
    with pytest.raises(BatchError) as refused:
        apply(ZONE, sets, changes)
    assert sets == before
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("WWW.Unilans.NET.", "www.unilans.net"),
        ("_theService._tcp.unilans.net", "_theservice._tcp.unilans.net"),
        ("*.unilans.net", "\\052.unilans.net"),
        ("\\052.unilans.net", "\\052.unilans.net"),
        ("\\101.unilans.net", "a.unilans.net"),
        ("a\\040b.unilans.net", "a\\040b.unilans.net"),
        ("a\\.b.unilans.net", "a\\056b.unilans.net"),
        # Bytes from 0x80 are bytes: neither characters nor with an upper and a lower case.
        ("\\351T\\351.unilans.net", "\\351t\\351.unilans.net"),
        ("\\303\\211.unilans.net", "\\303\\211.unilans.net"),
        ("\\377\\000.unilans.net", "\\377\\000.unilans.net"),
        ("", ""),
    ],
)
def test_names_are_normalized(text: str, normal: str) -> None:
    assert normalize(text) == normal
    assert normalize(normal) == normal
    assert from_presentation(presentation(normal)) == normal


@pytest.mark.parametrize(
    "text", ["a b.net", "\u00e9t\u00e9.net", "a\t.net", "a..b", ".a", "x" * 64 + ".net", ".".join(["x" * 60] * 5)]
)
def test_an_invalid_name_is_refused(text: str) -> None:
    with pytest.raises(BadNameError):
        normalize(text)


def test_names_are_ordered_by_their_labels_from_the_last() -> None:
    names = ["b.a.net", "a.b.net", "net", "z.net", "a.a.net"]
    assert sorted(names, key=order) == ["net", "a.a.net", "b.a.net", "a.b.net", "z.net"]
    assert parents("a.b.c.unilans.net", ZONE) == ["b.c.unilans.net", "c.unilans.net"]


@pytest.mark.parametrize(
    ("record_type", "good", "bad"),
    [
        ("A", "198.51.100.10", "198.51.100.256"),
        ("AAAA", "2001:db8::1", "2001:db8::g"),
        ("SRV", "10 10 4218 a.unilans.net", "10 10 4218"),
        ("SRV", "0 0 65535 a.unilans.net.", "0 0 65536 a.unilans.net"),
        ("MX", "10 mail.example", "mail.example"),
        ("TXT", '"path=/" "b"', "path=/"),
        ("TXT", '"a \\"b\\" c"', '"a"b"'),
        ("TXT", f'"{"x" * 255}"', f'"{"x" * 256}"'),
        ("TXT", f'"{"x" * 255}""y"', '"x" y'),
        ("PTR", "v1._theService._tcp.unilans.net", "two words"),
        ("CNAME", "a.example.", "a..example"),
        ("DS", f"60485 5 1 {'2B' * 20}", f"60485 5 1 {'2B' * 19}2"),
        ("SVCB", "1 svc.example alpn=h2", "1"),
        ("HTTPS", "1 . alpn=h2,h3", "1 . alpn"),
        ("NAPTR", '100 50 "s" "z3950" "" _z3950._tcp.example', "100 50 s"),
        ("CAA", '0 issue "ca.example"', "issue ca.example"),
        ("TLSA", f"3 1 1 {'ab' * 32}", "3 1 1 abc"),
        ("SSHFP", f"1 1 {'ab' * 20}", "1 1 abc"),
        ("SOA", "a. b. 1 7200 900 1209600 86400", "a. b."),
    ],
)
def test_values_are_checked_by_type(record_type: str, good: str, bad: str) -> None:
    assert fault(record_type, good) is None
    assert bad in str(fault(record_type, bad))


class TestBatches:
    def test_a_swap_of_one_set_replaces_its_values(self) -> None:
        new = replace(SRV, values=("10 10 4218 c.rc.unilans.net",))
        changed = apply(ZONE, zone(SRV), [Change("DELETE", SRV), Change("CREATE", new)])
        assert changed == {SRV.key: new}

    def test_a_delete_takes_the_values_in_any_order(self) -> None:
        turned = replace(SRV, values=SRV.values[::-1])
        assert apply(ZONE, zone(SRV), [Change("DELETE", turned)]) == {SRV.key: None}

    @pytest.mark.parametrize(
        "other",
        [
            replace(SRV, ttl=31),
            replace(SRV, values=SRV.values[:1]),
            replace(SRV, values=(*SRV.values, "10 10 4218 c.rc.unilans.net")),
            replace(SRV, values=(SRV.values[0], "10 11 4218 b.rc.unilans.net")),
        ],
    )
    def test_a_delete_that_does_not_name_the_present_values_changes_nothing(self, other: RecordSet) -> None:
        message = messages(zone(SRV), Change("CREATE", A), Change("DELETE", other))
        assert message == (
            "Tried to delete resource record set [name='v1._theservice._tcp.unilans.net.', type='SRV'] "
            "but the values provided do not match the current values"
        )

    def test_creating_what_exists_and_deleting_what_does_not_are_refused(self) -> None:
        assert messages(zone(A), Change("CREATE", A)) == (
            "Tried to create resource record set [name='www.unilans.net.', type='A'] but it already exists"
        )
        assert messages(zone(), Change("DELETE", A)) == (
            "Tried to delete resource record set [name='www.unilans.net.', type='A'] but it was not found"
        )
        assert apply(ZONE, zone(), [Change("UPSERT", A)]) == {A.key: A}

    def test_all_that_is_wrong_is_reported_at_once(self) -> None:
        message = messages(zone(), Change("DELETE", A), Change("DELETE", SRV))
        assert "type='A'] but it was not found, Tried" in message and "type='SRV'] but it was not found" in message

    def test_a_cname_is_alone(self) -> None:
        assert "conflicts with other records" in messages(zone(A), Change("CREATE", CNAME))
        assert "conflicting RRSet of type  CNAME" in messages(zone(CNAME), Change("CREATE", A))
        assert apply(ZONE, zone(A), [Change("DELETE", A), Change("CREATE", CNAME)])[CNAME.key] == CNAME
        assert "not permitted at apex" in messages(zone(), Change("CREATE", replace(CNAME, name=ZONE)))

    def test_a_name_outside_the_zone_is_refused(self) -> None:
        message = messages(zone(), Change("CREATE", replace(A, name="www.example.com")))
        assert message == "RRSet with DNS name www.example.com. is not permitted in zone unilans.net."
        assert messages(zone(), Change("CREATE", replace(A, name="wwwunilans.net")))

    def test_the_zone_keeps_its_own_sets(self) -> None:
        for kind, message in (("SOA", "exactly one SOA"), ("NS", "at least one NS")):
            own = zone()[ZONE, kind, ""]
            assert message in messages(zone(), Change("DELETE", own))

    def test_a_set_is_named_twice_only_to_be_made_again(self) -> None:
        for actions in (("UPSERT", "UPSERT"), ("CREATE", "DELETE"), ("CREATE", "CREATE")):
            message = messages(zone(), *(Change(action, A) for action in actions))
            assert message.startswith(
                "The request contains an invalid set of changes for a resource record set 'A www."
            )

    def test_routed_and_simple_sets_do_not_mix(self) -> None:
        routed = replace(A, identifier="one", routing={"Weight": "1"})
        assert "other RRSets exist" in messages(zone(A), Change("CREATE", routed))
        other = replace(A, identifier="two", routing={"MultiValueAnswer": "true"})
        assert "another routing policy" in messages(zone(routed), Change("CREATE", other))
        assert "go together" in messages(zone(), Change("CREATE", replace(A, identifier="one")))

    def test_duplicate_values_are_refused(self) -> None:
        message = messages(zone(), Change("CREATE", replace(A, values=A.values * 2)))
        assert message == "Duplicate Resource Record: '198.51.100.10'"


def many(count: int) -> RecordSet:
    return replace(A, values=tuple(f"198.18.{index // 250}.{index % 250}" for index in range(count)))


class TestQuotas:
    def test_a_set_has_four_hundred_values_at_most(self) -> None:
        assert apply(ZONE, zone(), [Change("CREATE", many(400))])
        assert "limit of 400" in messages(zone(), Change("CREATE", many(401)))

    def test_a_batch_has_a_thousand_records_and_an_upsert_counts_twice(self) -> None:
        sets = [replace(many(100), name=f"n{index}.{ZONE}") for index in range(10)]
        assert len(apply(ZONE, zone(), [Change("CREATE", each) for each in sets])) == 10
        assert "limit of 1000" in messages(zone(), *(Change("CREATE", each) for each in (*sets, A)))
        assert len(apply(ZONE, zone(), [Change("UPSERT", each) for each in sets[:5]])) == 5
        assert "limit of 1000" in messages(zone(), *(Change("UPSERT", each) for each in (*sets[:5], A)))

    def test_a_batch_has_32000_characters_of_values_and_an_upsert_counts_twice(self) -> None:
        texts = tuple(f'"{index:03d}{"x" * 155}"' for index in range(200))
        full = RecordSet(name=f"t.{ZONE}", type="TXT", ttl=1, values=texts)
        assert sum(map(len, texts)) == 32_000
        assert apply(ZONE, zone(), [Change("CREATE", full)])
        assert "limit of 32000" in messages(zone(), Change("CREATE", full), Change("CREATE", A))
        assert "limit of 32000" in messages(zone(), Change("UPSERT", replace(full, values=texts[:101])))

    def test_a_name_has_a_hundred_multivalue_answers(self) -> None:
        sets = [
            replace(A, values=(f"198.18.0.{index}",), identifier=str(index), routing={"MultiValueAnswer": "true"})
            for index in range(101)
        ]
        assert len(apply(ZONE, zone(), [Change("CREATE", each) for each in sets[:100]])) == 100
        assert "limit of 100 " in messages(zone(*sets[:100]), Change("CREATE", sets[100]))

    def test_a_zone_has_ten_thousand_record_sets_whatever_their_values(self) -> None:
        almost = zone(*(replace(many(2), name=f"n{index}.{ZONE}") for index in range(9_997)))
        assert len(almost) == 9_999
        assert apply(ZONE, almost, [Change("CREATE", many(400))])
        assert "limit of 10000" in messages(almost, Change("CREATE", A), Change("CREATE", replace(A, name=f"o.{ZONE}")))
        full = {**almost, A.key: A}
        assert apply(ZONE, full, [Change("UPSERT", replace(A, values=("198.51.100.1", "198.51.100.2")))])


class TestPace:
    def test_aws_lets_a_burst_of_fifty_through_and_then_ten_a_second(self) -> None:
        now = [0.0]
        throttle = Throttle(PRESENT, lambda: now[0])
        assert [throttle.admits("GetHostedZone") for _ in range(51)].count(True) == 50
        now[0] = 1.0
        assert [throttle.admits("GetHostedZone") for _ in range(20)].count(True) == 10

    def test_an_action_with_a_slower_pace_does_not_use_up_the_accounts(self) -> None:
        throttle = Throttle(PRESENT, lambda: 0.0)
        assert [throttle.admits("CreateHostedZone") for _ in range(45)].count(True) == 40
        assert [throttle.admits("GetHostedZone") for _ in range(20)].count(True) == 10

    def test_the_harsh_profile_admits_five_in_any_second(self) -> None:
        now = [0.0]
        throttle = Throttle(HARSH, lambda: now[0])
        admitted = []
        for tick in range(200):
            now[0] = tick / 50
            if throttle.admits("ChangeResourceRecordSets"):
                admitted.append(now[0])
        for at in admitted:
            assert len([each for each in admitted if at <= each < at + 1]) <= 5
        assert len(admitted) == 20

    def test_without_limits_everything_passes(self) -> None:
        throttle = Throttle(PRESENT, lambda: 0.0)
        throttle.limits = UNLIMITED
        assert all(throttle.admits("GetHostedZone") for _ in range(500))


class TestView:
    def view(self, *sets: RecordSet) -> tuple[View, list[float]]:
        now = [0.0]
        made = View(ZONE, lambda: now[0])
        made.publish(zone(*sets), 0.0)
        return made, now

    def at(self, view: View, name: str) -> Any:
        found = view.lookup(name)
        return None if found is None else {each.type: each.values for each in found}

    def test_a_name_is_found_whatever_its_case_and_a_parent_of_names_is_empty(self) -> None:
        view, _ = self.view(SRV)
        assert view.lookup("V1._theService._TCP.unilans.net") == (
            data.RecordSet("v1._theservice._tcp.unilans.net", "SRV", 30, SRV.values),
        )
        assert view.lookup("_tcp.unilans.net") == ()
        assert view.lookup("_udp.unilans.net") is None
        assert set(self.at(view, ZONE)) == {"SOA", "NS"}

    def test_a_parent_goes_with_its_last_child(self) -> None:
        view, _ = self.view(SRV)
        view.publish({SRV.key: None}, 0.0)
        assert view.lookup(SRV.name) is None and view.lookup("_tcp.unilans.net") is None

    def test_a_change_is_seen_when_it_has_propagated_and_never_before_an_earlier_one(self) -> None:
        view, now = self.view()
        view.publish({A.key: A}, 30.0)
        view.publish({A.key: replace(A, values=("198.51.100.99",))}, 5.0)
        now[0] = 29.0
        assert view.lookup(A.name) is None
        now[0] = 30.0
        assert self.at(view, A.name) == {"A": ("198.51.100.99",)}

    def test_a_wildcard_answers_only_below_the_closest_name(self) -> None:
        star = replace(A, name="\\052.unilans.net")
        view, _ = self.view(star, SRV)
        assert self.at(view, "anything.unilans.net") == {"A": A.values}
        assert self.at(view, "deep.er.unilans.net") == {"A": A.values}
        assert view.lookup("other._tcp.unilans.net") is None

    def test_multivalue_answers_are_eight_at_most(self) -> None:
        sets = [
            replace(A, values=(f"198.18.0.{index}",), identifier=str(index), routing={"MultiValueAnswer": "true"})
            for index in range(20)
        ]
        view, _ = self.view(*sets)
        assert len(self.at(view, A.name)["A"]) == 8

    def test_an_alias_answers_with_its_target(self) -> None:
        alias = RecordSet(name=f"alias.{ZONE}", type="A", alias={"HostedZoneId": "Z1", "DNSName": f"www.{ZONE}."})
        view, _ = self.view(A, alias)
        assert self.at(view, alias.name) == {"A": A.values}

    def test_octal_escapes_of_values_become_decimal_ones(self) -> None:
        text = RecordSet(name=f"t.{ZONE}", type="TXT", ttl=1, values=('"a\\134b"',))
        view, _ = self.view(text)
        assert self.at(view, text.name) == {"TXT": ('"a\\092b"',)}
