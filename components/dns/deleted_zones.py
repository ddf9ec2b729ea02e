"""Tell a DNS zone that was deleted from one that may not be seen, and treat a deleted zone as one without records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rollcall.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from components.dns.base import Records
    from components.model import DnsRecord, RecordKey
    from rollcall.ownership import Owner

T = TypeVar("T")
# https://docs.aws.amazon.com/Route53/latest/APIReference/API_ListResourceRecordSets.html#API_ListResourceRecordSets_Errors . A zone of
# another account is AccessDenied: https://github.com/hashicorp/terraform-provider-aws/issues/12570
_NO_SUCH_HOSTED_ZONE = "NoSuchHostedZone"


class ZoneGoneError(FatalError):
    """The provider knows the caller and has no zone with this id. A refusal for lack of rights is never this."""


@contextmanager
def route53_zone(zone: str) -> Iterator[None]:
    """Raise ZoneGoneError where Route53 has no hosted zone with this id. Other errors pass."""
    try:
        yield
    except FatalError as refused:
        response = getattr(refused.__cause__, "response", None) or {}
        if response.get("Error", {}).get("Code") != _NO_SUCH_HOSTED_ZONE:
            raise
        raise ZoneGoneError(f"Route53 has no hosted zone {zone} any more") from refused


class PresentRecords:
    """The records of one place. Its zone may have been deleted.

    A deleted zone has no records, so it lists none and each removal from it is done. `gone`: the
    last listing, or a call after it, found the zone deleted. Other errors pass.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self.gone = False

    def dns_records(self) -> tuple[DnsRecord, ...]:
        self.gone = False
        return self._unless_gone(self._records.dns_records, ())

    def answers(self) -> dict[RecordKey, frozenset[str] | None]:
        return {} if self.gone else self._records.answers()

    def remove(self, records: Iterable[DnsRecord]) -> None:
        self._unless_gone(lambda: self._records.remove(records), None)

    def take_out(self, records: Iterable[DnsRecord]) -> None:
        self._unless_gone(lambda: self._records.take_out(records), None)

    def still_answered(self, records: Iterable[DnsRecord]) -> list[DnsRecord]:
        """Return none for a deleted zone: a resolver keeps answering for the TTL only, and its name servers refuse."""
        return [] if self.gone else self._records.still_answered(records)

    def compared(self, keys: Collection[RecordKey]) -> list[str]:
        return [] if self.gone else self._records.compared(keys)

    def split(self) -> list[str]:
        return [] if self.gone else self._records.split()

    def challenged(self, gone: Owner) -> bool:
        return not self.gone and self._records.challenged(gone)

    def unchallenge(self, gone: Owner) -> None:
        self._unless_gone(lambda: self._records.unchallenge(gone), None)

    def _unless_gone(self, call: Callable[[], T], none: T) -> T:
        try:
            return call()
        except ZoneGoneError:
            self.gone = True
            return none
