"""aws:ssm: Parameter."""

from __future__ import annotations

from typing import Any

from localcloud.plugins.aws.common import REGION, TAGS, Regional, from_tags, gone_on, to_tags
from localcloud.plugins.resource import Values, flag, text
from localcloud.plugins.values import secret


class Parameter(Regional):
    token = "aws:ssm/parameter:Parameter"
    named = "name"
    inputs = {
        "name": text(replaces=True),
        "type": text(required=True, choices=("String", "StringList", "SecureString")),
        "value": text(computed=True),
        "insecureValue": text(computed=True),
        "description": text(),
        "tier": text(computed=True, choices=("Standard", "Advanced", "Intelligent-Tiering")),
        "keyId": text(computed=True),
        "dataType": text(replaces=True, computed=True, choices=("text", "aws:ec2:image", "aws:ssm:integration")),
        "allowedPattern": text(),
        "overwrite": flag(),
        **REGION,
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        # The API takes no tags with what overwrites, so the provider gives them afterwards.
        overwrite = bool(given.get("overwrite"))
        self._put(given, overwrite=overwrite, tags=not overwrite)
        if overwrite:
            self._tag(given)
        return given["name"], self._outputs(given["name"], given)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        ssm = self.api.client("ssm")
        with gone_on("ParameterNotFound"):
            found = ssm.get_parameter(Name=identity, WithDecryption=True)["Parameter"]
        tags = from_tags(ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=identity).get("TagList"))
        field = "insecureValue" if _is_open(state) and found["Type"] != "SecureString" else "value"
        now = {"name": identity, "type": found["Type"], field: found["Value"], "tags": tags or None}
        return self._outputs(identity, now, found), now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        ssm = self.api.client("ssm")
        self._put(new, overwrite=True, tags=False)
        gone = set(old.get("tags") or {}) - set(new.get("tags") or {})
        if gone:
            ssm.remove_tags_from_resource(ResourceType="Parameter", ResourceId=identity, TagKeys=sorted(gone))
        self._tag(new)
        return self._outputs(identity, new)

    def delete(self, identity: str, state: Values) -> None:
        with gone_on("ParameterNotFound"):
            self.api.client("ssm").delete_parameter(Name=identity)

    def faults(self, given: Values) -> list[tuple[str, str]]:
        found = super().faults(given)
        if (given.get("value") is None) == (given.get("insecureValue") is None):
            found.append(("value", "exactly one of `insecureValue`, `value` must be given"))
        if given.get("insecureValue") is not None and given.get("type") == "SecureString":
            found.append(("insecureValue", "cannot be given with the type SecureString"))
        return found

    def _tag(self, given: Values) -> None:
        if given.get("tags"):
            self.api.client("ssm").add_tags_to_resource(
                ResourceType="Parameter", ResourceId=given["name"], Tags=to_tags(given["tags"])
            )

    def _put(self, given: Values, *, overwrite: bool, tags: bool) -> None:
        optional = {
            "Description": given.get("description"),
            "Tier": given.get("tier"),
            "KeyId": given.get("keyId"),
            "Tags": to_tags(given.get("tags")) if tags else None,
        }
        self.api.client("ssm").put_parameter(
            Name=given["name"],
            Type=given["type"],
            Value=_text(given),
            Overwrite=overwrite,
            **{key: value for key, value in optional.items() if value},
        )

    def _outputs(self, name: str, given: Values, found: Values | None = None) -> dict[str, Any]:
        now = found or self.api.client("ssm").get_parameter(Name=name)["Parameter"]
        return {
            "arn": now["ARN"],
            "version": now["Version"],
            "value": secret(_text(given)),
            "insecureValue": _text(given) if _is_open(given) else None,
            "dataType": now.get("DataType", "text"),
            "tier": given.get("tier") or "Standard",
            "tagsAll": dict(given.get("tags") or {}),
        }


def _is_open(given: Values) -> bool:
    return given.get("insecureValue") is not None


def _text(given: Values) -> str:
    return str(given["insecureValue"] if _is_open(given) else given["value"])


TYPES = (Parameter,)
