"""The provider of AvailabilityZone: choose a zone with capacity when the resource is created, and keep the choice.

A provider here is stored in the state by reference to its module and class (components/registration/providers.py).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from pulumi.dynamic import CheckResult, CreateResult, DiffResult

from components.availability.asking import Zones, reservation_tags
from components.availability.choice import Subnet, in_order
from components.aws import api_errors
from components.compute.locations import Location
from components.config.availability_zones import is_outside
from components.joyent.engine import Engine
from components.registration.providers import ConfiguredProvider


class AvailabilityError(Exception):
    """No zone can be chosen. The message is `WHERE: PROBLEM. FIX.`"""


class AvailabilityZoneProvider(ConfiguredProvider):
    """Create asks EC2 for capacity; nothing else asks. A machine stays where it is, whatever zones there are later."""

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        return CheckResult(news, [])

    def create(self, props: dict[str, Any]) -> CreateResult:
        name = f"{props['fleet']}-{props['machine']}"
        outs = {key: value for key, value in props.items() if key not in ("again", "stays")}
        return CreateResult(name, {**outs, **self._chosen(name, props)})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Report a change only if the program says that the machine needs another choice: subnets come and go."""
        replaces = ["again"] if _news.get("again") else []
        return DiffResult(changes=bool(replaces), replaces=replaces, stables=[], delete_before_replace=False)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Do nothing: a choice leaves nothing in EC2."""

    def _chosen(self, name: str, props: Mapping[str, Any]) -> dict[str, Any]:
        region, size, engine = Location.from_inputs(props["cloud"]).region, props["size"], Engine()
        key = f"rollcall:fleets.{props['fleet']}.zones"
        zones = Zones(_client(tuple(self._config.items()), region), region, size, engine=engine)
        try:
            subnets = zones.subnets(sorted({*props["subnets"], *filter(None, [props.get("stays")])}))
            here = next((each for each in subnets if each.id == props.get("stays")), None)
            if here is not None:
                return _outputs(here, [])
            inside = [each for each in subnets if not is_outside(props["zones"], each.zone, each.zone_id)]
            return self._with_capacity(name, key, props, zones, inside)
        except api_errors.failures() as failed:
            raise AvailabilityError(api_errors.message_of(failed, key)) from failed

    def _with_capacity(
        self, name: str, key: str, props: Mapping[str, Any], zones: Zones, subnets: list[Subnet]
    ) -> dict[str, Any]:
        engine, size, passed = Engine(), props["size"], list[str]()
        tags = reservation_tags(props["stack"], props["fleet"])
        for each in in_order(int(props["machine"]), subnets, zones.short(subnets)):
            engine.check()
            if zones.has_capacity(each.zone, tags):
                if passed:
                    engine.say(
                        f"{name}: there is no capacity for {size} in {', '.join(passed)} now. It is created in {each.zone}",
                        warning=True,
                    )
                return _outputs(each, passed)
            passed.append(each.zone)
        raise AvailabilityError(
            f"{key}: there is no capacity for {size} in {', '.join(passed) or 'any zone'} now, so {name} cannot be created. Run "
            "`pulumi up` again later, add a zone, or choose another size."
        )


def _outputs(subnet: Subnet, passed: list[str]) -> dict[str, Any]:
    return {"subnet": subnet.id, "zone": subnet.zone, "zone_id": subnet.zone_id, "passed_over": passed}


@functools.cache
def _client(config: tuple[tuple[str, str], ...], region: str) -> Any:
    """Return EC2's client. It tries once: botocore would repeat what fails with HTTP 500, as missing capacity does."""
    from botocore.config import Config

    from components.aws.session import session_of

    once = Config(retries={"mode": "standard", "total_max_attempts": 1})
    return session_of(dict(config).get).client("ec2", region, once)
