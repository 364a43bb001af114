from __future__ import annotations

import threading
from typing import Any

from pipeline import Pipeline, Variable, entity, pipe


@entity
class Store:
    def __init__(self, items: list[int] | None = None) -> None:
        self.items = items if items is not None else []

    @pipe
    def add(self, item: int) -> list[int]:
        self.items.append(item)
        return list(self.items)


@entity
class Owner:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.me = self

    @pipe
    def peek(self, _: Any) -> tuple[list[int], bool]:
        return list(self.store.items), self.me is self


def test_instances_have_their_own_state() -> None:
    with Pipeline() as builder:
        item = Variable(int)
        one, other = Store(), Store([7])
        builder.output(one.add(item), other.add(item))
    graph = builder.get_pipeline()
    assert graph.run(1) == [[1], [7, 1]]
    assert graph.run(2) == [[1, 2], [7, 1, 2]]


def test_graphs_have_their_own_state_and_leave_the_original_alone() -> None:
    store = Store()
    with Pipeline() as builder:
        item = Variable(int)
        builder.output(store.add(item))
    first, second = builder.get_pipeline(), builder.get_pipeline()
    assert [first.run(1), first.run(2), second.run(3)] == [[[1]], [[1, 2]], [[3]]]
    assert store.items == []
    store.items.append(9)
    assert [second.run(4), builder.get_pipeline().run(5)] == [[[3, 4]], [[9, 5]]]


def test_entities_that_hold_each_other_hold_the_graphs_own() -> None:
    with Pipeline() as builder:
        item = Variable(int)
        store = Store()
        owner = Owner(store)
        builder.output(owner.peek(store.add(item)))
    graph = builder.get_pipeline()
    graph.run(1)
    assert graph.run(2) == [[1, 2], True]


def test_an_entity_can_be_an_argument() -> None:
    @pipe
    def count(store: Store, extra: list[Store]) -> tuple[int, bool]:
        return len(store.items), extra[0] is store

    with Pipeline() as builder:
        item = Variable(int)
        store = Store([1, 2])
        store.add(item)
        builder.output(count(store, [store]))
    assert builder.get_pipeline().run(3) == [3, True]


def test_what_cannot_be_copied_is_shared() -> None:
    @entity
    class Locked:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.log: list[str] = []

        @pipe
        def state(self) -> tuple[bool, int]:
            self.log.append("x")
            return self.lock is lock, len(self.log)

    with Pipeline() as builder:
        locked = Locked()
        lock = locked.lock
        builder.output(locked.state())
    graph = builder.get_pipeline()
    assert [graph.run(), graph.run()] == [[True, 1], [True, 2]]
    assert locked.log == []


def test_entities_with_their_own_ideas_of_copying_are_copied_their_way() -> None:
    @entity
    class Slotted:
        __slots__ = ("n",)

        def __init__(self) -> None:
            self.n = [0]

        @pipe
        def next(self) -> int:
            self.n[0] += 1
            return self.n[0]

    @entity
    class Stateful:
        def __init__(self) -> None:
            self.kept, self.dropped = [1], threading.Lock()

        def __getstate__(self) -> dict[str, Any]:
            return {"kept": self.kept, "dropped": None}

        @pipe
        def show(self) -> tuple[list[int], bool]:
            self.kept.append(2)
            return self.kept, self.dropped is None

    with Pipeline() as builder:
        slotted, stateful = Slotted(), Stateful()
        builder.output(slotted.next(), stateful.show())
    graph = builder.get_pipeline()
    assert graph.run() == [1, [1, 2], True]
    assert builder.get_pipeline().run() == [1, [1, 2], True]


def test_constants_are_as_they_were_when_the_graph_was_made() -> None:
    class Settings:
        def __init__(self) -> None:
            self.size = 1

    @pipe
    def size(settings: Settings) -> int:
        return settings.size

    settings = Settings()
    with Pipeline() as builder:
        builder.output(size(settings))
    graph = builder.get_pipeline()
    settings.size = 2
    assert graph.run() == [1]
