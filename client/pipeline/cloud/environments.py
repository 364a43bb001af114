"""What pipelines require, recorded under a name."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.cloud._connection import connected
from pipeline.cloud._names import unowned

__all__ = ["create_environment"]


def create_environment(
    name: str, python_requirements: Sequence[str], allow_existing: bool = True
) -> str:
    """Record what a pipeline requires; nothing is installed.

    Workers run in the one environment of the daemon. What it lacks, or has in another version, is
    warned about here, one by one, and refused when something is uploaded for this environment.

    Args:
        name: ``name`` or ``user/name``, of which ``user/`` is dropped.
        python_requirements: as PEP 508 has them, such as ``"torch>=2.4"``.
        allow_existing: whether there may be an environment of that name, whose requirements these
            replace.

    Returns:
        Its id, which is its name.

    Raises:
        errors.AlreadyExists: there is one, and there may not be.
        errors.InvalidInput: the name, or one is no requirement or names a URL.

    """
    return (
        connected()
        .create_environment(unowned(name), python_requirements, overwrite=allow_existing)
        .name
    )
