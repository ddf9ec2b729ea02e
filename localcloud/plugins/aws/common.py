"""What the AWS types share: the region, tags both ways, and what AWS says when something is gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from localcloud.plugins.resource import GoneError, Input, Type, Values, mapping, text

REGION: Mapping[str, Input] = {"region": text(replaces=True, computed=True)}
TAGS: Mapping[str, Input] = {"tags": mapping(), "tagsAll": mapping(computed=True)}


class Regional(Type):
    """A type with REGION among its inputs. The stand-in has one region, the provider's."""

    def always(self) -> Values:
        return {"region": self.api.region}

    def faults(self, given: Values) -> list[tuple[str, str]]:
        found, region = super().faults(given), given.get("region")
        if isinstance(region, str) and region != self.api.region:
            found.append(("region", f"the stand-in for aws has only the provider's region {self.api.region}"))
        return found


def to_tags(tags: Mapping[str, str] | None) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted((tags or {}).items())]


def from_tags(tags: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in tags or () if not each["Key"].startswith("aws:")}


@contextmanager
def gone_on(*codes: str) -> Iterator[None]:
    """Turns AWS's word for "not there" into GoneError."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as refused:
        if refused.response.get("Error", {}).get("Code") in codes:
            raise GoneError(str(refused)) from refused
        raise
