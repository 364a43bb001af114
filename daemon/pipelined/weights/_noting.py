"""Which files an error is about, where it is memory or a device that it tells of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipelined.weights.errors import CudaError, DriverMissing, OverBudget


@contextmanager
def noting(paths: Sequence[str]) -> Iterator[None]:
    """Add a note with the files to an error that does not name them."""
    try:
        yield
    except (OverBudget, CudaError, DriverMissing) as error:
        others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        note = f"weights: {paths[0]}{others}" if paths else "weights: no files"
        # As add_note() would, which Python 3.10 does not have.
        error.__notes__ = [*getattr(error, "__notes__", ()), note]
        raise
