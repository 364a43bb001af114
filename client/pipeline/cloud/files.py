"""Files of the hosted service."""

from __future__ import annotations

from os import PathLike

from pipeline.cloud._not_served import not_served
from pipeline.objects import File

__all__ = ["upload_file"]


def upload_file(path: str | PathLike[str]) -> File:
    """Upload a file, to be named in later runs.

    Raises:
        errors.NotServed: always, in this version.

    """
    raise not_served(
        "files.upload_file",
        "File(path=…) sends a file with a run, and Client.files.upload ahead of it",
    )
