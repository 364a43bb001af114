"""Pipes and entities that several tests of graphs use."""

from __future__ import annotations

from typing import Any, Tuple  # noqa: UP035  # users write this

from pipeline import InputSchema, entity, pipe


class Options(InputSchema):
    size: int = 8


class Other(InputSchema):
    colour: str = "red"


@pipe
def join(first: str, second: str = "!", *rest: str, sep: str = "", **more: str) -> str:
    return sep.join([first, second, *rest, *more.values()])


@pipe
def length(text: str) -> int:
    return len(text)


@pipe
def half(x: float) -> float:
    return x / 2


@pipe
def both(x: int) -> Tuple[int, str]:  # noqa: UP006  # users write this
    return x + 1, str(x)


@pipe
def anything(value):  # type: ignore[no-untyped-def]  # unannotated pipes are allowed
    return value


@pipe
def size_of(options: Options) -> int:
    return options.size


@pipe(on_startup=True)
def prepare(word: str, extra: Any = None) -> str:
    return word.upper()


@entity
class Model:
    def __init__(self, factor: int = 1) -> None:
        self.factor = factor

    @pipe(on_startup=True)
    def load(self, name: str, upper: object = None) -> str:
        self.name = name
        return name

    @pipe
    def predict(self, x: int) -> int:
        return x * self.factor


class NoEntity:
    @pipe
    def method(self, x: int) -> int:
        return x
