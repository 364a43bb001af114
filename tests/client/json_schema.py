"""Validates JSON data by a JSON Schema (draft 2020-12), with the keywords that exports use.

Written from the specification, for tests: https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

import math
import re
from typing import Any

_TYPES: dict[str, Any] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "number": lambda value: _is_number(value),
    # 6.1.1: any number with a zero fractional part.
    "integer": lambda value: _is_number(value) and value == math.floor(value),
}
_ANNOTATIONS = {"$schema", "title", "description", "default", "contentEncoding"}


def fits(schema: Any, value: Any) -> bool:
    """Whether the value is valid; raises KeyError for a keyword that is not known here."""
    if isinstance(schema, bool):
        return schema
    return all(
        _CHECKS[keyword](bound, value, schema)
        for keyword, bound in schema.items()
        if keyword not in _ANNOTATIONS and not keyword.startswith("x-")
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _equal(one: Any, other: Any) -> bool:
    """4.2.2: true is not 1, but 1.0 is."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _number(holds: Any) -> Any:
    return lambda bound, value, _: not _is_number(value) or holds(value, bound)


def _sized(cls: Any, holds: Any) -> Any:
    return lambda bound, value, _: not isinstance(value, cls) or holds(len(value), bound)


def _properties(bound: dict[str, Any], value: Any, _: Any) -> bool:
    return not isinstance(value, dict) or all(
        fits(bound[key], item) for key, item in value.items() if key in bound
    )


def _additional(bound: Any, value: Any, schema: dict[str, Any]) -> bool:
    known = schema.get("properties", {})
    return not isinstance(value, dict) or all(
        fits(bound, item) for key, item in value.items() if key not in known
    )


def _items(bound: Any, value: Any, schema: dict[str, Any]) -> bool:
    first = len(schema.get("prefixItems", ()))
    return not isinstance(value, list) or all(fits(bound, item) for item in value[first:])


_CHECKS: dict[str, Any] = {
    "type": lambda bound, value, _: _TYPES[bound](value),
    "enum": lambda bound, value, _: any(_equal(value, each) for each in bound),
    "const": lambda bound, value, _: _equal(value, bound),
    "anyOf": lambda bound, value, _: any(fits(each, value) for each in bound),
    "minimum": _number(lambda value, bound: value >= bound),
    "maximum": _number(lambda value, bound: value <= bound),
    "exclusiveMinimum": _number(lambda value, bound: value > bound),
    "exclusiveMaximum": _number(lambda value, bound: value < bound),
    "multipleOf": _number(lambda value, bound: value % bound == 0),
    "minLength": _sized(str, lambda length, bound: length >= bound),
    "maxLength": _sized(str, lambda length, bound: length <= bound),
    "minItems": _sized(list, lambda length, bound: length >= bound),
    "maxItems": _sized(list, lambda length, bound: length <= bound),
    "minProperties": _sized(dict, lambda length, bound: length >= bound),
    "maxProperties": _sized(dict, lambda length, bound: length <= bound),
    "pattern": lambda bound, value, _: not isinstance(value, str) or bool(re.search(bound, value)),
    "prefixItems": lambda bound, value, _: (
        not isinstance(value, list)
        or all(fits(each, item) for each, item in zip(bound, value, strict=False))
    ),
    "items": _items,
    "properties": _properties,
    "required": lambda bound, value, _: not isinstance(value, dict) or set(bound) <= set(value),
    "additionalProperties": _additional,
}
