"""Refuse tags that AWS would not take: those that the program gives, and `aws:defaultTags`, which the provider puts on everything.

Each service has its own rules, and a resource gets all tags in one call, so one bad tag fails it when others are made already.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html
https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html#id_tags_rules
https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_Tag.html
https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeTagsForResource.html
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from components.config.models import FleetSettings, Settings, joins_service
from components.resources.fleets.revision import VERSION, version
from rollcall.in_place import GATE, HOLD, LIVE, PATCH, REPORT_TO, VIEW_TO, WANTED
from rollcall.machine import CREDENTIALS
from rollcall.settings import (
    DRAIN,
    FLEET,
    GENERATION,
    JOIN,
    MACHINE,
    MIRROR,
    PROBE,
    RELEASE,
    SECRETS,
    STORE,
    WORKLOAD,
    WORKLOADS,
)

KEY, IGNORE_KEY = "aws:defaultTags", "aws:ignoreTags"
_IGNORED_PREFIXES = "TF_AWS_IGNORE_TAGS_KEY_PREFIXES"
_ENVIRONMENT = "TF_AWS_DEFAULT_TAGS_"
_OURS, _RESERVED = "rollcall-", "aws:"
_LONGEST_KEY, _LONGEST_VALUE = 128, 256
_IN_METADATA = re.compile(r"[0-9a-zA-Z\-_+=,.@:]+")
_NOT_IN_METADATA = (".", "..", "_index")
_WANTS_METADATA = (
    "has a-z, A-Z, 0-9 and - _ + = , . @ : only and is not ., .. or _index, "
    + "since machines read their tags from instance metadata"
)
_SIGNS = frozenset("_.:/=+-@")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a kind of resource takes.

    `key` and `value` say whether a text is taken; `wants` says which texts are. With `caseless`, two keys may not
    differ in case alone. `ours` are the keys that the program gives.
    """

    name: str
    ours: tuple[str, ...]
    most: int = 50
    key: Callable[[str], bool] = bool
    value: Callable[[str], bool] = lambda _: True
    wants: str = "has at least one character"
    caseless: bool = False


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A default tag. `where` says where it comes from."""

    where: str
    key: str
    value: str


def default_tags(config: str | None, environ: Mapping[str, str]) -> list[Tag]:
    """Return what the provider puts on everything: `aws:defaultTags` of the stack's configuration, over the environment's.

    Raises ValueError where the configuration has another form.
    """
    found = {
        name[len(_ENVIRONMENT) :]: Tag(where=name, key=name[len(_ENVIRONMENT) :], value=value)
        for name, value in environ.items()
        if name.startswith(_ENVIRONMENT) and name != _ENVIRONMENT
    }
    block = json.loads(config) if config else {}
    tags = block.get("tags", {}) if isinstance(block, Mapping) else None
    if not isinstance(tags, Mapping) or not all(isinstance(each, str | int | float) for each in tags.values()):
        raise ValueError(config)
    return [*({**found, **{key: Tag(where=KEY, key=key, value=str(value)) for key, value in tags.items()}}.values())]


def faults(
    settings: Settings, stack_tags: Mapping[str, str], config: str | None, environ: Mapping[str, str]
) -> list[str]:
    """Return everything that AWS would refuse of the tags of this stack. `stack_tags` are the tags of every resource."""
    try:
        given = default_tags(config, environ)
    except ValueError:
        return [f'{KEY}: is not a block of tags. Write it as {{"tags": {{"team": "web"}}}}, each value a text.']
    kinds = kinds_of(settings, tuple(stack_tags))
    found = [fault for tag in given for fault in _tag_faults(tag, stack_tags, kinds)]
    found += [fault for kind in kinds for fault in _set_faults(given, kind)]
    found += [fault for fleet in settings.fleets_of("aws") for fault in _version_faults(fleet)]
    found += [
        fault for fleet in settings.fleets_of("aws") for fault in _count_faults(settings, fleet, stack_tags, given)
    ]
    return list(dict.fromkeys(found))


def ignored_faults(settings: Settings, config: str | None, environ: Mapping[str, str]) -> list[str]:
    """Return why an `up` would remove the live settings of EC2 machines, which are tags that the program does not give.

    The AWS provider does not show a tag that `aws:ignoreTags` names, neither after a refresh nor in the tags that it compares
    (https://registry.terraform.io/providers/hashicorp/aws/latest/docs#ignore_tags). The project's Pulumi.yaml names those
    of Rollcall. The engine uses that value only if the stack has none of its own.
    """
    if not settings.fleets_of("aws"):
        return []
    try:
        block = json.loads(config) if config else {}
        given = [*(block.get("keyPrefixes") or ()), *environ.get(_IGNORED_PREFIXES, "").split(",")]
    except (AttributeError, TypeError, ValueError):
        return [f"{IGNORE_KEY}: is not a mapping. Write it as {{keyPrefixes: [{', '.join(LIVE)}]}}."]
    lacking = [each for each in LIVE if not any(prefix and each.startswith(prefix) for prefix in given)]
    if not lacking:
        return []
    return [
        f"{IGNORE_KEY}: lacks {', '.join(lacking)}, so an `up` would remove the settings that Rollcall writes to running machines. Add "
        f"keyPrefixes: [{', '.join(LIVE)}], in Pulumi.yaml (as `value`) or in the file of the stack."
    ]


def kinds_of(settings: Settings, stack_tags: Sequence[str]) -> list[Kind]:
    """Return the kinds of resources that this stack tags.

    Each has the largest number of our tags that one of them gets.
    """
    ec2, found = settings.fleets_of("aws"), []
    if ec2:
        joins = [f"{JOIN}{at}" for at in range(max(len(each.joins) for each in ec2))]
        workloads = dict.fromkeys(f"{WORKLOAD}{name}" for each in ec2 if not each.in_place for name in each.runs)
        in_place = [each for each in ec2 if each.in_place]
        live = dict.fromkeys(f"{prefix}{name}" for each in in_place for name in each.runs for prefix in (WANTED, GATE))
        secrets = (
            f"{SECRETS}{one.name}" for each in ec2 for one in settings.workloads_of(each) if one.secrets or one.registry
        )
        machine_keys = (
            "Name",
            VERSION,
            FLEET,
            MACHINE,
            GENERATION,
            WORKLOADS,
            PROBE,
            RELEASE,
            STORE,
            DRAIN,
            HOLD,
            PATCH,
            *joins,
            *workloads,
            *live,
            *([REPORT_TO] if in_place else []),
            *([VIEW_TO] if any(settings.joins_private_zone(each) for each in ec2) else []),
            *dict.fromkeys(secrets),
            *dict.fromkeys(key for each in ec2 for key in each.system_settings),
            *([CREDENTIALS] if any(each.policies for each in ec2) else []),
            *(f"{MIRROR}{each.name}" for each in settings.mirrors),
        )
        found += [
            Kind(
                name="EC2 instance",
                ours=(*stack_tags, *machine_keys),
                key=lambda key: bool(_IN_METADATA.fullmatch(key)) and key not in _NOT_IN_METADATA,
                wants=_WANTS_METADATA,
            ),
            Kind(name="EC2 security group", ours=(*stack_tags, "Name")),
            _plain("S3 bucket", stack_tags),
            _plain("SSM parameter", stack_tags),
            _plain("IAM instance profile", stack_tags, value=_is_free),
            _plain("IAM role", stack_tags, value=_is_free, caseless=True),
        ]
    if any(joins_service(each) for each in settings.fleets_of("joyent")):
        found.append(_plain("IAM user", stack_tags, value=_is_free, caseless=True))
    if settings.service_discovery is not None and settings.service_discovery.create:
        found.append(Kind(name="Route53 hosted zone", ours=tuple(stack_tags), most=10))
    return found


def _plain(
    name: str, stack_tags: Sequence[str], value: Callable[[str], bool] = lambda _: True, *, caseless: bool = False
) -> Kind:
    """Return a kind that takes letters, numbers and spaces of any script."""
    return Kind(
        name=name,
        ours=tuple(stack_tags),
        key=lambda key: bool(key) and _is_plain(key),
        value=lambda text: _is_plain(text) and value(text),
        wants="has letters, numbers, spaces and _ . : / = + - @ only, and does not begin with aws:",
        caseless=caseless,
    )


def _is_plain(text: str) -> bool:
    return all(char in _SIGNS or unicodedata.category(char)[0] in "LZN" for char in text)


def _is_free(text: str) -> bool:
    return not text.lower().startswith(_RESERVED)


def _tag_faults(tag: Tag, stack_tags: Mapping[str, str], kinds: Sequence[Kind]) -> Iterator[str]:
    """Yield what is wrong with one default tag by itself."""
    shown = f"{tag.where}: the key {tag.key!r}"
    if not _is_free(tag.key):
        yield f"{shown} begins with aws:, which AWS keeps for itself. Rename it."
    elif tag.key in stack_tags and stack_tags[tag.key] != tag.value:
        yield f"{shown} is set to {stack_tags[tag.key]!r} by Rollcall itself. Take it out."
    elif tag.key.lower().startswith(_OURS) and tag.key not in stack_tags:
        yield f"{shown} begins with {_OURS}, by which machines read their settings. Rename it."
    elif len(tag.key) > _LONGEST_KEY:
        yield f"{shown} has {len(tag.key)} characters, AWS takes {_LONGEST_KEY}. Shorten it."
    else:
        yield from _refused_by(kinds, lambda kind: kind.key(tag.key), f"{shown} cannot be on", "a key", "Rename it.")
    shown = f"{tag.where}: the value of {tag.key!r}"
    if len(tag.value) > _LONGEST_VALUE:
        yield f"{shown} has {len(tag.value)} characters, AWS takes {_LONGEST_VALUE}. Shorten it."
    else:
        yield from _refused_by(
            kinds, lambda kind: kind.value(tag.value), f"{shown} cannot be on", "a value", "Change it."
        )


def _refused_by(kinds: Sequence[Kind], takes: Callable[[Kind], bool], shown: str, what: str, fix: str) -> Iterator[str]:
    """Return one fault for all kinds that refuse for the same reason."""
    refused = [kind for kind in kinds if not takes(kind)]
    for wants in dict.fromkeys(kind.wants for kind in refused):
        names = ", ".join(kind.name for kind in refused if kind.wants == wants)
        yield f"{shown} each {names}: {what} {wants}. {fix}"


def _set_faults(given: Sequence[Tag], kind: Kind) -> Iterator[str]:
    """Yield what is wrong with all tags of a resource together."""
    keys = [*dict.fromkeys((*kind.ours, *(tag.key for tag in given)))]
    if len(keys) > kind.most:
        yield (
            f"{KEY}: each {kind.name} would have {len(keys)} tags, {len(kind.ours)} of them Rollcall's, and AWS takes {kind.most}. "
            f"Give {kind.most - len(kind.ours)} at most."
        )
    known: dict[str, str] = {}
    for key in keys if kind.caseless else ():
        other = known.setdefault(key.lower(), key)
        if other != key:
            where = next(tag.where for tag in given if tag.key == key)
            origin = "which Rollcall sets" if other in kind.ours else "another key"
            yield (
                f"{where}: the key {key!r} differs from {other!r}, {origin}, in case alone, and an {kind.name} cannot have both. Rename it."
            )


def _count_faults(
    settings: Settings, fleet: FleetSettings, stack_tags: Mapping[str, str], given: Sequence[Tag]
) -> Iterator[str]:
    """Check how many tags a machine of a fleet has with the fleet's own."""
    if not fleet.tags:
        return
    kind = kinds_of(replace(settings, fleets=(fleet,)), tuple(stack_tags))[0]
    others = {*kind.ours, *(tag.key for tag in given)}
    count = len(others | {*fleet.tags})
    if count > kind.most:
        yield (
            f"rollcall:fleets.{fleet.name}.tags: each {kind.name} would have {count} tags, {len(others)} of them Rollcall's or "
            f"of {KEY}, and AWS takes {kind.most}. Give {max(kind.most - len(others), 0)} at most."
        )


def _version_faults(fleet: FleetSettings) -> Iterator[str]:
    """Check the fleet revision: it is the only tag of ours that has no other limit of its length."""
    length = len(version(fleet))
    if length > _LONGEST_VALUE:
        yield (
            f"rollcall:fleets.{fleet.name}.imageRefresh: image and imageRefresh make a tag {VERSION} of {length} characters, AWS takes "
            f"{_LONGEST_VALUE}. Shorten them."
        )
