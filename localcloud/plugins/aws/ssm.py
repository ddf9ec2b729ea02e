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
        "description": text(),
        "tier": text(computed=True, choices=("Standard", "Advanced", "Intelligent-Tiering")),
        "keyId": text(computed=True),
        "dataType": text(computed=True),
        "allowedPattern": text(),
        "overwrite": flag(),
        **REGION,
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        self._put(given, overwrite=bool(given.get("overwrite")), tags=True)
        return given["name"], self._outputs(given["name"], given)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        ssm = self.api.client("ssm")
        with gone_on("ParameterNotFound"):
            found = ssm.get_parameter(Name=identity, WithDecryption=True)["Parameter"]
        tags = from_tags(ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=identity).get("TagList"))
        now = {"name": identity, "type": found["Type"], "value": found["Value"], "tags": tags or None}
        return self._outputs(identity, now, found), now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        ssm = self.api.client("ssm")
        self._put(new, overwrite=True, tags=False)
        gone = set(old.get("tags") or {}) - set(new.get("tags") or {})
        if gone:
            ssm.remove_tags_from_resource(ResourceType="Parameter", ResourceId=identity, TagKeys=sorted(gone))
        if new.get("tags"):
            ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId=identity, Tags=to_tags(new["tags"]))
        return self._outputs(identity, new)

    def delete(self, identity: str, state: Values) -> None:
        with gone_on("ParameterNotFound"):
            self.api.client("ssm").delete_parameter(Name=identity)

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
            Value=given["value"],
            Overwrite=overwrite,
            **{key: value for key, value in optional.items() if value},
        )

    def _outputs(self, name: str, given: Values, found: Values | None = None) -> dict[str, Any]:
        now = found or self.api.client("ssm").get_parameter(Name=name)["Parameter"]
        return {
            "arn": now["ARN"],
            "version": now["Version"],
            "value": secret(given["value"]),
            "dataType": now.get("DataType", "text"),
            "tier": given.get("tier") or "Standard",
            "tagsAll": dict(given.get("tags") or {}),
        }


TYPES = (Parameter,)
