"""Times the imports of a startup: those that the nursery did not foresee."""

from __future__ import annotations

import importlib.abc
import sys
import threading
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_MAX_NAMES = 1000


class ImportTimer(importlib.abc.MetaPathFinder):
    """Sums up the execution of modules while it is installed; a context manager.

    Modules that are imported by a module count with it, so the names are of the outermost ones.

    Attributes:
        began: CLOCK_MONOTONIC in seconds of the first import, or None.
        seconds: The sum.
        modules: Names of the outermost modules.
    """

    def __init__(self) -> None:
        self.began: float | None = None
        self.seconds = 0.0
        self.modules: list[str] = []
        self._nesting = threading.local()

    def __enter__(self) -> ImportTimer:
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        # User code may have changed the list.
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    @property
    def names(self) -> str:
        """The modules' names for the timeline."""
        names = ", ".join(self.modules)
        return names if len(names) <= _MAX_NAMES else f"{names[:_MAX_NAMES]} …"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Let the other finders find it, and time its loader."""
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                self._time(spec)
                return spec
        return None

    def _time(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        # Built-in and frozen modules have a class for a loader, which all of them share.
        if loader is None or isinstance(loader, type):
            return
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def exec_module(module: ModuleType) -> None:
            # Back to what it was: the loader stays with the module.
            vars(loader).pop("exec_module", None)
            nested = getattr(self._nesting, "depth", 0)
            self._nesting.depth = nested + 1
            began = time.monotonic()
            try:
                execute(module)
            finally:
                self._nesting.depth = nested
                if nested == 0:
                    self._note(spec.name, began, time.monotonic() - began)

        try:
            vars(loader)["exec_module"] = exec_module
        except TypeError:
            # A loader without attributes of its own: not timed.
            return

    def _note(self, name: str, began: float, seconds: float) -> None:
        self.began = began if self.began is None else min(self.began, began)
        self.seconds += seconds
        self.modules.append(name)
