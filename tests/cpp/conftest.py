"""What the tests of C++ units share: they are compiled when the first of them runs."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from tests.cpp import compiling
from tests.cpp.compiling import CORE, UNITS, Built, sources


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The module and the program with all tests, and the libraries that they open."""
    units = sources(CORE, UNITS)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    module = compiling.build(
        f"_weights_tests{suffix}",
        [*units, compiling.HERE / "module.cpp"],
        compiling.python_flags(),
        ["-shared", "-ldl"],
    )
    program = compiling.build(
        "weights_tests", [*units, compiling.HERE / "main.cpp"], compiling.python_flags(), ["-ldl"]
    )
    libraries = tmp_path_factory.mktemp("libraries")
    # Each folder of sources in tests/cpp is one library, libFOLDER.so.
    for folder in sorted(path for path in compiling.HERE.iterdir() if any(path.glob("*.cpp"))):
        library = compiling.build(
            f"lib{folder.name}.so", sorted(folder.glob("*.cpp")), [], ["-shared", "-ldl"]
        )
        (libraries / library.name).symlink_to(library)
    compiling.forget_old()
    return Built(module, program, Path(libraries))
