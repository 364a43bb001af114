"""Jumps of the time of day, for the daemon and all that it starts.

The clock of the machine belongs to everybody, and a time namespace shifts only those clocks that
never jump. So the jumps are made by a small library of ours that is loaded before the C library
(wall_clock.c). libfaketime 0.9.10 does that for any program, but where it leaves the monotonic
clock alone, as a real jump does, `time.sleep` of Python 3.11 fails (EINVAL of clock_nanosleep).
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("wall_clock.c")


class Clock:
    """The offset that the daemon's time of day has.

    Args:
        folder: For the library and the file with the offset.

    Attributes:
        environment: Variables for the daemon; empty where the clock cannot jump.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.environment: dict[str, str] = {}
        self.jump(0)
        library = folder / "wall_clock.so"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            return
        command = [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", str(_SOURCE), "-ldl"]
        subprocess.run([*command, "-o", str(library)], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._file)}

    @property
    def jumps(self) -> bool:
        """Whether it can: there is a C compiler."""
        return bool(self.environment)

    def jump(self, seconds: int) -> None:
        """Set the offset; takes effect at once."""
        packed = struct.pack("=q", seconds)
        if not self._file.exists():
            self._file.write_bytes(packed)
            return
        # In place, and in one write: processes have it mapped.
        with self._file.open("r+b", buffering=0) as file:
            file.write(packed)
