"""Modules that came as source with a graph, imported from memory."""

from __future__ import annotations

import importlib.abc
import importlib.util
import linecache
import sys
import threading
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

from pipeline._graph.packages import is_installed
from pipeline._graph.sources import ModuleSource
from pipeline.errors import SerialisationError

__all__ = ["displace", "serve"]

_changing = threading.Lock()


class _Loader(importlib.abc.InspectLoader):
    def __init__(self, module: ModuleSource) -> None:
        self._module = module

    def is_package(self, fullname: str) -> bool:
        return self._module.is_package

    def get_source(self, fullname: str) -> str:
        return self._module.source

    def get_code(self, fullname: str) -> CodeType:
        return self._module.code()

    def exec_module(self, module: ModuleType) -> None:
        exec(self._module.code(), vars(module))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self) -> None:
        self.modules: dict[str, ModuleSource] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        served = self.modules.get(fullname)
        if served is None:
            return None
        spec = importlib.util.spec_from_loader(
            fullname, _Loader(served), origin=served.file or None, is_package=served.is_package
        )
        if spec is not None and served.file:
            # Sets __file__, which tells what is the user's own.
            spec.has_location = True
        if spec is not None and served.is_package and not served.file:
            # A folder that nothing is in: a namespace package is told by having one.
            spec.submodule_search_locations = [f"<{fullname}>"]
        return spec


_finder = _Finder()


def serve(modules: Iterable[ModuleSource]) -> None:
    """Have imports find these modules from now on, before anything that is installed.

    Raises:
        SerialisationError: this process has another module of the user's of the same name, with
            other content.

    """
    with _changing:
        fresh = [module for module in modules if not _is_here(module)]
        for module in fresh:
            _finder.modules[module.name] = module
            if module.file:
                lines = module.source.splitlines(keepends=True)
                # Without a time of change: it stays whatever lies at that path here.
                linecache.cache[module.file] = (len(module.source), None, lines, module.file)
        displace(module.name for module in fresh)
        if fresh and _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)


def displace(names: Iterable[str]) -> None:
    """Forget imported modules of these names with their submodules: the next import decides anew.

    What has got hold of them keeps them.
    """
    for name in names:
        if name in sys.modules:
            for each in list(sys.modules):
                if each == name or each.startswith(f"{name}."):
                    del sys.modules[each]


def _is_here(module: ModuleSource) -> bool:
    served = _finder.modules.get(module.name)
    if served is None and (module.name not in sys.modules or is_installed(module.name)):
        return False
    if (served.source if served is not None else _source(module.name)) != module.source:
        raise SerialisationError(
            f"this process has a module {module.name!r} already, with other content than the one "
            "that came with the graph; load the graph in a process of its own",
            subject=module.name,
        )
    return True


def _source(name: str) -> str:
    spec = getattr(sys.modules[name], "__spec__", None)
    get_source = getattr(getattr(spec, "loader", None), "get_source", None)
    return (get_source(name) if get_source is not None else None) or ""
