from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import File, Graph, Pipeline, Variable, entity, pipe
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


class Mixed:
    """No entity itself, but its pipe is one in a subclass that is."""

    @pipe
    def twice(self, x: int) -> int:
        return 2 * x


@entity
class Abstract(abc.ABC):
    def __init__(self, file: File) -> None:
        self.file = file

    @pipe(on_startup=True)
    def load(self) -> None:
        self.log = [self.file.read().decode(), type(self).__name__]

    @abc.abstractmethod
    def step(self, x: int) -> int: ...

    @pipe
    def run(self, x: int) -> list[Any]:
        return [*self.log, self.step(x)]


class Inherits(Mixed, Abstract):
    @pipe
    def step(self, x: int) -> int:
        return x + self.twice(1)


class Overrides(Inherits):
    @pipe(on_startup=True)
    def load(self) -> None:
        super().load()
        self.log.append("more")

    @pipe
    def step(self, x: int) -> int:
        return super().step(10 * x)


def test_abstract_bases_mixins_inherited_startup_and_files_of_instances(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A")
    (tmp_path / "b").write_text("B")
    with Pipeline() as builder:
        x = Variable(int)
        one, other = Inherits(File(tmp_path / "a")), Overrides(File(tmp_path / "b"))
        one.load()
        other.load()
        builder.output(one.run(x), other.run(x), other.twice(x))
        with pytest.raises(TypeError, match="abstract"):
            Abstract(File(tmp_path / "a"))  # type: ignore[abstract]  # that is the test
    graph = builder.get_pipeline()
    assert [node.name for node in graph.nodes[:2]] == ["Abstract.load", "Overrides.load"]
    expected = [["A", "Inherits", 3], ["B", "Overrides", "more", 12], 2]
    assert graph.run(1) == Graph.loads(graph.dumps()).run(1) == expected


@entity
@dataclasses.dataclass
class Counted:
    start: int = 3
    seen: list[int] = dataclasses.field(default_factory=list)

    @pipe
    def add(self, x: int) -> list[int]:
        self.seen.append(self.start + x)
        return list(self.seen)


@dataclasses.dataclass(frozen=True)
@entity
class Frozen:
    start: int = 3

    @pipe
    def add(self, x: int) -> int:
        return self.start + x


@entity
@dataclasses.dataclass(slots=True)
class Slotted:
    start: int = 3

    @pipe
    def add(self, x: int) -> int:
        self.start += x
        return self.start


def test_dataclasses_can_be_entities_and_equal_ones_stay_apart() -> None:
    with Pipeline() as builder:
        x = Variable(int)
        one, other = Counted(), Counted()
        assert one == other
        builder.output(one.add(x), other.add(x), one.add(x), Frozen().add(x), Slotted().add(x))
    graph = builder.get_pipeline()
    assert graph.run(1) == Graph.loads(graph.dumps()).run(1) == [[4], [4], [4, 4], 4, 4]
    assert graph.run(1) == [[4, 4, 4], [4, 4], [4, 4, 4, 4], 4, 5]


def test_a_pipe_may_be_a_property_a_lambda_or_wrapped() -> None:
    def plus_one(function: Callable[[int], int]) -> Callable[[int], int]:
        @functools.wraps(function)
        def wrapper(x: int) -> int:
            return function(x) + 1

        return wrapper

    @entity
    class Model:
        @property
        @pipe
        def size(self) -> int:
            return 3

        def helper(self, x: int) -> int:
            return negative(x)

    @pipe
    @plus_one
    def wrapped(x: int) -> int:
        return 2 * x

    negative: Callable[[int], int] = pipe(lambda x: -x)
    with Pipeline() as builder:
        x = Variable(int)
        model = Model()
        # A method that is no pipe is executed now; the pipes that it calls are recorded.
        builder.output(model.size, negative(x), wrapped(x), model.helper(x))
        with pytest.raises(GraphError, match="'x' is annotated int"):
            wrapped("a")  # type: ignore[arg-type]  # that is the test
    assert builder.get_pipeline().run(5) == [3, -5, 11, -5]


def test_a_function_that_a_class_refers_to_stays_a_function() -> None:
    @pipe
    def tripled(x: int) -> int:
        return 3 * x

    class Registry:
        function = tripled

    with Pipeline() as builder:
        builder.output(tripled(Variable(int)), Registry.function(2))
    assert builder.get_pipeline().run(5) == [15, 6]


def test_a_method_may_be_called_on_its_class() -> None:
    with Pipeline() as builder:
        n = Variable(int)
        counter = Counter()
        builder.output(Counter.add(counter, n), Counter.add(n=n, self=counter))
        with pytest.raises(GraphError, match="'Counter.add' is a method, called on nothing"):
            Counter.add()  # type: ignore[call-arg]  # that is the test
    assert builder.get_pipeline().run(2) == [2, 4]


def test_positional_only_parameters_and_defaults() -> None:
    @pipe
    def power(base: int, /, exponent: int = 2, *, negate: bool = False) -> int:
        return (-1 if negate else 1) * int(base**exponent)

    with Pipeline() as builder:
        x = Variable(int)
        builder.output(power(x), power(x, 3), power(2, exponent=x, negate=True))
        with pytest.raises(GraphError, match="'base' parameter is positional only"):
            power(base=1)  # type: ignore[call-arg]  # that is the test
    assert builder.get_pipeline().run(3) == [9, 27, -8]


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
