"""Amounts of memory as people write them."""

from __future__ import annotations

import re

__all__ = ["InvalidSize", "parse_size"]

# As 64-bit integers have it; nobody has more.
_MOST_BYTES = (1 << 63) - 1
_SIZE = re.compile(r"\s*\d*\.?\d+\s*[a-z]*\s*", re.IGNORECASE)


class InvalidSize(ValueError):
    """An amount of memory that is none, or out of its bounds; the text says which."""


def parse_size(text: str) -> int:
    """Return the bytes of a size such as "2GiB", "1.5GB" or "1000000".

    Raises:
        InvalidSize: It is none, not above 0, or more than 64-bit integers hold.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        # Pydantic stops at what it does not understand: "1,5GB" would be one byte.
        if _SIZE.fullmatch(text) is None:
            raise InvalidSize(f"{text!r} is not a size such as 256MiB, 1.5GB or 1000000")
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise InvalidSize(f"{text!r} has a unit that is not known: use MiB, GB, …") from None
    if size <= 0:
        raise InvalidSize(f"{text!r} is not more than nothing")
    if size > _MOST_BYTES:
        raise InvalidSize(f"{text!r} is more memory than there can be")
    return size
