"""Names such as ``diffusion:prod`` for one version of a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import errors
from pipeline.cloud._connection import connected
from pipeline.cloud._names import unowned
from pipeline.cloud.schemas.pointers import PointerGet

if TYPE_CHECKING:
    from pipeline.deployment import Pointer

__all__ = ["create_pointer", "delete_pointer", "edit_pointer", "get_pointer"]


def create_pointer(
    pointer: str, target_pipeline_id_or_pointer: str, overwrite: bool = False, locked: bool = False
) -> PointerGet:
    """Let a name point at a version of a pipeline; see :meth:`pipeline.Client.create_pointer`.

    Args:
        pointer: ``name:tag`` or ``user/name:tag``, of which ``user/`` is dropped; the name is that
            of the target.
        target_pipeline_id_or_pointer: the version that it stands for now is meant.
        overwrite: whether the pointer may exist, and point elsewhere until now.
        locked: whether it cannot be set to something else or deleted before it is unlocked.

    Raises:
        errors.AlreadyExists: it exists, and is not to be overwritten.
        errors.NotFound: there is no such version.
        errors.InvalidInput: this is no name of a pointer, or one of another pipeline.
        errors.PipelineError: it is locked (reason ``"POINTER_LOCKED"``).

    """
    target = unowned(target_pipeline_id_or_pointer)
    return _made(
        connected().create_pointer(unowned(pointer), target, overwrite=overwrite, locked=locked)
    )


def get_pointer(pointer: str) -> PointerGet:
    """Look up a pointer.

    Raises:
        errors.NotFound: there is none of that name.

    """
    return _made(_found(unowned(pointer)))


def edit_pointer(
    pointer: str,
    target_pipeline_id_or_pointer: str | None = None,
    locked: bool | None = None,
) -> PointerGet:
    """Set a pointer to another version, lock it, or unlock it.

    Args:
        pointer: that exists.
        target_pipeline_id_or_pointer: what it points at from now on; None to leave that.
        locked: whether it is locked from now on; None to leave that. False also lets a locked one
            be edited.

    Raises:
        errors.NotFound: there is no such pointer, or no such version.
        errors.PipelineError: it is locked, and ``locked`` is not False (reason
            ``"POINTER_LOCKED"``).

    """
    before = _found(unowned(pointer))
    target = target_pipeline_id_or_pointer
    return _made(
        connected().create_pointer(
            before.pointer,
            f"{before.name}:v{before.version}" if target is None else unowned(target),
            overwrite=True,
            locked=before.locked if locked is None else locked,
            unlock=locked is False,
        )
    )


def delete_pointer(pointer: str) -> None:
    """Remove a pointer; what it points at stays.

    Raises:
        errors.NotFound: there is none of that name.
        errors.PipelineError: it is locked (reason ``"POINTER_LOCKED"``).

    """
    connected().delete_pointer(unowned(pointer))


def _found(pointer: str) -> Pointer:
    name = pointer.partition(":")[0]
    for each in connected().pointers(name):
        if each.pointer == pointer:
            return each
    raise errors.NotFound(f"pipeline {name!r} has no pointer {pointer!r}")


def _made(pointer: Pointer) -> PointerGet:
    return PointerGet(
        id=pointer.pointer,
        pointer=pointer.pointer,
        pipeline_id=f"{pointer.name}:v{pointer.version}",
        locked=pointer.locked,
    )
