"""Whether code made elsewhere can be loaded here, asked before anything is unpickled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from pipelined.core.errors import MissingPackage, PythonMismatch


@dataclass(frozen=True, slots=True)
class Package:
    """A top-level module that the code imports, with the distribution that it came from."""

    module: str
    distribution: str
    version: str


class Installed(Protocol):
    """What is installed where the workers run."""

    @property
    def python_version(self) -> str:
        """Such as "3.11.7"."""

    def has_module(self, module: str) -> bool:
        """Whether the top-level module can be imported, found out without importing it."""

    def version(self, distribution: str) -> str | None:
        """Version of a distribution, or None if it is not installed."""


def minor_version(version: str) -> tuple[str, ...]:
    """The two numbers that pickled code depends on: ("3", "11")."""
    return tuple(version.split(".")[:2])


def check(python_version: str, packages: Iterable[Package], installed: Installed) -> list[str]:
    """Compare what the code was made with to what is here.

    Returns:
        A sentence for each package whose version differs.

    Raises:
        PythonMismatch: Bytecode of another minor version would not load.
        MissingPackage: A module is not here.
    """
    if minor_version(python_version) != minor_version(installed.python_version):
        raise PythonMismatch(python_version, installed.python_version)
    warnings = []
    for package in packages:
        if not installed.has_module(package.module):
            raise MissingPackage(package.module, package.distribution, package.version)
        here = installed.version(package.distribution) if package.distribution else None
        if here is not None and here != package.version:
            warnings.append(
                f"{package.distribution} is {package.version} where the code was made, "
                f"but {here} in the daemon"
            )
    return warnings
