"""Putting the loader in the place of safetensors, and taking it out again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

from safetensors import safe_open as stock_safe_open

from pipelined.weights._locks import ForkLock
from pipelined.weights._safe_open import load_file, safe_open

_lock = ForkLock()
# What was replaced, with what replaced it; empty where nothing is installed.
_replaced: list[tuple[object, object]] = []


def install() -> None:
    """Make `safetensors.safe_open` and `safetensors.torch.load_file` the loader's, process-wide.

    Meant to run before transformers, diffusers and accelerate are imported: whatever imports the
    names from here on gets ours. Modules that hold them already, under any name at their top level
    (as transformers does with `from safetensors import safe_open`), are given ours as well; a
    reference that hides elsewhere (in an instance, a closure, a default argument) stays with
    safetensors, which is slower but correct. Handles that are open stay as they are.

    Starts no thread and opens no file, so that a process may fork afterwards. Imports torch. A
    second call changes nothing but modules that have come to hold the originals since.
    """
    import safetensors.torch

    with _lock:
        if not _replaced:
            _replaced.append((stock_safe_open, safe_open))
            _replaced.append((safetensors.torch.load_file, load_file))
        for original, ours in _replaced:
            _rebind(original, ours)


def uninstall() -> None:
    """Undo `install`, also in the modules that have imported our functions since."""
    with _lock:
        for original, ours in _replaced:
            _rebind(ours, original)
        _replaced.clear()


def _rebind(old: object, new: object) -> None:
    for module in _foreign_modules():
        namespace = vars(module)
        for name in [name for name, value in list(namespace.items()) if value is old]:
            namespace[name] = new


def _foreign_modules() -> Iterator[ModuleType]:
    for name, module in list(sys.modules.items()):
        ours = name == "pipelined.weights" or name.startswith("pipelined.weights.")
        # safetensors' extension module keeps the originals, for the code that asks it by name.
        if not ours and name != "safetensors._safetensors_rust" and isinstance(module, ModuleType):
            yield module
