"""The files of a bundle in a worker: unpacked, made a graph of, and removed."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline import Graph
from pipeline._bundle_files import unpack
from pipeline._bundle_load import load
from pipeline._graph.outline import check_announced
from pipelined_api.worker.v1 import worker_pb2

_folders: list[str] = []


def graph_of(start: worker_pb2.Start, code: bytes) -> Graph:
    """Unpack a bundle into the folder that the daemon made for it, and make its graph.

    Raises:
        SerialisationError: The bundle is damaged.
        GraphError: It makes no graph, or another than the one that was announced.
        Exception: Whatever the user's modules raise.
    """
    _folders.append(start.folder)
    folder = Path(start.folder)
    unpack(code, folder)
    graph = load(folder, start.target)
    check_announced(graph, start.schema, start.topology)
    return graph


def remove_files() -> None:
    """Remove the files. The daemon does, too, once the worker has ended, unless it is gone."""
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)
