"""Whether code made elsewhere can be loaded here, asked before anything is unpickled."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from pipelined.core.errors import (
    InvalidRequest,
    MissingPackage,
    PythonMismatch,
    RequirementsNotMet,
)

MAX_REQUIREMENTS = 1000
_MAX_REQUIREMENT_LENGTH = 1000


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


class RequirementState(enum.Enum):
    """How a requirement compares to what is installed; the values are those of the wire."""

    SATISFIED = 1
    DIFFERING = 2
    MISSING = 3


@dataclass(frozen=True, slots=True)
class RequirementStatus:
    """A requirement and what is installed.

    Attributes:
        requirement: As it was given, such as "torch>=2.4".
        package: Its package, such as "torch".
        state: How it compares.
        installed: The version that is installed; empty if none is.
    """

    requirement: str
    package: str
    state: RequirementState
    installed: str

    def describe(self) -> str:
        """Say it in words, with both versions."""
        here = f"{self.package} {self.installed}" if self.installed else f"no {self.package}"
        return f"{self.requirement} is required, but the daemon has {here}"


def compare(requirements: Sequence[str], installed: Installed) -> list[RequirementStatus]:
    """Compare requirements (PEP 508) to what is here, one by one.

    One whose marker excludes this machine is satisfied. Extras are not looked into. Pre-releases
    and local versions count as the versions that they are.

    Raises:
        InvalidRequest: One is no requirement, or names a URL, or there are too many.
    """
    if len(requirements) > MAX_REQUIREMENTS:
        raise InvalidRequest(
            "requirements", f"{len(requirements)} are more than the limit of {MAX_REQUIREMENTS}"
        )
    return [
        _compare(text, f"requirements[{index}]", installed)
        for index, text in enumerate(requirements)
    ]


def _compare(text: str, field: str, installed: Installed) -> RequirementStatus:
    if len(text) > _MAX_REQUIREMENT_LENGTH:
        raise InvalidRequest(field, f"has more than {_MAX_REQUIREMENT_LENGTH} characters")
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).partition("\n")[0]
        raise InvalidRequest(field, f"{text!r} is no requirement: {reason}") from error
    if requirement.url is not None:
        raise InvalidRequest(
            field, f"{text!r} names a URL: only versions can be compared to what is installed"
        )
    here = installed.version(requirement.name)
    if requirement.marker is not None and not requirement.marker.evaluate():
        state = RequirementState.SATISFIED
    elif here is None:
        state = RequirementState.MISSING
    elif _fits(requirement, here):
        state = RequirementState.SATISFIED
    else:
        state = RequirementState.DIFFERING
    return RequirementStatus(text, requirement.name, state, here or "")


def _fits(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        # Its package does not keep to the rules: only what wants no version in particular fits.
        return not requirement.specifier


def check_requirements(
    requirements: Sequence[str], installed: Installed, *, allow_differing: bool
) -> list[str]:
    """Compare requirements to what is here, and refuse or tell what is not met.

    Returns:
        A sentence for each requirement that is not met.

    Raises:
        InvalidRequest: See ``compare``.
        RequirementsNotMet: Some are not met, and that is not allowed.
    """
    unmet = [
        status
        for status in compare(requirements, installed)
        if status.state is not RequirementState.SATISFIED
    ]
    if unmet and not allow_differing:
        first = unmet[0]
        raise RequirementsNotMet(
            [status.describe() for status in unmet],
            package=first.package,
            requirement=first.requirement,
            installed=first.installed,
        )
    return [status.describe() for status in unmet]


def python_warning(python_version: str, installed: Installed) -> list[str]:
    """Tell that source was made for another minor version of Python, if it was."""
    if minor_version(python_version) == minor_version(installed.python_version):
        return []
    return [
        f"the folder was looked at by Python {python_version}, but the workers run Python "
        f"{installed.python_version}"
    ]
