"""Which tests share a deployed stack, and so run one after the other on one worker."""

from __future__ import annotations

# In the order in which a group's files use its stack; the last one destroys it (tests/integration/shared_stacks.py).
SHARED = {
    "tests/integration/test_api_down.py": "two clouds",
    "tests/integration/test_promises.py": "two clouds",
    # The same stack once more, with other times of the agents. In one group all of these would be the last to end.
    "tests/integration/test_crashes.py": "two clouds, agents",
    "tests/integration/test_agents.py": "two clouds, agents",
    "tests/integration/test_alive.py": "two clouds, agents",
    "tests/integration/test_proxied.py": "closed site",
    "tests/integration/test_closed_origins.py": "closed site",
    "tests/integration/test_closed_sites.py": "closed site",
    "tests/integration/test_secrets.py": "closed site",
}

# The groups that take a minute or more, the longest first: they begin in this order, so that none of them is the last to end.
LONGEST = (
    "two clouds, agents",
    "two clouds",
    "tests/integration/test_vpcs_boot.py",
    "tests/integration/test_interrupted.py",
    "tests/integration/test_regions.py",
    "tests/integration/test_workload_secrets_engine.py",
    "tests/integration/test_private_zone_engine.py",
    "tests/integration/test_fabric_boot.py",
    "tests/integration/test_joins_change.py",
    "closed site",
    "tests/integration/test_ipv6.py",
    "tests/integration/test_services.py",
    "tests/integration/test_main_job.py",
    "tests/integration/test_boot.py",
    "tests/integration/test_prod.py",
    "tests/integration/test_rfc2136_engine.py",
    "tests/integration/test_another_cloud.py",
    "tests/integration/test_adopting.py",
    "tests/integration/test_credentials_engine.py",
    "tests/integration/test_ec2_fleet_engine.py",
    "tests/integration/test_order.py",
    "tests/cloud/test_joyent_engine.py",
    "tests/integration/test_make.py",
    "tests/integration/test_plugins_engine.py",
    "tests/integration/test_bad_input.py",
    "tests/cloud/test_joyent_table.py",
    "tests/integration/test_gone_engine.py",
    "tests/cloud/test_joyent_datacenters.py",
    "tests/cloud/test_in_step_property.py",
    "tests/integration/test_networks_engine.py",
    "tests/unit/agent/test_route53_contention.py",
)


def group_of(node: str) -> str:
    """Return the group that a test belongs to, by its id: its shared stack, else its file."""
    file = node.partition("::")[0]
    return SHARED.get(file, file)
