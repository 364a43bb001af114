"""Checks of a call of a pipe inside a builder: arity, types, and what startup nodes may take."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline._graph.annotations import pipe_annotations
from pipeline._graph.decorators import Pipe, is_entity
from pipeline._graph.fitting import Fitting, variables_in
from pipeline._graph.nodes import replace
from pipeline._graph.streams import Stream, stream_annotation
from pipeline.errors import GraphError

__all__ = ["check_arguments", "result_annotations"]


def check_arguments(
    pipe: Pipe, args: tuple[Any, ...], kwargs: Mapping[str, Any], line: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Check a call, and make instances of InputSchema classes of literal dicts in it.

    Returns:
        The arguments, positional and by keyword.

    Raises:
        GraphError: names the pipe, the parameter and the line.

    """
    prefix = f"{line}: pipe {pipe.name!r}"
    signature = inspect.signature(pipe.function)
    if pipe.is_method:
        _check_owner(
            args or [kwargs[name] for name in signature.parameters if name in kwargs], prefix
        )
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise GraphError(f"{prefix}: {error}") from None
    annotations = pipe_annotations(pipe.function)
    for name, parameter in signature.parameters.items():
        if name not in bound.arguments:
            continue
        value = bound.arguments[name]
        where = f"{prefix}: parameter {name!r}"
        _check_iterators(value, where)
        check = Fitting(annotations.get(name, inspect.Parameter.empty), name, prefix)
        if value is parameter.default:
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            bound.arguments[name] = tuple(check(item) for item in value)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            bound.arguments[name] = {key: check(item) for key, item in value.items()}
        else:
            bound.arguments[name] = check(value)
        if pipe.on_startup:
            _check_startup(bound.arguments[name], where)
    return bound.args, bound.kwargs


def _check_owner(arguments: Sequence[Any], prefix: str) -> None:
    if arguments and is_entity(arguments[0]):
        return
    owner = f"an instance of {type(arguments[0]).__qualname__}" if arguments else "nothing"
    raise GraphError(
        f"{prefix} is a method, called on {owner}; its class has to be decorated with @entity"
    )


def _check_iterators(value: Any, where: str) -> None:
    def check(item: Any) -> Any:
        # Those of users' own classes may know how to begin again.
        used_up = isinstance(item, Iterator) and type(item).__module__ in ("builtins", "itertools")
        if used_up or isinstance(item, Stream):
            raise GraphError(
                f"{where} is given a {type(item).__qualname__}, which the first run would use up; "
                "give it a list"
            )
        return item

    replace(value, check)


def _check_startup(value: Any, where: str) -> None:
    for variable in variables_in(value):
        if not variable.at_startup:
            raise GraphError(
                f"{where}: {variable!r} has a value only in a run, but this pipe runs on startup; "
                "it takes constants, Files and outputs of other startup pipes"
            )


def result_annotations(function: Callable[..., Any]) -> tuple[Any, tuple[Any, ...] | None]:
    """Return a pipe's return annotation, and its parts if it is a tuple of fixed length."""
    annotation = pipe_annotations(function).get("return", inspect.Parameter.empty)
    annotation = stream_annotation(function, annotation)
    arguments = typing.get_args(annotation)
    fixed = typing.get_origin(annotation) is tuple and Ellipsis not in arguments
    return annotation, arguments if fixed and arguments and arguments != ((),) else None
