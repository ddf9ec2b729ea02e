"""What the local Cloudflare's name servers answer, and where its edge forwards."""

from __future__ import annotations

from typing import Any

import dns.rdata
import dns.rdataclass
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.cloudflare import NAME_SERVERS, Cloudflare
from localcloud.cloudflare.text import character_strings, quoted
from localcloud.dns.data import RecordSet
from localcloud.network.faults import Faults

ZONE = "scalability.expert"
EDGES = ("198.51.100.2", "203.0.113.2")
NS = RecordSet(ZONE, "NS", 86400, tuple(f"{each}." for each in NAME_SERVERS))


class World:
    """A local Cloudflare that is written to without HTTP."""

    def __init__(self, **options: Any) -> None:
        self.now = 1_790_000_000.0
        usual: dict[str, Any] = {"operator_token": "o" * 40, "edge_addresses": EDGES, "clock": lambda: self.now}
        self.cloud = Cloudflare(**{**usual, **options})
        self.ids = {ZONE: self.cloud.add_zone(ZONE)}

    def put(self, name: str, kind: str, content: str, *, zone: str = ZONE, ttl: int = 60, **fields: Any) -> str:
        return self.cloud.add_record(self.ids[zone], name=name, type=kind, content=content, ttl=ttl, **fields)

    def set(self, name: str, value: object) -> None:
        zone = next(iter(self.cloud._store.zones.values()))
        zone.settings.edit(name, {"value": value}, self.now)
        zone.shown_settings = zone.settings.values()

    def sees(self, name: str) -> dict[str, tuple[int, tuple[str, ...]]] | None:
        """Types at `name` (below the zone) with TTL and values; None where it does not exist."""
        whole = ZONE if name == "@" else f"{name}.{ZONE}"
        found = self.cloud.lookup(ZONE, whole)
        assert found is None or all(each.name == whole for each in found)
        return None if found is None else {each.type: (each.ttl, each.values) for each in found if each != NS}


@pytest.fixture
def world() -> World:
    return World()


class TestPlain:
    def test_all_values_of_a_name_and_type_are_one_set_with_the_lowest_ttl(self, world: World) -> None:
        world.put("www", "A", "198.51.100.10", ttl=120)
        world.put("www", "A", "203.0.113.10", ttl=60)
        world.put("www", "TXT", "hello", ttl=1)
        assert world.sees("www") == {
            "A": (60, ("198.51.100.10", "203.0.113.10")),
            "TXT": (300, ('"hello"',)),
        }

    def test_the_apex_always_exists_and_names_its_servers(self, world: World) -> None:
        assert world.cloud.lookup(ZONE, ZONE) == (NS,)
        assert world.cloud.zones() == (ZONE,)

    def test_what_is_not_there_does_not_exist(self, world: World) -> None:
        world.put("www", "A", "198.51.100.10")
        assert world.sees("other") is None
        assert world.sees("a.www") is None
        assert world.cloud.lookup("other.example", "other.example") is None

    def test_a_name_above_others_exists_and_is_empty(self, world: World) -> None:
        world.put("a.b.c", "A", "198.51.100.10")
        assert world.sees("b.c") == {} and world.sees("c") == {}
        assert world.sees("x.c") is None

    def test_every_type_is_in_presentation_format(self, world: World) -> None:
        world.put("t", "MX", "mail.example.com", priority=10)
        srv = {"priority": 1, "weight": 2, "port": 4218, "target": "h.example.com"}
        world.put("_s._tcp", "SRV", "", data=srv)
        world.put("t", "CAA", "", data={"flags": 0, "tag": "issue", "value": "letsencrypt.org"})
        world.put("t", "TXT", '"one" "two"')
        world.put("alias", "CNAME", "t.example.com")
        assert world.sees("_s._tcp") == {"SRV": (60, ("1 2 4218 h.example.com.",))}
        assert world.sees("alias") == {"CNAME": (60, ("t.example.com.",))}
        found = world.sees("t")
        assert found is not None
        assert found["MX"][1] == ("10 mail.example.com.",) and found["TXT"][1] == ('"one" "two"',)
        for kind, (_, values) in found.items():
            for value in values:
                dns.rdata.from_text(dns.rdataclass.IN, kind, value)

    def test_a_cname_hides_what_is_beside_it(self, world: World) -> None:
        world.put("alias", "CNAME", "t.example.com")
        world.put("alias", "TXT", "x")
        assert world.sees("alias") == {"CNAME": (60, ("t.example.com.",))}


class TestWildcards:
    def test_it_answers_for_names_that_do_not_exist_with_their_own_name(self, world: World) -> None:
        world.put("*", "A", "192.0.2.1")
        assert world.sees("anything") == {"A": (60, ("192.0.2.1",))}
        assert world.sees("very.deep") == {"A": (60, ("192.0.2.1",))}

    def test_a_name_that_exists_is_never_covered(self, world: World) -> None:
        """RFC 4592: neither the name itself, nor what is below it, nor an empty name between."""
        world.put("*", "A", "192.0.2.1")
        world.put("www", "TXT", "x")
        world.put("a.b", "TXT", "x")
        assert world.sees("www") == {"TXT": (60, ('"x"',))}
        assert world.sees("below.www") is None
        assert world.sees("b") == {} and world.sees("c.b") is None

    def test_the_closest_one_answers(self, world: World) -> None:
        world.put("*", "A", "192.0.2.1")
        world.put("*.sub", "A", "192.0.2.2")
        assert world.sees("x.sub") == {"A": (60, ("192.0.2.2",))}

    def test_it_may_be_proxied(self, world: World) -> None:
        world.put("*", "A", "192.0.2.1", proxied=True)
        assert world.sees("x") == {"A": (300, EDGES)}
        route = world.cloud.edge_origins(f"x.{ZONE}")
        assert route is not None and route.origins == ("192.0.2.1",)


class TestProxied:
    @pytest.mark.parametrize(
        ("kind", "content"), [("A", "192.0.2.1"), ("AAAA", "2001:db8::1"), ("CNAME", "elsewhere.example.com")]
    )
    def test_the_edge_answers_for_it(self, world: World, kind: str, content: str) -> None:
        world.put("www", kind, content, proxied=True, ttl=3600)
        assert world.sees("www") == {"A": (300, EDGES)}

    def test_other_types_beside_it_are_answered(self, world: World) -> None:
        world.put("www", "CNAME", "elsewhere.example.com", proxied=True)
        world.put("www", "TXT", "x")
        assert world.sees("www") == {"A": (300, EDGES), "TXT": (60, ('"x"',))}

    def test_one_proxied_address_makes_all_at_its_name_proxied(self, world: World) -> None:
        world.put("www", "A", "192.0.2.1", proxied=True)
        world.put("www", "A", "192.0.2.2")
        assert world.sees("www") == {"A": (300, EDGES)}
        route = world.cloud.edge_origins(f"www.{ZONE}")
        assert route is not None and route.origins == ("192.0.2.1", "192.0.2.2")

    def test_an_edge_with_ipv6_answers_it_unless_the_zone_or_the_record_says_no(self) -> None:
        world = World(edge_addresses=("198.51.100.2", "2001:db8::2"))
        world.put("www", "A", "192.0.2.1", proxied=True)
        world.put("v4", "A", "192.0.2.1", proxied=True, settings={"ipv4_only": True})
        v4 = {"A": (300, ("198.51.100.2",))}
        assert world.sees("www") == {**v4, "AAAA": (300, ("2001:db8::2",))}
        assert world.sees("v4") == v4
        world.set("ipv6", "off")
        assert world.sees("www") == v4

    def test_a_paused_zone_shows_its_origins(self, world: World) -> None:
        world.put("www", "A", "192.0.2.1", proxied=True)
        next(iter(world.cloud._store.zones.values())).paused = True
        assert world.sees("www") == {"A": (300, ("192.0.2.1",))}
        assert world.cloud.edge_origins(f"www.{ZONE}") is None


class TestFlattening:
    def test_an_apex_alias_answers_with_the_addresses_it_leads_to(self, world: World) -> None:
        world.put("@", "CNAME", f"www.{ZONE}", ttl=600)
        world.put("www", "A", "198.51.100.10", ttl=120)
        world.put("www", "AAAA", "2001:db8::1", ttl=120)
        assert world.sees("@") == {"A": (120, ("198.51.100.10",)), "AAAA": (120, ("2001:db8::1",))}

    def test_through_aliases_and_other_zones_of_the_account(self, world: World) -> None:
        world.ids["other.example"] = world.cloud.add_zone("other.example")
        world.put("@", "CNAME", f"one.{ZONE}", ttl=600)
        world.put("one", "CNAME", "two.other.example", ttl=90)
        world.put("two", "A", "192.0.2.7", zone="other.example", ttl=300)
        assert world.sees("@") == {"A": (90, ("192.0.2.7",))}

    def test_outside_it_asks_the_resolver_that_it_was_given(self) -> None:
        requested: list[str] = []

        def resolve(name: str) -> tuple[RecordSet, ...]:
            requested.append(name)
            return (RecordSet(name, "A", 30, ("192.0.2.9",)),)

        world = World(resolve=resolve)
        world.put("@", "CNAME", "lb.example.com")
        assert world.sees("@") == {"A": (30, ("192.0.2.9",))}
        assert requested == ["lb.example.com"]

    def test_to_nowhere_and_in_a_circle_answers_nothing(self, world: World) -> None:
        world.put("@", "CNAME", f"a.{ZONE}")
        assert world.sees("@") == {}
        world.put("a", "CNAME", f"b.{ZONE}")
        world.put("b", "CNAME", f"a.{ZONE}")
        assert world.sees("@") == {}

    def test_to_a_proxied_name_answers_the_edge(self, world: World) -> None:
        world.put("@", "CNAME", f"www.{ZONE}")
        world.put("www", "A", "192.0.2.1", proxied=True)
        assert world.sees("@") == {"A": (60, EDGES)}

    def test_other_types_at_the_apex_stay(self, world: World) -> None:
        world.put("@", "CNAME", f"www.{ZONE}")
        world.put("www", "A", "192.0.2.1")
        world.put("@", "MX", "mail.example.com", priority=10)
        assert world.sees("@") == {"A": (60, ("192.0.2.1",)), "MX": (60, ("10 mail.example.com.",))}


class TestEdgeRoutes:
    def test_a_proxied_apex_alias_leads_to_the_host_s_origins(self, world: World) -> None:
        world.put("@", "CNAME", f"www.{ZONE}", proxied=True)
        world.put("www", "A", "198.51.100.10")
        world.put("www", "A", "203.0.113.10")
        route = world.cloud.edge_origins(ZONE)
        assert route is not None
        assert (route.host, route.zone, route.target) == (ZONE, ZONE, None)
        assert route.origins == ("198.51.100.10", "203.0.113.10")
        assert world.sees("@") == {"A": (300, EDGES)}

    def test_an_alias_to_elsewhere_leaves_the_name_to_resolve(self, world: World) -> None:
        world.put("x", "CNAME", "origin.example.com", proxied=True)
        route = world.cloud.edge_origins(f"x.{ZONE}")
        assert route is not None and (route.origins, route.target) == ((), "origin.example.com")

    def test_what_is_not_proxied_has_none(self, world: World) -> None:
        world.put("www", "A", "198.51.100.10")
        for host in (f"www.{ZONE}", f"no.{ZONE}", ZONE, "elsewhere.example"):
            assert world.cloud.edge_origins(host) is None

    def test_a_circle_has_none(self, world: World) -> None:
        world.put("a", "CNAME", f"b.{ZONE}", proxied=True)
        world.put("b", "CNAME", f"a.{ZONE}", proxied=True)
        assert world.cloud.edge_origins(f"a.{ZONE}") is None

    def test_it_brings_the_zone_s_settings(self, world: World) -> None:
        world.put("www", "A", "192.0.2.1", proxied=True)
        world.set("ssl", "strict")
        world.set("always_use_https", "on")
        world.set("security_level", "high")
        route = world.cloud.edge_origins(f"www.{ZONE}")
        assert route is not None
        assert [route.settings[key] for key in ("ssl", "always_use_https", "security_level")] == [
            "strict",
            "on",
            "high",
        ]


class TestPropagation:
    def test_lookups_lag_behind_while_the_switch_is_on(self) -> None:
        faults = Faults()
        world = World(faults=faults)
        world.put("old", "A", "192.0.2.1")
        assert world.sees("old") is not None
        faults.add("cloudflare propagation=30")
        world.put("new", "A", "192.0.2.2", proxied=True)
        world.now += 29
        assert world.sees("new") is None and world.cloud.edge_origins(f"new.{ZONE}") is None
        assert world.sees("old") is not None
        world.now += 1
        assert world.sees("new") == {"A": (300, EDGES)}

    def test_changes_arrive_in_their_order_and_each_in_its_time(self) -> None:
        faults = Faults()
        world = World(faults=faults)
        faults.add("cloudflare propagation=30")
        for number in range(3):
            world.put(f"h{number}", "A", "192.0.2.1")
            world.now += 10
        seen = []
        for _ in range(4):
            seen.append([world.sees(f"h{number}") is not None for number in range(3)])
            world.now += 10
        assert seen == [
            [True, False, False],
            [True, True, False],
            [True, True, True],
            [True, True, True],
        ]

    def test_a_change_after_the_switch_is_off_does_not_overtake_those_before(self) -> None:
        faults = Faults()
        world = World(faults=faults)
        faults.add("cloudflare propagation=30")
        world.put("first", "A", "192.0.2.1")
        faults.clear()
        world.put("second", "A", "192.0.2.2")
        assert world.sees("second") is None
        world.now += 30
        assert world.sees("first") is not None and world.sees("second") is not None

    def test_what_is_seen_no_more_is_kept_no_more(self) -> None:
        world = World(faults=Faults())
        for number in range(50):
            world.put(f"h{number}", "A", "192.0.2.1")
            world.now += 1
        assert len(next(iter(world.cloud._store.zones.values())).visible) <= 2


class TestText:
    @given(st.text(max_size=600))
    def test_whatever_the_text_it_reaches_the_wire_whole(self, text: str) -> None:
        """Unquoted contents are the text itself; the presentation is read back by dnspython."""
        if text.lstrip().startswith('"'):
            text = f"x{text}"
        strings = character_strings(text)
        assert b"".join(strings) == text.encode() and all(len(each) <= 255 for each in strings)
        read = dns.rdata.from_text(dns.rdataclass.IN, "TXT", quoted(strings))
        assert b"".join(read.strings) == text.encode()  # type: ignore[attr-defined]

    def test_quoted_strings_keep_their_borders(self) -> None:
        assert character_strings(r'"a \"b\"" "c\\d" "\101"') == [b'a "b"', rb"c\d", b"e"]
