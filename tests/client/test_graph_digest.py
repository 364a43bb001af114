"""The content digest: what changes it, and what must not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import File, Graph, InputField, InputSchema, Pipeline, Variable, entity, pipe
from pipeline.errors import SerialisationError
from tests.client.subprocesses import run_script

HELPER = (
    "FACTOR = {factor}\n\ndef scale(x):\n    return x * FACTOR\n\n\ndef unused():\n    return 1\n"
)

SCRIPT = """
import enum
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Dict, Optional

import helper
from helper import scale
from pipeline import InputField, InputSchema, Pipeline, Variable, entity, pipe

KINDS = {kinds}
TABLE = {table}

class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"

@dataclass
class Setting:
    colour: Colour
    tags: frozenset = frozenset({{"x", "y", "z"}})
    extra: dict = field(default_factory=dict)

class Options(InputSchema):
    size: Optional[int] = InputField(ge={bound})

class Base:
    def base(self):
        return {base}

@entity
class Model(Base):
    kinds = {{"p", "q", "r", "s"}}

    def __init__(self, setting):
        self.setting = setting
        self.seen = {{("a", 1), ("b", 2), ("c", 3)}}
        self.path = PurePosixPath("/models")
        self.pattern = re.compile("a+")

    @pipe(on_startup={startup})
    def load(self, *, name="m"):
        self.name = name

    @pipe
    def predict(self, x: int, options: Options) -> Dict[str, int]:
        if x in {{1, 2, 3}} or "k" in KINDS:
            return {{"x": scale(x) + helper.scale({constant})}}
        return {{"y": TABLE["a"] + self.base()}}

with Pipeline() as builder:
    x = Variable(int)
    options = Variable(Options, default=Options())
    model = Model(Setting(Colour.{colour}))
    model.load(name={name!r})
    builder.output(model.predict(x, options))
graph = builder.get_pipeline()
if __name__ == "__main__":
    print(graph.digest())
"""

PLAIN: dict[str, Any] = {
    "kinds": "{'k', 'l', 'm', 'n'}",
    "table": "{'a': 1, 'b': 2}",
    "bound": 1,
    "base": 5,
    "startup": True,
    "constant": 2,
    "colour": "RED",
    "name": "m",
}


def digest_of(
    folder: Path, *, seed: int = 0, before: str = "", factor: int = 3, **changes: Any
) -> str:
    """The digest that a script of its own, with a helper beside it, prints."""
    folder.mkdir(exist_ok=True)
    (folder / "helper.py").write_text(HELPER.format(factor=factor))
    source = before + SCRIPT.format(**{**PLAIN, **changes})
    return run_script(folder / "script.py", source, seed=seed)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return digest_of(tmp_path_factory.mktemp("plain"))


def test_it_is_a_sha256(plain: str) -> None:
    assert len(bytes.fromhex(plain)) == 32


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_does_not_depend_on_the_hash_seed(plain: str, seed: int, tmp_path: Path) -> None:
    assert digest_of(tmp_path, seed=seed) == plain


def test_it_does_not_depend_on_file_line_or_order_of_a_dict(plain: str, tmp_path: Path) -> None:
    before = "# a comment\n\n\nUNUSED = 3\n"
    assert digest_of(tmp_path / "else", before=before, table="{'b': 2, 'a': 1}") == plain


def test_it_does_not_depend_on_being_imported_or_pickled(plain: str, tmp_path: Path) -> None:
    digest_of(tmp_path)
    program = """
        import script
        from pipeline import Graph
        graph = script.graph
        first = graph.digest()
        data = graph.dumps()
        graph.run(4)
        assert graph.digest() == first == Graph.loads(data).digest()
        print(first)
    """
    assert run_script(tmp_path / "main.py", program, seed=4) == plain


@pytest.mark.parametrize(
    "change",
    [
        {"factor": 4},
        {"kinds": "{'k', 'l', 'm'}"},
        {"table": "{'a': 1, 'b': 3}"},
        {"bound": 2},
        {"base": 6},
        {"startup": False},
        {"constant": 3},
        {"colour": "BLUE"},
        {"name": "n"},
    ],
    ids=str,
)
def test_it_depends_on_everything_that_a_run_does(
    plain: str, change: dict[str, Any], tmp_path: Path
) -> None:
    assert digest_of(tmp_path, **change) != plain


@entity
class Holder:
    def __init__(self, value: object = None) -> None:
        self.value = value

    @pipe
    def get(self, other: object = None) -> object:
        return self.value if other is None else other


def built(make: Callable[[], Any]) -> str:
    with Pipeline() as builder:
        builder.output(make())
    return builder.get_pipeline().digest()


def _files() -> list[File]:
    return [File.from_bytes(content, name=name) for name in "ab" for content in (b"1", b"2")]


DISTINCT: list[Any] = [
    None,
    0,
    0.0,
    -0.0,
    False,
    "0",
    b"0",
    1j,
    (),
    [],
    {},
    set(),
    frozenset(),
    [[]],
    [(), ()],
    {"a": 1},
    {"a": {"b": 1}},
    {1, "a"},
    ...,
    int,
    float,
    len,
    np.zeros(2),
    np.zeros(2, dtype=np.float32),
    np.zeros((1, 2)),
    np.array(0),
    np.float64(0),
    torch.zeros(2),
    torch.ones(2),
    torch.zeros(2, dtype=torch.bfloat16),
    torch.float32,
    torch.device("cpu"),
    np.dtype("float32"),
    list[int],
    list[str],
    Path("a"),
    range(3),
    range(4),
    slice(3),
    "\ud800",
    *_files(),
    lambda: 1,
    lambda: 2,
    lambda x: 1,
    lambda x=1: 1,
    lambda: np.zeros(1),
    lambda: np.ones(1),
]


def test_different_constants_and_different_state_have_different_digests() -> None:
    digests = [built(lambda value=value: Holder(value).get()) for value in DISTINCT]  # type: ignore[misc]
    digests += [built(lambda value=value: Holder().get(value)) for value in DISTINCT]  # type: ignore[misc]
    for (i, first), (j, second) in itertools.combinations(enumerate(digests), 2):
        assert first != second, (DISTINCT[i % len(DISTINCT)], DISTINCT[j % len(DISTINCT)])


def test_equal_constants_have_equal_digests_whatever_their_identity() -> None:
    shared = (1, 2)
    one = built(lambda: Holder([shared, shared]).get())
    other = built(lambda: Holder([tuple([1, 2]), tuple([1, 2])]).get())  # noqa: C409  # no constants
    assert one == other
    array = np.arange(6).reshape(2, 3)
    assert built(lambda: Holder(array).get()) == built(lambda: Holder(array.T.copy().T).get())


def test_what_goes_round_in_circles_has_a_digest() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    other: list[Any] = [2]
    other.append(other)
    assert built(lambda: Holder(circle).get()) == built(lambda: Holder(circle).get())
    assert built(lambda: Holder(circle).get()) != built(lambda: Holder(other).get())


def test_topology_and_types_count() -> None:
    def graph(swap: bool, type_: Any = int, **constraints: Any) -> Graph:
        with Pipeline() as builder:
            a = Variable(type_, **constraints)
            b = Variable(int)
            builder.output(*([b, a] if swap else [a, b]))
        return builder.get_pipeline()

    class Small(InputSchema):
        n: int = InputField(1, le=2)

    class Large(InputSchema):
        n: int = InputField(1, le=3)

    graphs = [
        graph(False),
        graph(True),
        graph(False, float),
        graph(False, ge=1),
        graph(False, default=1),
        graph(False, title="c"),
        graph(False, Small),
        graph(False, Large),
    ]
    assert len({each.digest() for each in graphs}) == len(graphs)


def test_what_has_no_content_that_could_be_told_is_named() -> None:
    with pytest.raises(SerialisationError, match="generator") as caught:
        built(lambda: Holder(n for n in [1]).get())
    assert caught.value.subject == "entities: generator"
