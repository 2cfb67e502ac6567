# ruff: noqa: E501  # one case a line
"""Malformed `.npy` and `.npz` files, and those whose header claims what they do not hold."""

import functools
import io
import struct
import zipfile
from dataclasses import replace

import numpy as np

from tests.untrusted.corpus.cases import (
    Bad,
    Case,
    cut,
    labels,
    maps,
    saved,
    through,
    with_value,
    written,
)

READABLE = "is no readable .npy array"
ARCHIVE = "is no readable .npz"


def head(shape: str, descr: str = "'|u1'", major: int = 1, extra: int = 0) -> bytes:
    """Return a `.npy` with any claim and 64 bytes of values."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * extra + b"\n"
    length = struct.pack("<H" if major == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([major, 0]) + length + text + bytes(64)


def packed(content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, one in content.items():
            archive.writestr(name, one)
    return file.getvalue()


@functools.cache
def bomb() -> bytes:
    """Return a `.npz` of 300 kB that would unpack to 300 MB."""
    file, zeros = io.BytesIO(), bytes(1 << 20)
    packed = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
    with packed as archive, archive.open("images.npy", "w") as one:
        one.write(head("(300, 1024, 1024)")[:-64])
        for _ in range(300):
            one.write(zeros)
    return file.getvalue()


def twice(path):
    """An archive with two arrays of one name."""
    content = packed({"images.npy": saved(labels()), "imagez.npy": saved(labels())})
    path.write_bytes(content.replace(b"imagez", b"images"))


def encrypted(path):
    """An archive that says that it is encrypted."""
    content = bytearray(packed({"images.npy": saved(labels())}))
    for place in (6, content.rindex(b"PK\x01\x02") + 8):
        content[place] |= 1
    path.write_bytes(content)


def long_directory(path):
    """An archive whose list of contents claims two gigabytes."""
    content = bytearray(packed({"images.npy": saved(labels())}))
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = struct.pack("<I", 1 << 31)
    path.write_bytes(content)


def bad_name(path):
    """An archive with a name that is no UTF-8."""
    content = packed({"imagé.npy": saved(labels())}).replace("é".encode(), b"\xff\xfe")
    path.write_bytes(content)


NPY = [
    *cut("stack.npy", saved(maps()), READABLE),
    Bad("magic.npy", written(b"PK\x03\x04" + saved(labels())[4:]), READABLE),
    Bad("text.npy", written(b"images: none\n" * 40), READABLE),
    Bad("version.npy", written(head("(64,)", major=3)), "version 3.0"),
    Bad("claims-2^60.npy", written(head(f"({1 << 60},)")), f"are {1 << 60} bytes, it holds 64"),
    Bad("claims-2^80.npy", written(head(f"({1 << 40}, {1 << 40})")), "it holds 64"),
    Bad("claims-2^62-nothing.npy", written(head(f"({1 << 62},)", "'|S0'")), "it holds 64"),
    Bad("negative-shape.npy", written(head("(-8, -8)")), "its shape is (-8, -8)"),
    Bad("words-as-shape.npy", written(head("('a', True)")), "its shape is ('a', True)"),
    Bad("long-head.npy", written(head("(64,)", extra=60_000)), "a header of"),
    Bad("longest-head.npy", written(head("(64,)", major=2)[:8] + b"\xff" * 90), "4294967295 bytes"),
    Bad("deep-head.npy", written(head("(" * 500 + ")" * 500)), READABLE),
    Bad("odd-type.npy", written(head("(64,)", "'O4O4'")), READABLE),
    Bad("code-as-head.npy", written(head("__import__('os').getcwd()")), READABLE),
    Bad("objects.npy", written(saved(np.array([{}], object))), "never unpickled"),
    Bad("two-arrays.npy", written(saved(labels()) * 2), READABLE),
]  # fmt: skip
NPZ = [
    *cut("stack.npz", packed({"images.npy": saved(labels())}), ARCHIVE),
    Bad("magic.npz", written(saved(labels())), ARCHIVE),
    Bad("bomb.npz", lambda path: path.write_bytes(bomb()), "times its size"),
    Bad("nested.npz", written(packed({"inner.npz": packed({"images.npy": saved(labels())})})), "holds 'inner.npz'; expected arrays"),
    Bad("leaves.npz", written(packed({"../images.npy": saved(labels())})), "a path that leads out of it"),
    Bad("root.npz", written(packed({"/etc/images.npy": saved(labels())})), "a path that leads out of it"),
    Bad("twice.npz", twice, "holds 'images.npy' twice"),
    Bad("encrypted.npz", encrypted, "is encrypted, or compressed in a way"),
    Bad("lzma.npz", written(packed({"images.npy": saved(labels())}, zipfile.ZIP_LZMA)), "is encrypted, or compressed in a way"),
    Bad("directory.npz", long_directory, ARCHIVE),
    Bad("bad-utf8.npz", bad_name, ARCHIVE),
    Bad("empty.npz", written(packed({})), "holds nothing"),
    Bad("claims.npz", written(packed({"images.npy": head(f"({1 << 60},)")})), "it holds 64"),
    Bad("long-head.npz", written(packed({"images.npy": head("(64,)", extra=60_000)})), "a header of"),
    Bad("objects.npz", written(packed({"images.npy": saved(np.array([{}], object))})), "never unpickled"),
]  # fmt: skip
MAPS = [
    Bad("words.npy", written(saved(np.array(["a", "b"]))), "expected (image, class, row, col)"),
    Bad("complex.npy", written(saved(maps(np.complex64))), "complex64"),
    Bad("integers.npy", written(saved(maps().astype(np.int64))), "is int64; expected floating"),
    Bad("three-axes.npy", written(saved(maps()[0])), "expected (image, class, row, col)"),
    Bad("no-images.npy", written(saved(maps()[:0])), "has shape (0, 5, 16, 24)"),
    Bad("one-class.npy", written(saved(maps(klass=1))), "has 1 class, of probability 1"),
    Bad("nan.npy", written(saved(with_value(maps(), np.nan))), "nan.npy: 24 values are NaN or infinite"),
    Bad("infinite.npy", written(saved(with_value(maps(), np.inf))), "predict again, in float32"),
    Bad("too-large.npy", written(saved(with_value(maps(np.float64), 1e300))), "too-large.npy: 24 values are NaN or infinite"),
    Bad("negative.npy", written(saved(with_value(maps(), -0.5))), "expected probabilities from 0 to 1"),
    Bad("above-1.npy", written(saved(with_value(maps(), 1.5))), "expected probabilities from 0 to 1"),
    Bad("sums.npy", written(saved(with_value(maps(), 0.9))), "classes sum to"),
]  # fmt: skip
LABELS = [
    Bad("floats.npy", written(saved(labels().astype(np.float32))), "float32"),
    Bad("words.npy", written(saved(np.array(["a", "b"]))), "expected"),
    Bad("complex.npy", written(saved(labels().astype(np.complex64))), "complex64"),
    Bad("two-axes.npy", written(saved(labels()[0])), "expected"),
    Bad("other-shape.npy", written(saved(labels()[:, :5])), "expected"),
    Bad("class-9.npy", written(saved(with_value(labels(), 9))), "expected 0 to 4"),
    Bad("minus-1.npy", written(saved(with_value(labels().astype(np.int64), -1))), "expected 0 to 4"),
    Bad("large.npy", written(saved(with_value(labels().astype(np.int64), 1 << 40))), "expected 0 to 4"),
]  # fmt: skip
FUSE = "fuse --maps {bad} --maps {maps} --strategy mean --out {out}.npy"
POSTPROCESS = "postprocess --maps {bad} --chain suppress_background --ignore 0 --out {out}.npy"
SCORE = "score --target {target} --pred {bad} --classes 5"
FIT = "fuse --maps {maps} --fit-maps {maps} --fit-target {bad} --strategy stacking --out {out}.npy"
FIT_CHAIN = "postprocess --maps {maps} --fit-maps {maps} --fit-target {bad} --chain class_bias --out {out}.npy"
AUDIT = "audit --target {bad} --pred {target} --pred {target} --classes 5"
BRIER = "score --maps {bad} --target {target} --pred {target} --classes 5 --metric brier"
SOME = [*NPY[::4], *NPZ[::4]]
CASES: list[Case] = [
    *through([*NPY, *NPZ, *MAPS], FUSE),
    *through([*SOME, *MAPS], POSTPROCESS),
    *through([*NPY, *NPZ, *LABELS], SCORE),
    *through([*SOME, *LABELS], AUDIT),
    *through([replace(bad, message=bad.name) for bad in LABELS], FIT, FIT_CHAIN),
    *through(SOME, BRIER, FIT, "postprocess --images {bad} --maps {maps} --chain crf --out {out}.npy"),
]  # fmt: skip
