"""Compiles C++ for the tests; what has not changed is not compiled again.

Every file that is made is named after a hash of all that went into it: the compiler, its flags, the
source and the headers of ours that it includes, directly or not. So it is never out of date, and
several sessions may build at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pybind11

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CORE = "csrc/weights/**/*.cpp"
UNITS = "tests/cpp/*_test.cpp"
INCLUDES = (ROOT / "csrc", HERE)
_INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
_KEPT = 400
_BASE_FLAGS = ("-std=c++20", "-O1", "-g", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True)
class Built:
    """What the tests of the units are run from."""

    module: Path
    program: Path
    libraries: Path


def sanitizer() -> str:
    """The sanitizer that everything is built with: "address", "thread" or "" for none."""
    return os.environ.get("PIPELINED_TEST_SANITIZER", "")


def sources(*patterns: str) -> list[Path]:
    """The files that match, from the root of the repository."""
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def build(target: str, files: Sequence[Path], flags: Sequence[str], link: Sequence[str]) -> Path:
    """Compile and link; return the file, which has the target's name.

    Raises AssertionError with the compiler's own words.
    """
    # Who comes second finds it made, instead of making it as well.
    with _alone(target):
        return _build(target, files, flags, link)


def _build(target: str, files: Sequence[Path], flags: Sequence[str], link: Sequence[str]) -> Path:
    of_the_user = shlex.split(os.environ.get("CXXFLAGS", ""))
    flags = [*_BASE_FLAGS, *_sanitizer_flags(), *flags, *of_the_user]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        objects = list(pool.map(lambda path: _object(path, flags), files))
    key = _digest([target, *map(str, objects), *flags, *link])
    result = _cache() / key / target
    if result.exists():
        os.utime(result.parent)
    else:
        _run(result, [*map(str, objects), *flags, *link])
    return result


@contextlib.contextmanager
def _alone(target: str) -> Iterator[None]:
    """Wait for other processes that build the same."""
    with (_cache() / f"{target}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_program() -> Path:
    """The program that runs the units' tests."""
    return build(
        "weights_tests", [*sources(CORE, UNITS), HERE / "main.cpp"], python_flags(), ["-ldl"]
    )


def build_library(name: str, flags: Sequence[str] = ()) -> Path:
    """What tests open by path: the folder of that name beside this file, as libNAME.so."""
    files = sorted((HERE / name).glob("*.cpp"))
    return build(f"lib{name}.so", files, flags, ["-shared", "-ldl"])


def link_libraries(folder: Path) -> None:
    """Have all libraries in one folder, which must not exist, under their own names."""
    folder.mkdir()
    for source in sorted(path for path in HERE.iterdir() if any(path.glob("*.cpp"))):
        library = build_library(source.name)
        (folder / library.name).symlink_to(library)


def python_flags() -> list[str]:
    """What a module of Python is compiled with."""
    folders = [sysconfig.get_paths()["include"], pybind11.get_include()]
    return [*(f"-isystem{folder}" for folder in folders), "-fvisibility=hidden"]


def forget_old() -> None:
    """Keep the cache from growing for ever."""
    made = (path for path in _cache().iterdir() if path.suffix != ".lock")
    entries = sorted(made, key=lambda path: path.stat().st_mtime, reverse=True)
    for entry in entries[_KEPT:]:
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _object(source: Path, flags: Sequence[str]) -> Path:
    contents = [path.read_bytes().hex() for path in closure(source)]
    result = _cache() / f"{source.stem}-{_digest([str(source), *flags, *contents])}.o"
    if result.exists():
        os.utime(result)
    else:
        includes = [f"-I{folder}" for folder in INCLUDES]
        _run(result, ["-c", str(source), *includes, *flags])
    return result


def closure(source: Path) -> list[Path]:
    """The source and the headers of ours that it includes."""
    seen = [source]
    for path in seen:
        for name in _INCLUDE.findall(path.read_bytes()):
            for folder in (path.parent, *INCLUDES):
                header = (folder / os.fsdecode(name)).resolve()
                if header.is_file():
                    if header not in seen:
                        seen.append(header)
                    break
    return seen


def _run(result: Path, arguments: Sequence[str]) -> None:
    result.parent.mkdir(parents=True, exist_ok=True)
    unfinished = result.with_name(f"{result.name}.{os.getpid()}")
    done = subprocess.run(
        [_compiler()[0], *arguments, "-o", unfinished], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.args}\n{done.stderr}"
    unfinished.replace(result)


def _sanitizer_flags() -> list[str]:
    if not sanitizer():
        return []
    kinds = "address,undefined" if sanitizer() == "address" else sanitizer()
    return [f"-fsanitize={kinds}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


def _digest(parts: Sequence[str]) -> str:
    text = "\0".join([*_compiler(), *parts])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@cache
def _compiler() -> tuple[str, str]:
    command = os.environ.get("CXX", "g++")
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    return command, version.stdout


@cache
def _cache() -> Path:
    folder = ROOT / "build" / "cpp-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
