"""Requirements that were recorded under a name, and how they compare with what is installed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipelined.core import compatibility
from pipelined.core.compatibility import Installed, RequirementStatus
from pipelined.core.errors import EnvironmentExists, EnvironmentNotFound, InvalidRequest
from pipelined.core.references import NAME, NAME_RULE

# With all of them in one answer, each requirement in it twice, it stays below the message limit.
MAX_ENVIRONMENTS = 100
MAX_REQUIREMENTS_CHARACTERS = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Environment:
    """A named list of requirements.

    Attributes:
        name: The key.
        requirements: As PEP 508 has them.
        created_at: Seconds since the epoch.
        updated_at: When the requirements were set last; seconds since the epoch.
    """

    name: str
    requirements: tuple[str, ...]
    created_at: float
    updated_at: float


class EnvironmentStore(Protocol):
    """Keeps environments across restarts. Every method raises StorageFailed."""

    async def environments(self) -> Sequence[Environment]:
        """All of them, ordered by name."""

    async def set(self, environment: Environment) -> None:
        """Keep one, durably, in place of one of the same name."""

    async def remove(self, name: str) -> None:
        """Forget one."""


class Environments:
    """The environments of this daemon. Belongs to one event loop.

    Args:
        store: Keeps them.
        installed: What is installed where the workers run.
    """

    def __init__(self, store: EnvironmentStore, installed: Installed) -> None:
        self._store = store
        self._installed = installed
        self._changing = asyncio.Lock()

    async def create(
        self, name: str, requirements: Sequence[str], *, overwrite: bool
    ) -> Environment:
        """Record requirements; also those that are not met.

        Raises:
            InvalidRequest: The name or a requirement is none, or there are too many.
            EnvironmentExists: There is one of that name, and it may not be overwritten.
            StorageFailed: All is as it was.
        """
        if not NAME.fullmatch(name):
            raise InvalidRequest("name", f"{name[:200]!r} {NAME_RULE}")
        characters = sum(map(len, requirements))
        if characters > MAX_REQUIREMENTS_CHARACTERS:
            raise InvalidRequest(
                "requirements",
                f"{characters} characters are more than {MAX_REQUIREMENTS_CHARACTERS}",
            )
        await self.compare(requirements)
        async with self._changing:
            known = {each.name: each for each in await self._store.environments()}
            before = known.get(name)
            if before is not None and not overwrite:
                raise EnvironmentExists(name)
            if before is None and len(known) >= MAX_ENVIRONMENTS:
                raise InvalidRequest("name", f"there are {MAX_ENVIRONMENTS} environments, the most")
            now = time.time()
            made = Environment(
                name, tuple(requirements), now if before is None else before.created_at, now
            )
            if before is not None and before.requirements == made.requirements:
                return before
            await self._store.set(made)
            return made

    async def get(self, name: str) -> Environment:
        """One of them.

        Raises:
            EnvironmentNotFound: There is none of that name.
            StorageFailed: The store cannot be read.
        """
        known = {each.name: each for each in await self._store.environments()}
        if name not in known:
            raise EnvironmentNotFound(name, sorted(known))
        return known[name]

    async def list(self) -> Sequence[Environment]:
        """All of them, ordered by name."""
        return await self._store.environments()

    async def delete(self, name: str) -> None:
        """Forget one.

        Raises:
            EnvironmentNotFound: There is none of that name.
            StorageFailed: It is still there.
        """
        async with self._changing:
            await self.get(name)
            await self._store.remove(name)

    async def compare(self, requirements: Sequence[str]) -> Sequence[RequirementStatus]:
        """Compare requirements to what is here now.

        Raises:
            InvalidRequest: See ``compatibility.compare``.
        """
        # Looks into the folders of installed packages.
        return await asyncio.to_thread(compatibility.compare, requirements, self._installed)
