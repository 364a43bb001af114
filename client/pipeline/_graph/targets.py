"""Takes the graph out of a module: what ``module:variable`` names."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from pipeline import errors

if TYPE_CHECKING:
    from pipeline._graph.graph import Graph

__all__ = ["graph_in", "run_user_code", "split"]

Result = TypeVar("Result")
_OWN_FOLDER = f"{Path(__file__).resolve().parents[1]}/"


def split(target: str, form: str = "module:variable") -> tuple[str, str]:
    """Take a target apart.

    Raises:
        errors.InvalidInput: it is not of the form.

    """
    name, separator, variable = target.rpartition(":")
    if not separator or not name or not variable:
        raise errors.InvalidInput(f"{target!r} is not of the form {form}", field="target")
    return name, variable


def graph_in(module: ModuleType, name: str, variable: str) -> Graph:
    """Take a graph from a module.

    The variable may be a Graph, a Pipeline that has been built, or a function without parameters
    that returns one of them.

    Args:
        module: where it is.
        name: what the user called the module, for messages.
        variable: with dots for attributes of attributes.

    Raises:
        errors.GraphError: there is no such variable, or it is something else.

    """
    from pipeline import Pipeline
    from pipeline.objects import Graph

    value: object = module
    for part in variable.split("."):
        if not hasattr(value, part):
            raise errors.GraphError(f"{name} has no {variable!r}")
        value = getattr(value, part)
    target = f"{name}:{variable}"
    if callable(value) and not isinstance(value, (Graph, Pipeline, type)):
        value = run_user_code(target, value)
    if isinstance(value, Pipeline):
        return value.get_pipeline()
    if isinstance(value, Graph):
        return value
    raise errors.GraphError(
        f"{target} is a {type(value).__name__}, not a Graph or a Pipeline, nor a function that "
        "returns one"
    )


def run_user_code(name: str, code: Callable[[], Result]) -> Result:
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
            if not frame.filename.startswith((_OWN_FOLDER, "<frozen "))
            and not frame.filename.endswith("/importlib/__init__.py")
        ]
        place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise errors.GraphError(f"{name} cannot be loaded: {what}{place}") from None
