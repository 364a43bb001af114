"""Our declarations of the CUDA driver against a toolkit's, where there is one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cpp.compiling import HERE, ROOT

TYPES = Path("weights/cuda/driver_types.hpp")


def _toolkit() -> Path | None:
    """The folder with cuda.h."""
    named = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    candidates = [*(Path(name) for name in named if name), Path("/usr/local/cuda")]
    candidates += sorted(Path("/usr/local").glob("cuda-*"), reverse=True)
    folders = [*(path / "include" for path in candidates), Path("/usr/include")]
    return next((folder for folder in folders if (folder / "cuda.h").exists()), None)


TOOLKIT = _toolkit()
pytestmark = pytest.mark.skipif(TOOLKIT is None, reason="no CUDA toolkit is installed")


def _complaints(*includes: Path) -> str:
    """Compile the comparison; return the compiler's words, which are "" if all agrees."""
    done = subprocess.run(
        [
            os.environ.get("CXX", "g++"),
            "-std=c++20",
            "-fsyntax-only",
            *(f"-I{folder}" for folder in (*includes, ROOT / "csrc")),
            f"-isystem{TOOLKIT}",
            HERE / "cuda_header_check.cpp",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (done.stderr == "")
    return done.stderr


def test_the_declarations_are_those_of_the_toolkit() -> None:
    assert _complaints() == ""


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        pytest.param("not_ready = 600", "not_ready = 601", "not_ready", id="error code"),
        pytest.param("cuMemGetInfo_v2", "cuMemGetInfo", "cuMemGetInfo", id="old form"),
        pytest.param(
            "Result(Event, Stream)", "Result(Event, Event)", "cuEventRecord", id="argument"
        ),
        pytest.param("  int id;", "  int id;\n  int more;", "Location", id="size of a structure"),
        pytest.param(
            "  unsigned char compression_type;\n  unsigned char gpu_direct_rdma_capable;\n",
            "  unsigned char gpu_direct_rdma_capable;\n  unsigned char compression_type;\n",
            "compression_type",
            id="order of members",
        ),
        pytest.param(
            "enum class Granularity : std::uint32_t",
            "enum class Granularity : std::uint64_t",
            "Granularity",
            id="size of an enumeration",
        ),
    ],
)
def test_a_mistake_is_found(tmp_path: Path, right: str, wrong: str, complaint: str) -> None:
    text = (ROOT / "csrc" / TYPES).read_text()
    assert text.count(right) == 1
    mistaken = tmp_path / TYPES
    mistaken.parent.mkdir(parents=True)
    mistaken.write_text(text.replace(right, wrong))
    words = _complaints(tmp_path)
    assert "static assertion failed" in words
    assert complaint in words
