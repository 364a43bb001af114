"""What the operator lets each worker have."""

from __future__ import annotations

from dataclasses import dataclass

from pipelined.core.files import FileLimits
from pipelined_api.limits import MAX_MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that are the same for all workers, in bytes.

    Attributes:
        response_bytes: What the response to a run may have.
        pinned_bytes: Host memory that may be pinned at once to load weights onto devices; None for
            the loader's default.
        device_bytes: What weights may take of each device through the loader; None for all.
        url_hosts: Where files may be fetched from by their URL; see `pipelined_api.url_hosts`.
        url_bytes: What such a file, or an unpacked archive, may have.
    """

    response_bytes: int = MAX_MESSAGE_BYTES
    pinned_bytes: int | None = None
    device_bytes: int | None = None
    url_hosts: tuple[str, ...] = ()
    url_bytes: int = FileLimits().file_bytes
