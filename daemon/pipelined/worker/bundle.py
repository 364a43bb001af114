"""The files of a bundle in a worker: unpacked, and made a graph of."""

from __future__ import annotations

from pathlib import Path

from pipeline import Graph
from pipeline._bundle_files import unpack
from pipeline._bundle_load import load
from pipeline._graph.outline import check_announced
from pipelined_api.worker.v1 import worker_pb2


def graph_of(start: worker_pb2.Start, code: bytes) -> Graph:
    """Unpack a bundle into the folder that the daemon made for the worker, and make its graph.

    Raises:
        SerialisationError: The bundle is damaged.
        GraphError: It makes no graph, or another than the one that was announced.
        Exception: Whatever the user's modules raise.
    """
    folder = Path(start.folder) / "bundle"
    folder.mkdir(mode=0o700)
    unpack(code, folder)
    graph = load(folder, start.target)
    check_announced(graph, start.schema, start.topology)
    return graph
