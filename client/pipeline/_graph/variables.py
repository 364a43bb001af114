"""``Variable``: the inputs of a graph, and what stands for values while it is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from pipeline._graph.annotations import NotAWireType, describe, members, wire_type
from pipeline._graph.constraints import given
from pipeline._graph.context import Placeholder, current_builder, source_line
from pipeline._graph.nodes import InputRef, ResultRef
from pipeline._values import encode
from pipeline.errors import GraphError, SerialisationError
from pipelined_api.schema import SchemaViolation, validate_value
from pipelined_api.v1.schema_pb2 import Parameter, Type

if TYPE_CHECKING:
    from pipeline._graph.builder import Pipeline

__all__ = ["GraphVariable", "Variable"]

T = TypeVar("T")

_MISSING: Any = object()


class _NoValueYet(GraphError, AttributeError):
    """A Variable was used as if it had a value; also what attribute look-up expects."""


class GraphVariable(Placeholder):
    """Stands for a value while a graph is built: an input, or what a pipe will return.

    It can be given to pipes, alone or inside a list, tuple or dict, and to ``builder.output``.
    Everything else needs its value, which only pipes see.
    """

    def __init__(
        self,
        builder: Pipeline,
        reference: InputRef | ResultRef,
        parameter: Parameter,
        annotation: Any,
        *,
        at_startup: bool,
    ) -> None:
        self.builder = builder
        self.reference = reference
        self.parameter = parameter
        self.annotation = annotation
        self.at_startup = at_startup
        self._line = source_line()

    @property
    def wire_type(self) -> Type:
        """The type of its values."""
        return self.parameter.type

    def __repr__(self) -> str:
        return f"<Variable {self.parameter.name or describe(self.annotation)} at {self._line}>"

    def _refuse(self, *_: object) -> NoReturn:
        raise _NoValueYet(
            f"{source_line()}: {self!r} has no value while the graph is built; "
            "use it inside a pipe, or give it to one"
        )

    __bool__ = __len__ = __iter__ = __next__ = __getitem__ = __setitem__ = __delitem__ = _refuse
    __contains__ = __reversed__ = __call__ = __enter__ = __exit__ = __await__ = _refuse
    __format__ = __str__ = __bytes__ = __fspath__ = __int__ = __float__ = __index__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
    __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = _refuse
    __rpow__ = __matmul__ = __rmatmul__ = __and__ = __rand__ = __or__ = __ror__ = _refuse
    __xor__ = __rxor__ = __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _refuse
    __neg__ = __pos__ = __abs__ = __invert__ = __round__ = _refuse
    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def __deepcopy__(self, memo: dict[int, object]) -> NoReturn:
        raise GraphError(
            f"{self!r} is kept inside another object, or in an entity; "
            "give it to a pipe as it is, or in a list, tuple or dict"
        )

    def __reduce__(self) -> NoReturn:
        raise GraphError(f"{self!r} cannot be sent: it has no value while the graph is built")


@overload
def Variable(
    type_: type[T],
    /,
    default: T | None = ...,
    *,
    optional: bool = ...,
    title: str | None = ...,
    description: str | None = ...,
    gt: float | None = ...,
    ge: float | None = ...,
    lt: float | None = ...,
    le: float | None = ...,
    multiple_of: float | None = ...,
    min_length: int | None = ...,
    max_length: int | None = ...,
    pattern: str | None = ...,
    choices: Sequence[T] | None = ...,
) -> T: ...
@overload
def Variable(
    type_: object,
    /,
    default: Any = ...,
    *,
    optional: bool = ...,
    title: str | None = ...,
    description: str | None = ...,
    gt: float | None = ...,
    ge: float | None = ...,
    lt: float | None = ...,
    le: float | None = ...,
    multiple_of: float | None = ...,
    min_length: int | None = ...,
    max_length: int | None = ...,
    pattern: str | None = ...,
    choices: Sequence[Any] | None = ...,
) -> Any: ...
def Variable(
    type_: object,
    /,
    default: Any = _MISSING,
    *,
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
) -> Any:
    """Declare an input of the graph that is being built, in the order in which runs give them.

    A run gives it by position, or by name: ``title``, else the name that it is bound to in the
    source. Type checkers see a value of ``type_``.

    Args:
        type_: the type of its values.
        default: the value of a run that gives none.
        optional: a run may leave it out; it is None then.
        title: its name.
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

    Raises:
        GraphError: no builder is open, values of the type cannot cross the wire, a constraint does
            not apply to it, or the default does not keep them.

    """
    builder = current_builder()
    if builder is None:
        raise GraphError(
            f"{source_line()}: Variable() belongs inside `with Pipeline() as builder:`"
        )
    constraints = given(
        {
            "gt": gt,
            "ge": ge,
            "lt": lt,
            "le": le,
            "multiple_of": multiple_of,
            "min_length": min_length,
            "max_length": max_length,
            "pattern": pattern,
            "choices": choices,
        }
    )
    try:
        wire = wire_type(type_, constraints)
    except (NotAWireType, ValueError) as error:
        raise GraphError(f"{source_line()}: Variable({describe(type_)}): {error}") from None
    parameter = Parameter(name=title or "", title=title or "", description=description or "")
    parameter.type.CopyFrom(wire)
    # By annotation, by a default of None, or by saying so.
    parameter.optional = optional or default is None or type(None) in (members(type_) or ())
    if default is not _MISSING and default is not None:
        _set_default(parameter, wire, default, describe(type_))
    return builder.add_input(parameter, type_)


def _set_default(parameter: Parameter, type_: Type, default: object, name: str) -> None:
    from pipeline._arguments import without_schemas

    try:
        checked = validate_value(type_, without_schemas(default), "default")
        parameter.default_value.CopyFrom(encode(checked, "default"))
    except (SchemaViolation, SerialisationError) as error:
        raise GraphError(f"{source_line()}: Variable({name}): {error}") from None
