# ruff: noqa: E501  # one case a line
"""Malformed data sets: files of images, folders of PNG, an AI4Mars tree."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.untrusted.corpus.bad_arrays import NPY, NPZ, SOME
from tests.untrusted.corpus.cases import (
    COLS,
    IMAGES,
    ROWS,
    Bad,
    Case,
    labels,
    saved,
    through,
    written,
)

GREY = np.full((ROWS, COLS), 90, np.uint8)


def drawn(array, form="PNG", **more) -> bytes:
    """Return an image file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **more)
    return file.getvalue()


def claimed(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that claims any size."""
    parts = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    for kind, content in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1 << 16)))):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        parts += struct.pack(">I", len(content)) + kind + content + checksum
    return parts


def folder(image: bytes = drawn(GREY), mask: bytes | None = drawn(GREY % 5), name="a.png"):
    """Return what makes a folder with a good pair and another, of this image and mask."""

    def make(path):
        for kind in ("images", "masks"):
            (path / kind).mkdir(parents=True)
            (path / kind / "good.png").write_bytes(drawn(GREY % 5))
        (path / "images" / name).write_bytes(image)
        if mask is not None:
            (path / "masks" / "a.png").write_bytes(mask)

    return make


def linked(target: str):
    """Return what makes a folder of images with a link in it."""

    def make(path):
        folder()(path)
        (path / "images" / "a.png").unlink()
        (path / "images" / "a.png").symlink_to(target)

    return make


def linked_folder(path):
    """Make a folder whose masks lie elsewhere."""
    folder()(path)
    (path / "masks").rename(path.with_name("elsewhere"))
    (path / "masks").symlink_to("../elsewhere")


def general(**changed) -> bytes:
    """Return a general `.npz`, changed."""
    good = {"images": np.zeros((IMAGES, ROWS, COLS), np.uint8), "masks": labels()}
    content: bytes = saved(None, **{**good, **changed})
    return content


def pipe(path: Path) -> None:
    """Make a folder whose image never comes."""
    path.mkdir()
    os.mkfifo(path / "a.png")


def source(value: bytes | str):
    """Return sources of which one is bad."""
    return np.array([value, *(["x", "y", "z", "u", "v"] if isinstance(value, str) else b"xyzuv")])


BEYOND = np.frombuffer(struct.pack("<6I", 0x41, 0x7FFFFFFF, 0x43, 0x44, 0x45, 0x46), "<U1")
SURROGATES = np.frombuffer(struct.pack("<6I", 0x41, 0xD800, 0x43, 0x44, 0x45, 0x46), "<U1")
BYTES = np.array([b"a", b"\xff\xfe", b"c", b"d", b"e", b"f"])

DATA = [
    Bad("floats.npz", written(general(images=np.zeros((6, 16, 24)))), "is float64; expected uint8"),
    Bad("nan.npz", written(general(images=np.full((6, 16, 24), np.nan))), "expected uint8"),
    Bad("nan32.npz", written(general(images=np.full((6, 16, 24), np.nan, np.float32))), "holds NaN"),
    Bad("below-0.npz", written(general(images=np.full((6, 16, 24), -1))), "expected 0 to 255"),
    Bad("shape.npz", written(general(images=np.zeros((6, 16), np.uint8))), "expected (N, H, W)"),
    Bad("no-rows.npz", written(general(images=np.zeros((6, 0, 24), np.uint8))), "have shape (6, 1, 0, 24)"),
    Bad("mask-shape.npz", written(general(masks=labels()[:, :9])), "of the same images"),
    Bad("mask-classes.npz", written(general(classes=np.array(["a", "b"]))), "expected 0 to 1"),
    Bad("one-name.npz", written(general(classes=np.array(["a", "a"]))), "class name 'a' is given twice"),
    Bad("odd-name.npz", written(general(classes=np.array(["a", "b\x1b[2J"]))), "expected a word"),
    Bad("groups.npz", written(general(group=np.arange(3))), "expected 6 strings"),
    Bad("group-text.npz", written(general(group=BEYOND)), "holds what is no text"),
    Bad("source-text.npz", written(general(source=SURROGATES)), "holds what is no text"),
    Bad("source-bytes.npz", written(general(source=BYTES)), "holds what is no text"),
    Bad("misspelt.npz", written(saved(None, images=labels(), mask=labels())), "expected 'masks'"),
    Bad("competition.npz", written(saved(None, training_set=np.zeros((6, 3, 16, 24), np.uint8))), "expected (N, 2, H, W)"),
]  # fmt: skip
FOLDERS = [
    Bad("magic", folder(b"GIF89a" + drawn(GREY)[6:]), "is no readable image"),
    Bad("gif", folder(drawn(GREY, "GIF")), "is no readable image"),
    Bad("eps", folder(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "is no readable image"),
    Bad("bomb", folder(claimed(60_000, 60_000)), "is no readable image"),
    Bad("large", folder(claimed(12_000, 8_000)), "12000 x 8000 pixels; cut it into tiles"),
    Bad("largest", folder(claimed((1 << 31) - 1, (1 << 31) - 1)), "is no readable image"),
    Bad("sixteen-bit", folder(drawn(GREY.astype(np.uint16))), "differ in type: a uint16, good uint8"),
    Bad("mask-lacks", folder(mask=None), "are not in masks/"),
    Bad("mask-cut", folder(mask=drawn(GREY)[:50]), "is no readable image"),
    Bad("mask-colour", folder(mask=drawn(np.dstack([GREY] * 3))), "expected class indices"),
    Bad("mask-size", folder(mask=drawn(GREY[:5])), "expected the same size"),
    Bad("one-name-twice", folder(drawn(GREY, "JPEG"), None, "good.jpg"), "remove one"),
    Bad("link-out", linked("/etc/passwd"), "is a link that leads out"),
    Bad("link-up", linked("../../../.."), "is a link that leads out"),
    Bad("link-device", linked("/dev/zero"), "is a link that leads out"),
    Bad("link-folder", linked_folder, "is a link that leads out"),
    Bad("link-loop", linked("a.png"), "is a broken link"),
    Bad("pipe", pipe, "no regular file"),
    Bad("nothing", lambda path: path.mkdir(), "holds nothing; expected images/"),
]  # fmt: skip
NOISE = drawn(np.random.default_rng(3).integers(0, 256, GREY.shape).astype(np.uint8))
FOLDERS += [
    Bad(f"cut-at-{tenth}", folder(NOISE[: len(NOISE) * tenth // 10]), "is no readable image")
    for tenth in range(10)
]
TRAIN = "train-members --data {bad} --run {out} --member unet(width=2,depth=1) --epochs 1"
LOSSES = "search-loss --data {bad} --losses dice,focal --run {out}"
APPLY = "apply {package} {bad} --out {out}"
CASES: list[Case] = [
    *through([*NPY, *NPZ, *DATA, *FOLDERS], "data inspect {bad}"),
    *through([*SOME[1::2], *DATA, *FOLDERS[::2]], TRAIN),
    *through([*SOME, *DATA[:6], *FOLDERS[::3]], "predict --data {bad} --split more --run {run}"),
    *through([*SOME, *(bad for bad in FOLDERS[::3] if bad.name != "mask-colour")], APPLY),
    *through([*SOME[::2], *DATA[:4]], "data clean {bad}", "search {space} --data {bad} --run {out}"),
    *through([*SOME[1::2], *DATA[2:6]], "data refine-masks {bad} --out {out}.npz", LOSSES),
]  # fmt: skip
