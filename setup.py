"""Builds the C++ weight loader. Everything else about the package is in pyproject.toml."""

import os
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup

ROOT = Path(__file__).parent
SOURCES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*.cpp"))

extension = Pybind11Extension(
    "pipelined._weights",
    sources=SOURCES,
    include_dirs=["csrc"],
    depends=sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*.hpp")),
    cxx_std=20,
    extra_compile_args=["-O3", "-Wall", "-Wextra", "-fvisibility=hidden", "-pthread"],
    extra_link_args=["-pthread"],
    # A client-only install does not need it; the daemon checks for it and says so.
    optional=os.environ.get("PIPELINED_REQUIRE_EXTENSION") != "1",
)

ParallelCompile(default=os.cpu_count() or 1).install()
setup(ext_modules=[extension], cmdclass={"build_ext": build_ext})
