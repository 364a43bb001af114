"""Names as the hosted service has them, and what they are here."""

from __future__ import annotations

import re

from pipeline.errors import InvalidInput

__all__ = ["split_upload", "unowned"]

_POINTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"v[0-9]+")


def unowned(name: str) -> str:
    """Drop the hosted user: ``user/name:tag`` is ``name:tag`` here."""
    owner, slash, rest = name.partition("/")
    return rest if owner and slash else name


def split_upload(name: str) -> tuple[str, str]:
    """Split what a pipeline is uploaded as into its name and the pointer to set, if any.

    Raises:
        InvalidInput: what follows the colon cannot be a pointer.

    """
    plain, colon, tag = unowned(name).partition(":")
    if not colon or tag == "latest":
        return plain, ""
    if _VERSION.fullmatch(tag) or not _POINTER.fullmatch(tag):
        raise InvalidInput(
            f"{name!r}: {tag!r} cannot be a pointer: the daemon numbers versions itself (v1, v2, "
            "…), and pointers are letters, digits, '.', '_' and '-'",
            field="name",
        )
    return plain, f"{plain}:{tag}"
