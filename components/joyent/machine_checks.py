"""Refuse, before anything is created, what CloudAPI would refuse: every fault of a machine's description with its fix."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from components.joyent.catalogue import Catalogue
from components.joyent.errors import AmbiguousError, NotFoundError, RefusedError
from components.joyent.machine_fields import MARK_TAG, SYSTEM_METADATA, USER_SCRIPT, Inputs
from components.joyent.placement_checks import brand_faults, wishes
from components.joyent.provider import unknown

Fault = tuple[str, str]
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
# EXPR_KEY_RE and EXPR_VALUE_RE of sdc-cloudapi's lib/triton-affinity.js
# (https://github.com/TritonDataCenter/sdc-cloudapi/blob/master/lib/triton-affinity.js).
_AFFINITY = re.compile(r"[a-z_][a-z0-9_.-]+(==|!=)~?[a-z0-9:_\s.*/()?+\[\]\\^$|-]+", re.IGNORECASE)
# CloudAPI's parameters in the same calls (its lib/tags.js, lib/metadata.js): as keys they would be lost.
_PARAMETERS = ("account", "machine", "uuid", "owner_uuid", "context", "image")
_TRITON_TAGS: Mapping[str, type] = {
    "triton.cns.services": str,
    "triton.cns.disable": bool,
    "triton.cns.reverse_ptr": str,
}
_LONGEST_NAME, _LONGEST_NAME_IN_DNS = 189, 63
_COMPOSED = (
    "tags", "metadata", "secret_metadata", "networks", "affinity", "locality", "fixed_ips", "disks", "volumes",
)  # fmt: skip
# CloudAPI reads at most 100,000 bytes of a request's body (its app.js). The reserved bytes are enough for what is
# neither the userdata nor tags nor metadata (ids, names, networks).
LARGEST_BODY, _REST = 100_000, 4096


def faults(inputs: Inputs, catalogue: Catalogue) -> list[Fault]:
    """Return all faults: (input, what is wrong and how to fix it). Values that are not known yet pass.

    `inputs` has the userdata and the secrets as texts. Asks the live catalogue; raises a CloudApiError if that fails.
    """
    # A whole map or list may be unknown, where it comes from one output.
    inputs = {name: value for name, value in inputs.items() if name not in _COMPOSED or not isinstance(value, str)}
    found = [*_name(inputs, catalogue), *_tags(inputs.get("tags") or {}), *_metadata(inputs), *_scalars(inputs)]
    found += [*_offers(inputs, catalogue), *wishes(inputs, catalogue), *_size(inputs)]
    return found


def _name(inputs: Inputs, catalogue: Catalogue) -> Iterator[Fault]:
    name = inputs.get("machine_name")
    if not name:
        yield "machine_name", "is missing. Every machine needs a name that no other machine of the account has"
    elif not unknown(name):
        if not _NAME.fullmatch(str(name)):
            yield (
                "machine_name",
                f"{name!r} must begin with a letter or digit and go on with these, '_', '.' and '-'. Correct it",
            )
        if len(str(name)) > _LONGEST_NAME:
            yield "machine_name", f"is {len(name)} characters long, and CloudAPI takes {_LONGEST_NAME}. Shorten it"
        elif len(str(name)) > _LONGEST_NAME_IN_DNS and catalogue.cns_enabled():
            yield (
                "machine_name",
                f"is {len(name)} characters long, and an account with CNS takes {_LONGEST_NAME_IN_DNS}. Shorten it",
            )


def _tags(tags: Mapping[str, Any]) -> Iterator[Fault]:
    for key, value in tags.items():
        if key in _PARAMETERS or key.partition(":")[0] == MARK_TAG:
            yield "tags", f"{key!r} is reserved. Choose another key"
        elif key.startswith("docker:label:com.docker."):
            yield "tags", f"{key!r} is reserved for Docker. Choose another key"
        elif key.startswith("triton."):
            kind = _TRITON_TAGS.get(key)
            if kind is None:
                yield (
                    "tags",
                    f"{key!r} is not one of {', '.join(_TRITON_TAGS)}, and 'triton.' is reserved. Choose another key",
                )
            elif not isinstance(value, kind):
                yield (
                    "tags",
                    f"{key!r} must be {'true or false' if kind is bool else 'a text'}, not {value!r}. Correct it",
                )
        elif not isinstance(value, str | bool | int | float):
            yield "tags", f"{key!r} must be a text, a number, true or false. Correct it"


def _metadata(inputs: Inputs) -> Iterator[Fault]:
    plain, secret = inputs.get("metadata") or {}, inputs.get("secret_metadata") or {}
    for key in sorted(plain.keys() & secret.keys()):
        yield "metadata", f"{key!r} is in secret_metadata too. Keep one of the two"
    for name, values in (("metadata", plain), ("secret_metadata", secret)):
        for key, value in values.items():
            if key in _PARAMETERS or key in ("credentials", "administrator_pw"):
                yield name, f"{key!r} is reserved. Choose another key"
            elif key in SYSTEM_METADATA:
                fix = (
                    "Give it as userdata"
                    if key != "root_authorized_keys"
                    else "Leave it out: it gets the account's keys"
                )
                yield name, f"{key!r} is CloudAPI's own. {fix}"
            elif key.endswith("_pw"):
                yield name, f"{key!r} ends in _pw, and CloudAPI drops such keys without a message. Choose another key"
            elif not isinstance(value, str):
                yield name, f"{key!r} must be a text. Correct it"


def _scalars(inputs: Inputs) -> Iterator[Fault]:
    if inputs.get("power") not in (None, "running", "stopped") and not unknown(inputs["power"]):
        yield "power", f"{inputs['power']!r} is not one of running, stopped. Set one of these"
    for name in (
        "firewall_enabled",
        "deletion_protection",
        "delete_protected",
        "delegate_dataset",
        "allow_shared_images",
        "encrypted",
    ):
        # Compared with === true by CloudAPI: the text "true" would silently count as false.
        if inputs.get(name) is not None and not isinstance(inputs[name], bool) and not unknown(inputs[name]):
            yield name, f"must be true or false, not {inputs[name]!r}. Correct it"
    for name in ("update_timeout", "delete_timeout"):
        value = inputs.get(name)
        if not unknown(value) and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            yield name, f"must be a number of seconds above 0, not {value!r}. Correct it"
    if inputs.get("brand") not in (None, "kvm", "bhyve") and not unknown(inputs["brand"]):
        yield (
            "brand",
            f"{inputs['brand']!r} cannot be asked for: only kvm and bhyve can, and the image decides the others. Leave it out",
        )
    for rule in inputs.get("affinity") or ():
        if not unknown(rule) and not _AFFINITY.fullmatch(str(rule)):
            yield (
                "affinity",
                f"{rule!r} is not a rule. Write KEY==VALUE, KEY!=VALUE, KEY==~VALUE or KEY!=~VALUE, KEY of 2 or more",
            )


def _offers(inputs: Inputs, catalogue: Catalogue) -> Iterator[Fault]:
    offers: dict[str, Any] = {}
    for name, find in (("image", catalogue.image), ("package", catalogue.package)):
        text = inputs.get(name)
        if not text:
            yield name, "is missing. Name one"
        elif not unknown(text):
            try:
                offers[name] = find(str(text))
            except (AmbiguousError, NotFoundError, RefusedError) as fault:
                yield name, str(fault)
    if len(offers) == 2:
        image, package = offers["image"], offers["package"]
        if image.min_memory > package.memory:
            yield (
                "package",
                f"{package} is too small for {image}, which needs {image.min_memory} MiB. Choose a larger one",
            )
        elif 0 < image.max_memory < package.memory:
            yield (
                "package",
                f"{package} is too large for {image}, which takes up to {image.max_memory} MiB. Choose a smaller one",
            )
        yield from brand_faults(inputs.get("brand"), image, package)
    public = []
    for text in inputs.get("networks") or ():
        if not unknown(text):
            try:
                network = catalogue.network(str(text))
                public += [str(network)] if network.public else []
            except (AmbiguousError, NotFoundError) as fault:
                yield "networks", str(fault)
    if len(public) > 1:
        yield "networks", f"a machine can be on one public network, not on {', '.join(public)}. Keep one of them"


def _size(inputs: Inputs) -> Iterator[Fault]:
    parts = {f"tag.{key}": value for key, value in (inputs.get("tags") or {}).items()}
    parts |= {f"metadata.{key}": value for key, value in (inputs.get("metadata") or {}).items()}
    parts |= {f"metadata.{key}": value for key, value in (inputs.get("secret_metadata") or {}).items()}
    own = json.dumps({f"metadata.{USER_SCRIPT}": inputs.get("userdata") or ""})
    size, script = len(json.dumps(parts, default=str)), len(own)
    if size + script + _REST > LARGEST_BODY:
        yield (
            "userdata",
            f"takes {script} bytes of the request that makes the machine (as JSON), its tags and metadata take {size}, and CloudAPI takes "
            f"{LARGEST_BODY} in all, of which {_REST} are for the rest. Shorten the userdata by "
            f"{size + script + _REST - LARGEST_BODY} bytes or more",
        )
