"""All deployments by name: made, replaced, pointed to, deleted, and recovered after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TypeVar
from weakref import WeakKeyDictionary

from pipelined.core import references
from pipelined.core.deployment import Deployment
from pipelined.core.errors import (
    DeploymentCooled,
    DeploymentDeleted,
    DomainError,
    InvalidRequest,
    PointerExists,
    PointerLocked,
    PointerNotFound,
    ShuttingDown,
    StorageFailed,
    VersionInUse,
)
from pipelined.core.observers import UNOBSERVED
from pipelined.core.ports import DeploymentStore, Observer, WorkerLauncher
from pipelined.core.references import Pointer
from pipelined.core.scaler import IDLE_SECONDS
from pipelined.core.shared_limits import SharedLimits
from pipelined.core.specification import Specification, validate
from pipelined.core.states import State
from pipelined.core.versions import Catalogue, Versions

# How long the runs of what is replaced, cooled or deleted may take to end.
DRAIN_SECONDS = 60.0
# Each keeps a version and its code.
MAX_POINTERS = 100

Result = TypeVar("Result")


class Deployments(Catalogue):
    """The deployments of this daemon, and how they change. Belongs to one event loop.

    A version that is not the newest of its name, and that no pointer names, drains to cold when
    that becomes so; it is started again by whoever asks for it by its number.

    Args:
        store: Keeps them.
        launcher: Starts their workers.
        on_change: Called with a name and its newest version, when its state is another one now, and
            with the name and None when it is gone.
        versions_kept: Newest versions of a name that are kept, at least 1.
        shared: What they share.
        idle_seconds: After which an instance that is more than needed is stopped.
        observer: Is told of what happens to them.

    Attributes:
        versions_kept: May be set; surplus ones are forgotten with the next change of their name.
    """

    def __init__(
        self,
        store: DeploymentStore,
        launcher: WorkerLauncher,
        on_change: Callable[[str, Deployment | None], None],
        versions_kept: int,
        shared: SharedLimits,
        idle_seconds: float = IDLE_SECONDS,
        observer: Observer = UNOBSERVED,
    ) -> None:
        super().__init__()
        self._store = store
        self._launcher = launcher
        self._on_change = on_change
        self.versions_kept = versions_kept
        self._shared = shared
        self._idle_seconds = idle_seconds
        self._observer = observer
        self._changing = asyncio.Lock()
        # Of versions that were deleted or forgotten.
        self._drains: dict[asyncio.Task[None], Deployment] = {}
        # Changes of the store and of ``_by_name`` together: they go on when their caller leaves.
        self._changes: set[asyncio.Task[object]] = set()
        self._closed = False
        self._startups_over = asyncio.Event()
        # The ``last_used_at`` that the store has.
        self._uses_kept: WeakKeyDictionary[Deployment, float] = WeakKeyDictionary()

    async def recover(self) -> int:
        """Bring back what the store has; returns how many names.

        All of it is cold, but for versions whose code is not there: those are FAILED.

        Raises:
            StorageFailed: The store cannot be read.
        """
        last = await self._store.last_versions()
        specifications = await self._store.deployments()
        missing = await self._store.missing_code({each.code for each in specifications})
        for specification in specifications:
            name = specification.name
            versions = self._by_name.setdefault(name, Versions(name, last[name]))
            deployment = self._made(specification)
            versions.add(deployment)
            if specification.code in missing:
                deployment.fail(StorageFailed("read the code", "it is not there, or not whole"))
        for pointer in await self._store.pointers():
            self._by_name[pointer.name].pointers[pointer.tag] = pointer
        for (name, version), used_at in (await self._store.last_uses()).items():
            deployment = self._by_name[name].by_number[version]
            deployment.last_used_at = self._uses_kept[deployment] = used_at
        for versions in self._by_name.values():
            # A crash, or another limit since, may have left more than is kept.
            await self._forget_surplus(versions)
            self._changed(versions.newest)
        return len(self._by_name)

    async def deploy(
        self, specification: Specification, chunks: AsyncIterator[bytes], idempotency_key: str = ""
    ) -> tuple[Deployment, bool]:
        """Make this the newest version of its name; its ``version`` is ignored.

        Returns:
            The deployment, and whether it is a new version: if it equals the newest one, nothing
            changes, and if the key has deployed it before, that version is returned.

        Raises:
            InvalidRequest, CodeTooLarge, CodeDigestMismatch: See ``validate`` and the store.
            VersionNotFound: The key has deployed it before, and that version is not kept any more.
            StorageFailed: It could not be kept; nothing has changed.
            ShuttingDown: The daemon is stopping.
        """
        validate(specification)
        if self._closed:
            raise ShuttingDown
        # The code is received outside the lock: a slow sender must not hold up the others.
        await self._store.store_code(chunks, specification.code)
        return await self._to_end(self._add(specification, idempotency_key))

    async def cool(self, reference: str, field: str = "deployment") -> Deployment:
        """Stop the workers of a version when its runs in progress have ended, and wait for that.

        Runs that have not ended in DRAIN_SECONDS fail, as does a Warm in progress that no run waits
        with. Who comes meanwhile waits for the end of it, and then starts the version again.

        Raises:
            InvalidRequest, DeploymentNotFound, VersionNotFound, PointerNotFound: See ``get``.
            ShuttingDown: The daemon is stopping.
        """
        deployment = self.get(reference, field)
        specification = deployment.specification
        reason = DeploymentCooled(specification.name, specification.version)
        # Who wants it cold now does not want it warm after a restart.
        deployment.last_used_at = 0.0
        await asyncio.shield(deployment.begin_cooling(reason, DRAIN_SECONDS))
        return deployment

    async def delete(self, reference: str, field: str = "deployment") -> None:
        """Remove durably, then wait until the runs have ended and the workers too.

        NAME is removed with all that it has. Any other reference removes the one version that it
        stands for; with the last version the name goes, too.

        Raises:
            InvalidRequest, DeploymentNotFound, VersionNotFound, PointerNotFound: See ``get``.
            VersionInUse: A pointer names the one version.
            StorageFailed: It is still there.
        """
        drains = await self._to_end(self._remove(reference, field))
        await asyncio.shield(asyncio.gather(*drains))

    async def set_pointer(
        self, pointer: str, target: str, *, overwrite: bool, locked: bool, unlock: bool
    ) -> Pointer:
        """Let NAME:POINTER stand for the version that the target stands for now.

        Args:
            pointer: NAME:POINTER.
            target: Any reference to the same name.
            overwrite: Whether there may be such a pointer already.
            locked: Whether it is locked from now on.
            unlock: Whether it may be locked now.

        Raises:
            InvalidRequest: One of them is no such reference, or the name has too many pointers.
            DeploymentNotFound, VersionNotFound, PointerNotFound: The target stands for nothing.
            PointerExists, PointerLocked: It is there, and may not be overwritten.
            StorageFailed: It is as it was.
        """
        return await self._to_end(self._point(pointer, target, overwrite, locked, unlock))

    async def delete_pointer(self, pointer: str, *, unlock: bool) -> None:
        """Remove a pointer; what it names stays.

        Raises:
            InvalidRequest: It is not NAME:POINTER.
            DeploymentNotFound, PointerNotFound: There is none.
            PointerLocked: It is locked, and ``unlock`` is not set.
            StorageFailed: It is still there.
        """
        await self._to_end(self._unpoint(pointer, unlock))

    async def keep_uses(self) -> None:
        """Let the store have when each was used last, in one write, if that has changed.

        Raises:
            StorageFailed: It has not been kept; the next call tries again.
        """
        used = {
            deployment: deployment.last_used_at
            for deployment in self.list(all_versions=True)
            if deployment.last_used_at != self._uses_kept.get(deployment, 0.0)
        }
        if not used:
            return
        await self._store.set_last_uses(
            {
                (deployment.specification.name, deployment.specification.version): at
                for deployment, at in used.items()
            }
        )
        self._uses_kept.update(used)

    async def quiet(self) -> None:
        """Wait until no instance of any deployment is being started."""
        while any(d.state is State.STARTING for d in self.list(all_versions=True)):
            self._startups_over.clear()
            await self._startups_over.wait()

    @property
    def active_runs(self) -> int:
        """Runs that wait for an instance or are being executed."""
        return sum(
            deployment.active_runs
            for deployment in {*self.list(all_versions=True), *self._drains.values()}
        )

    async def close(self, drain_seconds: float) -> None:
        """Refuse new work, let runs in progress end, and stop all workers.

        Called again, the time is what that call says if that is sooner.
        """
        self._closed = True
        reason: DomainError = ShuttingDown()
        draining = [*self.list(all_versions=True), *self._drains.values()]
        await asyncio.gather(
            *(deployment.drain(reason, drain_seconds) for deployment in draining),
            *self._drains,
            return_exceptions=True,
        )

    async def _add(
        self, specification: Specification, idempotency_key: str
    ) -> tuple[Deployment, bool]:
        name = specification.name
        added = False
        try:
            async with self._changing:
                if self._closed:
                    raise ShuttingDown
                versions = self._by_name.get(name)
                if versions is not None:
                    there = await self._there(versions, specification, idempotency_key)
                    if there is not None:
                        return there, False
                number = 1 if versions is None else versions.last + 1
                specification = replace(specification, version=number)
                await self._store.add(specification, idempotency_key)
                added = True
                before = None if versions is None else versions.newest
                if versions is None:
                    versions = self._by_name[name] = Versions(name)
                deployment = self._made(specification)
                versions.add(deployment)
                self._changed(deployment)
                deployment.keep_minimum()
                if before is not None:
                    self._let_cool(versions, before, number)
                await self._forget_surplus(versions)
                return deployment, True
        finally:
            if not added:
                with contextlib.suppress(StorageFailed):
                    await self._store.release_code(specification.code)

    async def _there(
        self, versions: Versions, specification: Specification, idempotency_key: str
    ) -> Deployment | None:
        """What is the answer to a call that changes nothing; None if it has to make a version."""
        number = await self._store.deployed(idempotency_key, specification)
        if number is not None:
            return versions.find(references.Reference(versions.name, f"v{number}"))
        newest = versions.newest
        if not newest.specification.same_as(specification):
            return None
        await self._store.remember(idempotency_key, newest.specification)
        return newest

    async def _remove(self, reference: str, field: str) -> Sequence[asyncio.Task[None]]:
        wanted = references.parse(reference, field)
        name = wanted.name
        async with self._changing:
            versions = self._versions(name)
            gone = versions.ordered()
            reason = DeploymentDeleted(name)
            if wanted.tag:
                deployment = versions.find(wanted)
                number = deployment.specification.version
                if pointers := versions.pointers_to(number):
                    raise VersionInUse(name, number, pointers)
                if len(gone) > 1:
                    await self._forget(versions, deployment)
                    self._changed(versions.newest)
                    reason = DeploymentDeleted(name, version=number)
                    return [self._drain(deployment, reason)]
            await self._store.remove(name)
            del self._by_name[name]
        self._on_change(name, None)
        self._observer.deployment_changed(name, exists=False)
        return [self._drain(deployment, reason) for deployment in gone]

    async def _point(
        self, pointer: str, target: str, overwrite: bool, locked: bool, unlock: bool
    ) -> Pointer:
        wanted = references.parse_pointer(pointer, "pointer")
        meant = references.parse(target, "target")
        if meant.name != wanted.name:
            raise InvalidRequest(
                "target", f"has to be a version of {wanted.name!r}, as the pointer"
            )
        async with self._changing:
            versions = self._versions(wanted.name)
            deployment = versions.find(meant)
            number = deployment.specification.version
            now = time.time()
            made = Pointer(wanted.name, wanted.tag, number, locked, now, now)
            before = versions.pointers.get(wanted.tag)
            if before is not None:
                if not overwrite:
                    raise PointerExists(before.reference, before.version)
                if before.locked and not unlock:
                    raise PointerLocked(before.reference, before.version)
                made = replace(made, created_at=before.created_at)
            elif len(versions.pointers) >= MAX_POINTERS:
                raise InvalidRequest("pointer", f"{wanted.name!r} has {MAX_POINTERS}, the most")
            await self._store.set_pointer(made)
            versions.pointers[wanted.tag] = made
            if before is not None:
                self._let_cool(versions, versions.by_number[before.version], number)
                await self._forget_surplus(versions)
            return made

    async def _unpoint(self, pointer: str, unlock: bool) -> None:
        wanted = references.parse_pointer(pointer, "pointer")
        async with self._changing:
            versions = self._versions(wanted.name)
            before = versions.pointers.get(wanted.tag)
            if before is None:
                raise PointerNotFound(wanted.name, wanted.tag, sorted(versions.pointers))
            if before.locked and not unlock:
                raise PointerLocked(before.reference, before.version)
            await self._store.remove_pointer(before)
            del versions.pointers[wanted.tag]
            newest = versions.newest.specification.version
            self._let_cool(versions, versions.by_number[before.version], newest)
            await self._forget_surplus(versions)

    def _made(self, specification: Specification) -> Deployment:
        code_path = self._store.code_path(specification.code)
        return Deployment(
            specification,
            code_path,
            self._launcher,
            self._changed,
            self._shared,
            self._idle_seconds,
            self._observer,
        )

    def _changed(self, deployment: Deployment) -> None:
        if deployment.state is not State.STARTING:
            self._startups_over.set()
        name = deployment.specification.name
        versions = self._by_name.get(name)
        # What became of an older version is not what the name stands for.
        if versions is not None and versions.newest is deployment:
            self._observer.deployment_changed(name, exists=True)
            self._on_change(name, deployment)

    def _let_cool(self, versions: Versions, deployment: Deployment, replaced_by: int) -> None:
        """Drain a version to cold, unless it is still what others than its number stand for."""
        if self._closed or versions.is_addressed(deployment.specification.version):
            return
        reason = DeploymentDeleted(versions.name, replaced_by=replaced_by)
        deployment.begin_cooling(reason, DRAIN_SECONDS)

    async def _forget_surplus(self, versions: Versions) -> None:
        for deployment in versions.surplus(self.versions_kept):
            # It is only kept too long if this fails; the next change tries again.
            with contextlib.suppress(StorageFailed):
                await self._forget(versions, deployment)
                number = deployment.specification.version
                self._drain(deployment, DeploymentDeleted(versions.name, version=number))

    async def _forget(self, versions: Versions, deployment: Deployment) -> None:
        number = deployment.specification.version
        await self._store.remove_version(versions.name, number)
        del versions.by_number[number]

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
