"""Names such as ``diffusion:prod`` for one version of a pipeline."""

from __future__ import annotations

from pipeline.cloud._not_served import not_served

__all__ = ["create_pointer"]


def create_pointer(
    pointer: str, target_pipeline_id_or_pointer: str, overwrite: bool = False, locked: bool = False
) -> None:
    """Let a name point at a version of a pipeline.

    Raises:
        errors.NotServed: always, in this version.

    """
    raise not_served("pointers.create_pointer", "a deployment's name means its newest version")
