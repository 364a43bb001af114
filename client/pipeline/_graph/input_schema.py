"""Inputs with named fields, on pydantic."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pydantic
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticUndefined, core_schema

from pipeline._graph.constraints import constrain, given, literal_constraints
from pipeline._values import encode
from pipeline.errors import InvalidInput, SerialisationError
from pipelined_api.schema import SchemaViolation, one_of, validate_value, violation
from pipelined_api.v1.schema_pb2 import Parameter, Type

__all__ = ["InputField", "InputSchema", "fields_of", "given_fields"]


@dataclasses.dataclass(frozen=True)
class _Choices:
    """Metadata of a field: its value is one of these."""

    choices: tuple[Any, ...]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: pydantic.GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(one_of(self.choices), handler(source))


@dataclasses.dataclass(frozen=True)
class _Optional:
    """Metadata of a field: it may be left out, and is None then."""


class InputSchema(pydantic.BaseModel):
    """Base of inputs that have named fields, made with ``InputField`` or plain annotations.

    Values are checked strictly: a bool is no int, a str no number; an int is accepted for a float.
    Unknown fields are refused. A field may be left out if it has a default, if its annotation
    allows None, or with ``InputField(optional=True)``; in the latter two cases it is None then.

    Making an instance, and assigning to a field, raises :class:`pipeline.errors.InvalidInput`,
    which names the field, as ``"Options.steps"``, and the bound, as a run does that is given the
    same; its cause is pydantic's ``ValidationError``, which has all that is wrong. What is
    validated by pydantic raises that itself: ``model_validate``, and fields of other models.
    """

    model_config = pydantic.ConfigDict(
        strict=True, extra="forbid", arbitrary_types_allowed=True, validate_assignment=True
    )

    def __init__(self, /, **data: Any) -> None:
        """Make an instance of the values of its fields.

        Raises:
            InvalidInput: they do not fit.

        """
        try:
            super().__init__(**data)
        except pydantic.ValidationError as error:
            raise _invalid(type(self), data, error) from error

    # Of pydantic: instances inside others are validated in place, and not by calling __init__.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    if not TYPE_CHECKING:  # which would let pass any name

        def __setattr__(self, name: str, value: object) -> None:
            """Assign to a field.

            Raises:
                InvalidInput: the value does not fit.

            """
            try:
                super().__setattr__(name, value)
            except pydantic.ValidationError as error:
                data = {**given_fields(self), name: value}
                raise _invalid(type(self), data, error) from error

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Give the fields that may be left out their default."""
        changed = False
        for info in cls.model_fields.values():
            optional = any(isinstance(item, _Optional) for item in info.metadata)
            if not info.is_required() or not (optional or _allows_none(info.annotation)):
                continue
            if not _allows_none(info.annotation):
                info.annotation = info.annotation | None  # type: ignore[operator, assignment]
            info.default = None
            changed = True
        if changed:
            cls.model_rebuild(force=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict, those of nested schemas too, for use as keyword arguments.

        A field that was left out and has no default but None is left out here too, so that the
        callee's own default applies.
        """
        return {name: _plain(value) for name, value in given_fields(self).items()}


def given_fields(schema: InputSchema) -> dict[str, Any]:
    """Return the fields with their values, without those that were left out and are None."""
    return {
        name: getattr(schema, name)
        for name in type(schema).model_fields
        if name in schema.model_fields_set or getattr(schema, name) is not None
    }


def _invalid(
    cls: type[InputSchema], data: dict[str, Any], error: pydantic.ValidationError
) -> InvalidInput:
    """Say what is wrong as a run would that is given the same."""
    from pipeline._arguments import without_schemas
    from pipeline._graph.annotations import lenient_type

    try:
        validate_value(lenient_type(cls), without_schemas(data), cls.__name__)
    except SchemaViolation as found:
        first = found
    else:
        # Only the class knows: a validator of the user's own, or a type that has no schema.
        first = violation(error, cls.__name__)
    return InvalidInput(str(first), field=first.field, bound=first.bound)


def _plain(value: Any) -> Any:
    if isinstance(value, InputSchema):
        return value.to_dict()
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    if type(value) is dict:
        return {key: _plain(item) for key, item in value.items()}
    return value


def _allows_none(annotation: Any) -> bool:
    from pipeline._graph.annotations import members

    return annotation is None or type(None) in (members(annotation) or ())


def InputField(  # it is written like the class of a field
    default: Any = PydanticUndefined,
    *,
    default_factory: Callable[[], Any] | None = None,
    optional: bool = False,
    title: str | None = None,
    description: str | None = None,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    multiple_of: float | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
    pattern: str | None = None,
    choices: Sequence[Any] | None = None,
    examples: list[Any] | None = None,
) -> Any:
    """Describe a field of an InputSchema.

    Args:
        default: its value where the caller gives none.
        default_factory: makes that value instead.
        optional: the field may be left out although it has no default; it is None then.
        title: what to call it in a form.
        description: what it is for.
        gt: numbers: greater than.
        ge: numbers: greater than or equal to.
        lt: numbers: less than.
        le: numbers: less than or equal to.
        multiple_of: numbers: a multiple of.
        min_length: strings, bytes, lists and dicts: at least so many items.
        max_length: strings, bytes, lists and dicts: at most so many items.
        pattern: strings: a regular expression that matches somewhere in them.
        choices: one of these.
        examples: values to show in documentation.

    """
    options = given(
        {
            "title": title,
            "description": description,
            "examples": examples,
            "default_factory": default_factory,
            "gt": gt,
            "ge": ge,
            "lt": lt,
            "le": le,
            "multiple_of": multiple_of,
            "min_length": min_length,
            "max_length": max_length,
            "pattern": pattern,
        }
    )
    if default is not PydanticUndefined:
        options["default"] = default
        options["validate_default"] = default is not None
    make: Callable[..., FieldInfo] = pydantic.Field
    info = make(**options)
    if choices is not None:
        info.metadata.append(_Choices(tuple(choices)))
    if optional:
        info.metadata.append(_Optional())
    return info


def fields_of(schema: type[InputSchema], convert: Callable[[Any], Type]) -> list[Parameter]:
    """Describe the fields of a schema; ``convert`` makes the wire type of an annotation.

    Raises:
        ValueError: a constraint does not apply to its field.

    """
    return [_parameter(name, info, convert) for name, info in schema.model_fields.items()]


def _parameter(name: str, info: FieldInfo, convert: Callable[[Any], Type]) -> Parameter:
    type_ = convert(info.annotation)
    constrain(type_, literal_constraints(info.metadata))
    result = Parameter(
        name=name, type=type_, title=info.title or "", description=info.description or ""
    )
    if info.is_required():
        return result
    if info.default is PydanticUndefined or info.default is None:
        # None, or what only the class can make: leaving it out is left to the class.
        result.optional = True
        return result
    default = info.default
    if isinstance(default, InputSchema):
        default = given_fields(default)
    try:
        result.default_value.CopyFrom(encode(validate_value(type_, default, name), name))
    except SerialisationError:
        result.optional = True
    except SchemaViolation as violation:
        raise ValueError(f"default of {violation}") from None
    return result
