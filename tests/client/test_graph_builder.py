from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Tuple  # noqa: UP035  # users write these

import pytest

from pipeline import File, Pipeline, Stream, Variable, pipe
from pipeline.errors import GraphError
from pipelined_api.schema import check_schema
from tests.client.pipes import (
    Model,
    Options,
    anything,
    both,
    half,
    join,
    length,
    prepare,
    size_of,
)


def test_positional_keyword_and_literal_arguments() -> None:
    with Pipeline() as builder:
        a = Variable(str)
        b = Variable(str)
        builder.output(
            join(a),
            join(a, b),
            join(second=a, first="x"),
            join("x", b, a, "y", sep="-", extra=b),
        )
    assert builder.get_pipeline().run("A", "B") == ["A!", "AB", "xA", "x-B-A-y-B"]


def test_variables_in_containers_get_their_values_and_fresh_containers() -> None:
    @pipe
    def grow(items: list[Any], table: dict[str, Any]) -> list[Any]:
        items.append(len(items))
        return [items, table["pair"]]

    with Pipeline() as builder:
        a = Variable(int)
        literal: list[Any] = [a, "x"]
        builder.output(grow(literal, {"pair": (a, None)}))
        literal.append("too late")
    graph = builder.get_pipeline()
    assert graph.run(1) == [[[1, "x", 2], (1, None)]]
    assert graph.run(2) == [[[2, "x", 2], (2, None)]]


def test_chains_several_outputs_and_pass_through() -> None:
    with Pipeline() as builder:
        text = Variable(str)
        n = length(join(text, text))
        builder.output(n, half(n))
        builder.output(text)
    assert builder.get_pipeline().run("abc") == [6, 3.0, "abc"]


def test_a_tuple_return_makes_variables_of_their_own() -> None:
    with Pipeline() as builder:
        x = Variable(int)
        number, text = both(x)
        builder.output(half(number), length(text))
        builder.output(both(x))
    graph = builder.get_pipeline()
    assert graph.run(9) == [5.0, 1, 10, "9"]
    assert [output.name for output in graph.outputs] == [
        "output_0",
        "output_1",
        "output_2",
        "output_3",
    ]


def test_pipes_that_call_pipes_are_plain_calls_in_a_run() -> None:
    @pipe
    def outer(x: int) -> int:
        return int(half(2 * x)) + length("ab")

    with Pipeline() as builder:
        x = Variable(int)
        builder.output(outer(x))
    graph = builder.get_pipeline()
    assert len(graph.nodes) == 1
    assert graph.run(5) == [7]


def test_a_graph_runs_plainly_inside_a_builder() -> None:
    with Pipeline() as inner:
        x = Variable(int)
        inner.output(half(x))
    graph = inner.get_pipeline()
    with Pipeline() as outer:
        y = Variable(int)
        assert graph.run(3) == [1.5]
        outer.output(half(y))
    assert len(outer.get_pipeline().nodes) == 1


def test_builders_nest_without_disturbing_each_other() -> None:
    with Pipeline() as outer:
        x = Variable(int)
        with Pipeline() as inner:
            y = Variable(str)
            inner.output(length(y))
        outer.output(half(x))
    assert outer.get_pipeline().run(3) == [1.5]
    assert inner.get_pipeline().run("abc") == [3]


def test_builders_in_threads_do_not_see_each_other() -> None:
    barrier = threading.Barrier(4)
    results: dict[int, list[Any]] = {}

    def build(number: int) -> None:
        with Pipeline() as builder:
            barrier.wait()
            x = Variable(int)
            barrier.wait()
            outputs: list[Any] = [x]
            for _ in range(number):
                outputs.append(anything(outputs[-1]))  # type: ignore[no-untyped-call]
            barrier.wait()
            builder.output(outputs[-1])
        graph = builder.get_pipeline()
        results[number] = [len(graph.nodes), *graph.run(number)]

    threads = [threading.Thread(target=build, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [number, number] for number in range(4)}


def test_names_are_titles_else_what_the_source_binds() -> None:
    def build() -> Any:
        with Pipeline() as builder, ExitStack() as stack:
            prompt = Variable(str)
            options = Variable(Options, title="Image options")
            builder.output(join(prompt, Variable(str)), size_of(options))
            stack.close()
        return builder.get_pipeline()

    graph = build()
    assert [each.name for each in graph.inputs] == ["prompt", "Image options", "input_2"]
    assert graph.run("a", input_2="b", **{"Image options": {"size": 4}}) == ["ab", 4]


def test_names_are_found_when_the_builder_is_entered_by_an_exit_stack() -> None:
    with ExitStack() as stack:
        builder = stack.enter_context(Pipeline())
        prompt = Variable(str)
        result = length(prompt)
        builder.output(result)
    graph = builder.get_pipeline()
    assert [graph.inputs[0].name, graph.outputs[0].name] == ["prompt", "result"]


def test_startup_pipes_take_constants_files_and_each_other(tmp_path: Path) -> None:
    source = tmp_path / "words.txt"
    source.write_text("from a file")

    @pipe(on_startup=True)
    def read(file: File) -> str:
        return file.read().decode()

    @pipe(on_startup=True)
    def pair(x: str) -> Tuple[str, int]:  # noqa: UP006  # users write this
        return x, len(x)

    with Pipeline() as builder:
        text, count = pair(prepare(read(File(source))))
        builder.output(text, count)
    assert builder.get_pipeline().run() == ["FROM A FILE", 11]


def test_a_variable_belongs_to_its_builder() -> None:
    with Pipeline() as outer:
        x = Variable(int)
        with Pipeline() as inner:
            with pytest.raises(GraphError, match="belongs to another Pipeline"):
                half(x)
            with pytest.raises(GraphError, match="belongs to another Pipeline"):
                inner.output(x)
        outer.output(x)


def test_a_variable_outside_a_builder_is_refused() -> None:
    with pytest.raises(GraphError, match=r"test_graph_builder.py:\d+: .*belongs inside"):
        Variable(str)


def test_a_variable_kept_in_an_entity_is_refused() -> None:
    with Pipeline() as builder:
        x = Variable(int)
        model = Model(x)
        builder.output(model.predict(x))
    with pytest.raises(GraphError, match="kept inside another object, or in an entity"):
        builder.get_pipeline()


def test_what_is_no_variable_is_no_output() -> None:
    with Pipeline() as builder, pytest.raises(GraphError, match="an output is what a pipe"):
        builder.output(3)
    with pytest.raises(GraphError, match="has no output"):
        builder.get_pipeline()


def test_two_inputs_of_one_name_are_refused() -> None:
    with Pipeline() as builder:
        a = Variable(int)
        b = Variable(int, title="a")
        builder.output(a, b)
    with pytest.raises(GraphError, match="both named 'a'"):
        builder.get_pipeline()


def test_a_builder_is_entered_once() -> None:
    builder = Pipeline()
    with builder:
        x = Variable(int)
        builder.output(x)
    with pytest.raises(GraphError, match="has been built"), builder:
        pass


def test_an_error_inside_the_with_closes_the_builder_for_good() -> None:
    builder = Pipeline()

    def build() -> None:
        with builder:
            builder.output(Variable(int))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        build()
    assert half(3) == 1.5
    with pytest.raises(GraphError, match="RuntimeError ended the `with"):
        builder.get_pipeline()


def test_a_pipe_given_a_variable_where_no_builder_is_open_says_so() -> None:
    with Pipeline():
        x = Variable(int)
    with pytest.raises(GraphError, match=r"test_graph_builder.py:\d+: pipe 'half' .*no `with"):
        half(x)
    with pytest.raises(GraphError, match="pipe 'join' is called with <Variable str"):
        join("a", second=_variable_of_a_builder_that_is_closed())


def _variable_of_a_builder_that_is_closed() -> str:
    with Pipeline():
        return Variable(str)


def test_outputs_have_distinct_names_and_inputs_too() -> None:
    with Pipeline() as builder:
        output_1 = Variable(float)
        input_0 = half(output_1)
        builder.output(input_0, half(output_1), output_1, input_0)
    graph = builder.get_pipeline()
    check_schema(graph.schema())
    assert [each.name for each in graph.outputs] == ["input_0", "output_1_", "output_1", "output_3"]
    with Pipeline() as builder:
        input_1 = Variable(int)
        builder.output(join(Variable(str)), input_1)
    assert [each.name for each in builder.get_pipeline().inputs] == ["input_1", "input_1_"]


def test_keyword_arguments_may_be_called_what_the_library_calls_its_own() -> None:
    with Pipeline() as builder:
        x = Variable(str)
        builder.output(join("a", self=x, pipe="b", args="c", kwargs="d"))
    assert builder.get_pipeline().run("A") == ["a!Abcd"]
    assert join("a", self="b") == "a!b"


def test_builders_may_be_closed_in_any_order_and_in_another_context() -> None:
    one, other = Pipeline(), Pipeline()
    one.__enter__()
    contextvars.copy_context().run(other.__enter__)
    other.__exit__(None, None, None)
    x = Variable(int)
    one.output(half(x))
    two = Pipeline().__enter__()
    one.__exit__(None, None, None)
    two.output(Variable(int))
    two.__exit__(None, None, None)
    assert half(3) == 1.5
    assert (one.get_pipeline().run(3), two.get_pipeline().run(3)) == ([1.5], [3])


def test_tasks_that_take_turns_have_builders_of_their_own() -> None:
    async def build(count: int) -> list[Any]:
        with Pipeline() as builder:
            last: Any = Variable(float)
            for _ in range(count):
                await asyncio.sleep(0)
                last = half(last)
            builder.output(last)
        return builder.get_pipeline().run(16)

    async def every() -> list[list[Any]]:
        return await asyncio.gather(*map(build, range(4)))

    assert asyncio.run(every()) == [[16.0], [8.0], [4.0], [2.0]]


def test_the_graph_may_be_taken_before_the_with_ends() -> None:
    with Pipeline() as builder:
        x = Variable(float)
        builder.output(half(x))
        first = builder.get_pipeline()
        builder.output(x)
    assert (first.run(x=3.0), builder.get_pipeline().run(3.0)) == ([1.5], [1.5, 3.0])


@pytest.mark.parametrize(
    "make", [lambda: (n for n in (1, 2)), lambda: [iter([1])], lambda: {"a": Stream([1])}]
)
def test_an_iterator_is_no_constant_as_the_first_run_would_use_it_up(make: Any) -> None:
    message = "pipe 'anything': parameter 'value' is given a .*, which the first run would use up"
    with Pipeline(), pytest.raises(GraphError, match=message):
        anything(make())  # type: ignore[no-untyped-call]


def test_an_argument_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with Pipeline(), pytest.raises(GraphError, match="pipe 'anything': an argument contains it"):
        anything(endless)  # type: ignore[no-untyped-call]
