"""Graphs as bytes: written by a script, loaded by another process that has none of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.subprocesses import run_python, run_script

HELPER = """
    import local.more as more

    FACTOR = 3
    calls = []

    def scale(x):
        calls.append(x)
        return x * FACTOR + more.offset()

    class Base:
        def shout(self, text):
            return text.upper() + "!"
"""

MORE = """
    import helper

    def offset():
        return 100

    def again(x):
        return helper.scale(x)
"""

SCRIPT = """
    from __future__ import annotations

    import dataclasses
    import enum
    import sys
    from typing import List, Optional, Tuple

    import numpy as np
    import pydantic

    import helper
    import local.more
    from helper import Base, scale
    from pipeline import File, InputField, InputSchema, Pipeline, Variable, entity, pipe

    LIMIT = 10

    class Mode(enum.Enum):
        FAST = "fast"
        GOOD = "good"

    @dataclasses.dataclass
    class Setting:
        mode: Mode
        weights: np.ndarray

    class Size(InputSchema):
        height: int = InputField(8, ge=8, multiple_of=8)

    class Options(InputSchema):
        size: Size = Size()
        seed: Optional[int] = InputField(ge=0)
        tags: list[str] = InputField(default_factory=list)
        name: str = InputField("a", choices=["a", "b"])

        @pydantic.field_validator("tags")
        @classmethod
        def no_empty_tag(cls, tags):
            if "" in tags:
                raise ValueError("an empty tag")
            return tags

        def described(self):
            return f"{self.size.height}/{self.seed}"

    def make_adder(n):
        def add(x):
            return x + n
        return add

    @entity
    class Model(Base):
        registry: dict = {}

        def __init__(self, n):
            super().__init__()
            self.n = n
            self.add = make_adder(n)

        @pipe(on_startup=True, run_once=True)
        def load(self, setting, vocabulary):
            self.mode = setting.mode
            self.total = float(setting.weights.sum())
            self.words = vocabulary.read().decode().split()

        @property
        def limit(self):
            return LIMIT

        @pipe
        def predict(self, text: str, options: Options) -> Tuple[str, List[float]]:
            assert type(options) is Options and self.mode is Mode.FAST
            return (
                self.shout(text) + options.described(),
                [self.add(1), scale(2), helper.scale(1), local.more.again(1), self.total,
                 self.limit, float(len(self.words))],
            )

    @pipe
    def countdown(n: int) -> List[int]:
        return [] if n == 0 else [n, *countdown(n - 1)]

    with open("words.txt", "w") as stream:
        stream.write("one two three")
    with Pipeline() as builder:
        text = Variable(str)
        options = Variable(Options, default=Options(seed=3))
        n = Variable(int, default=3)
        model = Model(5)
        model.load(Setting(Mode.FAST, np.ones(4)), File("words.txt"))
        said, numbers = model.predict(text, options)
        builder.output(said, numbers, countdown(n))
    graph = builder.get_pipeline()

    if __name__ == "__main__":
        graph.save(sys.argv[1])
        print(graph.digest())
        print(graph.run("hi", {"size": {"height": 16}}))
        print([package.module for package in graph.required_packages()])
"""

LOADER = """
import sys
from pipeline import Graph
from pipeline.errors import InvalidInput
graph = Graph.load(sys.argv[1])
print(graph.digest())
print(graph.run("hi", {"size": {"height": 16}}))
assert "helper" not in sys.modules and "grpc" not in sys.modules
for options in ({"size": {"height": 9}}, {"tags": [""]}, {"name": "c"}, {"x": 1}):
    try:
        graph.run("hi", options)
    except InvalidInput as error:
        print(error.field)
again = Graph.loads(graph.dumps())
assert (again.digest(), again.run("hi")) == (graph.digest(), graph.run("hi"))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The graph of a script with helper modules that are gone, and what the script printed."""
    folder = tmp_path_factory.mktemp("script")
    (folder / "local").mkdir()
    for name, source in (("helper.py", HELPER), ("local/more.py", MORE), ("local/__init__.py", "")):
        (folder / name).write_text("\n".join(line[4:] for line in source.splitlines()))
    target = tmp_path_factory.mktemp("saved") / "graph.bin"
    printed = run_script(folder / "script.py", SCRIPT, str(target)).splitlines()
    for path in sorted(folder.rglob("*.py")):
        path.unlink()
    return target, printed


def test_a_script_with_helpers_runs_where_none_of_it_is(
    saved: tuple[Path, list[str]], tmp_path: Path
) -> None:
    target, printed = saved
    loaded = run_python(["-c", LOADER, str(target)], cwd=tmp_path, seed=99).splitlines()
    assert loaded[:2] == printed[:2]
    assert "'HI!16/None', [6, 106, 103, 103, 4.0, 10, 3.0], [3, 2, 1]" in loaded[1]
    assert loaded[2:] == ["options.size.height", "options.tags", "options.name", "options.x"]


def test_the_packages_it_needs_are_those_it_refers_to(saved: tuple[Path, list[str]]) -> None:
    assert saved[1][2] == "['numpy', 'pydantic']"
