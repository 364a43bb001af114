r"""Graphs as bytes: cloudpickle behind a readable header, by value for the user's own modules.

Those of them that functions import when they run travel as source between header and pickle, and
the pickle refers to them by name: what is imported and what is pickled is then one thing.

::

    pipeline-graph 1 python 3.11.7\n PICKLE
    pipeline-graph 2 python 3.11.7 sources SIZE\n JSON PICKLE
"""

from __future__ import annotations

import io
import json
import pickle
import platform
import sys
import threading
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from operator import attrgetter
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]  # it has no types

from pipeline._graph import pickled
from pipeline._graph.code_imports import needed_tops
from pipeline._graph.decorators import Pipe
from pipeline._graph.packages import Package, is_installed, packages_of, user_modules
from pipeline._graph.served import serve
from pipeline._graph.sources import ModuleSource, Sources, function_imports, is_extension
from pipeline.errors import Incompatible, PipelineError, SerialisationError

if TYPE_CHECKING:
    from pipeline._graph.graph import Graph

__all__ = ["dumps", "loads", "pack", "required_packages"]

_MAGIC = b"pipeline-graph 1 python "
_MAGIC_SOURCES = b"pipeline-graph 2 python "
_registry = threading.Lock()


@dataclass(frozen=True)
class _Pickled:
    body: bytes
    # What it refers to by name, without what travels as source.
    modules: frozenset[str]
    sources: tuple[ModuleSource, ...]


def dumps(graph: Graph) -> bytes:
    """Serialise; see ``Graph.dumps``."""
    return _headed(_pickle(graph))


def required_packages(graph: Graph) -> list[Package]:
    """Return what the pickle refers to by name; see ``Graph.required_packages``."""
    return packages_of(_pickle(graph).modules)


def pack(graph: Graph) -> tuple[bytes, list[Package]]:
    """Return what ``dumps`` and ``required_packages`` do, from pickling it once."""
    made = _pickle(graph)
    return _headed(made), packages_of(made.modules)


def loads(data: bytes) -> Graph:
    """Load; see ``Graph.loads``."""
    from pipeline._graph.graph import Graph

    header, newline, body = data.partition(b"\n")
    if not header.startswith((_MAGIC, _MAGIC_SOURCES)) or not newline:
        raise SerialisationError("these bytes are no pipeline graph", subject="graph")
    theirs, _, size = header[len(_MAGIC) :].decode("ascii", "replace").partition(" sources ")
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
        if header.startswith(_MAGIC_SOURCES):
            modules, body = body[: int(size)], body[int(size) :]
            serve(ModuleSource(**each) for each in json.loads(modules))
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


def _headed(made: _Pickled) -> bytes:
    version = platform.python_version().encode()
    # Daemons that know no sources know the first form.
    if not made.sources:
        return b"%s%s\n%s" % (_MAGIC, version, made.body)
    modules = json.dumps([asdict(module) for module in made.sources]).encode()
    return b"%s%s sources %d\n%s%s" % (_MAGIC_SOURCES, version, len(modules), modules, made.body)


def _pickle(graph: Graph) -> _Pickled:
    sources = Sources()
    while True:
        buffer = io.BytesIO()
        pickler = _Pickler(buffer, sources.modules)
        failure: Exception | None = None
        with _by_value(sources.modules):
            try:
                pickler.dump(graph)
            except PipelineError:
                raise
            except Exception as error:
                failure = error
            # What travels as source is referred to by name from now on, so it is pickled again. A
            # lock in a module of these did no harm then.
            if sources.follow(
                found for function in pickler.functions for found in function_imports(function)
            ):
                continue
            if failure is not None:
                raise _unpicklable(graph, sources.modules, failure) from failure
        break
    modules = pickler.modules.difference(sources.modules)
    for module in sources.modules.values():
        modules |= {top for top in needed_tops(module.source) if _is_installed(top)}
    ordered = sorted(sources.modules.values(), key=attrgetter("name"))
    return _Pickled(buffer.getvalue(), frozenset(modules), tuple(ordered))


def _unpicklable(graph: Graph, by_name: Container[str], failure: Exception) -> SerialisationError:
    from pipeline._graph.unpicklable import find

    def dump(part: object) -> None:
        _Pickler(io.BytesIO(), by_name).dump(part)

    subject, cause = find(graph, dump) or ("graph", failure)
    return SerialisationError(
        f"{subject} cannot be pickled: {type(cause).__name__}: {cause}", subject=subject
    )


def _is_installed(top: str) -> bool:
    # Only what has been imported is known to be there: else its import may be one that never runs.
    return top in sys.modules and is_installed(top)


@contextmanager
def _by_value(but: Container[str]) -> Iterator[None]:
    """Have cloudpickle send the user's own modules along, for as long as this lasts."""
    with _registry:
        registered: list[ModuleType] = []
        already = cloudpickle.list_registry_pickle_by_value()
        try:
            for name in user_modules():
                module = sys.modules.get(name)
                if name in already or name in but:
                    continue
                if module is not None and module.__name__ == name:
                    cloudpickle.register_pickle_by_value(module)
                    registered.append(module)
            yield
        finally:
            for module in registered:
                cloudpickle.unregister_pickle_by_value(module)


class _Namespace:
    """Stands for the globals of a module that travels as source."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __reduce__(self) -> tuple[object, ...]:
        return pickled.namespace, (self._module,)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Notes the modules that are referred to by name, and the functions that go by value.

    Args:
        file: takes the pickle.
        by_name: the user's own modules that are referred to by name all the same.

    """

    def __init__(self, file: io.BytesIO, by_name: Container[str]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.modules: set[str] = set()
        self.functions: list[FunctionType] = []
        self._by_name = by_name

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, ModuleType):
            if obj.__name__ in self._by_name:
                return super().reducer_override(obj)
            if is_installed(obj.__name__):
                self.modules.add(obj.__name__)
            else:
                return _module(obj)
        elif isinstance(obj, (type, FunctionType, BuiltinFunctionType)):
            self._note_module(obj)
        elif isinstance(obj, Pipe) and (found := self._found_by_name(obj)) is not None:
            return pickled.attribute, found
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and isinstance(reduced, tuple):
            return _untracked(obj, reduced)
        if isinstance(obj, FunctionType) and isinstance(reduced, tuple):
            if obj.__module__ not in self._by_name:
                self.functions.append(obj)
            else:
                return _in_namespace(obj, reduced)
        return reduced

    def _note_module(self, obj: Any) -> None:
        name = getattr(obj, "__module__", None)
        if not isinstance(name, str):
            return
        if is_installed(name):
            self.modules.add(name)
            return
        module = sys.modules.get(name)
        if module is not None:
            _refuse_extension(module)

    def _found_by_name(self, pipe: Pipe) -> tuple[str, str] | None:
        # A function's own name stands for its pipe, and so cloudpickle would not find it.
        module, qualname = pipe.function.__module__, pipe.function.__qualname__
        if module not in self._by_name or "<" in qualname:
            return None
        try:
            found = pickled.attribute(module, qualname)
        except (AttributeError, ImportError):
            return None
        return (module, qualname) if found is pipe else None


def _module(module: ModuleType) -> tuple[object, ...]:
    """Reduce one of the user's own.

    cloudpickle's own way goes round in circles for modules that refer to each other, and takes what
    the import system keeps in them along.
    """
    _refuse_extension(module)
    contents = {
        name: value
        for name, value in vars(module).items()
        if name in ("__name__", "__doc__", "__package__") or not name.startswith("__")
    }
    return pickled.module, (module.__name__,), contents, None, None, pickled.fill_module


def _refuse_extension(module: ModuleType) -> None:
    if is_extension(module):
        raise TypeError(
            f"{module.__name__!r} is an extension module of your own ({module.__file__}): only "
            "Python source can be sent; install it where the daemon runs, as a package"
        )


def _in_namespace(function: FunctionType, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give a function without a name in its module that module's globals, not copies of them."""
    module = sys.modules.get(function.__module__)
    if module is None or vars(module) is not function.__globals__:
        return reduced
    make, (code, _, *others), (attributes, slots), *rest = reduced
    slots = {**slots, "__globals__": {}}
    namespace = _Namespace(function.__module__)
    return make, (code, namespace, *others), (attributes, slots), *rest


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
