"""What pipes do to the values that they are given stays in the run in which they do it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Tuple  # noqa: UP035  # users write this

import pytest

from pipeline import Graph, InputSchema, Pipeline, Variable, entity, pipe
from pipeline.errors import StartupFailed


@pipe
def grown(value: Any) -> Any:
    """Changes its argument in place."""
    if isinstance(value, dict):
        value["more"] = len(value)
    elif isinstance(value, set):
        value.add(len(value))
    else:
        value.append(len(value))
    return value


@pipe(run_once=True)
def once() -> list[int]:
    return [7]


@pipe(on_startup=True)
def loaded() -> dict[str, Any]:
    return {"nested": [1]}


@pipe
def nested_grown(table: dict[str, Any]) -> list[int]:
    inner: list[int] = table["nested"]
    inner.append(len(inner))
    return inner


@pipe(run_once=True)
def words() -> Iterator[list[str]]:
    yield ["a"]
    yield []


@pipe
def drained(lists: Iterator[list[str]]) -> int:
    total = 0
    for each in lists:
        each.append("x")
        total += len(each)
    return total


class Options(InputSchema):
    height: int = 8
    tags: list[str] = []
    label: str | None = None


@pipe(run_once=True)
def default_options() -> Options:
    return Options()


@pipe
def changed(options: Options) -> list[Any]:
    before = options.to_dict()
    options.height += 1
    options.tags.append("x")
    return [options.height, len(options.tags), before]


def graph_of(make: Any) -> Graph:
    with Pipeline() as builder:
        made = make()
        builder.output(made)
    return builder.get_pipeline()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: grown(once()), [7, 1]),
        (lambda: nested_grown(loaded()), [1, 1]),
        (lambda: grown([5]), [5, 1]),
        (lambda: grown({"a": 1}), {"a": 1, "more": 1}),
        (lambda: grown({3}), {3, 1}),
        (lambda: grown(bytearray(b"a")), bytearray(b"a\x01")),
        (lambda: drained(words()), 3),
        (lambda: changed(Options()), [9, 1, {"height": 8, "tags": []}]),
        (lambda: changed(default_options()), [9, 1, {"height": 8, "tags": []}]),
    ],
)
def test_kept_results_and_constants_are_the_same_in_each_run(make: Any, expected: object) -> None:
    graph = graph_of(make)
    assert [graph.run(), graph.run(), graph.run()] == [[expected]] * 3


def test_within_a_run_a_kept_result_is_one_value_like_any_other() -> None:
    with Pipeline() as builder:
        kept = once()
        changed = grown(kept)
        builder.output(changed, kept)
    graph = builder.get_pipeline()
    assert [graph.run(), graph.run()] == [[[7, 1], [7, 1]]] * 2


def test_a_caller_may_change_what_a_run_returned() -> None:
    graph = graph_of(once)
    graph.run()[0].append(8)
    assert graph.run() == [[7]]


def test_outputs_are_what_they_were_when_they_were_given() -> None:
    @entity
    class Log:
        def __init__(self) -> None:
            self.lines: list[int] = []

        @pipe
        def add(self, x: int) -> list[int]:
            self.lines.append(x)
            return self.lines

    @pipe
    def growing(x: int) -> Iterator[list[int]]:
        items: list[int] = []
        for number in range(x):
            items.append(number)
            yield items

    with Pipeline() as builder:
        x = Variable(int)
        builder.output(Log().add(x), growing(x))
    graph = builder.get_pipeline()
    first, second = graph.run(1), graph.run(2)
    assert (first, second) == ([[1], [[0]]], [[1, 2], [[0], [0, 1]]])


def test_a_caller_keeps_its_inputs_as_they_were() -> None:
    with Pipeline() as builder:
        value = Variable(list[int])
        builder.output(grown(value))
    given = [1]
    assert builder.get_pipeline().run(given) == [[1, 1]]
    assert given == [1]


def test_a_node_may_go_on_changing_what_it_returned() -> None:
    @entity
    class Log:
        def __init__(self) -> None:
            self.lines: list[str] = []

        @pipe(on_startup=True)
        def begin(self) -> list[str]:
            self.lines.append("began")
            return self.lines

        @pipe
        def add(self, kept: list[str]) -> Tuple[list[str], int]:  # noqa: UP006
            self.lines.append("added")
            return kept, len(self.lines)

    with Pipeline() as builder:
        log = Log()
        builder.output(log.add(log.begin()))
    graph = builder.get_pipeline()
    assert [graph.run(), graph.run()] == [[["began"], 2], [["began"], 3]]


def test_a_startup_that_is_tried_again_finds_what_the_nodes_before_it_gave() -> None:
    failures = [1]

    @pipe(on_startup=True)
    def first() -> list[int]:
        return [1]

    @pipe(on_startup=True)
    def second(items: list[int]) -> list[int]:
        items.append(2)
        if failures:
            failures.pop()
            raise ValueError
        return items

    with Pipeline() as builder:
        builder.output(second(first()))
    graph = builder.get_pipeline()
    with pytest.raises(StartupFailed):
        graph.run()
    assert graph.run() == [[1, 2]]


def test_large_things_are_shared_not_copied() -> None:
    class Model:
        pass

    @pipe(on_startup=True)
    def load() -> list[Model]:
        return [Model()]

    with Pipeline() as builder:
        builder.output(load())
    graph = builder.get_pipeline()
    assert graph.run()[0][0] is graph.run()[0][0]
