"""How a request names one version of a deployment, and the pointers that it may use for that.

======================  ===================================================
``NAME``                the newest version
``NAME:latest``         the same
``NAME:v3``             version 3
``NAME:POINTER``        the version that the pointer names
======================  ===================================================
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pipelined.core.errors import InvalidRequest, PointerNotFound, VersionNotFound

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
NAME_RULE = (
    "has to be 1 to 128 letters, digits, '.', '_' or '-', the first of them a letter or digit"
)
LATEST = "latest"
# No longer than what sqlite and the wire can count.
_VERSION = re.compile(r"v([0-9]{1,9})")
_LIKE_A_VERSION = re.compile(r"v[0-9]+")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference.

    Attributes:
        name: Of the deployment; whether there is one is not known yet.
        tag: What came after the colon; empty for NAME alone.
    """

    name: str
    tag: str = ""

    @property
    def version(self) -> int | None:
        """The number in ``NAME:vN``; None if the newest version or a pointer is meant."""
        found = _VERSION.fullmatch(self.tag)
        return None if found is None else int(found[1])


@dataclass(frozen=True, slots=True)
class Pointer:
    """A name of its own for one version of a deployment.

    Attributes:
        name: Of the deployment.
        tag: Of the pointer: ``NAME:TAG`` is how it is used.
        version: What it names.
        locked: Whether it is refused to change or remove it without unlocking it.
        created_at: Seconds since the epoch.
        updated_at: When it was set last; seconds since the epoch.
    """

    name: str
    tag: str
    version: int
    locked: bool
    created_at: float
    updated_at: float

    @property
    def reference(self) -> str:
        """How it is used: ``NAME:TAG``."""
        return f"{self.name}:{self.tag}"


def parse(text: str, field: str) -> Reference:
    """Read a reference.

    Args:
        text: As the request has it.
        field: Of the request, for errors.

    Raises:
        InvalidRequest: What comes after the colon is neither a version nor a possible pointer.
    """
    name, colon, tag = text.partition(":")
    if colon and not NAME.fullmatch(tag):
        raise InvalidRequest(
            field,
            f"{text[:200]!r}: what follows the ':' is '{LATEST}', 'v' and a number, or a pointer, "
            f"which {NAME_RULE}",
        )
    if _LIKE_A_VERSION.fullmatch(tag) and not _VERSION.fullmatch(tag):
        raise InvalidRequest(field, f"{text[:200]!r}: a version has at most 9 digits")
    return Reference(name, tag)


def parse_pointer(text: str, field: str) -> Reference:
    """Read a reference that has to be a pointer's, ``NAME:POINTER``.

    Raises:
        InvalidRequest: It is none.
    """
    reference = parse(text, field)
    if not reference.tag:
        raise InvalidRequest(field, f"{text[:200]!r} has to be NAME:POINTER")
    if reference.tag == LATEST or reference.version is not None:
        raise InvalidRequest(
            field,
            f"{text[:200]!r}: a pointer cannot be called '{LATEST}', or 'v' and a number, which "
            "name versions themselves",
        )
    return reference


def resolve(
    reference: Reference, versions: Collection[int], pointers: Mapping[str, Pointer]
) -> int:
    """The version that is meant, of the versions (at least one) and pointers of that name.

    Raises:
        VersionNotFound, PointerNotFound: There is no such version or pointer.
    """
    if reference.tag in ("", LATEST):
        return max(versions)
    version = reference.version
    if version is None:
        try:
            return pointers[reference.tag].version
        except KeyError:
            raise PointerNotFound(reference.name, reference.tag, sorted(pointers)) from None
    if version not in versions:
        raise VersionNotFound(reference.name, version, sorted(versions))
    return version
