"""The clock on imports."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelined.worker.imports import ImportTimer

NAMES = ("timed_outer", "timed_inner", "timed_broken", "timed_again")


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "timed_outer.py").write_text("import timed_inner\nimport json")
    (tmp_path / "timed_inner.py").write_text("value = 1")
    (tmp_path / "timed_broken.py").write_text("import timed_inner\nraise ValueError")
    (tmp_path / "timed_again.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in NAMES:
        sys.modules.pop(name, None)


def test_the_outermost_modules_are_named_in_order() -> None:
    with ImportTimer() as timer:
        importlib.import_module("timed_outer")
        importlib.import_module("timed_again")
        importlib.import_module("timed_inner")
        importlib.import_module("json")
    assert timer.names == "timed_outer, timed_again"
    assert timer.began is not None
    assert timer.seconds > 0


def test_nothing_is_timed_outside() -> None:
    before = list(sys.meta_path)
    with ImportTimer() as timer:
        pass
    importlib.import_module("timed_outer")
    assert sys.meta_path == before
    assert (timer.began, timer.names) == (None, "")


def test_an_import_that_fails_counts_and_fails_as_ever() -> None:
    with ImportTimer() as timer:
        with pytest.raises(ValueError, match="^$"):
            importlib.import_module("timed_broken")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("timed_absent")
    assert timer.names == "timed_broken"


def test_a_module_keeps_its_own_loader() -> None:
    with ImportTimer():
        module = importlib.import_module("timed_inner")
    assert module.__spec__ is not None
    assert type(module.__spec__.loader) is type(json.__spec__.loader)
    assert "exec_module" not in vars(module.__spec__.loader)
    assert importlib.reload(module).value == 1
