"""Finds what in a graph cannot be pickled, so that the error can name it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline._graph.closures import closure
from pipeline._graph.user_code import referenced_globals

if TYPE_CHECKING:
    from pipeline._graph.graph import Graph

__all__ = ["find"]

_MAX_DEPTH = 6


def find(graph: Graph, dump: Callable[[object], object]) -> tuple[str, Exception] | None:
    """Return the name of the smallest part that ``dump`` refuses, and why it does.

    None if each part passes alone.
    """
    for name, part in _parts(graph):
        found = _narrow(name, part, dump, _MAX_DEPTH)
        if found is not None:
            return found
    return None


def _parts(graph: Graph) -> Iterator[tuple[str, object]]:
    for entity in graph.entities:
        yield type(entity).__qualname__, entity
    for node in graph.nodes:
        yield node.name, node.pipe.function
        for name, value in _arguments(node.pipe.function, node.args, dict(node.kwargs)):
            yield f"{node.name}({name}=…)", value
    for each in graph.inputs:
        yield f"input {each.name!r}", each.annotation


def _arguments(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[str, object]]:
    yield from inspect.signature(function).bind(*args, **kwargs).arguments.items()


def _narrow(
    name: str, part: object, dump: Callable[[object], object], depth: int
) -> tuple[str, Exception] | None:
    try:
        dump(part)
    except Exception as error:
        if depth:
            for inner_name, inner in _inside(name, part):
                found = _narrow(inner_name, inner, dump, depth - 1)
                if found is not None:
                    return found
        return name, error
    return None


def _inside(name: str, part: object) -> Iterator[tuple[str, object]]:
    if isinstance(part, dict):
        yield from ((f"{name}[{key!r}]", value) for key, value in part.items())
    elif isinstance(part, (list, tuple)):
        yield from ((f"{name}[{index}]", value) for index, value in enumerate(part))
    elif inspect.isfunction(part):
        yield from ((f"{name}: {key}", value) for key, value in closure(part).items())
        yield from ((f"{name}: {key}", value) for key, value in referenced_globals(part).items())
    elif inspect.ismodule(part) or hasattr(part, "__dict__"):
        yield from (
            (f"{name}.{key}", value)
            for key, value in vars(part).items()
            if not key.startswith("__")
        )
        if not isinstance(part, type) and not inspect.ismodule(part):
            yield type(part).__qualname__, type(part)
