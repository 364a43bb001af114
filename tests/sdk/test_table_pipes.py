"""The semantics of the library: one class per row of the table that defines them.

The rows on pipes, entities and startups; those on values are in ``test_table_values``.

What speaks of the daemon is tried in one; what has to hold in both is tried in both (``place``).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any  # noqa: UP035  # users write these

import pytest

from pipeline import (
    File,
    Pipeline,
    Variable,
    entity,
    pipe,
)
from pipeline.errors import GraphError, StartupFailed
from tests.sdk.pipes import same, scaled
from tests.sdk.places import InDaemon, Place, graph_of, in_threads, note, notes


@entity
class Counter:
    def __init__(self, path: str = "", start: int = 0) -> None:
        self.path = path
        self.count = start

    @pipe(on_startup=True)
    def load(self) -> str:
        note(self.path, f"load {self.count}")
        return "loaded"

    @pipe(on_startup=True)
    def load_after(self, before: str) -> str:
        note(self.path, f"after {before}")
        return before + " twice"

    @pipe
    def add(self, n: int) -> int:
        self.count += n
        return self.count


@pipe(run_once=True)
def chosen(path: str, x: int) -> list[int]:
    note(path, f"chosen {x}")
    return [x]


class TestPipe:
    """@pipe(on_startup=, run_once=)"""

    def test_bare_or_called_it_stays_the_same_callable(self) -> None:
        assert (scaled(3), scaled(3, plus=1), same(4)) == (6, 7, 4)
        assert (scaled.__name__, scaled.__doc__) == ("scaled", "Scales.")
        assert list(inspect.signature(scaled).parameters) == ["x", "by", "plus"]

    def test_positional_keyword_and_literal_arguments_work(self, place: Place) -> None:
        def make() -> Any:
            x = Variable(int)
            return scaled(x), scaled(x, 3), scaled(by=x, x=5), scaled(2, x, plus=x)

        assert place.start(graph_of(make)).run(4) == [8, 12, 20, 12]

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (lambda: scaled(), "missing a required argument: 'x'"),  # type: ignore[call-arg]
            (lambda: scaled(1, 2, 3), "too many positional arguments"),  # type: ignore[call-arg]
            (lambda: scaled(1, b=2), "unexpected keyword argument 'b'"),  # type: ignore[call-arg]
            (lambda: scaled("a"), "parameter 'x' is annotated int"),  # type: ignore[arg-type]
            (lambda: scaled(Variable(str)), "parameter 'x' is annotated int"),  # type: ignore[arg-type]
        ],
    )
    def test_errors_of_a_call_name_pipe_parameter_and_line(
        self, wrong: Callable[[], object], said: str
    ) -> None:
        with Pipeline(), pytest.raises(GraphError) as caught:
            wrong()
        line = wrong.__code__.co_firstlineno
        assert re.match(rf"{__file__}:{line}: pipe 'scaled': .*{said}", str(caught.value))


class TestEntity:
    """@entity"""

    def test_bare_or_called_it_is_a_class_that_can_be_subclassed(self, place: Place) -> None:
        @entity()
        class Doubling(Counter):
            @pipe
            def add(self, n: int) -> int:
                return super().add(2 * n)

        graph = graph_of(lambda: Doubling(start=1).add(Variable(int)))
        assert place.start(graph).run(3) == [7]

    def test_each_instance_has_its_own_state_in_each_graph(self, place: Place) -> None:
        counter = Counter(start=1)

        def make() -> Any:
            n = Variable(int)
            return counter.add(n), Counter(start=10).add(n), counter.add(n)

        first, second = place.start(graph_of(make)), place.start(graph_of(make))
        assert [first.run(1), first.run(1)] == [[2, 11, 3], [4, 12, 5]]
        assert second.run(1) == [2, 11, 3]
        assert counter.count == 1


class TestOnStartup:
    """on_startup"""

    def test_executed_once_in_definition_order_before_the_first_run(
        self, place: Place, tmp_path: Path
    ) -> None:
        path = tmp_path / "notes"

        def make() -> Any:
            counter = Counter(str(path))
            kept = counter.load_after(counter.load())
            return kept, counter.add(Variable(int))

        started = place.start(graph_of(make))
        assert [started.run(1), started.run(1)] == [["loaded twice", 1], ["loaded twice", 2]]
        assert notes(path) == ["load 0", "after loaded"]

    def test_or_when_the_deployment_is_warmed(self, place: Place, tmp_path: Path) -> None:
        path = tmp_path / "notes"
        started = place.start(graph_of(lambda: Counter(str(path)).load()))
        started.warm()
        assert notes(path) == ["load 0"]
        started.warm()
        assert started.run() == ["loaded"]
        assert notes(path) == ["load 0"]

    def test_inputs_are_constants_files_or_outputs_of_startup_nodes(
        self, place: Place, tmp_path: Path
    ) -> None:
        @pipe(on_startup=True)
        def read(file: File, prefix: str) -> str:
            return prefix + file.read().decode()

        @pipe(on_startup=True)
        def shouted(text: str) -> str:
            return text.upper()

        (tmp_path / "words").write_text("words")
        graph = graph_of(lambda: shouted(read(File(tmp_path / "words"), "some ")))
        assert place.start(graph).run() == ["SOME WORDS"]

    def test_anything_else_is_an_error_at_build_time(self) -> None:
        @pipe(on_startup=True)
        def load(value: object) -> None: ...

        with Pipeline():
            x = Variable(int)
            for value in (x, same(x), [x], {"a": (x,)}):
                with pytest.raises(GraphError, match="pipe '.*load': parameter 'value'.*startup"):
                    load(value)


class TestRunOnce:
    """run_once"""

    def test_executed_in_the_first_run_that_reaches_it_and_replayed(
        self, place: Place, tmp_path: Path
    ) -> None:
        path = tmp_path / "notes"
        started = place.start(graph_of(lambda: chosen(str(path), Variable(int))))
        started.warm()
        assert notes(path) == []
        assert [started.run(1), started.run(2)] == [[[1]], [[1]]]
        assert notes(path) == ["chosen 1"]

    def test_with_on_startup_too_at_startup(self, place: Place, tmp_path: Path) -> None:
        @pipe(on_startup=True, run_once=True)
        def both(path: str) -> None:
            note(path, "both")

        path = tmp_path / "notes"
        started = place.start(graph_of(lambda: both(str(path))))
        started.warm()
        assert notes(path) == ["both"]
        started.run()
        assert notes(path) == ["both"]


class TestFailureInStartup:
    """failure in startup"""

    def test_the_state_is_failed_with_the_traceback_and_the_next_try_goes_on_there(
        self, in_daemon: InDaemon, tmp_path: Path
    ) -> None:
        @entity
        class Flaky:
            def __init__(self, path: str) -> None:
                self.path = path

            @pipe(on_startup=True)
            def first(self) -> None:
                note(self.path, "first")

            @pipe(on_startup=True)
            def second(self) -> None:
                note(self.path, "second")
                if not Path(self.path + ".there").exists():
                    self.half = True
                    raise OSError("no disk")

            @pipe
            def clean(self) -> bool:
                return not hasattr(self, "half")

        def make() -> Any:
            flaky = Flaky(str(path))
            flaky.first()
            flaky.second()
            return flaky.clean()

        path = tmp_path / "notes"
        started = in_daemon.start(graph_of(make))
        with pytest.raises(StartupFailed, match="no disk") as caught:
            started.warm()
        assert caught.value.node.endswith("Flaky.second")
        deployment = in_daemon.client.deployment(started.name)
        assert deployment.state == "failed"
        assert deployment.failure is not None
        assert 'raise OSError("no disk")' in deployment.failure.traceback
        (tmp_path / "notes.there").touch()
        assert started.run() == [True]
        assert notes(path) == ["first", "second", "second"]

    def test_tries_back_off(self, in_daemon: InDaemon) -> None:
        @pipe(on_startup=True)
        def fails() -> None:
            raise ValueError("never")

        started = in_daemon.start(graph_of(fails))
        with pytest.raises(StartupFailed):
            started.run()
        with pytest.raises(StartupFailed) as caught:
            started.run()
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 0


class TestConcurrency:
    """concurrency"""

    def test_any_number_of_first_runs_share_one_startup(self, place: Place, tmp_path: Path) -> None:
        path = tmp_path / "notes"

        def make() -> Any:
            counter = Counter(str(path))
            counter.load()
            return chosen(str(path), Variable(int))

        started = place.start(graph_of(make))
        results = in_threads(6, started.run)
        assert len({str(result) for result in results}) == 1
        assert [line.split()[0] for line in notes(path)] == ["load", "chosen"]
