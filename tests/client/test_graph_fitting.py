"""Arguments of pipes against annotations, while the graph is built."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, Protocol, TypedDict, TypeVar

import pytest

from pipeline import InputSchema, Pipeline, Stream, Variable, entity, pipe
from pipeline.errors import GraphError

T = TypeVar("T")


class Shape:
    sides = 0


class Square(Shape):
    sides = 4


class Colour(enum.Enum):
    RED = 1


class Box(Generic[T]):
    pass


class Named(Protocol):
    name: str


class Row(TypedDict):
    key: int


class Size(InputSchema):
    height: int = 1


@entity
class Model:
    @pipe
    def use(self, x: int) -> int:
        return x


@entity
class Unlike:
    pass


@pipe
def square() -> Square:
    return Square()


@pipe
def shape() -> Shape:
    return Square()


@pipe
def untold():  # type: ignore[no-untyped-def]  # unannotated pipes are allowed
    return Square()


@pipe
def numbers(n: int) -> Iterator[int]:
    yield from range(n)


def pipe_of(annotation: object) -> Any:
    """A pipe whose one parameter is annotated so."""

    def take(value):  # type: ignore[no-untyped-def]  # annotated below
        return 1

    take.__annotations__ = {"value": annotation, "return": int}
    return pipe(take)


VARIABLES: dict[str, Any] = {
    "int": lambda: Variable(int),
    "text": lambda: Variable(str),
    "maybe": lambda: Variable(int | None),
    "texts": lambda: Variable(list[str]),
    "square": square,
    "shape": shape,
    "untold": untold,
    "numbers": lambda: numbers(3),
}


def build(annotation: object, make: Any) -> None:
    with Pipeline() as builder:
        value = make({name: create() for name, create in VARIABLES.items()})
        builder.output(pipe_of(annotation)(value))


FITS: list[tuple[object, Any]] = [
    (Shape, lambda v: v["square"]),
    (Square, lambda v: v["shape"]),  # it may be one
    (Square, lambda v: v["untold"]),
    (Shape | None, lambda v: v["maybe"]),
    (Shape, lambda v: Square()),
    (Shape | None, lambda v: None),
    (Colour, lambda v: Colour.RED),
    (Model, lambda v: Model()),
    (Named, lambda v: Path("a")),
    (Row, lambda v: {"key": 1}),
    (Row, lambda v: {"key": v["int"]}),
    (complex, lambda v: 1.5),
    (float | Shape, lambda v: 1),
    (Iterator[int], lambda v: v["numbers"]),
    (Iterable[int], lambda v: v["numbers"]),
    (Stream[int], lambda v: v["numbers"]),
    (Iterable[str], lambda v: v["texts"]),
    (Sequence[int], lambda v: [v["int"], 3]),
    (Callable[[int], int], lambda v: len),
    (Box[int], lambda v: Box()),
    (Any, lambda v: [v["int"], {"a": (v["text"],)}]),
    (list[int], lambda v: [v["int"], 3, v["maybe"]]),
    (list, lambda v: [v["int"], "x"]),
    (Annotated[list[int], "doc"], lambda v: [v["int"]]),
    (dict[str, list[float]], lambda v: {"a": [v["int"], 1]}),
    (tuple[int, str], lambda v: (1, v["text"])),
    (tuple[int, str], lambda v: [1, v["text"]]),
    (tuple[int, ...], lambda v: (v["int"], v["int"])),
    (list[str] | dict[str, int] | None, lambda v: {"a": v["int"]}),
    (list[Shape], lambda v: [v["square"], Square()]),
]


@pytest.mark.parametrize(("annotation", "make"), FITS)
def test_what_may_fit_is_accepted(annotation: object, make: Any) -> None:
    build(annotation, make)


MISFITS: list[tuple[object, Any, str]] = [
    (Shape, lambda v: v["int"], "'value' is annotated Shape, but <Variable int .* is int"),
    (Shape, lambda v: v["texts"], r"is annotated Shape, but .* is list\[str\]"),
    (Shape, lambda v: 3, "is annotated Shape, but this is int"),
    (Shape, lambda v: Model(), "is annotated Shape, but this is Model"),
    (Shape | None, lambda v: "x", "but this is str"),
    (Colour, lambda v: 1, "is annotated Colour, but this is int"),
    (Path, lambda v: "folder", "is annotated Path, but this is str"),
    (Model, lambda v: Unlike(), "is annotated Model, but this is Unlike"),
    (int, lambda v: Model(), "is annotated int: .*got Model"),
    (int, lambda v: v["square"], "is annotated int, but .* is Square"),
    (int, lambda v: v["numbers"], "is annotated int, but .*Iterator"),
    (Shape, lambda v: v["numbers"], "is annotated Shape, but .*Iterator"),
    (Iterator[int], lambda v: v["int"], r"Iterator\[int\], but .* is int"),
    (Sequence[int], lambda v: 3, r"Sequence\[int\], but this is int"),
    (Callable[[int], int], lambda v: "len", "but this is str"),
    (Box[int], lambda v: Square(), r"Box\[int\], but this is Square"),
    (list[str], lambda v: [v["int"], "x"], r"'value'\[0\] is annotated str, but .* is int"),
    (list[str], lambda v: [v["text"], 3], r"annotated list\[str\]: value\[1\]: .*got int"),
    (list[str], lambda v: {"a": v["text"]}, r"is annotated list\[str\], but this is dict"),
    (str, lambda v: [v["text"]], "is annotated str, but this is list"),
    (dict[str, int], lambda v: {"a": v["text"]}, r"'value'.a is annotated int"),
    (tuple[int, str], lambda v: (v["int"],), "but this has 1 items"),
    (tuple[int, str], lambda v: (v["int"], v["int"]), r"'value'\[1\] is annotated str"),
    (list[str] | dict[str, int], lambda v: [v["int"]], "fits no part of that"),
    (Size, lambda v: {"height": v["int"]}, "is annotated Size, but a dict with Variables in it"),
    (Size, lambda v: {"height": "tall"}, r"is annotated Size: value.height: .*got str"),
]


@pytest.mark.parametrize(("annotation", "make", "message"), MISFITS)
def test_what_cannot_fit_is_refused(annotation: object, make: Any, message: str) -> None:
    with pytest.raises(GraphError, match=rf"test_graph_fitting.py:\d+: pipe .*{message}"):
        build(annotation, make)


def test_an_unset_default_is_not_checked() -> None:
    @pipe
    def lazily(x: int, shape: Shape = None) -> int:  # type: ignore[assignment]  # noqa: RUF013
        return x

    with Pipeline() as builder:
        x = Variable(int)
        builder.output(lazily(x), lazily(x, None))  # type: ignore[arg-type]
    assert builder.get_pipeline().run(2) == [2, 2]
