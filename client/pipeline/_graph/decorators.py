"""``@pipe`` and ``@entity``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, TypeVar, cast, overload

from pipeline._graph import pickled
from pipeline._graph.context import Placeholder, current_builder, source_line
from pipeline.errors import GraphError

__all__ = ["Pipe", "entity", "is_entity", "pipe"]

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

_MARK = "__pipeline_entity__"


class Pipe:
    """A function that becomes a node of the graph when it is called inside a builder.

    What ``@pipe`` returns. Outside a builder a call is a plain call of the function, whose name,
    documentation and signature it has.
    """

    on_startup: bool
    run_once: bool
    is_method: bool

    def __init__(self, function: FunctionType, *, on_startup: bool, run_once: bool) -> None:
        self._fill(function, on_startup, run_once, False)

    def _fill(
        self, function: FunctionType, on_startup: bool, run_once: bool, is_method: bool
    ) -> None:
        functools.update_wrapper(self, function)
        self._function: Callable[..., Any] = function
        self.on_startup = on_startup
        self.run_once = run_once
        self.is_method = is_method

    def __set_name__(self, owner: type, name: str) -> None:
        # A function that a class only refers to stays a function.
        if self._function.__qualname__.rpartition(".")[0] == owner.__qualname__:
            self.is_method = True

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        builder = current_builder()
        if builder is None:
            for value in (*args, *kwargs.values()):
                if isinstance(value, Placeholder):
                    raise GraphError(
                        f"{source_line()}: pipe {self.name!r} is called with {value!r}, but no "
                        "`with Pipeline()` is open in this thread"
                    )
            return self._function(*args, **kwargs)
        return builder.record(self, args, kwargs)

    def __repr__(self) -> str:
        return f"<pipe {self.name}>"

    @property
    def function(self) -> Callable[..., Any]:
        """What it was made of."""
        return self._function

    @property
    def name(self) -> str:
        """The name of its nodes: ``"Model.load"`` or ``"function"``."""
        return self._function.__qualname__.rpartition("<locals>.")[2]

    def __reduce__(self) -> tuple[object, ...]:
        # The state comes after the object, so that a function may refer to its own pipe.
        return pickled.pipe, (), (self._function, self.on_startup, self.run_once, self.is_method)

    def __setstate__(self, state: tuple[FunctionType, bool, bool, bool]) -> None:
        self._fill(*state)

    def __copy__(self) -> Pipe:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Pipe:
        return self


@overload
def pipe(function: F, /) -> F: ...
@overload
def pipe(*, on_startup: bool = False, run_once: bool = False) -> Callable[[F], F]: ...
def pipe(
    function: F | None = None, /, *, on_startup: bool = False, run_once: bool = False
) -> F | Callable[[F], F]:
    """Make a function or method a pipe: a node of the graph when called inside ``with Pipeline()``.

    Bare or called. Elsewhere it stays what it was.

    Args:
        function: a plain function or method.
        on_startup: execute it once in the life of a worker, before the first run. Its inputs can be
            constants, Files and outputs of other startup nodes; its output is kept.
        run_once: execute it in the first run that reaches it, and keep the output for later ones.

    Raises:
        GraphError: it is a coroutine function, or no function.

    """
    if function is None:
        return functools.partial(_make_pipe, on_startup=on_startup, run_once=run_once)
    return _make_pipe(function, on_startup=on_startup, run_once=run_once)


def _make_pipe(function: F, *, on_startup: bool, run_once: bool) -> F:
    if isinstance(function, (staticmethod, classmethod)):
        raise GraphError(
            f"{source_line()}: put @{type(function).__name__} above @pipe, not below it"
        )
    if not inspect.isfunction(function):
        raise GraphError(f"{source_line()}: @pipe takes a function, not {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise GraphError(
            f"{source_line()}: pipe {function.__qualname__!r} is a coroutine function; "
            "pipes are plain functions"
        )
    return cast(F, Pipe(function, on_startup=on_startup, run_once=run_once))


@overload
def entity(cls: C, /) -> C: ...
@overload
def entity() -> Callable[[C], C]: ...
def entity(cls: C | None = None, /) -> C | Callable[[C], C]:
    """Make a class an entity: one whose methods can be pipes and share the instance's state.

    Bare or called. The class stays the same object; its subclasses are entities too. Each instance
    has its own state in each graph: the one that it has when ``get_pipeline()`` is called.
    """
    return _mark if cls is None else _mark(cls)


def _mark(cls: C) -> C:
    if not isinstance(cls, type):
        raise GraphError(f"{source_line()}: @entity takes a class, not {cls!r}")
    setattr(cls, _MARK, True)
    return cls


def is_entity(value: object) -> bool:
    """Whether ``value`` is an instance of an entity class."""
    return getattr(type(value), _MARK, False) is True
