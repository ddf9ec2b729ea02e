"""Define how a key is checked beyond its type. Each rule is for pydantic and, where possible, for the JSON Schema of the editors.

https://docs.pydantic.dev/latest/concepts/types/#customizing-validation-with-__get_pydantic_core_schema__
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic_core import PydanticCustomError, core_schema

# The type of pydantic's errors that takes our text.
OURS = "rollcall"


def refused(problem: str, fix: str, value: object = None) -> Exception:
    """Return the error for a validator to raise.

    `problem` follows the `value`; the default is the value that was checked.
    """
    about = {"problem": problem, "fix": fix}
    return PydanticCustomError(OURS, "{problem}", about if value is None else {**about, "value": value})


@dataclass(frozen=True)
class Form:
    """Check that a text matches `pattern`.

    `problem` says what is wrong with a text that does not. The pattern works in Python and in ECMAScript.
    """

    pattern: str
    problem: str
    fix: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # VS Code shows the message, other editors the pattern.
        message = f"{self.problem}. {self.fix}."
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$", "patternErrorMessage": message}

    def _checked(self, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(self.pattern, value):
            raise refused(self.problem, self.fix)
        return value


@dataclass(frozen=True)
class OneOf:
    """Check that a text is one of `choices`."""

    choices: Sequence[str]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        return core_schema.literal_schema(list(self.choices))


@dataclass(frozen=True)
class NumberAsText:
    """Read a whole number as text. `least` and `most` are for the editors; a `Form` checks the text."""

    least: int
    most: int

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        return core_schema.no_info_before_validator_function(_number_as_text, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {"anyOf": [handler(schema), {"type": "integer", "minimum": self.least, "maximum": self.most}]}


class ByName:
    """Read a mapping from names to items as a tuple of items, each with its `name`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        item = handler.generate_schema(get_args(source)[0])
        named = core_schema.dict_schema(core_schema.str_schema(), item)
        return core_schema.no_info_after_validator_function(_with_names, named)


class OneOrMore:
    """Read a mapping as a tuple of one item, and a list of mappings as a tuple of items."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_before_validator_function(_as_list, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        found = handler(schema)
        return {"anyOf": [found, found["items"]]}


@dataclass(frozen=True)
class WordOrList:
    """Read `word` as a list of this one word."""

    word: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        return core_schema.no_info_before_validator_function(
            lambda value: [value] if value == self.word else value, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {"anyOf": [{"const": self.word}, handler(schema)]}


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _with_names(found: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(replace(item, name=name) for name, item in found.items())
