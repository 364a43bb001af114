# The one entry to the project. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CPP := $(shell find csrc -name "*.cpp" -o -name "*.hpp" | sort)
TEST_CPP := $(shell find tests -name "*.cpp" -o -name "*.hpp" | sort)
# What the sanitizers are for: everything that ends up in the extension.
SANITIZED := tests/cpp tests/weights
SECONDS ?= 60
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help venv demo test test-faults test-asan test-tsan test-gpu chaos soak fuzz fuzz-rpc overload lint format bench \
	bench-check proto clean
.DEFAULT_GOAL := help

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

venv: $(VENV)/.packages $(VENV)/.extension  ## A complete .venv: everything installed, the extension compiled

$(VENV)/.packages: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	@# The build runs in this environment, with the pinned tools: an isolated one would fetch others.
	$(PIP) setuptools wheel pybind11
	$(PIP) torch
	PIPELINED_REQUIRE_EXTENSION=1 $(PIP) --no-build-isolation --editable '.[daemon,otel,models,dev]'
	@touch $@ $(VENV)/.extension

$(VENV)/.extension: $(VENV)/.packages $(CPP)
	PIPELINED_REQUIRE_EXTENSION=1 $(BIN)/python setup.py --quiet build_ext --inplace
	$(BIN)/python -c 'import pipelined._weights'
	@touch $@

demo: venv  ## Start a daemon, deploy two real pipelines, show what starting them costs
	$(BIN)/python client/examples/demo.py

test: venv  ## All tests but those with a target of their own
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

test-faults: venv  ## The tests of a disk that fails, with every call failing in every way
	PIPELINED_TEST_FAULTS=all $(BIN)/pytest tests/store

test-asan: venv  ## The loader's tests with AddressSanitizer and UndefinedBehaviorSanitizer
	PYTHON=$(BIN)/python tests/sanitizers/run address $(SANITIZED)

test-tsan: venv  ## The loader's tests with ThreadSanitizer
	PYTHON=$(BIN)/python tests/sanitizers/run thread $(SANITIZED)

test-gpu:  ## Test and time the loader on this machine's GPU; needs no .venv, but python3 with torch
	$(PYTHON) tests/gpu/run.py

chaos: venv  ## A storm of faults against a daemon under load, for MINUTES=10 and with SEED=…
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

soak: venv  ## Constant load for MINUTES=30: memory and descriptors of the daemon stay flat
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),30)

fuzz:  ## Feed the header's parser what it has never seen, for SECONDS=60; needs clang
	tests/fuzz/run $(SECONDS)

fuzz-rpc: venv  ## Send a daemon whatever can be sent to it, for SECONDS=60
	$(BIN)/python -m tests.hostile.fuzz_rpc $(SECONDS)

lint: venv  ## Every linter, as errors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	$(BIN)/clang-format --dry-run --Werror $(CPP) $(TEST_CPP)
	@# The comparison with cuda.h needs a toolkit.
	$(BIN)/python -m tests.cpp.tidy \
		$(filter-out %/cuda_header_check.cpp,$(filter %.cpp,$(CPP) $(TEST_CPP))) -- \
		-std=c++20 -Icsrc -Itests/cpp $$($(BIN)/python -m pybind11 --includes)

format: venv  ## Put code into the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP) $(TEST_CPP)

overload: venv  ## 1,000 connections and 11,000 runs for a queue of 10,000
	$(BIN)/python tests/benchmarks/overload.py --check

bench: venv  ## Print what the README claims
	$(BIN)/python tests/benchmarks/cold_start.py
	$(BIN)/python tests/benchmarks/loader.py
	$(BIN)/python tests/benchmarks/loader_link.py
	$(BIN)/python tests/benchmarks/import_time.py
	$(BIN)/python tests/benchmarks/stream_latency.py
	$(BIN)/python tests/benchmarks/overhead.py

bench-check: venv  ## The same, failing where a bound is missed
	$(BIN)/python tests/benchmarks/cold_start.py --check
	$(BIN)/python tests/benchmarks/loader.py --check
	$(BIN)/python tests/benchmarks/loader_link.py --check
	$(BIN)/python tests/benchmarks/import_time.py --check
	$(BIN)/python tests/benchmarks/stream_latency.py --check
	$(BIN)/python tests/benchmarks/overhead.py --check

proto: venv  ## Generate the Python modules of the wire API
	$(BIN)/python proto/generate.py

clean:  ## Remove what the targets made, except what users deployed
	rm -rf $(VENV) build demo-output *.egg-info daemon/pipelined/_weights*.so
