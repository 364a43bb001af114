"""What the tests of C++ units share: they are compiled when the first of them runs."""

from __future__ import annotations

import sysconfig

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
    libraries = tmp_path_factory.mktemp("units") / "libraries"
    compiling.link_libraries(libraries)
    compiling.forget_old()
    return Built(module, compiling.build_program(), libraries)
