"""What is installed here, found out without importing it."""

from __future__ import annotations

import importlib.util
import platform
from importlib import metadata


class InstalledPackages:
    """Implements core's Installed for this interpreter, which is also that of the workers."""

    @property
    def python_version(self) -> str:
        """See Installed."""
        return platform.python_version()

    def has_module(self, module: str) -> bool:
        """See Installed."""
        try:
            return importlib.util.find_spec(module.partition(".")[0]) is not None
        except (ImportError, ValueError):
            return False

    def version(self, distribution: str) -> str | None:
        """See Installed."""
        try:
            return metadata.version(distribution)
        except (metadata.PackageNotFoundError, ValueError):
            return None
