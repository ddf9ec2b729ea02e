"""Define what all mappings of the stack's configuration share."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any, ClassVar

from pydantic import ConfigDict, GetCoreSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema


class Section:
    """A mapping with fields as its keys.

    A key with null counts as left out. If it is in `EMPTY`, it counts as a mapping without keys.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", alias_generator=to_camel, hide_input_in_errors=True)
    EMPTY: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: Any = handler(source)
        fields = handler.resolve_ref_schema(schema)["schema"]["fields"]  # type: ignore[typeddict-item]
        keys = {each.get("validation_alias", each["name"]) for each in fields if each.get("init") is not False}
        return core_schema.no_info_before_validator_function(partial(_without_nulls, keys, cls.EMPTY), schema)


def _without_nulls(keys: Collection[str], empty: Collection[str], values: Any) -> Any:
    if not isinstance(values, dict):
        return {} if values is None else values
    whole = {name: {} if value is None and name in empty else value for name, value in values.items()}
    return {name: value for name, value in whole.items() if value is not None or name not in keys}
