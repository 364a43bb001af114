"""Files made to exhaust whoever reads them, and a program that does so under limits.

    python -m tests.weights.attack FOLDER

Writes each, opens it with the loader, and checks that it is refused with its own error, or taken.
The address space may grow by GROWTH bytes beyond what the imports took: a few times the
largest header. Prints what each came to.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch  # noqa: F401 - before the limit, as every program that loads tensors has it

from pipelined import weights
from tests.weights.files import file_bytes

MANY = 1_000_000
LARGEST = 100_000_000
GROWTH = 5 * LARGEST


def tensor(name: object, begin: int, end: int) -> str:
    return f'"{name}":{{"dtype":"U8","shape":[{end - begin}],"data_offsets":[{begin},{end}]}}'


def joined(tensors: Iterator[str]) -> bytes:
    return b"{" + ",".join(tensors).encode() + b"}"


def ignored(value: bytes) -> bytes:
    """A header with a field that nobody asked for."""
    return b'{"t":{"ignored":' + value + b',"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'


def shaped(shape: bytes) -> bytes:
    return b'{"t":{"dtype":"U8","shape":[' + shape + b'],"data_offsets":[0,0]}}'


def padded(begin: bytes, filling: bytes) -> bytes:
    return begin + filling * ((LARGEST - len(begin)) // len(filling))


# Each header, the bytes of tensors after it, and the error.
ATTACKS: dict[str, tuple[Callable[[], bytes], int, type[Exception] | None]] = {
    "a million tensors": (
        lambda: joined(tensor(index, index, index + 1) for index in range(MANY)),
        MANY,
        None,
    ),
    "a million tensors, backwards": (
        lambda: joined(tensor(index, index, index + 1) for index in reversed(range(MANY))),
        MANY,
        None,
    ),
    "a million empty tensors": (
        lambda: joined(tensor(index, 0, 0) for index in range(MANY)),
        0,
        None,
    ),
    "a million and one twice": (
        lambda: joined(tensor(index % MANY, 0, 0) for index in range(MANY + 1)),
        0,
        weights.DuplicateKey,
    ),
    "a million times the same": (
        lambda: joined(tensor("t", 0, 0) for _ in range(MANY)),
        0,
        weights.DuplicateKey,
    ),
    "a million in the same place": (
        lambda: joined(tensor(index, 0, 1) for index in range(MANY)),
        1,
        weights.TensorOverlap,
    ),
    "a million with a hole before the last": (
        lambda: (
            joined(tensor(index, 0, 0) for index in range(MANY)).removesuffix(b"}")
            + b","
            + tensor("t", 1, 2).encode()
            + b"}"
        ),
        2,
        weights.TensorHole,
    ),
    "a million keys of metadata": (
        lambda: json.dumps({"__metadata__": {str(index): "" for index in range(MANY)}}).encode(),
        0,
        None,
    ),
    "a million equal keys of metadata": (
        lambda: b'{"__metadata__":{' + b",".join([b'"k":"v"'] * MANY) + b"}}",
        0,
        weights.DuplicateKey,
    ),
    "white space to the limit": (lambda: padded(b"{}", b" "), 0, None),
    "white space and no end": (lambda: padded(b"{", b" "), 0, weights.InvalidJson),
    "one string to the limit": (lambda: padded(b'{"', b"a"), 0, weights.InvalidJson),
    "one escaped string to the limit": (lambda: padded(b'{"', b"\\u0000"), 0, weights.InvalidJson),
    "a name to the limit": (
        lambda: padded(b'{"', b"\\n")[:-100] + b'":' + tensor("t", 1, 2).encode()[4:] + b"}",
        2,
        weights.TensorHole,
    ),
    "invalid at the very end": (lambda: padded(b'{"', b"a")[:-1] + b"\xff", 0, weights.InvalidUtf8),
    "arrays to the limit": (lambda: padded(b'{"t":{"i":', b"["), 0, weights.JsonTooDeep),
    "objects to the limit": (lambda: padded(b'{"t":{"i":', b'{"":'), 0, weights.JsonTooDeep),
    "a number to the limit": (
        lambda: shaped(padded(b"", b"9")[:-100]),
        0,
        weights.InvalidTensorInfo,
    ),
    "a fraction to the limit": (lambda: ignored(b"0." + padded(b"", b"9")[:-200]), 0, None),
    "dimensions to the limit": (
        lambda: shaped(b"1," * (LARGEST // 2 - MANY) + b"1"),
        0,
        weights.InvalidTensorInfo,
    ),
    "items to the limit": (lambda: ignored(b"[" + b"0," * (LARGEST // 2 - MANY) + b"0]"), 0, None),
    "fields to the limit": (
        lambda: b'{"t":{' + b'"i":0,' * (MANY * 10) + b'"dtype":"F32","dtype":"F32"}}',
        0,
        weights.DuplicateKey,
    ),
}


def main(folder: Path) -> None:
    path = folder / "attack.safetensors"
    for name, (header, data, expected) in ATTACKS.items():
        text = header()
        assert len(text) <= LARGEST, (name, len(text))
        path.write_bytes(file_bytes(text, bytes(data)))
        del text
        limit_growth()
        try:
            file = weights.safe_open(path, framework="pt")
            result: object = None
            taken = len(file.keys()), len(file.metadata() or {})
            del file
            said = ""
        except weights.FormatError as error:
            result, taken, said = type(error), (0, 0), str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        assert result is expected, (name, result)
        assert len(said) < 2000, name
        print(name, result, *taken)


def limit_growth() -> None:
    """From here on; Python may have kept memory of what was made before."""
    if os.environ.get("PIPELINED_TEST_SANITIZER"):
        # Its shadow takes most of the address space.
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + GROWTH
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
