"""The user's own modules that code imports when it runs: found, followed, and read as source.

A function that is pickled by value has its globals with it, but what it imports in its body it
imports where it runs. These modules, and all of the user's own that they import in turn, travel as
source, and begin with the state that executing it gives. What the import system would find here is
what counts: a file of the user's that has the name of an installed module travels if, and only if,
it is the one that is imported here.
"""

from __future__ import annotations

import pkgutil
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder

from pipeline._graph.code_imports import imported_names
from pipeline._graph.packages import is_installed, lies_installed
from pipeline.errors import SerialisationError

__all__ = ["ModuleSource", "Sources", "function_imports", "is_extension"]


@dataclass(frozen=True)
class ModuleSource:
    """One of the user's own modules.

    Attributes:
        name: its full name, such as ``"helpers.text"``.
        source: its text; empty for a namespace package.
        file: where it was read from, for tracebacks; empty for a namespace package.
        is_package: whether it can have submodules.

    """

    name: str
    source: str
    file: str
    is_package: bool

    def code(self) -> types.CodeType:
        """Compile it.

        Raises:
            SyntaxError: it is no Python.

        """
        return compile(self.source, self.file or self.name, "exec", dont_inherit=True)


def is_extension(module: types.ModuleType) -> bool:
    """Whether a module is made of machine code."""
    file = vars(module).get("__file__")
    return isinstance(file, str) and file.endswith(tuple(EXTENSION_SUFFIXES))


def function_imports(function: types.FunctionType) -> Iterator[tuple[str, str]]:
    """Yield the names of modules that a function may import, each with the importer's name."""
    package = function.__globals__.get("__package__") or ""
    for name in imported_names(function.__code__, package):
        yield name, function.__qualname__


class Sources:
    """A growing set of modules, closed under what they import.

    Attributes:
        modules: those found so far, by name.

    """

    def __init__(self) -> None:
        self.modules: dict[str, ModuleSource] = {}
        self._specs: dict[str, ModuleSpec | None] = {}

    def follow(self, names: Iterable[tuple[str, str]]) -> bool:
        """Add the user's own among these modules, their packages, and all that they import.

        Args:
            names: absolute names, each with that of the importer. What cannot be found is left out:
                its import fails here as well.

        Returns:
            Whether any was added.

        Raises:
            SerialisationError: one has no source that could be sent; names it and its importer.

        """
        before = len(self.modules)
        waiting = deque(names)
        while waiting:
            name, importer = waiting.popleft()
            if name in self.modules or name == "__main__":
                continue
            spec = self._spec(name)
            if spec is None or _is_installed_spec(name, spec):
                continue
            # Importing a module imports its package first.
            parent = name.rpartition(".")[0]
            if parent:
                waiting.append((parent, importer))
            module = self.modules[name] = _read(name, spec, importer)
            package = name if module.is_package else parent
            try:
                waiting += [(each, name) for each in imported_names(module.code(), package)]
            except SyntaxError as error:
                raise SerialisationError(
                    f"{importer} imports {name!r}, which is no Python: {error}", subject=name
                ) from error
        return len(self.modules) > before

    def _spec(self, name: str) -> ModuleSpec | None:
        if name not in self._specs:
            self._specs[name] = self._find(name)
        return self._specs[name]

    def _find(self, name: str) -> ModuleSpec | None:
        module = sys.modules.get(name)
        spec = getattr(module, "__spec__", None)
        if isinstance(spec, ModuleSpec):
            return spec
        parent = name.rpartition(".")[0]
        path = None
        if parent:
            # Not by importlib.util.find_spec, which would import the package.
            package = self._spec(parent)
            if package is None or package.submodule_search_locations is None:
                return None
            path = list(package.submodule_search_locations)
        for finder in list(sys.meta_path):
            if finder is PathFinder and path is not None:
                found = _in_folders(name, path)
            else:
                find = getattr(finder, "find_spec", None)
                found = find(name, path) if find is not None else None
            if isinstance(found, ModuleSpec):
                return found
        return None


def _in_folders(name: str, path: Iterable[str]) -> ModuleSpec | None:
    """Find a submodule as PathFinder does, which wants the package to be imported."""
    folders: list[str] = []
    for folder in path:
        find = getattr(pkgutil.get_importer(folder), "find_spec", None)
        spec = find(name) if find is not None else None
        if spec is not None and spec.loader is not None:
            return spec  # type: ignore[no-any-return]
        if spec is not None:
            folders += spec.submodule_search_locations or ()
    if not folders:
        return None
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = folders
    return namespace


def _is_installed_spec(name: str, spec: ModuleSpec) -> bool:
    if name in sys.modules:
        return is_installed(name)
    if name.partition(".")[0] in ("pipeline", "pipelined", "pipelined_api"):
        return True
    file = spec.origin if spec.has_location else None
    return lies_installed(file, spec.submodule_search_locations or ())


def _read(name: str, spec: ModuleSpec, importer: str) -> ModuleSource:
    locations = spec.submodule_search_locations
    if not spec.has_location and locations is not None:
        return ModuleSource(name, "", "", is_package=True)
    get_source = getattr(spec.loader, "get_source", None)
    try:
        source = get_source(spec.name) if get_source is not None else None
    except (ImportError, SyntaxError, ValueError) as error:
        raise SerialisationError(
            f"{importer} imports {name!r}, whose source cannot be read: {error}", subject=name
        ) from error
    if source is None:
        kind = "an extension module" if _is_extension_spec(spec) else "a module without source"
        raise SerialisationError(
            f"{importer} imports {name!r}, {kind} of your own ({spec.origin}): only Python source "
            "can be sent; install it where the daemon runs, as a package",
            subject=name,
        )
    return ModuleSource(name, source, spec.origin or "", is_package=locations is not None)


def _is_extension_spec(spec: ModuleSpec) -> bool:
    return (spec.origin or "").endswith(tuple(EXTENSION_SUFFIXES))
