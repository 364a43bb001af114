"""The loaders that ours is compared with, each installed into an environment of its own.

An environment holds what a peer needs and nothing else; torch and numpy are those of the
environment that runs this, found through a .pth file, so that all arms have the same ones.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from environments import ROOT, python_in


@dataclass(frozen=True)
class Peer:
    """One loader.

    Attributes:
        name: as the tables have it.
        arm: of loader_arm.py.
        requirement: what pip is asked for; None for what is in our own environment.
        cold, warm: environment variables for files on the disk, and in the page cache.
    """

    name: str
    arm: str
    requirement: str | None = None
    cold: dict[str, str] = field(default_factory=dict)
    warm: dict[str, str] = field(default_factory=dict)


OURS = Peer("pipelined", "pipelined")
STOCK = Peer("safetensors 0.8.0", "safetensors-mmap", "safetensors==0.8.0")
PEERS = (
    STOCK,
    Peer("safetensors 0.8.0 pread", "safetensors-pread", "safetensors==0.8.0"),
    Peer("safetensors 0.9.0rc1", "safetensors-mmap", "safetensors==0.9.0rc1"),
    Peer("safetensors 0.9.0rc1 pread", "safetensors-pread", "safetensors==0.9.0rc1"),
    Peer("runai 0.17.0", "runai", "runai-model-streamer==0.17.0"),
    Peer(
        "fastsafetensors 0.5.0",
        "fastsafetensors",
        "fastsafetensors==0.5.0",
        # Its own default would go around the page cache.
        warm={"FASTSAFETENSORS_ODIRECT": "0"},
    ),
)


def python_of(peer: Peer) -> Path:
    """The interpreter of a peer's environment, which is made on first use.

    Raises subprocess.CalledProcessError, with what pip said, where it does not install.
    """
    if peer.requirement is None:
        return Path(sys.executable)
    # No other torch may come in; the peer itself has the version that was asked for.
    name = peer.requirement.partition("==")[0]
    lines = (ROOT / "constraints.txt").read_text().splitlines(keepends=True)
    constraints = "".join(line for line in lines if not line.startswith(f"{name}=="))
    folder = peer.requirement.replace("==", "-")
    return python_in(folder, [peer.requirement], constraints=constraints, shared=True)
