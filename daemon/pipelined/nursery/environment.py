"""The environments of the nursery and of the workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Of the daemon and its service manager; user code has no business with them.
_PRIVATE_PREFIXES = ("PIPELINED_",)
# Those of that prefix that are about the machine and not the daemon: where the CUDA driver is.
_OF_WORKERS = frozenset({"PIPELINED_CUDA_DRIVER"})
_PRIVATE = frozenset(
    {
        "CREDENTIALS_DIRECTORY",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)

# A process that is to be forked must have one thread: OpenBLAS and OpenMP start theirs when they
# are loaded, or at the first parallel operation. And torch.cuda.is_available() must ask NVML, since
# asking CUDA initialises it, after which no fork can use it.
_NURSERY = {
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}

# Workers share the processor with each other, and an OpenMP thread that spins while it waits takes
# it from the one that it waits for. By default it spins 300,000 times. On two busy cores a forward
# pass of MiniLM took 360 ms so, and 45 ms with 1,000; on idle ones 20 and 21, and 36 with none.
_WORKERS = {"GOMP_SPINCOUNT": "1000"}

# Read by the interpreter, the dynamic linker or a library when it is loaded, so that setting one in
# a forked worker would come too late.
_READ_AT_IMPORT_PREFIXES = (
    "ACCELERATE_",
    "BLIS_",
    "CUBLAS_",
    "CUDA_",
    "CUDNN_",
    "DIFFUSERS_",
    "GOMP_",
    "GOTO_",
    "HF_",
    "HUGGINGFACE_",
    "KMP_",
    "LC_",
    "LD_",
    "MALLOC_",
    "MKL_",
    "NCCL_",
    "NUMEXPR_",
    "NUMPY_",
    "NVIDIA_",
    "OMP_",
    "OPENBLAS_",
    "PYTHON",
    "PYTORCH_",
    "SAFETENSORS_",
    "TOKENIZERS_",
    "TORCH",
    "TRANSFORMERS_",
    "TRITON_",
    "USE_",
)
_READ_AT_IMPORT = frozenset(
    {
        "GLIBC_TUNABLES",
        "HOME",
        "LANG",
        "TMPDIR",
        "TZ",
        "XDG_CACHE_HOME",
    }
)


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of the daemon's environment its workers may have, with our defaults."""
    # The operator's own choice of a policy would have no effect beside a count of ours.
    defaults = {} if "OMP_WAIT_POLICY" in environment else _WORKERS
    return defaults | {
        name: value
        for name, value in environment.items()
        if name in _OF_WORKERS or (name not in _PRIVATE and not name.startswith(_PRIVATE_PREFIXES))
    }


def of_nursery(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a nursery whose workers are to get ``environment``."""
    return {**environment, **_NURSERY}


def read_at_import(names: Iterable[str]) -> list[str]:
    """Return those variables that a fork of the nursery could not take note of any more."""
    return sorted(
        name
        for name in names
        if name in _READ_AT_IMPORT or name.startswith(_READ_AT_IMPORT_PREFIXES)
    )
