# ruff: noqa: E501  # one case a line
"""Zarr arrays that `ens import` refuses."""

import gzip
import json
import os
import struct
import zlib
from typing import Any

from tests.untrusted.corpus.cases import (
    CLASSES,
    COLS,
    IMAGES,
    ROWS,
    Bad,
    maps,
)

V3: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [IMAGES, CLASSES, ROWS, COLS],
    "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [IMAGES, CLASSES, ROWS, COLS]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0.0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "attributes": {},
}  # fmt: skip
V2 = {
    "zarr_format": 2,
    "shape": [IMAGES, CLASSES, ROWS, COLS],
    "chunks": [IMAGES, CLASSES, ROWS, COLS],
    "dtype": "<f4",
    "compressor": None,
    "filters": None,
    "order": "C",
    "fill_value": 0,
}
GOOD = maps().tobytes()


def zarr(chunk: bytes = GOOD, **changed):
    """Return what makes a Zarr array of version 3, changed."""

    def make(path):
        (path / "c/0/0/0").mkdir(parents=True)
        (path / "c/0/0/0/0").write_bytes(chunk)
        (path / "zarr.json").write_text(json.dumps({**V3, **changed}))

    return make


def zarr2(chunk: bytes = GOOD, **changed):
    """Return what makes a Zarr array of version 2, changed."""

    def make(path):
        path.mkdir()
        (path / "0.0.0.0").write_bytes(chunk)
        (path / ".zarray").write_text(json.dumps({**V2, **changed}))

    return make


def deflated(head: bytes) -> bytes:
    """Return three megabytes that would unpack to three gigabytes of zeros."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream.compress(bytes(1 << 20))
    stream.flush(zlib.Z_FULL_FLUSH)
    return head + (stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH)) * 3000


def repeated(head: bytes) -> bytes:
    """Return the blocks of a Zstandard frame: 96 kB that would unpack to three gigabytes."""
    return head + (((1 << 17) << 3 | 1 << 1).to_bytes(3, "little") + b"\0") * 24_000


def sparse(path):
    """Make a Zarr array with a chunk that takes nothing on the disk and is eight gigabytes."""
    zarr()(path)
    os.truncate(path / "c/0/0/0/0", 1 << 33)


def heavy(name: str):
    """Return what makes a Zarr array whose metadata weigh nothing on the disk and are as large."""

    def make(path):
        text(name, "{}")(path)
        os.truncate(path / name, 1 << 33)

    return make


def packed_by(name: str, **options):
    """Return the key of codecs that pack what a good array has."""
    return [*V3["codecs"], {"name": name, "configuration": options}]


def text(name: str, content: str):
    """Return what makes a Zarr array with any metadata."""

    def make(path):
        path.mkdir()
        (path / name).write_text(content)

    return make


def linked(path):
    """Make a Zarr array with a chunk that lies elsewhere."""
    zarr()(path)
    (path / "c/0/0/0/0").unlink()
    (path / "c/0/0/0/0").symlink_to("/dev/zero")


def grid(*sides: int):
    """Return the key of chunks of any size."""
    return {"name": "regular", "configuration": {"chunk_shape": list(sides)}}


GZIP, ZLIB = deflated(b"\x1f\x8b\x08" + bytes(7)), deflated(b"\x78\x9c")
ZSTD_UNSAID, ZSTD_SAID = (
    repeated(b"\x28\xb5\x2f\xfd\x00\x58"),
    b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 3 << 30),
)
BLOSC = b"\x02\x01\x21\x04" + struct.pack("<III", (1 << 31) - 1, 1 << 20, 60) + bytes(44)
ZSTD: list[Any] = packed_by("zstd", level=1, checksum=False)
SHARDED: dict[str, Any] = {
    "name": "sharding_indexed",
    "configuration": {
        "chunk_shape": [IMAGES, CLASSES, ROWS, COLS],
        "codecs": ZSTD,
        "index_codecs": V3["codecs"],
        "index_location": "end",
    },
}
UNPACKS = "would unpack to"
ZARR_DAMAGED = "is no readable Zarr array"
PICKLE = b"cos\nsystem\n(S'touch pwned'\ntR."
PACKED = "is packed by 'pickle'"
SHARDS = {"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 5, 16, 24], "codecs": [{"name": "pickle"}]}}  # fmt: skip

ZARR = [
    Bad("v3-group", zarr(node_type="group"), ZARR_DAMAGED),
    Bad("v3-version", zarr(zarr_format=9), ZARR_DAMAGED),
    Bad("v3-shape", zarr(shape=[1 << 60] * 4), "without ids; expected the split's"),
    Bad("v3-rows", zarr(shape=[IMAGES, CLASSES, 1 << 40, 1 << 40]), "pixels; expected"),
    Bad("v3-words", zarr(shape=["a"]), ZARR_DAMAGED),
    Bad("v3-negative", zarr(shape=[-6, 5, 16, 24]), ZARR_DAMAGED),
    Bad("v3-chunks", zarr(chunk_grid=grid(6, 5, 1 << 30, 1 << 30)), "claims chunks of"),
    Bad("v3-no-chunks", zarr(chunk_grid=grid(0, 5, 16, 24)), "is damaged"),
    Bad("v3-type", zarr(data_type="r64"), ""),
    Bad("v3-text", zarr(data_type="string"), ""),
    Bad("v3-pickle", zarr(PICKLE, codecs=[{"name": "pickle"}]), PACKED),
    Bad("v3-shards", zarr(codecs=[SHARDS]), PACKED),
    Bad("v3-codec", zarr(codecs=[{"name": "elsewhere.codec"}]), "is packed by 'elsewhere.codec'"),
    Bad("v3-cut", zarr(GOOD[:99]), "is damaged"),
    Bad("v3-wide-chunks", zarr(repeated(b"\x28\xb5\x2f\xfd\x00\x58"), chunk_grid=grid(6, 5, 16, 1 << 21), codecs=ZSTD), "claims chunks of"),
    Bad("v3-gzip-bomb", zarr(GZIP, codecs=packed_by("gzip", level=1)), UNPACKS),
    Bad("v3-zstd-bomb", zarr(ZSTD_UNSAID, codecs=ZSTD), UNPACKS),
    Bad("v3-zstd-claim", zarr(ZSTD_SAID + bytes(60), codecs=ZSTD), UNPACKS),
    Bad("v3-blosc-claim", zarr(BLOSC, codecs=packed_by("blosc", cname="lz4", clevel=1, shuffle="noshuffle", typesize=4, blocksize=0)), UNPACKS),
    Bad("v3-shard-bomb", zarr(ZSTD_UNSAID + struct.pack("<QQ", 0, len(ZSTD_UNSAID)), codecs=[SHARDED]), UNPACKS),
    Bad("v3-index-bomb", zarr(ZSTD_UNSAID, codecs=[{**SHARDED, "configuration": {**SHARDED["configuration"], "index_codecs": ZSTD}}]), ""),
    Bad("v3-gzip-gzip", zarr(gzip.compress(GZIP), codecs=packed_by("gzip", level=1) + packed_by("gzip", level=1)[1:]), UNPACKS),
    Bad("v3-sparse", sparse, "is 8589934592 bytes"),
    Bad("v3-sparse-json", heavy("zarr.json"), "is 8589934592 bytes"),
    Bad("v2-sparse-json", heavy(".zarray"), "is 8589934592 bytes"),
    Bad("v2-zlib-bomb", zarr2(ZLIB, compressor={"id": "zlib", "level": 1}), UNPACKS),
    Bad("v2-gzip-filter", zarr2(GZIP, filters=[{"id": "gzip", "level": 1}]), UNPACKS),
    Bad("v2-lz4-claim", zarr2(b"\xff\xff\xff\x7f" + bytes(60), compressor={"id": "lz4"}), UNPACKS),
    Bad("v2-zstd-bomb", zarr2(ZSTD_UNSAID, compressor={"id": "zstd", "level": 1}), UNPACKS),
    *(Bad(f"v3-cut-at-{tenth}", zarr(GOOD[: len(GOOD) * tenth // 10]), "is damaged") for tenth in range(10)),
    Bad("v3-gzip", zarr(b"\x1f\x8b" + bytes(90), codecs=[*V3["codecs"], {"name": "gzip", "configuration": {"level": 1}}]), "is damaged"),
    Bad("v3-zstd", zarr(bytes(90), codecs=[*V3["codecs"], {"name": "zstd", "configuration": {"level": 1, "checksum": False}}]), "is damaged"),
    Bad("v3-crc", zarr(GOOD + bytes(4), codecs=[*V3["codecs"], {"name": "crc32c"}]), "is damaged"),
    Bad("v3-link", linked, "is a link that leads out"),
    Bad("v3-ids", zarr(attributes={"ids": [["a"], {}]}), "holds 2 ids for 6 images"),
    Bad("no-json", text("zarr.json", "{"), "cannot be read as JSON"),
    Bad("deep-json", text("zarr.json", "[" * 100_000), "cannot be read as JSON"),
    Bad("list-json", text("zarr.json", "[]"), ZARR_DAMAGED),
    Bad("bytes-json", text(".zarray", "\udcff".encode("utf-8", "surrogatepass").decode("latin-1")), "cannot be read as JSON"),
    Bad("v2-pickle", zarr2(PICKLE, compressor={"id": "pickle"}), PACKED),
    Bad("v2-filter", zarr2(PICKLE, filters=[{"id": "pickle"}]), PACKED),
    Bad("v2-objects", zarr2(dtype="|O"), ZARR_DAMAGED),
    Bad("v2-structure", zarr2(dtype=[["a", "<f4"]]), ""),
    Bad("v2-chunks", zarr2(chunks=[1 << 40, 5, 16, 24]), "claims chunks of"),
    Bad("v2-blosc", zarr2(b"\x02\x01\x21\x04" + b"\xff" * 40, compressor={"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}), "is damaged"),
]  # fmt: skip
