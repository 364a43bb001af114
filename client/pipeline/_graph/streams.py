"""``Stream``: outputs that come one element at a time, and how a pipe says that its result does."""

from __future__ import annotations

import collections.abc
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

__all__ = ["ABSENT", "Absent", "Stream", "stream_annotation", "streamed"]

T = TypeVar("T")


class Absent:
    """The class of ``ABSENT``, which is false."""

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "ABSENT"


ABSENT = Absent()
"""Stands for an output of which there is nothing in one item of ``Graph.stream`` or
``Client.stream``: a static one after it has been given, or a stream that has ended."""


class Stream(Generic[T]):
    """An iterator that can be closed, which ends whatever makes its elements.

    As the return annotation of a pipe, ``Stream[str]`` says that the pipe returns a generator, an
    iterator or a Stream of strings, and that its output streams; so do ``Iterator[str]`` and
    ``Generator[str, None, None]``, which type checkers want of a generator function.

    Args:
        elements: an iterable; closed together with the Stream if it has a ``close()``.

    """

    def __init__(self, elements: Iterable[T]) -> None:
        self._source = elements
        self._elements = iter(elements)
        self._closed = False

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._closed:
            raise StopIteration
        return next(self._elements)

    def close(self) -> None:
        """Ask for no more elements: a generator's ``finally`` is executed. May be called again."""
        if self._closed:
            return
        self._closed = True
        for each in (self._elements, self._source):
            if (close := getattr(each, "close", None)) is not None:
                close()

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


_STREAMS: tuple[Any, ...] = (Stream, collections.abc.Iterator, collections.abc.Generator)


def stream_annotation(function: Callable[..., Any], annotation: Any) -> Any:
    """Make the return annotation of a pipe say that it streams, where only its code does.

    That is a generator function without a return annotation, or with ``Iterable[T]``.
    """
    if not inspect.isgeneratorfunction(function):
        return annotation
    if annotation is inspect.Parameter.empty:
        return Stream[Any]
    if _origin(annotation) is collections.abc.Iterable:
        return Stream[_argument(annotation)]  # type: ignore[misc]
    return annotation


def streamed(annotation: Any) -> tuple[bool, Any]:
    """Return whether a value of this annotation streams, and the annotation of its elements."""
    if _origin(annotation) not in _STREAMS:
        return False, annotation
    return True, _argument(annotation)


def _argument(annotation: Any) -> Any:
    """Return the annotation of the elements of ``Iterator[T]`` and the like."""
    arguments = typing.get_args(annotation)
    return arguments[0] if arguments else Any


def _origin(annotation: Any) -> Any:
    return typing.get_origin(annotation) or annotation
