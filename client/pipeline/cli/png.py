"""Writes images without an image library: what the command saves of an image output."""

from __future__ import annotations

import struct
import zlib

# Channels of a uint8 image → colour type (PNG specification, 11.2.2).
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode(height: int, width: int, channels: int, pixels: bytes) -> bytes:
    """Make a PNG file of rows of 8-bit pixels: grey, grey and alpha, RGB or RGBA."""
    stride = width * channels
    # Each row begins with its filter; 0 is none.
    rows = b"".join(
        b"\x00" + pixels[start : start + stride] for start in range(0, height * stride, stride)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
