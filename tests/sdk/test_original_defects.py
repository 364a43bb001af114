"""What the hosted SDK got wrong, each tried here and in a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, List, Optional, Tuple, Union  # noqa: UP035  # users write these

import pytest

from pipeline import File, InputField, InputSchema, Variable, entity, pipe
from pipeline.errors import GraphError, InvalidInput
from tests.sdk.places import Place, graph_of, in_threads, note, notes


@pipe
def same(value: Any) -> Any:
    return value


@pipe
def described(text: str, times: int = 1, *, mark: str = "") -> str:
    return text * times + mark


@entity
class Memory:
    def __init__(self) -> None:
        self.seen: list[int] = []

    @pipe
    def see(self, x: int) -> list[int]:
        self.seen.append(x)
        return self.seen


class Size(InputSchema):
    height: int = InputField(default=512, ge=64, multiple_of=8)


def test_constraints_were_not_enforced(place: Place) -> None:
    def make() -> Any:
        return same(Variable(int, ge=1, le=3, title="x")), same(Variable(Size, title="size"))

    started = place.start(graph_of(make))
    with pytest.raises(InvalidInput, match="x: .*less than or equal to 3"):
        started.run(4, {})
    with pytest.raises(InvalidInput, match="size.height: .*multiple of 8"):
        started.run(3, {"height": 65})


def test_defaults_were_not_enforced_nor_applied(place: Place) -> None:
    def make() -> Any:
        with pytest.raises(GraphError, match="default"):
            Variable(int, default="three")
        return same(Variable(int, default=3)), same(Variable(Size, default=Size(height=64)))

    three, size = place.start(graph_of(make)).run()
    assert (three, dict(size)) == (3, {"height": 64})


def test_two_instances_shared_their_state(place: Place) -> None:
    def make() -> Any:
        x = Variable(int)
        return Memory().see(x), Memory().see(x)

    started = place.start(graph_of(make))
    assert [started.run(1), started.run(2)] == [[[1], [1]], [[1, 2], [1, 2]]]


def test_a_consumed_run_once_output_failed_in_the_second_run(place: Place) -> None:
    @pipe(run_once=True)
    def numbers() -> list[int]:
        return [3, 1, 2]

    @pipe(run_once=True)
    def lazily() -> Iterator[int]:
        yield from (1, 2)

    @pipe
    def emptied(items: list[int]) -> int:
        total = 0
        while items:
            total += items.pop()
        return total

    @pipe
    def summed(items: Iterator[int]) -> int:
        return sum(items)

    started = place.start(graph_of(lambda: (emptied(numbers()), summed(lazily()))))
    assert [started.run(), started.run(), started.run()] == [[6, 3]] * 3


def test_every_thread_executed_the_startup(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "notes"

    @pipe(on_startup=True)
    def load(path: str) -> None:
        note(path, "load")

    def make() -> Any:
        load(str(path))
        return same(Variable(int))

    started = place.start(graph_of(make))
    assert sorted(in_threads(6, started.run)) == [[number] for number in range(6)]
    assert notes(path) == ["load"]


def test_keyword_arguments_were_dropped(place: Place) -> None:
    def make() -> Any:
        text = Variable(str)
        return described(text, mark="!"), described(times=3, text="a", mark=text)

    assert place.start(graph_of(make)).run("x") == ["x!", "aaax"]


def test_generic_types_and_unions_crashed(place: Place) -> None:
    def make() -> Any:
        return (
            same(Variable(list[str], title="texts")),
            same(Variable(List[int], title="numbers")),  # noqa: UP006
            same(Variable(Optional[int], title="maybe")),  # noqa: UP045
            same(Variable(Union[int, str], title="either")),  # noqa: UP007
            same(Variable(int | None, title="none")),
        )

    started = place.start(graph_of(make))
    assert started.run(["a"], [1], None, "x", 3) == [["a"], [1], None, "x", 3]
    with pytest.raises(InvalidInput, match=r"texts\[0\]"):
        started.run([1], [1], None, "x", 3)


def test_a_bool_passed_for_an_int(place: Place) -> None:
    started = place.start(graph_of(lambda: same(Variable(int, title="x"))))
    with pytest.raises(InvalidInput, match="x: .*got bool"):
        started.run(True)
    with pytest.raises(GraphError, match="parameter 'times' is annotated int: .*got bool"):
        graph_of(lambda: described("a", True))


def test_tuples_and_bytes_went_as_pickle(place: Place) -> None:
    class Opaque:
        pass

    def make() -> Any:
        pair = Variable(Tuple[int, bytes], title="pair")  # noqa: UP006
        with pytest.raises(GraphError, match="cannot cross the wire"):
            Variable(Opaque)
        return same(pair)

    (result,) = place.start(graph_of(make)).run((1, b"\0\x80"))
    assert (result, type(result), type(result[1])) == ((1, b"\0\x80"), tuple, bytes)


def test_a_file_inside_a_dict_failed(place: Place, tmp_path: Path) -> None:
    @pipe
    def size(table: dict[str, Any]) -> int:
        return sum(len(file.read()) for file in table["files"])

    (tmp_path / "a").write_text("abc")
    given = {"files": [File(tmp_path / "a"), File.from_bytes(b"de", name="b")]}
    assert place.start(graph_of(lambda: size(Variable(dict[str, Any])))).run(given) == [5]


def test_an_empty_stream_failed(place: Place) -> None:
    @pipe
    def nothing(x: int) -> Iterator[int]:
        yield from ()

    started = place.start(graph_of(lambda: nothing(Variable(int))))
    assert list(started.stream(1)) == []
    assert started.run(1) == [[]]
