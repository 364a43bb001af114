"""What a figure was measured on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("pipelined", "torch", "diffusers", "transformers", "safetensors", "grpcio")


def machine() -> dict[str, str]:
    """Processor, memory, kernel and versions, in words."""
    facts = {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.1f} GiB",
        "kernel": platform.release(),
        "load": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
    }
    return facts | {package: _version(package) for package in PACKAGES}


def _field(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
