"""All deployments by name: made, replaced, deleted, and recovered after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TypeVar

from pipelined.core.deployment import Deployment
from pipelined.core.errors import (
    CodeTooLarge,
    DeploymentDeleted,
    DeploymentNotFound,
    DomainError,
    InvalidRequest,
    ShuttingDown,
    StorageFailed,
)
from pipelined.core.ports import DeploymentStore, WorkerLauncher
from pipelined.core.specification import BUNDLE, Specification

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
MAX_TARGET_LENGTH = 1000
MAX_TOPOLOGY_CHARACTERS = 2**20
MAX_INSTANCES = 64
MAX_CODE_BYTES = 256 * 2**20
MAX_ENVIRONMENT_BYTES = 64 * 2**10
# How long the runs of a replaced or deleted deployment may take to end.
DRAIN_SECONDS = 60.0

Result = TypeVar("Result")


def validate(specification: Specification) -> None:
    """Check what a caller wants deployed, before any of its code is received.

    Raises:
        InvalidRequest: A field is out of its bounds; names it and the bound.
        CodeTooLarge: The announced code exceeds the limit.
    """
    if not NAME.fullmatch(specification.name):
        raise InvalidRequest(
            "name",
            f"{specification.name[:200]!r} has to be 1 to 128 letters, digits, '.', '_' or '-', "
            "the first of them a letter or digit",
        )
    if not re.fullmatch(r"[0-9a-f]{16,128}", specification.digest):
        raise InvalidRequest("digest", "has to be 16 to 128 hexadecimal digits")
    if not 1 <= specification.instances <= MAX_INSTANCES:
        raise InvalidRequest(
            "instances", f"{specification.instances} is not between 1 and {MAX_INSTANCES}"
        )
    for name, value in specification.environment.items():
        if not VARIABLE.fullmatch(name):
            raise InvalidRequest("environment", f"{name!r} is not the name of a variable")
        if "\0" in value:
            raise InvalidRequest(f"environment.{name}", "contains a NUL character")
    size = sum(len(name) + len(value) for name, value in specification.environment.items())
    if size > MAX_ENVIRONMENT_BYTES:
        raise InvalidRequest(
            "environment", f"{size} characters are more than {MAX_ENVIRONMENT_BYTES}"
        )
    code = specification.code
    if code.format == BUNDLE and (
        len(code.target) > MAX_TARGET_LENGTH or not TARGET.fullmatch(code.target)
    ):
        raise InvalidRequest("target", f"{code.target[:200]!r} is not of the form module:variable")
    if sum(map(len, code.topology)) > MAX_TOPOLOGY_CHARACTERS:
        raise InvalidRequest("topology", f"has more than {MAX_TOPOLOGY_CHARACTERS} characters")
    if specification.code.size > MAX_CODE_BYTES:
        raise CodeTooLarge(specification.code.size, MAX_CODE_BYTES)
    if specification.code.size < 1:
        raise InvalidRequest("code_size", "there is no code")


class Deployments:
    """The deployments of this daemon. Belongs to one event loop.

    Args:
        store: Keeps them.
        launcher: Starts their workers.
        on_change: Called with a deployment whose state is another one now, and with its name and
            None when it is gone.
    """

    def __init__(
        self,
        store: DeploymentStore,
        launcher: WorkerLauncher,
        on_change: Callable[[str, Deployment | None], None],
    ) -> None:
        self._store = store
        self._launcher = launcher
        self._on_change = on_change
        self._by_name: dict[str, Deployment] = {}
        self._changing = asyncio.Lock()
        # Of versions that were replaced or deleted.
        self._drains: dict[asyncio.Task[None], Deployment] = {}
        # Changes of the store and of ``_by_name`` together: they go on when their caller leaves.
        self._changes: set[asyncio.Task[object]] = set()
        self._closed = False

    async def recover(self) -> int:
        """Bring back what the store has, all of it cold; returns how many.

        Raises:
            StorageFailed: The store cannot be read.
        """
        for specification in await self._store.deployments():
            self._install(specification)
        return len(self._by_name)

    def get(self, name: str) -> Deployment:
        """The deployment of that name.

        Raises:
            DeploymentNotFound: There is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise DeploymentNotFound(name) from None

    def list(self) -> Sequence[Deployment]:
        """All of them, ordered by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    async def deploy(
        self, specification: Specification, chunks: AsyncIterator[bytes], idempotency_key: str = ""
    ) -> tuple[Deployment, bool]:
        """Make this the current version of its name; its ``version`` is ignored.

        Returns:
            The deployment, and whether it is a new version: an equal one is left as it is.

        Raises:
            InvalidRequest, CodeTooLarge, CodeDigestMismatch: See ``validate`` and the store.
            StorageFailed: It could not be kept; nothing has changed.
            ShuttingDown: The daemon is stopping.
        """
        validate(specification)
        if self._closed:
            raise ShuttingDown
        # The code is received outside the lock: a slow sender must not hold up the others.
        await self._store.store_code(chunks, specification.code)
        return await self._to_end(self._add(specification, idempotency_key))

    async def delete(self, name: str) -> None:
        """Remove a deployment durably, then wait until its runs have ended and its workers too.

        Raises:
            DeploymentNotFound: There is none of that name.
            StorageFailed: It is still there.
        """
        await asyncio.shield(await self._to_end(self._remove(name)))

    async def close(self, drain_seconds: float) -> None:
        """Refuse new work, let runs in progress end, and stop all workers."""
        self._closed = True
        reason: DomainError = ShuttingDown()
        draining = [*self._by_name.values(), *self._drains.values()]
        await asyncio.gather(
            *(deployment.drain(reason, drain_seconds) for deployment in draining),
            *self._drains,
            return_exceptions=True,
        )

    async def _add(
        self, specification: Specification, idempotency_key: str
    ) -> tuple[Deployment, bool]:
        added = False
        try:
            async with self._changing:
                if self._closed:
                    raise ShuttingDown
                current = self._by_name.get(specification.name)
                if current is not None and (
                    current.specification.same_as(specification)
                    or await self._store.seen(idempotency_key, specification)
                ):
                    return current, False
                version = 1 if current is None else current.specification.version + 1
                specification = replace(specification, version=version)
                await self._store.add(specification, idempotency_key)
                added = True
                deployment = self._install(specification)
        finally:
            if not added:
                with contextlib.suppress(StorageFailed):
                    await self._store.release_code(specification.code)
        if current is not None:
            self._drain(current, DeploymentDeleted(specification.name, version))
        return deployment, True

    async def _remove(self, name: str) -> asyncio.Task[None]:
        async with self._changing:
            deployment = self.get(name)
            await self._store.remove(name)
            del self._by_name[name]
        self._on_change(name, None)
        return self._drain(deployment, DeploymentDeleted(name))

    def _install(self, specification: Specification) -> Deployment:
        deployment = Deployment(
            specification,
            self._store.code_path(specification.code),
            self._launcher,
            self._changed,
        )
        self._by_name[specification.name] = deployment
        self._changed(deployment)
        return deployment

    def _changed(self, deployment: Deployment) -> None:
        name = deployment.specification.name
        # A version that drains is not what the name stands for any more.
        if self._by_name.get(name) is deployment:
            self._on_change(name, deployment)

    def _drain(self, deployment: Deployment, reason: DomainError) -> asyncio.Task[None]:
        task = asyncio.create_task(self._drain_and_forget(deployment, reason), name="drain")
        self._drains[task] = deployment
        task.add_done_callback(self._drains.pop)
        return task

    async def _drain_and_forget(self, deployment: Deployment, reason: DomainError) -> None:
        await deployment.drain(reason, DRAIN_SECONDS)
        # It is gone all the same if this fails; a later one, or the next start, tidies up.
        with contextlib.suppress(StorageFailed):
            await self._store.release_code(deployment.specification.code)

    async def _to_end(self, change: Coroutine[object, object, Result]) -> Result:
        """Carry out a change whole, also if its caller leaves meanwhile."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        # If the caller has left, nobody else asks for the error.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)
