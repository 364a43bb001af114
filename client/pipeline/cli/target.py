"""Finds the graph that ``module:variable`` or ``file.py:variable`` names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline import errors

if TYPE_CHECKING:
    from pipeline.objects import Graph


def load(target: str) -> Graph:
    """Import the module and take the graph from it.

    The variable may be a Graph, a Pipeline that has been built, or a function without parameters
    that returns one of them.

    Raises:
        errors.GraphError: there is no such module or variable, or it is something else.

    """
    name, separator, variable = target.rpartition(":")
    if not separator or not name or not variable:
        raise errors.InvalidInput(
            f"{target!r} is not of the form module:variable or file.py:variable", field="target"
        )
    is_file = name.endswith(".py") or "/" in name
    module = _run(name, lambda: _import_file(Path(name)) if is_file else _import_module(name))
    value: object = module
    for part in variable.split("."):
        if not hasattr(value, part):
            raise errors.GraphError(f"{name} has no {variable!r}")
        value = getattr(value, part)
    return _graph(target, value)


def _graph(target: str, value: object) -> Graph:
    from pipeline import Pipeline
    from pipeline.objects import Graph

    if callable(value) and not isinstance(value, (Graph, Pipeline, type)):
        value = _run(target, value)
    if isinstance(value, Pipeline):
        return value.get_pipeline()
    if isinstance(value, Graph):
        return value
    raise errors.GraphError(
        f"{target} is a {type(value).__name__}, not a Graph or a Pipeline, nor a function that "
        "returns one"
    )


def _run(name: str, code: Callable[[], object]) -> object:
    """Run the user's code; what it raises is told with the place in it, and no frames of ours."""
    try:
        return code()
    except errors.PipelineError:
        raise
    # A script that calls sys.exit when it is imported is told so too.
    except (Exception, SystemExit) as error:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename != __file__ and not frame.filename.startswith("<frozen ")
        ]
        place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise errors.GraphError(f"{name} cannot be loaded: {what}{place}") from None


def _import_module(name: str) -> ModuleType:
    # As `python -m` does: modules of the current folder come first.
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    # As `python file.py` does: modules beside the file can be imported.
    path = path.absolute()
    sys.path.insert(0, str(path.parent))
    # A file may be called like a module that is already there, such as pipeline.py.
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_file"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
