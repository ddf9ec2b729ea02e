"""The common parts of the AWS types: the region, tags in both directions, and AWS's codes for a missing object."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from localcloud.plugins.resource import GoneError, Input, PluginError, Type, Values, mapping, plain, text

REGION: Mapping[str, Input] = {"region": text(replaces=True, computed=True)}
TAGS: Mapping[str, Input] = {"tags": mapping(), "tagsAll": mapping(computed=True)}


_DEFAULT_TAG = "TF_AWS_DEFAULT_TAGS_"


def default_tags(settings: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """`aws:defaultTags`, over those of the environment.

    https://www.pulumi.com/registry/packages/aws/api-docs/provider/#providerdefaulttags
    """
    declared = settings.get("defaultTags") or {}
    block = json.loads(declared) if isinstance(declared, str) else declared
    named = {key[len(_DEFAULT_TAG) :]: value for key, value in environ.items() if key.startswith(_DEFAULT_TAG)}
    return {**named, **{key: str(value) for key, value in (block.get("tags") or {}).items()}}


@dataclass(frozen=True)
class IgnoredTags:
    """The tags that the provider does not show: `aws:ignoreTags`, and those of the environment besides.

    https://www.pulumi.com/registry/packages/aws/api-docs/provider/#providerignoretags. The provider leaves them out of `tags` and `tagsAll`
    when it reads a resource (tagsResourceInterceptor in internal/provider/intercept.go of terraform-provider-aws), and out of the
    `tagsAll` that it compares (mergeTags in provider/tags.go of pulumi-aws). It still writes the tags that a program gives.
    """

    keys: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any], environ: Mapping[str, str]) -> IgnoredTags:
        declared = settings.get("ignoreTags") or {}
        block = json.loads(declared) if isinstance(declared, str) else declared
        if not isinstance(block, Mapping) or not {*block} <= {"keys", "keyPrefixes"}:
            raise PluginError(f"aws: ignoreTags is not a mapping with keys and keyPrefixes: {declared!r}")
        keys, prefixes = (
            [*(block.get(name) or ()), *filter(None, environ.get(variable, "").split(","))]
            for name, variable in (
                ("keys", "TF_AWS_IGNORE_TAGS_KEYS"),
                ("keyPrefixes", "TF_AWS_IGNORE_TAGS_KEY_PREFIXES"),
            )
        )
        return cls(frozenset(keys), tuple(prefixes))

    def without(self, tags: Mapping[str, str] | None) -> dict[str, str]:
        found = (tags or {}).items()
        return {key: value for key, value in found if key not in self.keys and not key.startswith(self.prefixes)}


class Tagged(Type):
    """A type with TAGS among its inputs: the cloud has the provider's default tags besides, and the resource's own come first."""

    def completed(self, given: Values) -> Values:
        tags = {**self.api.default_tags, **(given.get("tags") or {})}
        return {**given, "tags": tags} if tags and "tags" in self.inputs else given

    def known(self, state: Values) -> Values:
        return {**state, "tags": state["tagsAll"]} if state.get("tagsAll") else state

    def own(self, now: Values, before: Values) -> Values:
        shown = {key: self.api.ignored_tags.without(now[key]) or None for key in ("tags", "tagsAll") if now.get(key)}
        now = {**now, **shown}
        if "tags" not in now:
            return now
        old_tags = before.get("tags") or {}
        added = {key: value for key, value in self.api.default_tags.items() if key not in old_tags}
        tags = {key: value for key, value in (now["tags"] or {}).items() if added.get(key) != value}
        return {**now, "tags": tags or None}

    def differs_beside(self, state: Values, new: Values) -> Sequence[str]:
        if state.get("tagsAll") is None or plain(state.get("tags")) != plain(new.get("tags")):
            return ()
        wanted = self.api.ignored_tags.without(self.completed(new).get("tags"))
        return ["tagsAll"] if plain(state["tagsAll"]) != plain(wanted) else ()


class Regional(Tagged):
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
    """Translate AWS's codes for a missing object into GoneError."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as refused:
        if refused.response.get("Error", {}).get("Code") in codes:
            raise GoneError(str(refused)) from refused
        raise


def retag(ec2: Any, identity: str, old: Values | None, new: Values | None) -> None:
    """Change the tags of a resource of EC2 from `old` to `new`."""
    gone = set(old or {}) - set(new or {})
    if gone:
        ec2.delete_tags(Resources=[identity], Tags=[{"Key": key} for key in sorted(gone)])
    if new:
        ec2.create_tags(Resources=[identity], Tags=to_tags(new))
