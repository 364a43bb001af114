"""Which files a checkpoint consists of."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError

_INDEX_SUFFIX = ".safetensors.index.json"
# An index of a million tensors has less.
_MAX_INDEX_BYTES = 100_000_000


@dataclass(frozen=True)
class Shards:
    """The files of a checkpoint, in order; with an index, which file has which tensor."""

    paths: tuple[Path, ...]
    # Tensor to position in `paths`; None where there is no index.
    tensors: dict[str, int] | None


def find_shards(path: str | os.PathLike[str]) -> Shards:
    """Find the files of a checkpoint: a file, an index, or a folder that has one or the other.

    In a folder, `model.safetensors` and an index that stands alone come first, then all
    `*.safetensors`. Raises FileNotFoundError, OSError, and SafetensorError for an index that is
    none, names files outside of its folder, or is one of several.
    """
    path = Path(path)
    if not path.is_dir():
        return _from_index(path) if path.name.endswith(".json") else Shards((path,), None)
    indexes = sorted(path.glob(f"*{_INDEX_SUFFIX}"))
    usual = path / "model.safetensors"
    if usual.exists():
        return Shards((usual,), None)
    if len(indexes) > 1:
        names = ", ".join(index.name for index in indexes)
        raise SafetensorError(f"{path} has several checkpoints: name one of {names}")
    if indexes:
        return _from_index(indexes[0])
    files = tuple(sorted(path.glob("*.safetensors")))
    if not files:
        raise FileNotFoundError(f"there are no weights in {path}")
    return Shards(files, None)


def _from_index(path: Path) -> Shards:
    if path.stat().st_size > _MAX_INDEX_BYTES:
        raise SafetensorError(f"{path} is too large for an index")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise SafetensorError(f"{path} is not an index: {error}") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict):
        raise SafetensorError(f"{path} is not an index: it has no weight_map")
    names: dict[str, int] = {}
    tensors = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not _stays_inside(name):
            raise SafetensorError(
                f"{path} places {tensor!r} in {name!r}, which is no file beside it"
            )
        tensors[tensor] = names.setdefault(name, len(names))
    return Shards(tuple(path.parent / name for name in names), tensors)


def _stays_inside(name: str) -> bool:
    pure = PurePosixPath(name)
    return (
        bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and "\0" not in name
    )
