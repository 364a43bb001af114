"""The public surface of the library, and what importing it costs."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

import pipeline
from tests.client.subprocesses import run_python

SURFACE = {
    "pipeline": [
        "Client",
        "Directory",
        "File",
        "Graph",
        "InputField",
        "InputSchema",
        "Pipeline",
        "Stream",
        "Variable",
        "entity",
        "errors",
        "pipe",
    ],
    "pipeline.objects": [
        "Directory",
        "File",
        "Graph",
        "Pipeline",
        "Stream",
        "Variable",
        "entity",
        "pipe",
    ],
    "pipeline.objects.graph": [
        "ABSENT",
        "Absent",
        "Graph",
        "InputField",
        "InputSchema",
        "Observer",
        "Stream",
        "Variable",
    ],
}


@pytest.mark.parametrize("module", SURFACE)
def test_the_surface_is_what_is_listed_here(module: str) -> None:
    imported = importlib.import_module(module)
    assert sorted(imported.__all__) == SURFACE[module]
    for name in SURFACE[module]:
        assert getattr(imported, name).__doc__
    assert {*SURFACE[module]} <= {*dir(imported)}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Pipelines"):
        pipeline.Pipelines  # noqa: B018  # looking it up is the test


def test_importing_it_imports_no_framework_and_no_grpc(tmp_path: Path) -> None:
    program = "import json, sys, pipeline; print(json.dumps(sorted(sys.modules)))"
    modules = set(json.loads(run_python(["-c", program], cwd=tmp_path)))
    assert not modules & {"grpc", "torch", "numpy", "diffusers", "transformers", "PIL"}
