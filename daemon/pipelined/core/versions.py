"""All that is known under one name: its versions, and the pointers to them."""

from __future__ import annotations

from collections.abc import Sequence

from pipelined.core import references
from pipelined.core.deployment import Deployment
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
