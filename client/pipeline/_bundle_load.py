"""Makes the graph of an unpacked bundle: in the worker, and here to describe it beforehand.

::

    python -m pipeline._bundle_load FOLDER TARGET RESULT

writes what it found, as JSON, to the file RESULT: the schema (hexadecimal) and the topology, or
what is wrong. It is a process of its own so that nothing of the user's is executed in ours.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import errors
from pipeline._graph.outline import topology
from pipeline._graph.served import displace
from pipeline._graph.targets import graph_in, run_user_code, split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline._graph.graph import Graph

__all__ = ["load", "main"]


def load(folder: Path, target: str) -> Graph:
    """Import a module of the folder and take the graph from it.

    The folder becomes the current one, and the first in which modules are looked for. Its modules
    take the place of installed ones of the same name, also where these have been imported already.

    Raises:
        errors.GraphError: the module cannot be imported, or the variable is no graph.
        ModuleNotFoundError: it imports a module that is not installed.

    """
    name, variable = split(target)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    displace(_top_modules(folder))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Of a package that is not installed the daemon tells as it does for pickled graphs.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise errors.GraphError(f"the folder has no module {name!r}") from None
    return graph_in(module, name, variable)


def _top_modules(folder: Path) -> Iterator[str]:
    for path in folder.iterdir():
        if path.suffix == ".py":
            yield path.stem
        elif (path / "__init__.py").is_file():
            yield path.name


def _refuse_taken_names(folder: Path) -> None:
    # Before a graph is built Python and this library have imported these, here and in a worker.
    taken = sorted(name for name in _top_modules(folder) if name in sys.modules)
    if taken:
        raise errors.GraphError(
            f"the folder's module {taken[0]!r} has the name of one that Python or this library has "
            "imported already, and would never be imported; give it another name"
        )


def main(folder: Path, target: str, result: Path) -> None:
    """Describe the graph of a folder; see the module's documentation."""
    # Put there by -m; it is not the folder.
    if sys.path[0] == str(Path.cwd()):
        del sys.path[0]
    found: dict[str, object]
    try:
        _refuse_taken_names(folder)
        graph = run_user_code(split(target)[0], lambda: load(folder, target))
        schema = graph.schema().SerializeToString(deterministic=True)
        found = {"schema": schema.hex(), "topology": topology(graph)}
    except errors.PipelineError as error:
        found = {"error": str(error).replace(f"{folder}/", "")}
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
