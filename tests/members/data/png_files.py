"""PNG files with any bit depth, interlacing and orientation, which no library writes on demand."""

import struct
import zlib

import numpy as np

GREY, PALETTE = 0, 3
ADAM7 = [
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
]
"""First row, first column and steps of each pass of an interlaced PNG."""


def write_png(file, values, depth, kind=GREY, *, interlaced=False, chunks=()):
    """Write a PNG of one channel."""

    def packed(pixels):
        shifts = np.arange(depth - 1, -1, -1)
        bits = (np.asarray(pixels, np.uint32)[..., None] >> shifts) & 1
        lines = np.packbits(bits.reshape(len(pixels), -1).astype(np.uint8), axis=1)
        return b"".join(b"\0" + line.tobytes() for line in lines)

    passes = [values[r::dr, c::dc] for r, c, dr, dc in ADAM7] if interlaced else [values]
    content = b"".join(packed(part) for part in passes if part.size)
    rows, cols = values.shape
    head = struct.pack(">IIBBBBB", cols, rows, depth, kind, 0, 0, int(interlaced))
    palette = [(b"PLTE", bytes(range(0, 255, 3)) * 9)] if kind == PALETTE else []
    palette = [(name, part[: 3 << depth]) for name, part in palette]
    parts = [(b"IHDR", head), *palette, *chunks, (b"IDAT", zlib.compress(content)), (b"IEND", b"")]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts))
    return file


def png_chunk(name, content):
    """Return a chunk with its length and checksum."""
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def orientation_chunk(orientation):
    """Return name and content of a chunk with this EXIF orientation."""
    return b"eXIf", b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
