"""DNS records of the local Cloudflare through the official SDK."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.cloud.cloudflare_server import OPERATOR, ZONE, Front, Lab, refused

pytestmark = pytest.mark.clouds


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front) -> Lab:
    return Lab(front)


class TestCreate:
    def test_a_record_comes_back_whole_and_is_found_by_its_id(self, lab: Lab) -> None:
        made = lab.record(comment="ours")
        assert (made.name, made.type, made.content, made.ttl) == (f"www.{ZONE}", "A", "198.51.100.10", 60)
        assert (made.proxied, made.proxiable, made.comment, made.tags) == (False, True, "ours", [])
        assert made.created_on == made.modified_on == made.comment_modified_on
        assert len(made.id) == 32
        assert lab.api.dns.records.get(made.id, zone_id=lab.zone) == made

    def test_what_is_not_given_has_the_api_s_defaults(self, lab: Lab) -> None:
        body = {"type": "A", "name": "@", "content": "198.51.100.10"}
        made = lab.raw("POST", f"/zones/{lab.zone}/dns_records", json=body).json()["result"]
        assert (made["name"], made["ttl"], made["proxied"], made["comment"]) == (ZONE, 1, False, None)
        assert made["meta"] == {} and made["settings"] == {} and "comment_modified_on" not in made

    @pytest.mark.parametrize(
        ("given", "name"),
        [
            ("www", f"www.{ZONE}"),
            ("WWW.Scalability.Expert.", f"www.{ZONE}"),
            ("@", ZONE),
            (ZONE, ZONE),
            ("*", f"*.{ZONE}"),
            ("*.a", f"*.a.{ZONE}"),
            ("bücher", f"xn--bcher-kva.{ZONE}"),
            ("_dmarc", f"_dmarc.{ZONE}"),
            ("www.example.com", f"www.example.com.{ZONE}"),
        ],
    )
    def test_a_name_takes_one_form(self, lab: Lab, given: str, name: str) -> None:
        assert lab.record(name=given).name == name

    @pytest.mark.parametrize(
        ("given", "content"),
        [
            ("plain", "plain"),
            ('"a" "b"', '"a" "b"'),
            (f'"{"x" * 255}"', f'"{"x" * 255}"'),
            (f'"{"x" * 256}"', f'"{"x" * 255}" "x"'),
            ("y" * 600, f'"{"y" * 255}" "{"y" * 255}" "{"y" * 90}"'),
            (f'"a" "{"z" * 300}" "b"', f'"a" "{"z" * 255}" "{"z" * 45}" "b"'),
            (f'"{"q" * 254}\\"\\\\"', f'"{"q" * 254}\\"" "\\\\"'),
            ("x" * 255, "x" * 255),
        ],
    )
    def test_a_string_of_over_255_bytes_comes_back_in_parts(self, lab: Lab, given: str, content: str) -> None:
        made = lab.record(name="long", type="TXT", content=given)
        assert made.content == content
        assert lab.api.dns.records.get(made.id, zone_id=lab.zone).content == content
        again = lab.api.dns.records.edit(
            made.id, zone_id=lab.zone, name="long", type="TXT", ttl=60, content=content, comment="the same"
        )
        assert again is not None and again.content == content
        with refused(400, 81058):
            lab.record(name="long", type="TXT", content=given)

    @pytest.mark.parametrize("name", ["a b", "-a", "a..b", "a" * 64, "a.*.b", "x." * 120 + "x"])
    def test_a_bad_name_is_9000(self, lab: Lab, name: str) -> None:
        with refused(400, 9000):
            lab.record(name=name)

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"content": "198.51.100"}, 9005),
            ({"content": "2001:db8::1"}, 9005),
            ({"type": "AAAA", "content": "198.51.100.1"}, 9006),
            ({"type": "CNAME", "content": "not a host"}, 9007),
            ({"type": "CNAME", "content": f"www.{ZONE}"}, 9039),
            ({"type": "MX", "content": "mail.example.com"}, 9100),
            ({"type": "MX", "content": "198.51.100.1", "priority": 10}, 9009),
            ({"type": "MX", "content": "mail.example.com", "priority": 65536}, 1004),
            ({"type": "TXT", "content": '"open'}, 1004),
            ({"type": "TXT", "content": "x" * 5000}, 9015),
            ({"type": "NOPE", "content": "x"}, 9020),
            ({"ttl": 59}, 9021),
            ({"ttl": 86401}, 9021),
            ({"ttl": 60.5}, 9021),
            ({"type": "TXT", "content": "x", "proxied": True}, 9004),
            ({"content": "10.0.0.1", "proxied": True}, 9003),
            ({"content": "1.1.1.1", "proxied": True}, 9003),
            ({"content": "198.51.100.2", "proxied": True}, 9003),
            ({"type": "SRV", "name": "_a._tcp", "data": {"priority": 1, "weight": 1, "port": 1}}, 9101),
            ({"type": "SRV", "name": "plain", "data": {"priority": 1, "weight": 1, "port": 1, "target": "a.b"}}, 9000),
            ({"type": "CAA", "data": {"flags": 0, "tag": "issue"}}, 9101),
            ({"comment": "x" * 101}, 9313),
            ({"tags": ["owner:dns"]}, 9300),
        ],
        ids=lambda value: str(value)[:50],
    )
    def test_what_the_real_one_refuses_is_refused_with_its_code(
        self, lab: Lab, fields: dict[str, Any], code: int
    ) -> None:
        with refused(400, code):
            lab.record(**fields)
        assert lab.names() == []

    def test_a_comment_of_a_hundred_characters_fits_the_free_plan(self, lab: Lab) -> None:
        assert lab.record(comment="x" * 100).comment == "x" * 100

    def test_a_paid_plan_has_tags_and_longer_comments(self, lab: Lab) -> None:
        paid = lab.cloud.add_zone("paid.example", plan="pro")
        made = lab.api.dns.records.create(
            zone_id=paid, type="A", name="a", content="198.51.100.1", ttl=60, tags=["owner:dns"], comment="x" * 500
        )
        assert made is not None and made.tags == ["owner:dns"]

    @pytest.mark.parametrize(
        ("kind", "fields", "content"),
        [
            ("AAAA", {"content": "2001:DB8:0:0::1"}, "2001:db8::1"),
            ("CNAME", {"content": "Elsewhere.Example.COM."}, "elsewhere.example.com"),
            ("MX", {"content": "mail.example.com", "priority": 10}, "mail.example.com"),
            ("TXT", {"content": "v=spf1 -all"}, "v=spf1 -all"),
            (
                "SRV",
                {"name": "_s._tcp", "data": {"priority": 10, "weight": 5, "port": 4218, "target": "h.example.com"}},
                "5 4218 h.example.com",
            ),
            ("CAA", {"data": {"flags": 0, "tag": "issue", "value": "letsencrypt.org"}}, '0 issue "letsencrypt.org"'),
            ("HTTPS", {"data": {"priority": 1, "target": ".", "value": 'alpn="h3"'}}, '1 . alpn="h3"'),
            ("HTTPS", {"data": {"priority": 1, "target": ".", "value": ' alpn="h2"'}}, '1 . alpn="h2"'),
            ("SSHFP", {"data": {"algorithm": 4, "type": 2, "fingerprint": "ab" * 32}}, f"4 2 {'ab' * 32}"),
            (
                "URI",
                {"priority": 10, "data": {"weight": 1, "target": "https://example.com/"}},
                '1 "https://example.com/"',
            ),
        ],
    )
    def test_types_have_their_content(self, lab: Lab, kind: str, fields: dict[str, Any], content: str) -> None:
        usual = {"type": kind, "name": "www", "ttl": 60}
        made = lab.raw("POST", f"/zones/{lab.zone}/dns_records", json={**usual, **fields}).json()["result"]
        assert made["content"] == content
        if kind == "SRV":
            assert (made["priority"], made["data"]["port"]) == (10, 4218)

    def test_a_proxied_record_has_an_automatic_ttl_whatever_was_asked(self, lab: Lab) -> None:
        made = lab.record(proxied=True, ttl=3600)
        assert (made.proxied, made.ttl) == (True, 1)

    def test_a_body_that_is_not_json_is_9207(self, lab: Lab) -> None:
        for options in ({"content": b"{", "headers": {"Content-Type": "application/json"}}, {"data": {"name": "x"}}):
            reply = lab.raw("POST", f"/zones/{lab.zone}/dns_records", **options)
            assert (reply.status_code, reply.json()["errors"][0]["code"]) == (400, 9207)


class TestBesideOthers:
    def test_an_identical_record_is_81058_whatever_its_ttl_and_comment(self, lab: Lab) -> None:
        lab.record(ttl=60)
        with refused(400, 81058, "An identical record already exists."):
            lab.record(ttl=120, comment="another")
        assert lab.record(content="198.51.100.11").content == "198.51.100.11"

    @pytest.mark.parametrize(
        ("first", "second", "code"),
        [
            ({"type": "A"}, {"type": "CNAME", "content": "a.example"}, 81053),
            ({"type": "AAAA", "content": "2001:db8::1"}, {"type": "CNAME", "content": "a.example"}, 81053),
            ({"type": "CNAME", "content": "a.example"}, {"type": "CNAME", "content": "b.example"}, 81053),
            ({"type": "CNAME", "content": "a.example"}, {"type": "A"}, 81054),
            ({"type": "NS", "content": "ns.example.com"}, {"type": "A"}, 81056),
            ({"type": "A"}, {"type": "NS", "content": "ns.example.com"}, 81057),
        ],
    )
    def test_types_that_exclude_each_other(
        self, lab: Lab, first: dict[str, Any], second: dict[str, Any], code: int
    ) -> None:
        lab.record(**first)
        with refused(400, code):
            lab.record(**second)

    def test_a_cname_may_be_beside_text_as_cloudflare_has_it(self, lab: Lab) -> None:
        lab.record(type="CNAME", content="a.example.com")
        assert lab.record(type="TXT", content="x").type == "TXT"

    def test_a_set_of_more_than_8192_characters_is_83011(self, lab: Lab) -> None:
        for count in range(4):
            lab.record(type="TXT", content=f"{count}" * 2048)
        with refused(400, 83011):
            lab.record(type="TXT", content="x")

    def test_the_plan_s_quota_of_records_holds(self, lab: Lab) -> None:
        posts = [{"type": "A", "name": f"h{n}", "content": "198.51.100.1", "ttl": 60} for n in range(200)]
        lab.api.dns.records.batch(zone_id=lab.zone, posts=posts)
        with refused(400, 81045, "quota"):
            lab.record(name="one-more")
        older = lab.cloud.add_zone("older.example", plan="free-1000")
        lab.api.dns.records.batch(zone_id=older, posts=posts)
        assert lab.api.dns.records.create(zone_id=older, **posts[0] | {"name": "more"}) is not None


class TestChange:
    def test_an_edit_keeps_what_it_does_not_name(self, lab: Lab) -> None:
        made = lab.record(comment="ours", ttl=300)
        lab.clock.now += 10
        changed = lab.raw("PATCH", f"/zones/{lab.zone}/dns_records/{made.id}", json={"content": "198.51.100.9"})
        after = lab.api.dns.records.get(made.id, zone_id=lab.zone)
        assert changed.status_code == 200 and after is not None
        assert (after.content, after.comment, after.ttl) == ("198.51.100.9", "ours", 300)
        assert (after.created_on, after.comment_modified_on) == (made.created_on, made.comment_modified_on)
        assert (after.modified_on - made.modified_on).total_seconds() == 10

    def test_an_overwrite_resets_what_it_does_not_name(self, lab: Lab) -> None:
        made = lab.record(comment="ours", ttl=300)
        after = lab.api.dns.records.update(
            made.id, zone_id=lab.zone, type="A", name="www", content="198.51.100.9", ttl=1
        )
        assert after is not None and (after.id, after.comment, after.ttl) == (made.id, None, 1)
        assert after.comment_modified_on is None

    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    def test_modified_on_does_not_change_while_no_value_changes(self, lab: Lab, method: str) -> None:
        made = lab.record(comment="ours")
        lab.clock.now += 10
        same = {"type": "A", "name": "www", "content": "198.51.100.10", "ttl": 60, "comment": "ours", "proxied": False}
        path = f"/zones/{lab.zone}/dns_records/{made.id}"
        assert lab.raw(method, path, json=same).status_code == 200
        assert lab.api.dns.records.get(made.id, zone_id=lab.zone) == made
        lab.raw(method, path, json=same | {"ttl": 61})
        after = lab.api.dns.records.get(made.id, zone_id=lab.zone)
        assert after is not None and after.modified_on > made.modified_on

    def test_a_comment_goes_by_an_empty_one(self, lab: Lab) -> None:
        made = lab.record(comment="ours")
        lab.raw("PATCH", f"/zones/{lab.zone}/dns_records/{made.id}", json={"comment": ""})
        after = lab.api.dns.records.get(made.id, zone_id=lab.zone)
        assert after is not None and (after.comment, after.comment_modified_on) == (None, None)

    def test_an_edit_into_another_record_s_place_is_refused_and_changes_nothing(self, lab: Lab) -> None:
        lab.record(content="198.51.100.1")
        second = lab.record(content="198.51.100.2")
        with refused(400, 81058):
            lab.api.dns.records.edit(second.id, zone_id=lab.zone, type="A", name="www", content="198.51.100.1", ttl=60)
        assert lab.api.dns.records.get(second.id, zone_id=lab.zone) == second

    def test_an_edit_that_turns_the_proxy_on_forces_the_ttl(self, lab: Lab) -> None:
        made = lab.record(ttl=300)
        reply = lab.raw("PATCH", f"/zones/{lab.zone}/dns_records/{made.id}", json={"proxied": True}).json()
        assert (reply["result"]["proxied"], reply["result"]["ttl"]) == (True, 1)

    def test_a_deleted_record_is_81044_from_then_on(self, lab: Lab) -> None:
        made = lab.record()
        gone = lab.api.dns.records.delete(made.id, zone_id=lab.zone)
        assert gone is not None and gone.id == made.id
        with refused(404, 81044, "Record does not exist."):
            lab.api.dns.records.delete(made.id, zone_id=lab.zone)
        with refused(404, 81044):
            lab.api.dns.records.get(made.id, zone_id=lab.zone)


class TestBatch:
    def test_deletes_come_before_patches_before_puts_before_posts(self, lab: Lab) -> None:
        """Whatever the order in the body: each step here is only possible after the one before."""
        old = lab.record(content="198.51.100.1")
        edited = lab.record(name="b", content="198.51.100.2")
        put = lab.record(name="c", content="198.51.100.3")
        body = {
            "posts": [{"type": "A", "name": "c", "content": "198.51.100.3", "ttl": 60}],
            "puts": [{"id": put.id, "type": "A", "name": "b", "content": "198.51.100.2", "ttl": 60}],
            "patches": [{"id": edited.id, "name": "www", "content": "198.51.100.1"}],
            "deletes": [{"id": old.id}],
        }
        reply = lab.raw("POST", f"/zones/{lab.zone}/dns_records/batch", json=body)
        assert reply.status_code == 200, reply.json()
        result = reply.json()["result"]
        assert {key: len(each) for key, each in result.items()} == dict.fromkeys(body, 1)
        assert result["deletes"][0]["id"] == old.id
        assert lab.names(order="name") == ["b", "c", "www"]

    def test_one_bad_operation_leaves_everything_as_it_was(self, lab: Lab) -> None:
        kept = lab.record()
        before = [each.to_dict() for each in lab.api.dns.records.list(zone_id=lab.zone)]
        good = {"type": "A", "name": "new", "content": "198.51.100.1", "ttl": 60}
        for bad in ({"posts": [good, good]}, {"posts": [good], "patches": [{"id": "0" * 32, "ttl": 60}]}):
            body = {"deletes": [{"id": kept.id}], **bad}
            assert lab.raw("POST", f"/zones/{lab.zone}/dns_records/batch", json=body).status_code in (400, 404)
            assert [each.to_dict() for each in lab.api.dns.records.list(zone_id=lab.zone)] == before

    def test_the_free_plan_takes_200_operations_a_batch(self, lab: Lab) -> None:
        posts = [{"type": "A", "name": f"h{n}", "content": "198.51.100.1", "ttl": 60} for n in range(201)]
        reply = lab.raw("POST", f"/zones/{lab.zone}/dns_records/batch", json={"posts": posts})
        assert reply.status_code == 400 and "201" in reply.text
        assert lab.names() == []


class TestList:
    @pytest.fixture(autouse=True)
    def records(self, lab: Lab) -> None:
        lab.record(name="www", content="198.51.100.10", ttl=60, comment="Rollcall one")
        lab.record(name="www", content="203.0.113.10", ttl=300, comment="rollcall TWO")
        lab.record(name="blog", content="192.0.2.80", proxied=True)
        lab.record(name="@", type="TXT", content="v=spf1 -all", ttl=3600, comment="mail")

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"name": {"exact": f"WWW.{ZONE}"}}, ["www", "www"]),
            ({"name": {"startswith": "bl"}}, ["blog"]),
            ({"name": {"endswith": f"g.{ZONE}"}}, ["blog"]),
            ({"name": {"contains": "w."}}, ["www", "www"]),
            ({"type": "TXT"}, [ZONE]),
            ({"content": {"exact": "203.0.113.10"}}, ["www"]),
            ({"content": {"startswith": "198."}}, ["www"]),
            ({"comment": {"exact": "rollcall one"}}, ["www"]),
            ({"comment": {"startswith": "ROLLCALL"}}, ["www", "www"]),
            ({"comment": {"endswith": "two"}}, ["www"]),
            ({"comment": {"contains": "ai"}}, [ZONE]),
            ({"comment": {"present": "true"}}, ["www", "www", ZONE]),
            ({"comment": {"absent": "true"}}, ["blog"]),
            ({"proxied": True}, ["blog"]),
            ({"type": "A", "proxied": False}, ["www", "www"]),
            ({"type": "TXT", "proxied": True}, []),
            ({"type": "TXT", "proxied": True, "match": "any"}, ["blog", ZONE]),
            ({"search": "spf1"}, [ZONE]),
            ({"order": "ttl", "direction": "desc"}, [ZONE, "www", "www", "blog"]),
            ({"order": "name"}, ["blog", ZONE, "www", "www"]),
        ],
        ids=str,
    )
    def test_filters_and_orders(self, lab: Lab, query: dict[str, Any], found: list[str]) -> None:
        assert lab.names(**query) == found

    def test_a_plain_name_and_content_filter_too(self, lab: Lab) -> None:
        reply = lab.raw("GET", f"/zones/{lab.zone}/dns_records?name=www.{ZONE}&content=203.0.113.10").json()
        assert [each["content"] for each in reply["result"]] == ["203.0.113.10"]

    def test_the_presence_filters_need_no_value(self, lab: Lab) -> None:
        reply = lab.raw("GET", f"/zones/{lab.zone}/dns_records?comment.absent=").json()
        assert [each["content"] for each in reply["result"]] == ["192.0.2.80"]

    def test_pages_tell_where_they_are_and_together_hold_everything_once(self, lab: Lab) -> None:
        first = lab.raw("GET", f"/zones/{lab.zone}/dns_records?per_page=3&order=content").json()
        assert first["result_info"] == {
            "page": 1, "per_page": 3, "count": 3, "total_count": 4, "total_pages": 2
        }  # fmt: skip
        through_pages = [each.id for each in lab.api.dns.records.list(zone_id=lab.zone, per_page=3)]
        assert len(through_pages) == len(set(through_pages)) == 4

    def test_a_hundred_come_by_default(self, lab: Lab) -> None:
        assert lab.raw("GET", f"/zones/{lab.zone}/dns_records").json()["result_info"]["per_page"] == 100

    @pytest.mark.parametrize("query", ["per_page=0", "page=0", "per_page=x", "order=age", "match=none", "direction=up"])
    def test_a_query_that_makes_no_sense_is_refused(self, lab: Lab, query: str) -> None:
        assert lab.raw("GET", f"/zones/{lab.zone}/dns_records?{query}").status_code == 400


def test_tags_are_filtered_by_name_and_value(lab: Lab) -> None:
    zone = lab.cloud.add_zone("paid.example", plan="pro")
    for name, tags in (("a", ["owner:dns", "env:prod"]), ("b", ["owner:web"]), ("c", [])):
        lab.api.dns.records.create(zone_id=zone, type="A", name=name, content="192.0.2.1", ttl=60, tags=tags)

    def found(**query: Any) -> list[str]:
        return [each.name[0] for each in lab.api.dns.records.list(zone_id=zone, **query)]

    assert found(tag={"present": "owner"}) == ["a", "b"]
    assert found(tag={"absent": "owner"}) == ["c"]
    assert found(tag={"exact": "Owner:DNS"}) == ["a"]
    assert found(tag={"startswith": "owner:w"}) == ["b"]
    assert found(tag={"exact": "env:prod", "present": "owner"}) == ["a"]
    assert found(tag={"exact": "env:prod", "present": "owner"}, tag_match="any") == ["a", "b"]


def test_writers_at_once_lose_nothing_and_double_nothing(lab: Lab) -> None:
    def create(number: int) -> int:
        body = {"type": "A", "name": "www", "content": f"198.51.100.{number % 50}", "ttl": 60}
        return lab.raw("POST", f"/zones/{lab.zone}/dns_records", OPERATOR, json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(create, range(100)))
    assert (statuses.count(200), statuses.count(400)) == (50, 50)
    assert len(lab.names()) == 50
