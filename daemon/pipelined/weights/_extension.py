"""The compiled part, or an error that says how to get it."""

try:
    from pipelined import _weights as extension
except ImportError as error:
    raise ImportError(
        f"the compiled weight loader, pipelined._weights, cannot be imported ({error}): in a "
        "checkout run `make venv`; otherwise reinstall pipelined[daemon] on a machine with a C++20 "
        "compiler (g++ 12 or newer)"
    ) from error

__all__ = ["extension"]
