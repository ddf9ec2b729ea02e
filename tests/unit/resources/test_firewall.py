"""Which clients may reach a fleet's machines, as rules of both clouds."""

from __future__ import annotations

import re
from typing import Any

import pytest

from components.joyent.firewall import meaning
from components.resources import firewall
from components.resources.firewall import AGENT_PROBES, IngressRule, Ranges
from localcloud.triton.firewall import parse

EDGE = Ranges(v4=("173.245.48.0/20", "198.51.100.2/32"), v6=("2400:cb00::/32",))


def rule(port: str, only_from: Ranges | None = None) -> IngressRule:
    number, _, protocol = port.partition("/")
    return IngressRule(port=int(number), protocol=protocol, only_from=only_from)


OPEN, SERVICE, CLOSED = rule("80/tcp"), rule("4218/tcp"), rule("443/tcp", EDGE)
WATCHED = IngressRule(port=AGENT_PROBES[0], protocol=AGENT_PROBES[1])


def test_an_open_site_and_a_service_are_for_everybody() -> None:
    assert firewall.ingress_rules([SERVICE, OPEN]) == [
        IngressRule(port=80, protocol="tcp"),
        WATCHED,
        IngressRule(port=4218, protocol="tcp"),
    ]
    assert not firewall.is_closed([SERVICE, OPEN])


def test_a_machine_without_memberships_is_open_to_no_agent() -> None:
    assert firewall.ingress_rules([]) == []


def test_a_closed_site_is_for_its_edge_and_its_agents_can_be_asked() -> None:
    assert firewall.ingress_rules([CLOSED]) == [IngressRule(port=443, protocol="tcp", only_from=EDGE), WATCHED]


def test_a_port_of_udp_is_open_to_nothing_else() -> None:
    found = firewall.ingress_rules([rule("5353/udp")])
    assert found == [WATCHED, IngressRule(port=5353, protocol="udp")]
    assert not firewall.is_closed([rule("5353/udp")])


def test_a_service_beside_a_closed_site_stays_open() -> None:
    assert firewall.ingress_rules([CLOSED, SERVICE])[1:] == [WATCHED, IngressRule(port=4218, protocol="tcp")]


@pytest.mark.parametrize("turned", [False, True])
def test_a_port_that_one_membership_has_for_everybody_is(turned: bool) -> None:
    both = [rule("443/tcp"), CLOSED]
    assert firewall.ingress_rules(both[::-1] if turned else both)[0] == IngressRule(port=443, protocol="tcp")


def test_a_security_group_names_both_families_of_the_edge_and_no_other() -> None:
    web, watch = firewall.security_group_rules(firewall.ingress_rules([CLOSED]))
    assert (web["protocol"], web["from_port"], web["to_port"]) == ("tcp", 443, 443)
    assert (web["cidr_blocks"], web["ipv6_cidr_blocks"]) == ([*EDGE.v4], [*EDGE.v6])
    assert (watch["protocol"], watch["from_port"], watch["cidr_blocks"]) == ("udp", 4217, ["0.0.0.0/0"])


def test_with_ipv6_everybody_is_everybody_by_it_and_an_edge_is_what_it_was() -> None:
    web, watch = firewall.security_group_rules(firewall.ingress_rules([CLOSED]), ipv6=True)
    assert (watch["cidr_blocks"], watch["ipv6_cidr_blocks"]) == (["0.0.0.0/0"], ["::/0"])
    assert web == firewall.security_group_rules(firewall.ingress_rules([CLOSED]))[0]
    operators = firewall.ingress_rules([OPEN], ["192.0.2.0/24"])
    ssh, site, watch = firewall.security_group_rules(operators, ipv6=True)
    assert "ipv6_cidr_blocks" not in ssh and site["ipv6_cidr_blocks"] == watch["ipv6_cidr_blocks"] == ["::/0"]
    assert all("ipv6_cidr_blocks" not in rule for rule in firewall.security_group_rules(operators))


def test_an_edge_without_ipv6_makes_no_empty_list() -> None:
    web, _ = firewall.security_group_rules(firewall.ingress_rules([rule("443/tcp", Ranges(v4=EDGE.v4))]))
    assert "ipv6_cidr_blocks" not in web


def test_ssh_is_for_operators_and_closed_where_none_are_named() -> None:
    ssh, web, _ = firewall.ingress_rules([OPEN], ["192.0.2.0/24", "2001:db8::/32"])
    assert ssh == IngressRule(port=22, protocol="tcp", only_from=Ranges(v4=("192.0.2.0/24",), v6=("2001:db8::/32",)))
    assert web.port == 80 and firewall.security_group_rules([ssh])[0]["description"] == "operators"


def test_descriptions_have_the_characters_that_ec2_takes() -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpRange.html"""
    for rule in firewall.security_group_rules(firewall.ingress_rules([CLOSED, SERVICE], ["192.0.2.0/24"])):
        assert re.fullmatch(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{1,255}", rule["description"])


def sources(count: int) -> list[str]:
    ranges = Ranges(v4=tuple(f"10.{number}.0.0/16" for number in range(count)), v6=EDGE.v6)
    return list(firewall._sources(IngressRule(port=443, protocol="tcp", only_from=ranges)))


@pytest.mark.parametrize(("networks", "rules"), [(1, 1), (23, 1), (24, 2), (60, 3)])
def test_a_rule_of_triton_names_no_more_than_it_may(networks: int, rules: int) -> None:
    found = sources(networks)
    assert len(found) == rules
    # The local CloudAPI refuses what FWAPI refuses.
    parsed = [parse(f'FROM {each} TO tag "a" = "b/c" ALLOW tcp PORT 443') for each in found]
    assert sum(len(each.source) for each in parsed) == networks + 1


def test_a_rule_means_the_same_after_triton_has_written_it_its_way() -> None:
    written = f'FROM {sources(3)[0]} TO tag "rollcall-firewall" = "prod/web" ALLOW tcp PORT 443'
    assert meaning(str(parse(written))) == meaning(written)


def test_missing_edge_addresses_are_an_error_and_open_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(**_: Any) -> Any:
        return type("Found", (), {"ipv4_cidrs": [], "ipv6_cidrs": ["2400:cb00::/32"]})

    monkeypatch.setattr("components.resources.cloudflare_sdk.get_ip_ranges", nothing)
    with pytest.raises(ValueError, match="no addresses"):
        firewall.published(None)  # type: ignore[arg-type]
