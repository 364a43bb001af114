"""The examples' README lists what there is, with commands that the programs document themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
EXAMPLES = TESTS.parents[1] / "client" / "examples"


def rows(columns: int) -> list[list[str]]:
    """The cells of the README's table of that width, without its heading."""
    lines = (EXAMPLES / "README.md").read_text().splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in cells if len(row) == columns][1:]


def linked(cell: str) -> str:
    match = re.fullmatch(r"\[(.+)\]\((.+)\)", cell)
    assert match is not None, cell
    assert match[1] == match[2]
    return match[1]


PROGRAMS = {linked(name): command.strip("`") for name, _, command in rows(3)}
USED = [linked(name) for name, _ in rows(2)]


def test_every_file_is_listed_once() -> None:
    there = {path.name for path in EXAMPLES.iterdir()} - {"README.md", "__pycache__"}
    assert sorted([*PROGRAMS, *USED]) == sorted(there)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_has_a_test_and_documents_its_command(name: str) -> None:
    assert (TESTS / f"test_{Path(name).stem}.py").is_file()
    program = EXAMPLES / name
    if program.is_dir():
        [program] = program.glob("*.mjs")
    text = program.read_text()
    beginning = text.split('"""')[1] if program.suffix == ".py" else text.partition("import")[0]
    assert PROGRAMS[name] in beginning


@pytest.mark.parametrize("name", USED)
def test_whatever_they_use_is_used(name: str) -> None:
    programs = [path for path in EXAMPLES.glob("*.py") if path.name != name]
    word = Path(name).stem if name.endswith(".py") else name
    assert any(re.search(rf"\b{re.escape(word)}\b", path.read_text()) for path in programs)
