"""What pickled graphs call by name to come back.

Daemons keep pickled graphs across upgrades of this library: what is named here stays, with the
arguments that it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from pipeline._graph.decorators import Pipe
    from pipeline._graph.graph import Graph
    from pipeline._graph.nodes import EntityRef, GraphInput, GraphOutput, InputRef, Node, ResultRef
    from pipeline.objects.directories import Directory
    from pipeline.objects.files import File

__all__ = [
    "attribute",
    "directory",
    "directory_archive",
    "entity_ref",
    "file",
    "file_at_url",
    "fill_module",
    "graph",
    "graph_input",
    "graph_output",
    "input_ref",
    "module",
    "namespace",
    "node",
    "pipe",
    "result_ref",
]


def graph() -> Graph:
    """Make an empty Graph, whose state follows."""
    from pipeline._graph.graph import Graph

    return Graph.__new__(Graph)


def pipe() -> Pipe:
    """Make an empty Pipe, whose state follows."""
    from pipeline._graph.decorators import Pipe

    return Pipe.__new__(Pipe)


def node(
    pipe: Pipe,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    items: int | None,
    streams: tuple[bool, ...] = (),
) -> Node:
    """Make a Node."""
    from pipeline._graph.nodes import Node

    return Node(pipe, args, kwargs, items, streams=streams)


def graph_input(parameter: bytes, annotation: Any) -> GraphInput:
    """Make a GraphInput; ``parameter`` is a wire Parameter."""
    from pipeline._graph.nodes import GraphInput
    from pipelined_api.v1.schema_pb2 import Parameter

    return GraphInput(Parameter.FromString(parameter), annotation)


def graph_output(parameter: bytes, reference: InputRef | ResultRef) -> GraphOutput:
    """Make a GraphOutput; ``parameter`` is a wire Parameter."""
    from pipeline._graph.nodes import GraphOutput
    from pipelined_api.v1.schema_pb2 import Parameter

    return GraphOutput(Parameter.FromString(parameter), reference)


def input_ref(index: int) -> InputRef:
    """Make a reference to an input."""
    from pipeline._graph.nodes import InputRef

    return InputRef(index)


def result_ref(node: int, item: int | None) -> ResultRef:
    """Make a reference to a node's result."""
    from pipeline._graph.nodes import ResultRef

    return ResultRef(node, item)


def entity_ref(index: int) -> EntityRef:
    """Make a reference to an entity."""
    from pipeline._graph.nodes import EntityRef

    return EntityRef(index)


def file(name: str, media_type: str, content: bytes) -> File:
    """Make a File that holds its content."""
    from pipeline.objects.files import File

    return File.from_bytes(content, name=name, media_type=media_type)


def file_at_url(name: str, media_type: str, url: str, sha256: str) -> File:
    """Make a File whose content is at a URL."""
    from pipeline.objects.files import File

    file = File(url=url, name=name, sha256=sha256 or None)
    file.media_type = media_type
    return file


def directory(name: str, entries: list[tuple[str, bool, File | None]]) -> Directory:
    """Make a Directory of paths, whether each may be executed, and Files, or None for a folder."""
    from pipeline.objects.directories import Directory

    return Directory.from_files(entries, name=name)


def directory_archive(name: str, archive: File) -> Directory:
    """Make a Directory of what is in an archive."""
    from pipeline.objects.directories import Directory

    return Directory.from_archive(archive, name=name)


def module(name: str) -> ModuleType:
    """Make an empty module, whose contents follow: one of the user's own, pickled by value."""
    import types

    return types.ModuleType(name)


def fill_module(empty: ModuleType, contents: dict[str, Any]) -> None:
    """Give a module made by ``module`` its contents."""
    vars(empty).update(contents)


def attribute(module: str, qualname: str) -> Any:
    """Return what a module that travels as source has under a name with dots."""
    import importlib

    value: Any = importlib.import_module(module)
    for part in qualname.split("."):
        value = getattr(value, part)
    return value


def namespace(module: str) -> dict[str, Any]:
    """Return the globals of a module that travels as source."""
    import importlib

    return vars(importlib.import_module(module))
