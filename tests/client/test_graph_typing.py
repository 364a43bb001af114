"""Type checkers see pipes, entities and Variables as what they were: tried with mypy --strict."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).resolve().parents[2]

RIGHT = """
from typing import Any, List, Optional, Tuple

from pipeline import File, InputField, InputSchema, Pipeline, Variable, entity, pipe


class Options(InputSchema):
    height: Optional[int] = InputField(default=512, ge=64, le=1024, multiple_of=8)
    name: str = InputField(optional=True)


class Base:
    def shared(self) -> int:
        return 1


@entity
class Model(Base):
    def __init__(self, size: int) -> None:
        self.size = size

    @pipe(on_startup=True, run_once=True)
    def load(self) -> None: ...

    @pipe
    def predict(self, prompt: str, options: Options, scale: float = 1.0) -> List[File]:
        return []


@entity()
class Derived(Model):
    @pipe()
    def predict(self, prompt: str, options: Options, scale: float = 1.0) -> List[File]:
        return super().predict(prompt, options, scale=scale)


@pipe(run_once=True)
def pair(x: int) -> Tuple[int, str]:
    return x, str(x)


with Pipeline() as builder:
    prompt = Variable(str, min_length=1)
    options = Variable(Options, default=Options(height=64))
    number = Variable(int, default=3, choices=[1, 2, 3])
    anything: Any = Variable(Optional[int])
    model = Derived(3)
    model.load()
    files = model.predict(prompt, options, scale=2)
    first, second = pair(number)
    builder.output(files, first, second)

graph = builder.get_pipeline()
reveal_type(prompt)  # "str"
reveal_type(options)  # "{module}.Options"
reveal_type(model)  # "{module}.Derived"
reveal_type(model.load)  # "def ()"
reveal_type(Model.predict(model, "a", options))  # "list[pipeline.objects.files.File]"
reveal_type(pair)  # "def (x: int) -> tuple[int, str]"
reveal_type(second)  # "str"
reveal_type(graph.run(1))  # "list[Any]"
"""

WRONG = """
from pipeline import Pipeline, Variable, entity, pipe


@entity
class Model:
    def __init__(self, size: int) -> None:
        self.size = size

    @pipe
    def predict(self, prompt: str) -> str:
        return prompt


@pipe(on_startup=True)
def double(x: int) -> int:
    return 2 * x


with Pipeline() as builder:
    number = Variable(int)
    Model("big")  # [arg-type]
    model = Model(3)
    model.predict(number)  # [arg-type]
    model.predict()  # [call-arg]
    model.predict("a", kwargs=1)  # [call-arg]
    double(double("a"))  # [arg-type]
    double(y=1)  # [call-arg]
    text: str = double(1)  # [assignment]
    model.other()  # [attr-defined]
    Variable(int, default="a", minimum=1)  # [call-overload]
    pipe(on_startup=1)  # [call-overload]
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says about each program, by the name of its file."""
    folder = tmp_path_factory.mktemp("programs")
    for name, source in (("right", RIGHT), ("wrong", WRONG)):
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
    report, errors, _ = api.run(
        [
            f"--config-file={ROOT / 'pyproject.toml'}",
            f"--cache-dir={ROOT / '.mypy_cache'}",
            "--no-pretty",
            *(str(folder / f"{name}.py") for name in ("right", "wrong")),
        ]
    )
    assert not errors
    said: dict[str, list[str]] = {"right": [], "wrong": []}
    for line in report.splitlines():
        for name, lines in said.items():
            if f"{name}.py:" in line:
                lines.append(line)
    return said


def test_a_right_program_passes_and_keeps_its_types(checked: dict[str, list[str]]) -> None:
    revealed = [line for line in checked["right"] if "Revealed type is" in line]
    assert [line for line in checked["right"] if line not in revealed] == []
    expected = re.findall(r"reveal_type\(.*\)  # (.*)", RIGHT)
    types = [re.sub(r"builtins\.", "", line.partition("Revealed type is ")[2]) for line in revealed]
    assert types == [text.replace("{module}", "right") for text in expected]


def test_each_mistake_in_a_wrong_program_is_found(checked: dict[str, list[str]]) -> None:
    expected = {
        number: line.partition("# ")[2]
        for number, line in enumerate(WRONG.splitlines(), start=1)
        if "# [" in line
    }
    found = {
        int(match[1]): match[2]
        for line in checked["wrong"]
        if (match := re.search(r"wrong\.py:(\d+): error: .*(\[[a-z-]+\])$", line))
    }
    assert found == expected
