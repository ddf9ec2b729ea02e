"""components.dns.cloudflare: what a Cloudflare that fails for a moment does to whoever looks and removes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from components.dns import cloudflare
from components.dns.cloudflare import Place, SiteRecords
from rollcall.cloudflare import Record
from rollcall.errors import FatalError, TransientError
from rollcall.ownership import Owner
from rollcall.retrying import retried

PLACE = Place(zone="z1", domain="scalability.expert", host="www.scalability.expert", ttl=60, proxied=False)
OWNER = Owner("prod", "web", "0", "1a2b3c", "i-1")
RECORD = Record(name=PLACE.host, type="A", content="198.51.100.10", comment=str(OWNER), zone="z1", id="r1")
BUSY, NO = TransientError("reason=api-failing status=429"), FatalError("reason=refused")


class Store:
    """Raises each of `faults` once, whatever it is asked; then has RECORD, or a challenge, until it is deleted."""

    def __init__(self, *faults: Exception) -> None:
        self.faults, self.there = list(faults), True

    def list(self, zone: str, name: str) -> tuple[Record, ...]:
        self._fail()
        return (RECORD,) if self.there and name == PLACE.host else ()

    def delete(self, zone: str, record: str) -> None:
        self._fail()
        self.there = False

    def _fail(self) -> None:
        if self.faults:
            raise self.faults.pop(0)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []

    def at_once(act: Callable[[], Any], within: float) -> Any:
        return retried(act, within, sleep=taken.append)

    monkeypatch.setattr(cloudflare, "retried", at_once)
    return taken


def test_a_cloudflare_that_is_busy_is_asked_again(pauses: list[float]) -> None:
    store = Store(BUSY, BUSY)
    (record,) = SiteRecords(PLACE, store).dns_records()  # type: ignore[arg-type]
    assert record.owner == OWNER and len(pauses) == 2


def test_one_that_refuses_is_not(pauses: list[float]) -> None:
    with pytest.raises(FatalError):
        SiteRecords(PLACE, Store(NO)).dns_records()  # type: ignore[arg-type]
    assert pauses == []


def test_a_removal_is_tried_again() -> None:
    store = Store()
    records = SiteRecords(PLACE, store)  # type: ignore[arg-type]
    found = records.dns_records()
    store.faults = [BUSY]
    records.remove(found)
    assert not store.there and records.dns_records() == ()


def test_challenges_are_taken_away_though_it_is_busy(pauses: list[float]) -> None:
    SiteRecords(PLACE, Store(BUSY)).unchallenge(OWNER)  # type: ignore[arg-type]
    assert len(pauses) == 1
