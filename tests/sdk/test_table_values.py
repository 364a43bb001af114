"""The semantics of the library: one class per row of the table that defines them.

The rows on values, results, graphs and errors; those on pipes are in ``test_table_pipes``.

What speaks of the daemon is tried in one; what has to hold in both is tried in both (``place``).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union  # noqa: UP035  # users write these

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import (
    Client,
    File,
    Graph,
    InputField,
    InputSchema,
    Pipeline,
    Stream,
    Variable,
    errors,
    pipe,
)
from pipeline.errors import GraphError, InvalidInput, RunFailed
from tests.sdk.pipes import same, scaled
from tests.sdk.places import Here, InDaemon, Place, graph_of, in_threads, note, notes


class Options(InputSchema):
    height: Optional[int] = InputField(default=None, ge=64, le=1024, multiple_of=8)  # noqa: UP045
    steps: int = InputField(default=4, ge=1)
    tags: list[str] = InputField(optional=True)


class Nested(InputSchema):
    options: Options
    many: dict[str, Options] = InputField(default_factory=dict)


class TestVariable:
    """Variable(type, default=, title=, …)"""

    @pytest.mark.parametrize(
        ("type_", "value"),
        [
            (int, 2**62),
            (float, 1.5),
            (bool, True),
            (str, "größe 🚀"),
            (bytes, b"\0\xff"),
            (Optional[int], None),  # noqa: UP045
            (Union[int, str, None], "x"),  # noqa: UP007
            (List[str], ["a", ""]),  # noqa: UP006
            (Dict[str, float], {"a": 1.5}),  # noqa: UP006
            (Tuple[int, str], (1, "a")),  # noqa: UP006
            (tuple[int, ...], ()),
            (list[tuple[int, bytes]], [(1, b"x")]),
            (np.ndarray, np.arange(6, dtype=">f8").reshape(2, 3).T),
            (torch.Tensor, torch.tensor([1.5], dtype=torch.bfloat16)),
            (Image.Image, Image.new("RGB", (2, 3), "red")),
            (File, File.from_bytes(b"content", name="a.txt")),
            (dict[str, list[File]], {"a": [File.from_bytes(b"content", name="a.txt")]}),
        ],
    )
    def test_values_of_every_type_arrive(self, place: Place, type_: Any, value: Any) -> None:
        (result,) = place.start(graph_of(lambda: same(Variable(type_, title="x")))).run(value)
        assert type(result) is type(value)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(result, value)
        elif isinstance(value, torch.Tensor):
            assert result.dtype == value.dtype
            assert torch.equal(result, value)
        else:
            assert result == value

    @pytest.mark.parametrize(
        ("constraints", "value", "bound"),
        [
            ({"gt": 1}, 1, "gt=1"),
            ({"ge": 1}, 0, "ge=1"),
            ({"lt": 1}, 1, "lt=1"),
            ({"le": 1}, 2, "le=1"),
            ({"multiple_of": 8}, 9, "multiple_of=8"),
            ({"min_length": 2}, "a", "min_length=2"),
            ({"max_length": 2}, "abc", "max_length=2"),
            ({"choices": ["a", "b"]}, "c", "choices=['a', 'b']"),
        ],
    )
    def test_constraints_are_enforced_and_named(
        self, place: Place, constraints: dict[str, Any], value: Any, bound: str
    ) -> None:
        graph = graph_of(lambda: same(Variable(type(value), title="x", **constraints)))
        with pytest.raises(InvalidInput) as caught:
            place.start(graph).run(value)
        assert (caught.value.field, caught.value.bound) == ("x", bound)

    def test_defaults_are_enforced_and_may_be_left_out(self, place: Place) -> None:
        def make() -> Any:
            with pytest.raises(GraphError, match="greater than or equal to 1"):
                Variable(int, default=0, ge=1)
            return same(Variable(int, default=3, ge=1, title="n")), same(
                Variable(str, optional=True, title="s", description="Which")
            )

        graph = graph_of(make)
        assert place.start(graph).run() == [3, None]
        assert place.start(graph).run(s="x", n=1) == [1, "x"]


class TestInputSchema:
    """InputSchema / InputField"""

    def test_an_instance_or_a_dict_and_what_is_optional(self, place: Place) -> None:
        @pipe
        def told(options: Options) -> dict[str, Any]:
            return options.to_dict()

        started = place.start(graph_of(lambda: told(Variable(Options, title="options"))))
        assert started.run({}) == started.run(Options()) == [{"steps": 4}]
        assert started.run(Options(height=64)) == [{"height": 64, "steps": 4}]

    @pytest.mark.parametrize(
        ("value", "field"),
        [
            ({"options": {"height": 65}}, "kwargs.options.height"),
            ({"options": {"tags": ["a", 1]}}, "kwargs.options.tags[1]"),
            ({"options": {}, "many": {"a": {"steps": 0}}}, "kwargs.many.a.steps"),
            ({"options": {"unknown": 1}}, "kwargs.options.unknown"),
            ({"options": {}, "unknown": 1}, "kwargs.unknown"),
            ({}, "kwargs.options"),
        ],
    )
    def test_errors_name_the_path_of_the_field(
        self, place: Place, value: dict[str, Any], field: str
    ) -> None:
        started = place.start(graph_of(lambda: same(Variable(Nested, title="kwargs"))))
        with pytest.raises(InvalidInput) as caught:
            started.run(value)
        assert caught.value.field == field


class TestFile:
    """File"""

    def test_nested_files_go_in_and_come_back_as_files(self, place: Place, tmp_path: Path) -> None:
        @pipe
        def upper(table: Dict[str, List[File]]) -> Dict[str, List[File]]:  # noqa: UP006
            return {
                key: [File.from_bytes(f.read().upper(), name=f"{key}-{f.name}") for f in files]
                for key, files in table.items()
            }

        path = tmp_path / "a.txt"
        path.write_text("content")
        started = place.start(graph_of(lambda: upper(Variable(Dict[str, List[File]]))))  # noqa: UP006
        given = File(path=path, allow_out_of_context_creation=True)
        (result,) = started.run({"x": [given, given]})
        saved = result["x"][1].save(tmp_path / "out")
        assert (saved.read_bytes(), result["x"][0].name) == (b"CONTENT", "x-a.txt")

    def test_inside_a_builder_it_is_part_of_the_graph(self, place: Place, tmp_path: Path) -> None:
        @pipe(on_startup=True)
        def size(file: File) -> int:
            return len(file.read())

        path = tmp_path / "a.txt"
        path.write_text("content")
        data = graph_of(lambda: size(File(path=path))).dumps()
        path.unlink()
        assert place.start(Graph.loads(data)).run() == [7]


class TestStream:
    """Stream[T]"""

    def test_generators_stream_and_static_outputs_come_once(self, place: Place) -> None:
        @pipe
        def count(limit: int) -> Stream[int]:
            return Stream(range(limit))

        @pipe
        def letters(limit: int) -> Iterator[str]:
            yield from "abc"[:limit]

        def make() -> Any:
            n = Variable(int)
            return count(n), same(n), letters(n)

        from pipeline.objects.graph import ABSENT as none

        started = place.start(graph_of(make))
        assert list(started.stream(2)) == [[none, 2, none], [0, none, "a"], [1, none, "b"]]
        assert list(started.stream(0)) == [[none, 0, none]]
        assert started.run(2) == [[0, 1], 2, ["a", "b"]]

    def test_an_early_close_closes_the_generator(self, place: Place, tmp_path: Path) -> None:
        @pipe
        def endless(path: str) -> Iterator[int]:
            try:
                n = 0
                while True:
                    yield n
                    n += 1
            finally:
                note(path, "closed")

        path = tmp_path / "notes"
        started = place.start(graph_of(lambda: endless(Variable(str))))
        with started.stream(str(path)) as rows:
            assert next(rows) == [0]
        # A worker runs one at a time: the next run begins when the one before has ended.
        with started.stream(str(path)) as rows:
            assert next(rows) == [0]
            assert notes(path) == ["closed"]


class TestReturnAnnotations:
    """return annotations"""

    def test_they_are_the_types_of_outputs_and_a_tuple_makes_two_variables(
        self, in_daemon: InDaemon
    ) -> None:
        @pipe
        def pair(x: int) -> Tuple[int, List[str]]:  # noqa: UP006
            return x, [str(x)]

        def make() -> Any:
            first, second = pair(Variable(int))
            return scaled(first), second

        started = in_daemon.start(graph_of(make))
        assert started.run(2) == [4, ["2"]]
        schema = in_daemon.client.deployment(started.name).schema
        assert [each.type for each in schema.outputs] == ["int", "list[str]"]

    def test_a_missing_one_is_an_error_only_where_it_is_needed(self) -> None:
        @pipe
        def untold(x):  # type: ignore[no-untyped-def]  # that is the test
            return x, x

        with Pipeline() as builder:
            both = untold(Variable(int))  # type: ignore[no-untyped-call]
            builder.output(scaled(both), both)
            with pytest.raises(GraphError, match="result of .*untold.* has no value"):
                _, _ = both
        assert builder.get_pipeline().outputs[1].name == "both"


class TestGraph:
    """Graph"""

    def test_runs_here_saves_loads_and_has_a_digest_of_its_content(self, tmp_path: Path) -> None:
        def build(by: int) -> Graph:
            return graph_of(lambda: scaled(Variable(int), by))

        graph, path = build(3), tmp_path / "graph"
        graph.save(path)
        assert Graph.load(path).run(2) == graph.run(2) == [6]
        assert Graph.load(path).digest() == build(3).digest() != build(4).digest()

    def test_builds_in_threads_and_nests(self) -> None:
        def build(number: int) -> list[Any]:
            with Pipeline() as outer:
                x = Variable(int)
                inner = graph_of(lambda: scaled(Variable(int), number))
                outer.output(scaled(x, plus=number))
            return [*inner.run(10), *outer.get_pipeline().run(10)]

        results = sorted(in_threads(4, build))
        assert results == [[10 * number, 20 + number] for number in range(4)]


class TestErrors:
    """errors"""

    def test_one_tree_drawn_at_the_top_of_its_module(self) -> None:
        drawn = set(re.findall(r"[├└]─ (\w+)", errors.__doc__ or ""))
        raised = {
            name
            for name, cls in vars(errors).items()
            if inspect.isclass(cls) and issubclass(cls, errors.PipelineError)
        }
        assert drawn == raised - {"PipelineError"}

    def test_bad_input_names_the_field(self, place: Place) -> None:
        with pytest.raises(InvalidInput) as caught:
            place.start(graph_of(lambda: scaled(Variable(int, title="x")))).run(True)
        assert caught.value.field == "x"

    def test_a_failed_run_names_its_node_and_has_the_remote_traceback(
        self, in_daemon: InDaemon
    ) -> None:
        @pipe
        def divides(x: int) -> float:
            return 1 / x

        graph = graph_of(lambda: divides(Variable(int)))
        for place in (Here(), in_daemon):
            with pytest.raises(RunFailed, match="ZeroDivisionError") as caught:
                place.start(graph).run(0)
            assert caught.value.node.endswith("divides")
        assert "return 1 / x" in caught.value.remote_traceback

    def test_not_found_deadline_and_unavailable(self, in_daemon: InDaemon, tmp_path: Path) -> None:
        @pipe
        def waits(path: str) -> None:
            while not Path(path).exists():
                pass

        with pytest.raises(errors.NotFound):
            in_daemon.client.run("missing")
        started = in_daemon.start(graph_of(lambda: waits(Variable(str))))
        try:
            with pytest.raises(errors.DeadlineExceeded):
                in_daemon.client.run(started.name, str(tmp_path / "go"), timeout=0.1)
        finally:
            (tmp_path / "go").touch()
        with Client("unix:/nonexistent/s") as client, pytest.raises(errors.Unavailable):
            client.run("name")
