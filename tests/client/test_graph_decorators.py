from __future__ import annotations

import inspect

import pytest

from pipeline import Pipeline, Variable, entity, pipe
from pipeline.errors import GraphError


@pipe
def double(x: int) -> int:
    """Twice x."""
    return 2 * x


@pipe(run_once=True)
def triple(x: int, *, times: int = 3) -> int:
    return times * x


@entity
class Counter:
    """Counts."""

    def __init__(self, start: int = 0) -> None:
        self.count = start

    @pipe
    def add(self, n: int = 1) -> int:
        self.count += n
        return self.count

    @staticmethod
    @pipe
    def negate(n: int) -> int:
        return -n

    @classmethod
    @pipe
    def made_from(cls, n: int) -> str:
        return f"{cls.__name__}({n})"


@entity()
class Called:
    @pipe()
    def name(self) -> str:
        return type(self).__name__


class Derived(Counter):
    @pipe
    def add(self, n: int = 1) -> int:
        return super().add(10 * n)


def test_outside_a_builder_a_pipe_is_a_plain_call() -> None:
    assert double(2) == 4
    assert triple(2, times=5) == 10
    counter = Counter()
    assert [counter.add(), counter.add(n=4)] == [1, 5]
    assert Counter.negate(3) == Counter().negate(3) == -3
    assert Derived().add() == 10
    assert Called().name() == "Called"


def test_a_pipe_keeps_name_documentation_and_signature() -> None:
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice x."
    assert list(inspect.signature(double).parameters) == ["x"]
    assert list(inspect.signature(Counter().add).parameters) == ["n"]


def test_an_entity_is_the_same_class() -> None:
    class Plain:
        pass

    assert entity(Plain) is Plain
    assert entity()(Plain) is Plain


def test_static_and_class_methods_can_be_pipes() -> None:
    with Pipeline() as builder:
        n = Variable(int)
        builder.output(Counter.negate(n), Counter().negate(n), Derived.made_from(n))
    assert builder.get_pipeline().run(3) == [-3, -3, "Derived(3)"]


def test_a_subclass_of_an_entity_is_one_and_may_call_what_it_overrides() -> None:
    with Pipeline() as builder:
        n = Variable(int)
        builder.output(Derived(5).add(n))
    assert builder.get_pipeline().run(2) == [25]


def test_a_pipe_on_the_wrong_side_of_staticmethod_is_refused() -> None:
    with pytest.raises(GraphError, match=r"test_graph_decorators.py:\d+: put @staticmethod above"):

        class Wrong:
            @pipe
            @staticmethod
            def method() -> None: ...


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(GraphError, match="takes a function, not 3"):
        pipe(3)  # type: ignore[call-overload]  # the wrong type is the test
    with pytest.raises(GraphError, match="takes a class, not 3"):
        entity(3)  # type: ignore[call-overload]  # the wrong type is the test


def test_a_coroutine_function_is_refused() -> None:
    async def later() -> None: ...

    with pytest.raises(GraphError, match="'test_a_coroutine.*later' is a coroutine function"):
        pipe(later)
