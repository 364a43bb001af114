"""The committed modules of the wire API are what the .proto files say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROTO = Path(__file__).parents[2] / "proto"


def test_generated_modules_are_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROTO / "generate.py", tmp_path], check=True)
    generated = {path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2*.py*")}
    committed = {
        path.relative_to(PROTO) for path in PROTO.rglob("*_pb2*") if path.suffix in (".py", ".pyi")
    }
    assert generated
    assert generated == committed
    for path in sorted(generated):
        assert (tmp_path / path).read_text() == (PROTO / path).read_text(), path
