"""Deploys what a target names: a graph in a module or a file, or a folder."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline import errors
from pipeline._graph.targets import graph_in, run_user_code, split
from pipeline.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline._options import DeployOptions
    from pipeline.client import Client
    from pipeline.deployment import Deployment
    from pipeline.objects import Graph


def deploy_target(
    client: Client,
    source: str,
    target: str | None,
    name: str | None,
    environment: Mapping[str, str],
    instances: int | None,
    options: DeployOptions,
    *,
    allow_differing: bool,
) -> Deployment:
    """Deploy a folder, or the graph that ``module:variable`` or ``file.py:variable`` names.

    Raises:
        errors.InvalidInput: the source is neither, or what only folders take is given without one.

    """
    if Path(source).is_dir():
        with terminal.waiting(f"deploying {source}"):
            return client.deploy_folder(
                source,
                target,
                name=name,
                environment=environment,
                instances=instances,
                allow_differing=allow_differing,
                **options,
            )
    if target is not None or (":" not in source and "/" in source):
        raise errors.InvalidInput(f"there is no folder {source!r}", field="source")
    if allow_differing:
        raise errors.InvalidInput("--force is for folders", field="--force")
    if ":" not in source:
        raise errors.InvalidInput(
            f"{source!r} is neither a folder nor of the form module:variable or file.py:variable",
            field="source",
        )
    if name is None:
        raise errors.InvalidInput(f"{source} needs a name: give --name", field="--name")
    graph = load(source)
    with terminal.waiting(f"deploying {name}"):
        return client.deploy(graph, name, environment=environment, instances=instances, **options)


def load(target: str) -> Graph:
    """Import the module and take the graph from it; see ``graph_in``.

    Raises:
        errors.InvalidInput: the target is not of either form.
        errors.GraphError: there is no such module or variable, or it is something else.

    """
    name, variable = split(target, "module:variable or file.py:variable")
    is_file = name.endswith(".py") or "/" in name
    module = run_user_code(
        name, lambda: _import_file(Path(name)) if is_file else _import_module(name)
    )
    return graph_in(module, name, variable)


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
