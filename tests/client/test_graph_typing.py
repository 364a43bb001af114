"""Type checkers see pipes, entities and Variables as what they were: mypy --strict and pyright."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).resolve().parents[2]

RIGHT = """
from typing import Any, Iterator, List, Optional, Tuple, TypeVar

from pipeline import Client, File, InputField, InputSchema, Pipeline, Variable, entity, pipe
from pipeline.deployment import Deployment


T = TypeVar("T")


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

    @classmethod
    @pipe
    def made(cls, size: int) -> "Model":
        return cls(size)

    @pipe
    def predict(self, prompt: str, options: Options, scale: float = 1.0) -> List[File]:
        return []


@entity()
class Derived(Model):
    limit: int = 3

    @pipe()
    def predict(self, prompt: str, options: Options, scale: float = 1.0) -> List[File]:
        return super().predict(prompt, options, scale=scale)


@pipe
def numbers(n: int) -> Iterator[int]:
    yield from range(n)


@pipe
def identity(value: T) -> T:
    return value


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

deployed: Deployment = Client("unix:/s").deploy(builder.get_pipeline(), "name")
graph = builder.get_pipeline()
reveal_type(prompt)  # str
reveal_type(options)  # Options
reveal_type(model)  # Derived
reveal_type(model.load)  # () -> None
reveal_type(Model.predict(model, "a", options))  # list[File]
reveal_type(pair)  # (x: int) -> tuple[int, str]
reveal_type(second)  # str
reveal_type(graph.run(1))  # list[Any]
reveal_type(Derived.limit)  # int
reveal_type(Model.made(2))  # Model
reveal_type(numbers(3))  # Iterator[int]
reveal_type(identity("a"))  # str
reveal_type(deployed.schema())  # dict[str, Any]
"""

# Each mistake with mypy's name for it and pyright's.
WRONG = """
from pipeline import Client, InputSchema, Pipeline, Variable, entity, pipe


class Options(InputSchema):
    height: int = 512


@entity
class Model:
    def __init__(self, size: int) -> None:
        self.size = size

    @pipe
    def predict(self, prompt: str) -> str:
        return prompt


@entity
class Derived(Model):
    @pipe
    def predict(self, prompt: int) -> str:  # override reportIncompatibleMethodOverride
        return str(prompt)


@pipe(on_startup=True)
def double(x: int) -> int:
    return 2 * x


with Pipeline() as builder:
    number = Variable(int)
    options = Variable(Options)
    Model("big")  # arg-type reportArgumentType
    model = Model(3)
    model.predict(number)  # arg-type reportArgumentType
    model.predict()  # call-arg reportCallIssue
    model.predict("a", kwargs=1)  # call-arg reportCallIssue
    model.predict(options)  # arg-type reportArgumentType
    double(double("a"))  # arg-type reportArgumentType
    double(y=1)  # call-arg reportCallIssue
    text: str = double(1)  # assignment reportAssignmentType
    model.other()  # attr-defined reportAttributeAccessIssue
    options.width  # attr-defined reportAttributeAccessIssue
    number.upper()  # attr-defined reportAttributeAccessIssue
    Variable(int, default="a", minimum=1)  # call-overload reportCallIssue
    pipe(on_startup=1)  # call-overload reportArgumentType
    pipe(3)  # call-overload reportArgumentType
    entity(double)  # call-overload reportArgumentType
    builder.outputs(number)  # attr-defined reportAttributeAccessIssue
    Client().deploy(builder, "name")  # arg-type reportArgumentType
"""

Said = dict[str, list[tuple[int, str, str]]]
"""By file: line, rule (empty: a type that was revealed), message."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text(WRONG)
    return folder


def checked_by_mypy(folder: Path) -> Said:
    report, errors, _ = api.run(
        [
            f"--config-file={ROOT / 'pyproject.toml'}",
            f"--cache-dir={ROOT / '.mypy_cache'}",
            "--no-pretty",
            *(str(folder / f"{name}.py") for name in ("right", "wrong")),
        ]
    )
    assert not errors
    said: Said = {"right": [], "wrong": []}
    for line in report.splitlines():
        match = re.match(r".*(right|wrong)\.py:(\d+): (\w+): (.*?)(?:  \[([a-z-]+)\])?$", line)
        if match is not None:
            name, number, severity, message, rule = match.groups()
            if severity == "error" or message.startswith("Revealed"):
                said[name].append((int(number), rule or "", message))
    return said


def checked_by_pyright(folder: Path) -> Said:
    config = {"extraPaths": [str(ROOT / name) for name in ("client", "daemon", "proto")]}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    report = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
        + ["--project", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.returncode in (0, 1), report.stderr
    said: Said = {"right": [], "wrong": []}
    for each in json.loads(report.stdout)["generalDiagnostics"]:
        line = each["range"]["start"]["line"] + 1
        said[Path(each["file"]).stem].append((line, each.get("rule", ""), each["message"]))
    return said


CHECKERS = {"mypy": checked_by_mypy, "pyright": checked_by_pyright}


@pytest.fixture(scope="module", params=list(CHECKERS))
def checked(request: pytest.FixtureRequest, programs: Path) -> tuple[str, Said]:
    """A checker's name, and what it says about each program."""
    checker: str = request.param
    return checker, CHECKERS[checker](programs)


def test_a_right_program_passes_and_keeps_its_types(checked: tuple[str, Said]) -> None:
    checker, said = checked
    expected = dict(_commented(RIGHT, "reveal_type("))
    assert [each for each in said["right"] if each[1]] == []
    revealed = {line: _type_in(message) for line, _, message in said["right"]}
    assert revealed == expected, checker


def test_each_mistake_in_a_wrong_program_is_found(checked: tuple[str, Said]) -> None:
    checker, said = checked
    column = list(CHECKERS).index(checker)
    expected = {line: text.split()[column] for line, text in _commented(WRONG, "  # ")}
    assert {line: rule for line, rule, _ in said["wrong"] if rule} == expected


def _commented(program: str, marked: str) -> list[tuple[int, str]]:
    """The lines with a mark: their numbers and comments."""
    lines = enumerate(program.splitlines(), start=1)
    return [(number, line.partition("  # ")[2]) for number, line in lines if marked in line]


def _type_in(message: str) -> str:
    """A revealed type as pyright writes it, without the modules that mypy names."""
    text = message.partition("type is ")[2] or message.rpartition(" is ")[2]
    text = re.sub(r"(?:\w+\.)+(?=\w)", "", text.strip('"'))
    text = re.sub(r"^def (?:\[T\] )?", "", text)
    text = text.replace("List[", "list[").replace("Tuple[", "tuple[")
    return f"{text} -> None" if text == "()" else text
