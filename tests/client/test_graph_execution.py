from __future__ import annotations

import threading
from typing import Any, Tuple  # noqa: UP035  # users write this

import pytest

from pipeline import Graph, Pipeline, Variable, entity, pipe
from pipeline.errors import RunFailed, StartupFailed

# What nodes of the graphs here did, in order; each test starts with an empty one.
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@pipe(on_startup=True)
def loads(name: str) -> str:
    CALLS.append(name)
    return name


@pipe(on_startup=True, run_once=True)
def loads_too(name: str) -> str:
    CALLS.append(name)
    return name


@pipe(run_once=True)
def once(x: int) -> list[int]:
    CALLS.append(f"once {x}")
    return [x]


@pipe
def always(x: int, *seen: object) -> list[object]:
    CALLS.append(f"always {x}")
    return [x, *seen]


def staged_graph() -> Graph:
    with Pipeline() as builder:
        x = Variable(int)
        first = loads("a")
        kept = once(x)
        second = loads_too("b")
        builder.output(always(x, first, second, kept))
    return builder.get_pipeline()


def test_startup_in_order_once_then_run_once_in_the_first_run() -> None:
    graph = staged_graph()
    assert graph.run(1) == [[1, "a", "b", [1]]]
    assert graph.run(2) == [[2, "a", "b", [1]]]
    assert CALLS == ["a", "b", "once 1", "always 1", "always 2"]


def test_startup_alone_runs_no_more_than_the_startup_nodes() -> None:
    graph = staged_graph()
    graph.startup()
    graph.startup()
    assert CALLS == ["a", "b"]
    graph.run(1)
    assert CALLS == ["a", "b", "once 1", "always 1"]


def test_each_graph_has_a_startup_of_its_own() -> None:
    staged_graph().startup()
    staged_graph().startup()
    assert CALLS == ["a", "b"] * 2


def test_invalid_input_executes_nothing() -> None:
    with pytest.raises(Exception, match="missing input"):
        staged_graph().run()
    assert CALLS == []


class _Observer:
    def __init__(self) -> None:
        self.events: list[str] = []

    def node_started(self, name: str) -> None:
        self.events.append(f"> {name}")

    def node_finished(self, name: str, seconds: float) -> None:
        assert seconds >= 0
        self.events.append(f"< {name}")


def test_an_observer_is_told_of_every_node() -> None:
    graph = staged_graph()
    observer = _Observer()
    graph.startup(observer)
    assert observer.events == ["> loads", "< loads", "> loads_too", "< loads_too"]
    observer.events.clear()
    graph.execute([1], {}, observer=observer)
    assert observer.events == ["> once", "< once", "> always", "< always"]


def test_any_number_of_first_runs_share_one_startup() -> None:
    threads_in_run = 8
    everyone_is_there = threading.Barrier(threads_in_run)

    @entity
    class Slow:
        @pipe(on_startup=True)
        def load(self) -> None:
            CALLS.append("load")
            release.wait()
            self.ready = True

        @pipe
        def predict(self, x: int) -> int:
            assert self.ready
            return x

    with Pipeline() as builder:
        x = Variable(int)
        slow = Slow()
        slow.load()
        builder.output(slow.predict(x), once(x))
    release = threading.Event()
    # Locks have no copy, so the entity's methods see this one.
    graph = builder.get_pipeline()
    results: list[Any] = []

    def run(number: int) -> None:
        everyone_is_there.wait()
        results.append(graph.run(number))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(threads_in_run)]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join()
    assert CALLS.count("load") == 1
    assert sorted(result[0] for result in results) == list(range(threads_in_run))
    assert len({result[1][0] for result in results}) == 1


@entity
class Flaky:
    """Its second startup node fails as often as it is told."""

    def __init__(self, failures: int) -> None:
        self.tokens = ["fresh"]
        self.steps: tuple[str, ...] = ()
        budget[0] = failures

    @pipe(on_startup=True)
    def first(self) -> str:
        CALLS.append("first")
        self.steps += ("first",)
        return "first's"

    @pipe(on_startup=True)
    def second(self) -> str:
        CALLS.append("second")
        self.steps += ("second",)
        if budget[0] > 0:
            budget[0] -= 1
            self.half_done = True
            raise ValueError("no weights today")
        return "second's"

    @pipe
    def predict(self, *kept: str) -> Tuple[list[str], bool]:  # noqa: UP006  # users write this
        return [*kept, *self.steps], hasattr(self, "half_done")


budget = [0]


def flaky_graph(failures: int) -> Graph:
    with Pipeline() as builder:
        flaky = Flaky(failures)
        first, second = flaky.first(), flaky.second()
        builder.output(flaky.predict(first, second))
    return builder.get_pipeline()


def test_a_failed_startup_keeps_what_went_before_and_resumes_there() -> None:
    graph = flaky_graph(failures=2)
    for _ in range(2):
        with pytest.raises(StartupFailed, match=r"Flaky.second raised ValueError: no weights") as e:
            graph.run()
        assert e.value.node == "Flaky.second"
        assert isinstance(e.value.__cause__, ValueError)
    assert graph.run() == [["first's", "second's", "first", "second"], False]
    assert CALLS == ["first", "second", "second", "second"]


def test_callers_that_wait_for_a_failed_startup_all_learn_why() -> None:
    entered, release = threading.Event(), threading.Event()

    @pipe(on_startup=True)
    def fail() -> None:
        CALLS.append("fail")
        entered.set()
        release.wait()
        raise OSError("disk gone")

    with Pipeline() as builder:
        builder.output(fail())
    graph = builder.get_pipeline()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            graph.run()
        except StartupFailed as error:
            errors.append(error)

    leader = threading.Thread(target=run)
    leader.start()
    entered.wait()
    followers = [threading.Thread(target=run) for _ in range(3)]
    for thread in followers:
        thread.start()
    release.set()
    for thread in [leader, *followers]:
        thread.join()
    assert len({id(error) for error in errors}) == 4
    assert {str(error) for error in errors} == {"fail raised OSError: disk gone"}
    assert all(isinstance(error.__cause__, OSError) for error in errors)


def test_a_failed_run_names_its_node_and_leaves_the_graph_usable() -> None:
    @pipe
    def divide(x: int) -> float:
        return 1 / x

    with Pipeline() as builder:
        x = Variable(int)
        builder.output(divide(x))
    graph = builder.get_pipeline()
    with pytest.raises(RunFailed, match="divide raised ZeroDivisionError: division by zero") as e:
        graph.run(0)
    assert e.value.node.endswith("divide")
    assert isinstance(e.value.__cause__, ZeroDivisionError)
    assert graph.run(2) == [0.5]


def test_a_run_once_node_that_fails_is_tried_again() -> None:
    @pipe(run_once=True)
    def picky(x: int) -> int:
        if x < 0:
            raise ValueError(x)
        return x

    with Pipeline() as builder:
        x = Variable(int)
        builder.output(picky(x))
    graph = builder.get_pipeline()
    with pytest.raises(RunFailed):
        graph.run(-1)
    assert [graph.run(1), graph.run(-1), graph.run(2)] == [[1], [1], [1]]


@pytest.mark.parametrize("returned", [3, (1,), (1, 2, 3), None])
def test_a_tuple_pipe_that_returns_something_else_fails(returned: object) -> None:
    @pipe
    def pair() -> Tuple[int, int]:  # noqa: UP006  # users write this
        return returned  # type: ignore[return-value]  # the wrong type is the test

    with Pipeline() as builder:
        builder.output(pair())
    with pytest.raises(RunFailed, match="annotated to return a tuple of 2, returned"):
        builder.get_pipeline().run()


def test_an_interrupted_startup_can_be_tried_again() -> None:
    interrupts = [True]

    @pipe(on_startup=True)
    def load() -> str:
        if interrupts.pop():
            raise KeyboardInterrupt
        return "loaded"

    with Pipeline() as builder:
        builder.output(load())
    graph = builder.get_pipeline()
    with pytest.raises(KeyboardInterrupt):
        graph.startup()
    interrupts.append(False)
    assert graph.run() == ["loaded"]
