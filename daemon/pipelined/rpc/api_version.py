"""Clients whose API does not fit are told so by name, in whatever they call."""

from __future__ import annotations

from collections.abc import Sequence

from pipelined.core.errors import ApiMismatch
from pipelined_api.versions import API_VERSION, API_VERSION_KEY, major


def check_version(metadata: Sequence[tuple[str, str | bytes]]) -> None:
    """Refuse a call that says that it is of an API with another major version.

    Those that say nothing, from stubs in other languages, are served.

    Raises:
        ApiMismatch: It says so.
    """
    version = next((value for key, value in metadata if key == API_VERSION_KEY), None)
    if version is None or version == API_VERSION:
        return
    text = version if isinstance(version, str) else version.decode(errors="replace")
    if major(text) != major(API_VERSION):
        raise ApiMismatch(text, API_VERSION)
