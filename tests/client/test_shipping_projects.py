"""pipeline.yaml: what it may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline._project import Project, parse_project, read_project
from pipeline.errors import InvalidInput


def test_everything_that_it_may_say() -> None:
    text = """
        pipeline_graph: app:graph
        name: diffusion
        requirements: [torch>=2.4, "numpy; python_version >= '3'"]
        environment: {HF_HUB_OFFLINE: "1"}
        instances: 2
    """
    assert parse_project(text) == Project(
        pipeline_graph="app:graph",
        name="diffusion",
        requirements=["torch>=2.4", "numpy; python_version >= '3'"],
        environment={"HF_HUB_OFFLINE": "1"},
        instances=2,
    )


def test_it_may_say_nothing_or_be_absent(tmp_path: Path) -> None:
    assert parse_project("# nothing\n") == read_project(tmp_path) == Project()


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("pipline_graph: a:b", "pipline_graph", "not known; did you mean 'pipeline_graph'?"),
        ("frobnicate: 1", "frobnicate", "is not known; there are pipeline_graph, name, "),
        ("1: 2", "1", "is not known"),
        ("instances: 0", "instances", "greater than or equal to 1"),
        ("instances: '2'", "instances", "valid integer"),
        ("instances: true", "instances", "valid integer"),
        ("name: [a]", "name", "valid string"),
        ("requirements: torch", "requirements", "valid list"),
        ("requirements: [1]", "requirements[0]", "valid string"),
        ("requirements: ['a b']", "requirements", "'a b' is no requirement: "),
        ("requirements: ['a @ https://x.org/a']", "requirements", "names a URL"),
        ("environment: {A: 1}", "environment.A", "valid string"),
        ("[a]", "", "is a list, not keys with values"),
        ("a: b: c", "", "is no YAML, line 1: "),
        ("a: !!python/object:os.system x", "", "is no YAML, line 1: "),
        ("\t", "", "is no YAML"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(text: str, field: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_project(text)
    assert caught.value.field == (f"pipeline.yaml: {field}" if field else "pipeline.yaml")
    assert str(caught.value).startswith("pipeline.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff", "is not UTF-8"), (b"#" * (2**20 + 1), "has more than 1048576 bytes")],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "pipeline.yaml").write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        read_project(tmp_path)


def test_a_folder_of_its_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").mkdir()
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_project(tmp_path)
