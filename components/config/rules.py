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


@dataclass(frozen=True)
class Selection:
    """Read one id or word, a mapping of tags, or (with `several`) a list of ids. `pattern` is the form of an id.

    Text and mappings stay as they are, and a list becomes a tuple.
    """

    pattern: str
    what: str
    fix: str
    words: tuple[str, ...] = ()
    several: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        return core_schema.no_info_plain_validator_function(self._checked)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        one = {"type": "string", "pattern": f"^(?:{self.pattern})$"}
        tags = {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}
        word = [{"type": "string", "enum": list(self.words)}] if self.words else []
        if not self.several:
            return {"anyOf": [one, *word, tags]}
        return {"anyOf": [{"type": "array", "items": one, "minItems": 1}, *word, tags]}

    def _checked(self, value: Any) -> Any:
        if value is None or (isinstance(value, str) and value in self.words):
            return value
        if isinstance(value, dict) and value and all(isinstance(each, str) for each in value.values()):
            return value
        if self.several and isinstance(value, list) and value:
            for each in value:
                if not isinstance(each, str) or not re.fullmatch(self.pattern, each):
                    raise refused(f"is not the id of a {self.what}", self.fix, each)
                if value.count(each) > 1:
                    raise refused("is in it twice", "Name each once", each)
            return tuple(value)
        if not self.several and isinstance(value, str) and re.fullmatch(self.pattern, value):
            return value
        raise refused(f"does not name a {self.what}", self.fix)


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
