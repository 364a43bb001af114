"""`make test-gpu`: builds the loader, tests it on the machine's own GPU, and prints load times.

    python3 tests/gpu/run.py [--rehearse]

Needs what a machine with a GPU usually has: torch for CUDA, safetensors, numpy, pybind11 and g++;
neither a network nor anything of ours installed. Writes below build/ and into temporary folders.
With pytest, the tests of C++ units and of the loader run too, as far as their own imports are
there; without it, the units do. What does not run is printed with its reason.

--rehearse takes the fake driver of the tests where a GPU is wanted, to try all this without one;
what needs torch's CUDA is skipped then.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "build" / "gpu" / "lib"
NEEDED = ("torch", "safetensors", "numpy", "pybind11")
PYTEST_OPTIONS = (
    "-c",
    "tests/gpu/bare.ini",
    f"--rootdir={ROOT}",
    "-p",
    "no:cacheprovider",
    "--import-mode=importlib",
    "-ra",
    "-q",
)
_IMPORT = re.compile(r"^(?:import|from) +([\w.]+)(?: +import +\(?([\w, ]+))?", re.MULTILINE)

sys.path.insert(0, str(ROOT))


@dataclass
class Steps:
    """What was done, and how it ended."""

    environment: dict[str, str]
    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def run(self, name: str, *command: str | Path) -> None:
        """Run a program of the checkout with this Python."""
        print(f"\n==== {name}", flush=True)
        if subprocess.run([sys.executable, *command], cwd=ROOT, env=self.environment).returncode:
            self.failed.append(name)

    def leave_out(self, what: str, reason: str) -> None:
        self.left_out.append(f"{what}: {reason}")


def missing() -> list[str]:
    """What the machine lacks, in words."""
    names = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    found = [f"the Python package {name}" for name in names]
    compiler = os.environ.get("CXX", "g++")
    try:
        subprocess.run([compiler, "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        found.append(f"the compiler {compiler}")
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.exists():
        found.append(f"Python's headers ({header})")
    return found


def build_package() -> None:
    """Make a folder from which `pipelined` is imported: its sources, and the extension compiled."""
    from tests.cpp import compiling

    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    extension = compiling.build(
        f"_weights{suffix}",
        compiling.sources(compiling.CORE, "csrc/python/*.cpp"),
        [*compiling.python_flags(), "-O3"],
        ["-shared", "-ldl"],
    )
    package = PACKAGE / "pipelined"
    package.mkdir(parents=True, exist_ok=True)
    for link in package.iterdir():
        link.unlink()
    for part in (ROOT / "daemon" / "pipelined").iterdir():
        if part.suffix != ".so" and part.name != "__pycache__":
            (package / part.name).symlink_to(part)
    (package / extension.name).symlink_to(extension)


def environment_of(rehearse: bool) -> dict[str, str]:
    path = [str(PACKAGE), str(ROOT)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        # A warning of a compiler that we have not tried is no reason to stop.
        "CXXFLAGS": f"{os.environ.get('CXXFLAGS', '')} -Wno-error",
    }
    if rehearse:
        from tests.cpp import compiling

        environment["PIPELINED_CUDA_DRIVER"] = str(compiling.build_library("fake_cuda"))
    driver = environment.get("PIPELINED_CUDA_DRIVER", "libcuda.so.1")
    environment["PIPELINED_TEST_CUDA_DRIVER"] = driver
    return environment


def unimportable(path: Path, seen: set[Path] | None = None) -> str | None:
    """Which module a file of tests needs, itself or by others, and is not there; None for none."""
    seen = set() if seen is None else seen
    seen.add(path)
    for found in _IMPORT.finditer(path.read_text()):
        module, names = found[1], found[2] or ""
        top = module.partition(".")[0]
        if top == "tests":
            parts = [module, *(f"{module}.{name.strip()}" for name in names.split(","))]
            files = [ROOT / f"{part.replace('.', '/')}.py" for part in parts]
            for file in files:
                if file.exists() and file not in seen:
                    other = unimportable(file, seen)
                    if other is not None:
                        return other
        elif top not in ("pipelined", "__future__") and importlib.util.find_spec(top) is None:
            return str(top)
    return None


def test_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / "tests" / folder).rglob("test_*.py"))


def run_pytest(steps: Steps) -> None:
    """The tests of the units and of the loader, the same as everywhere."""
    chosen = []
    for path in test_files("cpp", "weights"):
        name = unimportable(path)
        if name is None:
            chosen.append(path.relative_to(ROOT))
        else:
            steps.leave_out(str(path.relative_to(ROOT)), f"{name} is not installed")
    steps.run("The loader's tests", "-m", "pytest", *PYTEST_OPTIONS, *chosen)


def run_units(steps: Steps) -> None:
    """The tests of C++ units, each in a process of its own, where there is no pytest."""
    from tests.cpp import compiling

    print("\n==== The C++ units' tests", flush=True)
    program = compiling.build_program()
    with tempfile.TemporaryDirectory() as scratch:
        libraries = Path(scratch) / "libraries"
        compiling.link_libraries(libraries)
        listed = subprocess.run([program], capture_output=True, text=True, check=True)
        names = sorted(listed.stdout.split())

        def run(name: str) -> str | None:
            folder = Path(scratch) / name
            folder.mkdir()
            command: list[str | Path] = [program, name, folder, libraries]
            done = subprocess.run(command, capture_output=True, text=True, env=steps.environment)
            if done.returncode:
                return f"{name}: {done.stderr.strip() or f'exit code {done.returncode}'}"
            return None

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            failures = [failure for failure in pool.map(run, names) if failure is not None]
    for failure in failures:
        print(failure)
    print(f"{len(names)} tests, {len(failures)} failed")
    if failures:
        steps.failed.append("The C++ units' tests")
    steps.leave_out("tests/weights, and the comparison with cuda.h", "pytest is not installed")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rehearse", action="store_true", help="with the fake driver, without GPU")
    rehearse = parser.parse_args().rehearse
    lacking = missing()
    if lacking:
        print(f"make test-gpu needs {', '.join(lacking)}, with {sys.executable}", file=sys.stderr)
        return 2
    environment = environment_of(rehearse)
    os.environ.update(environment)
    probe = (
        "from tests.gpu import devices; "
        f"print(devices.why_no_{'' if 'PIPELINED_CUDA_DRIVER' in environment else 'torch_'}device()"
        " or '', end='')"
    )
    asked = subprocess.run(
        [sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=False
    )
    reason = asked.stdout or asked.stderr
    if reason:
        print(f"make test-gpu needs a GPU: {reason}", file=sys.stderr)
        return 1
    print("Building", flush=True)
    build_package()
    steps = Steps(environment)
    if importlib.util.find_spec("pytest") is None:
        run_units(steps)
    else:
        run_pytest(steps)
    modules = [f"tests.gpu.{path.stem}" for path in test_files("gpu")]
    steps.run("Tests on the device", "-m", "unittest", "-v", *modules)
    timing = ("--rounds=2", "--megabytes=50") if rehearse else ()
    steps.run("Load times", "-m", "tests.gpu.load_times", *timing)
    print()
    for line in steps.left_out:
        print(f"not run: {line}")
    print(f"failed: {', '.join(steps.failed)}" if steps.failed else "all that ran has passed")
    return 1 if steps.failed else 0


if __name__ == "__main__":
    sys.exit(main())
