"""What is deployed: the versions of each name, and the pointers to them."""

from __future__ import annotations

from collections.abc import Sequence

from pipelined.core import references
from pipelined.core.deployment import Deployment
from pipelined.core.errors import DeploymentNotFound
from pipelined.core.references import Pointer, Reference


class Versions:
    """The versions of one name, of which there is at least one whenever others see it.

    Attributes:
        name: The name.
        last: The highest number that a version of this name ever had: none is given twice.
        by_number: The versions that are kept.
        pointers: By their tags.
    """

    def __init__(self, name: str, last: int = 0) -> None:
        self.name = name
        self.last = last
        self.by_number: dict[int, Deployment] = {}
        self.pointers: dict[str, Pointer] = {}

    @property
    def newest(self) -> Deployment:
        """What the name alone stands for."""
        return self.by_number[max(self.by_number)]

    def add(self, deployment: Deployment) -> None:
        """Keep a version."""
        number = deployment.specification.version
        self.by_number[number] = deployment
        self.last = max(self.last, number)

    def find(self, reference: Reference) -> Deployment:
        """What a reference to this name stands for.

        Raises:
            VersionNotFound, PointerNotFound: Nothing.
        """
        return self.by_number[references.resolve(reference, self.by_number, self.pointers)]

    def ordered(self) -> Sequence[Deployment]:
        """All versions, the oldest first."""
        return [self.by_number[number] for number in sorted(self.by_number)]

    def pointers_to(self, version: int) -> Sequence[str]:
        """The tags of the pointers that name this version, in order."""
        return sorted(tag for tag, pointer in self.pointers.items() if pointer.version == version)

    def is_addressed(self, version: int) -> bool:
        """Whether it is the newest, or a pointer names it: others are run by number alone."""
        return version == max(self.by_number) or bool(self.pointers_to(version))

    def surplus(self, kept: int) -> Sequence[Deployment]:
        """What is neither among the newest ``kept`` versions nor named by a pointer."""
        return [d for d in self.ordered()[:-kept] if not self.pointers_to(d.specification.version)]


class Catalogue:
    """All names, looked up. Belongs to one event loop."""

    def __init__(self) -> None:
        self._by_name: dict[str, Versions] = {}

    def get(self, reference: str, field: str = "deployment") -> Deployment:
        """The version that a reference stands for.

        Args:
            reference: NAME, NAME:latest, NAME:vN or NAME:POINTER.
            field: Of the request that has it, for errors.

        Raises:
            InvalidRequest: It is no reference.
            DeploymentNotFound, VersionNotFound, PointerNotFound: It stands for nothing.
        """
        wanted = references.parse(reference, field)
        return self._versions(wanted.name).find(wanted)

    def list(self, *, all_versions: bool = False) -> Sequence[Deployment]:
        """The newest version of each name, or all of them; ordered by name and version."""
        names = [self._by_name[name] for name in sorted(self._by_name)]
        if all_versions:
            return [deployment for versions in names for deployment in versions.ordered()]
        return [versions.newest for versions in names]

    def pointers(self, name: str = "") -> Sequence[Pointer]:
        """The pointers of a name, or of all names if it is empty; ordered by name and tag.

        Raises:
            DeploymentNotFound: There is no such name.
        """
        names = [self._versions(name)] if name else self._by_name.values()
        pointers = [pointer for versions in names for pointer in versions.pointers.values()]
        return sorted(pointers, key=lambda pointer: (pointer.name, pointer.tag))

    def pointers_to(self, deployment: Deployment) -> Sequence[str]:
        """The tags of the pointers that name a version, in order."""
        specification = deployment.specification
        versions = self._by_name.get(specification.name)
        return [] if versions is None else versions.pointers_to(specification.version)

    def is_addressed(self, deployment: Deployment) -> bool:
        """Whether others than its number stand for it; false for one that is not kept any more."""
        number = deployment.specification.version
        versions = self._by_name.get(deployment.specification.name)
        return (
            versions is not None
            and versions.by_number.get(number) is deployment
            and versions.is_addressed(number)
        )

    def _versions(self, name: str) -> Versions:
        try:
            return self._by_name[name]
        except KeyError:
            raise DeploymentNotFound(name, sorted(self._by_name)) from None
