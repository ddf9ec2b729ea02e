"""tests/unit/api_calls.py finds every form in which the source makes a call, and no more."""

from __future__ import annotations

import ast
import textwrap

import pytest

from tests.unit.api_calls import _aws, _http

SERVICES = ["ec2", "route53", "ssm", "sts"]


def found(source: str, api: str = "cloudflare") -> set[str]:
    tree = ast.parse(textwrap.dedent(source))
    return {*_aws(tree, SERVICES), *_http(tree, api)}


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ('boto3.client("ec2").allocate_address(Domain="vpc")', {"ec2 AllocateAddress"}),
        ('pages = self._ec2.get_paginator("describe_volumes").paginate()', {"ec2 DescribeVolumes"}),
        ('made.get_waiter("instance_running").wait()', set()),
        ("session.client(name).get_hosted_zone_count()", {"route53 GetHostedZoneCount"}),
        ('headers = {"X-Amz-Target": "AmazonSSM.PutParameter"}', {"ssm PutParameter"}),
        ('api.get("/accounts")', {"cloudflare GET /accounts"}),
        ('api.all(f"/zones/{zone}/settings", name=x)', {"cloudflare GET /zones/{}/settings"}),
        ('api.call("PATCH", f"/zones/{a.b}", body)', {"cloudflare PATCH /zones/{}"}),
        ('self._call("DELETE", f"/certificates/{_id}?x=1")', {"cloudflare DELETE /certificates/{}"}),
        ('requests.get(f"{url or URL}/ips", timeout=5)', {"cloudflare GET /ips"}),
        ('values.get("key"); {}.get(name); os.environ.get("A")', set()),
    ],
)
def test_a_call_is_found_by_what_is_written(source: str, calls: set[str]) -> None:
    assert found(source) == calls


def test_paths_are_followed_through_names_and_functions_of_the_module() -> None:
    source = """
        _THINGS = "/things/default"

        def _path(props):
            return f"{_THINGS}/{props['id']}/parts"

        api.put(f"{_THINGS}/{id_}", body)
        api.delete(f"{_path(props)}/{part}")
        self.transport.send("POST", f"/machines/{machine}?action=stop")
        self._pages("/machines", query)
        self._get("")
    """
    assert found(source, "cloudapi") == {
        "cloudapi PUT /things/default/{}",
        "cloudapi DELETE /things/default/{}/parts/{}",
        "cloudapi POST /machines/{}",
        "cloudapi GET /machines",
        "cloudapi GET /",
    }
