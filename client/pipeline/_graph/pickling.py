"""Graphs as bytes: cloudpickle, by value for the user's own modules, behind a readable header."""

from __future__ import annotations

import io
import pickle
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]  # it has no types

from pipeline._graph import pickled
from pipeline._graph.packages import Package, is_installed, packages_of, user_modules
from pipeline.errors import Incompatible, PipelineError, SerialisationError

if TYPE_CHECKING:
    from pipeline._graph.graph import Graph

__all__ = ["dumps", "loads", "pack", "required_packages"]

_MAGIC = b"pipeline-graph 1 python "
_registry = threading.Lock()


def dumps(graph: Graph) -> bytes:
    """Serialise; see ``Graph.dumps``."""
    return _headed(_pickle(graph)[0])


def required_packages(graph: Graph) -> list[Package]:
    """Return what the pickle refers to by name; see ``Graph.required_packages``."""
    return packages_of(_pickle(graph)[1])


def pack(graph: Graph) -> tuple[bytes, list[Package]]:
    """Return what ``dumps`` and ``required_packages`` do, from pickling it once."""
    body, modules = _pickle(graph)
    return _headed(body), packages_of(modules)


def loads(data: bytes) -> Graph:
    """Load; see ``Graph.loads``."""
    from pipeline._graph.graph import Graph

    header, newline, body = data.partition(b"\n")
    if not header.startswith(_MAGIC) or not newline:
        raise SerialisationError("these bytes are no pipeline graph", subject="graph")
    theirs = header.removeprefix(_MAGIC).decode("ascii", "replace")
    ours = platform.python_version()
    # Bytecode of another minor version would crash the interpreter rather than raise.
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        raise Incompatible(
            f"the graph was written by Python {theirs}, this is Python {ours}",
            subject="python",
            client_version=theirs,
            daemon_version=ours,
        )
    try:
        graph = pickle.loads(body)
    except (ModuleNotFoundError, PipelineError):
        raise
    except Exception as error:
        raise SerialisationError(
            f"the graph cannot be loaded: {type(error).__name__}: {error}", subject="graph"
        ) from error
    if not isinstance(graph, Graph):
        raise SerialisationError("these bytes are no pipeline graph", subject="graph")
    return graph


def _headed(body: bytes) -> bytes:
    return b"%s%s\n%s" % (_MAGIC, platform.python_version().encode(), body)


def _pickle(graph: Graph) -> tuple[bytes, set[str]]:
    with _by_value():
        try:
            return _dump(graph)
        except PipelineError:
            raise
        except Exception as error:
            from pipeline._graph.unpicklable import find

            subject, cause = find(graph, _dump) or ("graph", error)
            raise SerialisationError(
                f"{subject} cannot be pickled: {type(cause).__name__}: {cause}", subject=subject
            ) from error


def _dump(value: object) -> tuple[bytes, set[str]]:
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.dump(value)
    return buffer.getvalue(), pickler.modules


@contextmanager
def _by_value() -> Iterator[None]:
    """Have cloudpickle send the user's own modules along, for as long as this lasts."""
    with _registry:
        registered: list[ModuleType] = []
        already = cloudpickle.list_registry_pickle_by_value()
        try:
            for name in user_modules():
                module = sys.modules.get(name)
                if module is not None and name not in already and module.__name__ == name:
                    cloudpickle.register_pickle_by_value(module)
                    registered.append(module)
            yield
        finally:
            for module in registered:
                cloudpickle.unregister_pickle_by_value(module)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Notes the modules that are referred to by name."""

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol=protocol)
        self.modules: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, ModuleType):
            if is_installed(obj.__name__):
                self.modules.add(obj.__name__)
            else:
                # cloudpickle's own way goes round in circles for modules that refer to each other,
                # and takes what the import system keeps in them along.
                contents = {
                    name: value
                    for name, value in vars(obj).items()
                    if name in ("__name__", "__doc__", "__package__") or not name.startswith("__")
                }
                return pickled.module, (obj.__name__,), contents, None, None, pickled.fill_module
        elif isinstance(obj, (type, FunctionType, BuiltinFunctionType)):
            module = getattr(obj, "__module__", None)
            if isinstance(module, str) and is_installed(module):
                self.modules.add(module)
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and isinstance(reduced, tuple):
            return _untracked(obj, reduced)
        return reduced


def _untracked(cls: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Have a class come back as a new one.

    cloudpickle numbers classes, so that one that comes back to a process where it still exists is
    that one, with everything in it replaced by what came: loading a graph would change another.
    """
    number = cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(cls)
    make, args, *rest = reduced
    if number is None:
        return reduced
    return make, tuple(None if arg == number else arg for arg in args), *rest
