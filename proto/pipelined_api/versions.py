"""The version of the wire API, and how the two ends find out that they do not fit.

Minor versions add calls and fields, so ends whose minors differ work together; what one of them
does not know is refused by name. Ends whose majors differ do not.
"""

from __future__ import annotations

__all__ = ["API_VERSION", "API_VERSION_KEY", "major"]

API_VERSION = "1.2"
# A client says its own with every call, in the metadata.
API_VERSION_KEY = "pipelined-api-version"


def major(version: str) -> str:
    """Return what has to agree: the part before the first point."""
    return version.partition(".")[0]
