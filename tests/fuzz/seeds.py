"""Writes the seed corpus, small files from which the fuzzer starts: python tests/fuzz/seeds.py."""

from __future__ import annotations

import json
import struct
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")


def tensor(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SEEDS: dict[str, tuple[object, int]] = {
    "empty": ({}, 0),
    "metadata": ({"__metadata__": {"format": "pt", 'é\n"': "\U0001f600"}}, 0),
    "no-metadata": ({"__metadata__": None}, 0),
    "scalar": ({"t": tensor("F32", [], 0, 4)}, 4),
    "packed": ({"a": tensor("F4", [2], 0, 1), "b": tensor("F6_E3M2", [4], 1, 4)}, 4),
    "out-of-order": ({"a": tensor("BF16", [2, 1], 3, 7), "b": tensor("BOOL", [3], 0, 3)}, 7),
    "empty-tensors": ({"a": tensor("C64", [0, 5], 0, 0), "b": tensor("U8", [0], 0, 0)}, 0),
    "ignored-field": ({"t": {**tensor("I8", [1], 0, 1), "x": [{"y": [1.5e-3, True, None]}]}}, 1),
    "hole": ({"t": tensor("U8", [1], 1, 2)}, 2),
    "overlap": ({"t": tensor("U8", [2], 0, 2), "u": tensor("U8", [2], 1, 3)}, 3),
    "overflow": ({"t": tensor("F64", [2**62, 4], 0, 8)}, 8),
    "deep": ({"t": {"x": [[[[[[[[[[]]]]]]]]]]}}, 0),
}


def main() -> None:
    CORPUS.mkdir(exist_ok=True)
    for name, (header, data) in SEEDS.items():
        text = json.dumps(header).encode()
        (CORPUS / name).write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))


if __name__ == "__main__":
    main()
