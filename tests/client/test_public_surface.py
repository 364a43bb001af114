"""The names that users have, and what importing them costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client import surface
from tests.client.subprocesses import run_python

# Each takes longer to import than all of the library.
HEAVY = {"PIL", "cloudpickle", "diffusers", "grpc", "numpy", "torch", "transformers"}


def test_the_public_surface_is_the_one_that_is_listed() -> None:
    assert surface.surface().splitlines() == surface.LISTING.read_text().splitlines(), (
        "if the change is meant: python -m tests.client.surface"
    )


def test_every_public_module_says_what_is_public() -> None:
    listed = surface.LISTING.read_text()
    for name in surface.modules():
        assert f"# {name}\n" in listed


@pytest.mark.parametrize(
    "statement",
    [
        "import pipeline",
        "from pipeline import Pipeline, Variable, entity, pipe, File, Stream",
        "import pipeline.objects.graph, pipeline.cloud.pipelines, pipeline.cloud.runs",
        "from pipeline.cli.app import app; app(['--help'], standalone_mode=False)",
    ],
)
def test_importing_is_light(statement: str, tmp_path: Path) -> None:
    told = f"import sys; print('IMPORTED', *sorted({HEAVY!r} & set(sys.modules)))"
    printed = run_python(["-c", f"{statement}\n{told}"], cwd=tmp_path)
    assert printed.splitlines()[-1] == "IMPORTED"


def test_the_client_is_imported_when_it_is_asked_for(tmp_path: Path) -> None:
    program = "import pipeline, sys; pipeline.Client; print('grpc' in sys.modules)"
    assert run_python(["-c", program], cwd=tmp_path) == "True"
    with pytest.raises(ImportError, match="cannot import name 'Missing'"):
        from pipeline import Missing  # noqa: F401
