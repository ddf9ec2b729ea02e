"""Ask EC2 whether an availability zone has capacity for machines.

EC2 has no call that answers this, and a dry run does not check it. A reservation does: CreateCapacityReservation fails
if EC2 does not have the capacity now
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/capacity-reservations-create.html). It is cancelled at once, because
it costs as much as an instance. Its instance matching criteria are `targeted`: running instances would move into an open
one, which would then not be a proof. If the cancellation fails, the reservation ends by itself.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from components.availability.choice import Subnet
from components.aws import api_errors
from components.joyent.engine import Engine
from rollcall.settings import FLEET, STACK

# Any platform answers the question. This one has the capacity of the others.
_PLATFORM = "Linux/UNIX"
_NO_CAPACITY = ("InsufficientInstanceCapacity", "InsufficientCapacity")
# A reservation is an instance for the quota of vCPUs.
_OVER_QUOTA = ("InstanceLimitExceeded", "VcpuLimitExceeded")
_BUSY = ("RequestLimitExceeded", "Throttling")
_TRIES, _PAUSE_S = 6, 2.0
_ENDS_AFTER = timedelta(hours=1)
_PENDING_LIMIT_S, _POLL_S = 20.0, 1.0
# For so long a machine that was promised capacity may not run yet, so the next question asks for its capacity too.
GRANTED_S = 60.0
# For so long a zone that had no capacity is tried last.
SHORT_S = 300.0
Key = tuple[str, str, str]


class Memory:
    """What the provider has learned of zones in this run of the engine. Thread-safe. A key is region, type and zone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._gates: dict[Key, threading.Lock] = defaultdict(threading.Lock)
        self._granted: dict[Key, list[float]] = defaultdict(list)
        self._short: dict[Key, float] = {}

    @contextlib.contextmanager
    def gate(self, key: Key) -> Iterator[None]:
        """Let one question about a zone wait for the others: reservations of two would take the capacity from each other."""
        with self._lock:
            gate = self._gates[key]
        with gate:
            yield

    def granted(self, key: Key) -> int:
        """Return how many machines were promised capacity a short while ago."""
        with self._lock:
            now = self._clock()
            self._granted[key] = [each for each in self._granted[key] if now - each < GRANTED_S]
            return len(self._granted[key])

    def grant(self, key: Key) -> None:
        with self._lock:
            self._granted[key].append(self._clock())
            self._short.pop(key, None)

    def refuse(self, key: Key) -> None:
        with self._lock:
            self._short[key] = self._clock()

    def is_short(self, key: Key) -> bool:
        """Return whether the zone had no capacity a short while ago."""
        with self._lock:
            since = self._short.get(key)
            return since is not None and self._clock() - since < SHORT_S


MEMORY = Memory()


class Zones:
    """The availability zones of a region, for one instance type. Every method raises what EC2's client raises."""

    def __init__(self, ec2: Any, region: str, size: str, *, engine: Engine, memory: Memory = MEMORY) -> None:
        self._ec2, self._region, self._size, self._engine, self._memory = ec2, region, size, engine, memory

    def subnets(self, ids: list[str]) -> list[Subnet]:
        """Return these subnets with their zones."""
        if not ids:
            # Without ids, EC2 describes all subnets of the account.
            return []
        pages = self._ec2.get_paginator("describe_subnets").paginate(SubnetIds=ids)
        return [
            Subnet(zone=each["AvailabilityZone"], id=each["SubnetId"], zone_id=each.get("AvailabilityZoneId", ""))
            for page in pages
            for each in page["Subnets"]
        ]

    def short(self, subnets: list[Subnet]) -> set[str]:
        """Return the zones that had no capacity a short while ago."""
        return {each.zone for each in subnets if self._memory.is_short(self._key(each.zone))}

    def has_capacity(self, zone: str, tags: Mapping[str, str]) -> bool:
        """Return whether the zone has capacity for one machine more. A question that EC2 does not answer counts as yes.

        `tags` are those of the reservation, which exists for a second.
        """
        key = self._key(zone)
        with self._memory.gate(key):
            found = self._answer(zone, 1 + self._memory.granted(key), tags)
            (self._memory.grant if found else self._memory.refuse)(key)
        return found

    def _key(self, zone: str) -> Key:
        return self._region, self._size, zone

    def _answer(self, zone: str, count: int, tags: Mapping[str, str]) -> bool:
        from botocore.exceptions import ClientError

        try:
            return self._reserved(zone, count, tags)
        except ClientError as refused:
            code = api_errors.code_of(refused)
            if code in _NO_CAPACITY:
                return False
            if code in _OVER_QUOTA and count > 1:
                # Machines that run by now were counted twice.
                return self._answer(zone, 1, tags)
            if api_errors.is_denied(refused) or api_errors.is_unknown(refused) or api_errors.is_blameless(refused):
                raise
            # Not every instance type can be reserved. A launch needs less than a reservation does.
            self._engine.say(f"EC2 does not say whether {zone} has capacity for {self._size} ({code})", warning=True)
            return True

    def _reserved(self, zone: str, count: int, tags: Mapping[str, str]) -> bool:
        made = self._patient(
            lambda: self._ec2.create_capacity_reservation(
                InstanceType=self._size,
                InstancePlatform=_PLATFORM,
                AvailabilityZone=zone,
                InstanceCount=count,
                InstanceMatchCriteria="targeted",
                EndDateType="limited",
                EndDate=datetime.now(UTC) + _ENDS_AFTER,
                TagSpecifications=[
                    {
                        "ResourceType": "capacity-reservation",
                        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                    }
                ],
            )
        )["CapacityReservation"]
        known = made["CapacityReservationId"]
        try:
            return bool(self._settled(known, made["State"]) != "failed")
        finally:
            self._cancel(known)

    def _settled(self, known: str, state: str) -> str:
        """Return the state of a reservation that may be pending first. The capacity may be there already then."""
        end = time.monotonic() + _PENDING_LIMIT_S
        while state == "pending" and time.monotonic() < end:
            self._engine.sleep(_POLL_S)
            found = self._ec2.describe_capacity_reservations(CapacityReservationIds=[known])["CapacityReservations"]
            state = found[0]["State"] if found else state
        return state

    def _cancel(self, known: str) -> None:
        try:
            self._patient(lambda: self._ec2.cancel_capacity_reservation(CapacityReservationId=known))
        except api_errors.failures() as failed:
            where = f"the capacity reservation {known}"
            self._engine.say(
                f"{api_errors.message_of(failed, where)} It ends by itself within two hours.", warning=True
            )

    def _patient(self, call: Callable[[], Any]) -> Any:
        """Call again while EC2 throttles."""
        from botocore.exceptions import ClientError

        for left in reversed(range(_TRIES)):
            try:
                return call()
            except ClientError as refused:
                if api_errors.code_of(refused) not in _BUSY or not left:
                    raise
            self._engine.sleep(_PAUSE_S)
        return None


def reservation_tags(stack: str, fleet: str) -> dict[str, str]:
    """Return the tags by which a person sees what a reservation is for."""
    return {"Name": f"rollcall asks for capacity for {fleet}", STACK: stack, FLEET: fleet}
