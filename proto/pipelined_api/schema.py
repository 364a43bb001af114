"""Validation of Python values by a wire Schema: the same in the client, the daemon and the worker.

Values are what ``pipeline._values.decode`` or ``wire_values.plain`` makes of the wire. Arrays and
files are told by the name of their class, so that nothing here imports numpy, torch or PIL; in
messages each is called what its user calls it, whichever of the two it came through.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

from pydantic_core import ErrorDetails, SchemaValidator, ValidationError

from pipelined_api._validators import DecodeDefault, called, one_of, validator
from pipelined_api.v1.schema_pb2 import Parameter, Schema, Type
from pipelined_api.wire_values import SchemaViolation, WireBytes, plain

__all__ = [
    "InputsValidator",
    "Prepare",
    "SchemaViolation",
    "check_schema",
    "check_type",
    "one_of",
    "validate_inputs",
    "validate_value",
    "violation",
]

Prepare: TypeAlias = Callable[[Parameter, object], object]
"""Makes of an input, as it was given, the value to check."""

_NUMBERS = ("gt", "ge", "lt", "le", "multiple_of")
_BOUNDS = (*_NUMBERS, "min_length", "max_length", "pattern", "choices")
_MAX_SHOWN = 60
# All integers up to here are floats.
_MAX_EXACT = 2**53


_LEFT_OUT = object()


class InputsValidator:
    """Binds the inputs of runs to one schema, checks each and fills in what was left out.

    What can be done once, for any number of runs, is done with the first.

    Args:
        schema: what the runs take.
        decode_default: makes Python of a default in the schema.

    """

    def __init__(self, schema: Schema, decode_default: DecodeDefault = plain) -> None:
        self._schema = schema
        self._decode_default = decode_default

    @cached_property
    def names(self) -> list[str]:
        """Names of the inputs, in their order."""
        return [parameter.name for parameter in self._schema.inputs]

    @cached_property
    def _parameters(self) -> list[tuple[Parameter, str, bool, SchemaValidator]]:
        return [
            (each, each.name, each.optional, validator(each.type, self._decode_default))
            for each in self._schema.inputs
        ]

    def validate(
        self,
        positional: Sequence[object],
        named: Mapping[str, object],
        prepare: Prepare | None = None,
    ) -> list[object]:
        """Return one value per input of the schema, in its order.

        Args:
            positional: values in the order of the inputs.
            named: further values by name.
            prepare: is called for each input that was given, before it is checked; what it raises
                comes in the order of the inputs, as violations do.

        Raises:
            SchemaViolation: for the first input that does not fit.

        """
        names = self.names
        if len(positional) > len(names):
            raise SchemaViolation(
                f"inputs[{len(names)}]", f"takes {len(names)} inputs, {len(positional)} were given"
            )
        # As most runs have them: all, and by position.
        every = not named and len(positional) == len(names)
        given = positional if every else self._given(positional, named)
        values = []
        for value, (parameter, name, optional, checks) in zip(given, self._parameters, strict=True):
            if value is _LEFT_OUT:
                values.append(self._default(parameter))
                continue
            prepared = value if prepare is None else prepare(parameter, value)
            if prepared is None and optional:
                values.append(None)
            else:
                values.append(_checked(checks, prepared, name))
        return values

    def _given(self, positional: Sequence[object], named: Mapping[str, object]) -> list[object]:
        """What each input was given, in their order."""
        names = self.names
        given = [*positional, *(_LEFT_OUT,) * (len(names) - len(positional))]
        for name in named:
            if name not in names:
                raise SchemaViolation(name, _unknown(name, names))
        for name, value in named.items():
            index = names.index(name)
            if given[index] is not _LEFT_OUT:
                raise SchemaViolation(name, "given both by position and by name")
            given[index] = value
        return given

    def _default(self, parameter: Parameter) -> object:
        if parameter.HasField("default_value"):
            return self._decode_default(parameter.default_value)
        if parameter.optional:
            return None
        raise SchemaViolation(parameter.name, "missing input")


def validate_inputs(
    schema: Schema,
    positional: Sequence[object],
    named: Mapping[str, object],
    *,
    decode_default: DecodeDefault = plain,
    prepare: Prepare | None = None,
) -> list[object]:
    """Do what an InputsValidator does, for one run; see there."""
    return InputsValidator(schema, decode_default).validate(positional, named, prepare)


def validate_value(
    type_: Type, value: object, field: str, *, decode_default: DecodeDefault = plain
) -> object:
    """Check one value; returns it, with an int made a float where the type is float.

    Raises:
        SchemaViolation: it does not fit.

    """
    return _checked(validator(type_, decode_default), value, field)


def _checked(checks: SchemaValidator, value: object, field: str) -> object:
    try:
        return checks.validate_python(value)
    except ValidationError as error:
        raise violation(error, field) from None
    except RecursionError:
        raise SchemaViolation(field, "nested too deeply") from None


def check_type(type_: Type) -> None:
    """Make sure that a type and its constraints make sense.

    Raises:
        SchemaViolation: they do not; its field is empty.

    """
    validator(type_, plain)


def check_schema(schema: Schema) -> None:
    """Make sure that a schema from elsewhere makes sense, so that no run stumbles over it.

    Raises:
        SchemaViolation: it does not.

    """
    for group, parameters in (("inputs", schema.inputs), ("outputs", schema.outputs)):
        seen: set[str] = set()
        for index, parameter in enumerate(parameters):
            field = f"schema.{group}[{index}]"
            if not parameter.name or parameter.name in seen:
                raise SchemaViolation(field, f"name {parameter.name!r} is empty or taken")
            if parameter.stream and group == "inputs":
                raise SchemaViolation(field, "only outputs stream")
            seen.add(parameter.name)
            _check_parameter(parameter, field)


def _check_parameter(parameter: Parameter, field: str) -> None:
    try:
        check_type(parameter.type)
    except SchemaViolation as violation:
        raise SchemaViolation(field, violation.message) from None
    for nested in _parameters(parameter.type):
        _check_parameter(nested, f"{field}.{nested.name}")
    if parameter.HasField("default_value"):
        default = plain(parameter.default_value, f"{field}.default_value")
        if not (default is None and parameter.optional):
            validate_value(parameter.type, default, f"{field}.default_value")


def _parameters(type_: Type) -> Iterator[Parameter]:
    yield from type_.fields
    for argument in type_.arguments:
        yield from _parameters(argument)


def _unknown(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    known = ", ".join(names) if names else "none"
    return f"no input of that name (there are: {known}){hint}"


def violation(error: ValidationError, field: str) -> SchemaViolation:
    """Say what pydantic found first, with the path of the value in ``field``."""
    details: ErrorDetails = error.errors(include_url=False)[0]
    path = field
    location = details["loc"]
    if location[-1:] == ("[key]",):
        location = location[:-2]
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    given = details["input"]
    if location != details["loc"]:
        return SchemaViolation(path, f"keys are strings, not {called(given)}")
    context = details.get("ctx", {})
    broken = next((name for name in _BOUNDS if name in context), None)
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "missing":
        return SchemaViolation(path, "missing field")
    if details["type"] == "extra_forbidden":
        return SchemaViolation(path, "no field of that name")
    if broken in _NUMBERS and isinstance(given, float) and math.isnan(given):
        # Whatever the bound: it breaks all of them, and another value is not what it lacks.
        return SchemaViolation(path, "Input should be a number that can be compared, got NaN")
    if broken is None:
        return SchemaViolation(path, f"{message}, got {called(given)}")
    if isinstance(given, (int, float)):
        message += f", got {_number(given)!r:.{_MAX_SHOWN}}"
    elif details["type"] == "choices" and isinstance(given, str):
        message += f", got {_shortened(given)!r}"
    elif details["type"].startswith(("string_too_", "bytes_too_")):
        # Of other types pydantic counts the items itself.
        message += f", not {_length(given)}"
    return SchemaViolation(path, message, f"{broken}={_number(context[broken])}")


def _number(value: object) -> object:
    """Return a number as people write it: pydantic has made floats of the bounds on a float."""
    if not isinstance(value, float):
        return value
    whole = value.is_integer() and abs(value) <= _MAX_EXACT
    return int(value) if whole else float(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _length(value: object) -> int:
    return value.size if isinstance(value, WireBytes) else len(value)  # type: ignore[arg-type]
