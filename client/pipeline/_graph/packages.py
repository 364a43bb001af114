"""Which modules are installed packages and which are the user's own."""

from __future__ import annotations

import functools
import importlib.metadata
import site
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

__all__ = ["Package", "is_installed", "lies_installed", "packages_of", "user_modules"]

_OWN = frozenset({"pipeline", "pipelined", "pipelined_api"})
# What this library brings along wherever it is. pydantic is not among them: what it makes of an
# InputSchema is pickled with the graph.
_DEPENDENCIES = frozenset(
    {"annotated_types", "cloudpickle", "google", "pydantic_core", "typing_extensions"}
)


@dataclass(frozen=True, order=True)
class Package:
    """An installed package.

    Attributes:
        module: the top-level module, such as ``"PIL"``.
        distribution: the distribution that it came from, such as ``"pillow"``; empty if unknown.
        version: the distribution's version; empty if unknown.

    """

    module: str
    distribution: str
    version: str


@functools.cache
def _installed_folders() -> tuple[str, ...]:
    folders = {*site.getsitepackages(), site.getusersitepackages()}
    folders |= {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    # Where Python's own modules lie in an archive.
    folders |= {path for path in sys.path if path.startswith(sys.base_prefix) and ".zip" in path}
    return tuple(f"{Path(folder).resolve()}/" for folder in folders if folder)


def is_installed(name: str) -> bool:
    """Whether a module is part of Python, of this library, or of an installed package.

    What is not is the user's own: it is sent along with the graph.
    """
    top = name.partition(".")[0]
    if top in _OWN:
        return True
    if name == "__main__":
        return False
    module = sys.modules.get(name)
    if module is None:
        if top in sys.stdlib_module_names:
            return True
        # A name of an installed package's own choosing, or a module of the user's that came with a
        # graph and so was never imported here.
        return top != name and top in sys.modules and is_installed(top)
    # Not by getattr: some packages put things here that import more when they are looked at.
    attributes = vars(module) if isinstance(module, ModuleType) else {}
    # A file of the user's may be called like a module of Python's: what was imported decides.
    return lies_installed(attributes.get("__file__"), attributes.get("__path__", ()))


def lies_installed(file: str | None, paths: Iterable[str]) -> bool:
    """Whether a module of this file, or a package without one in these folders, is installed."""
    if file is None:
        # A namespace package; a module without any file is built in, or made at run time.
        folders = list(paths)
        return not folders or any(_in_installed_folder(folder) for folder in folders)
    return _in_installed_folder(file)


@functools.cache
def _in_installed_folder(path: str) -> bool:
    # Resolving is a system call for each folder of each path, and a program that uses torch and
    # diffusers has thousands of modules: only what does not show where it lies is resolved.
    return _names_installed_folder(path) or _names_installed_folder(str(Path(path).resolve()))


def _names_installed_folder(path: str) -> bool:
    return (
        "/site-packages/" in path
        or "/dist-packages/" in path
        or path.startswith(_installed_folders())
    )


def user_modules() -> list[str]:
    """Return the imported modules that are the user's own, without ``__main__``."""
    return [
        name
        for name, module in list(sys.modules.items())
        if module is not None and name != "__main__" and not is_installed(name)
    ]


def packages_of(modules: Iterable[str]) -> list[Package]:
    """Return the distributions of modules, without Python's own and this library's, by name."""
    tops = {module.partition(".")[0] for module in modules}
    return sorted(
        _package(top)
        for top in tops
        if top and top not in _OWN | _DEPENDENCIES and top not in sys.stdlib_module_names
    )


def _namesake(module: str) -> importlib.metadata.Distribution | None:
    """Return the distribution of the module's own name if it holds that module.

    Most packages are called what they are imported as, and to find the others the lists of files of
    everything that is installed have to be read.
    """
    try:
        distribution = importlib.metadata.distribution(module)
    except importlib.metadata.PackageNotFoundError:
        return None
    files = f"\n{distribution.read_text('RECORD') or ''}"
    holds = f"\n{module}/" in files or f"\n{module}.py," in files
    return distribution if holds else None


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return {
        module: sorted(set(names))
        for module, names in importlib.metadata.packages_distributions().items()
    }


@functools.cache
def _package(module: str) -> Package:
    namesake = _namesake(module)
    if namesake is not None:
        return Package(module, namesake.name, namesake.version)
    candidates = _distributions().get(module, [])
    # Several share a namespace; only one of the module's own name is surely the one meant.
    if len(candidates) > 1:
        candidates = [name for name in candidates if name.lower() == module.lower()]
    if not candidates:
        return Package(module, "", "")
    return Package(module, candidates[0], importlib.metadata.version(candidates[0]))
