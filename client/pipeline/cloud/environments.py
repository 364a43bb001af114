"""Python environments of the hosted service."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.cloud._not_served import not_served

__all__ = ["create_environment"]


def create_environment(
    name: str, python_requirements: Sequence[str], allow_existing: bool = True
) -> str:
    """Record what a pipeline requires.

    Raises:
        errors.NotServed: always, in this version.

    """
    raise not_served(
        "environments.create_environment", "workers run in the environment of the daemon"
    )
