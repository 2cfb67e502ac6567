# ruff: noqa: E501  # one case a line
"""External maps that `ens import` refuses."""

import numpy as np

from tests.untrusted.corpus.bad_arrays import NPY, NPZ, head
from tests.untrusted.corpus.bad_images import BEYOND, GREY, drawn
from tests.untrusted.corpus.bad_zarr import ZARR
from tests.untrusted.corpus.cases import (
    COLS,
    IMAGES,
    ROWS,
    Bad,
    Case,
    maps,
    saved,
    through,
    with_value,
    written,
)


def one_per_image(**files: bytes):
    """Return what makes a folder of files."""

    def make(path):
        path.mkdir()
        for name, content in files.items():
            path.joinpath(name.replace("_", ".")).write_bytes(content)

    return make


STACKS = [
    Bad("nan.npy", written(saved(with_value(maps(), np.nan))), "member 'm': "),
    Bad("infinite.npy", written(saved(with_value(maps(), -np.inf))), "first in image 0"),
    Bad("large.npy", written(saved(with_value(maps(np.float64), 1e300))), "NaN or infinite"),
    Bad("negative.npy", written(saved(with_value(maps(), -3))), "logits given as probabilities"),
    Bad("above-1.npy", written(saved(maps() * 4)), "sums that are not 1"),
    Bad("fewer.npy", written(saved(maps()[:2])), "holds 2 images without ids"),
    Bad("classes.npy", written(saved(maps(klass=9))), "holds 9 classes; expected 5"),
    Bad("size.npy", written(saved(maps(row=15))), "images of 15 x 24 pixels"),
    Bad("labels.npy", written(saved(np.full((IMAGES, ROWS, COLS), 77))), "holds labels from 77"),
    Bad("complex.npy", written(saved(maps(np.complex64))), "complex64"),
    Bad("ids-twice.npz", written(saved(None, maps=maps(), ids=np.array(["a"] * 6))), "ids that repeat"),
    Bad("ids-fewer.npz", written(saved(None, maps=maps(), ids=np.array(["a"]))), "holds 1 ids for 6"),
    Bad("ids-text.npz", written(saved(None, maps=maps(), ids=BEYOND)), "holds what is no text"),
    Bad("ids-shape.npz", written(saved(None, maps=maps(), ids=np.zeros((6, 2)))), "strings or whole"),
    Bad("nnunet.npz", written(saved(None, probabilities=maps()[0])), "lacks 6 of 6 images"),
]  # fmt: skip
FOLDERS = [
    Bad("kinds", one_per_image(a_npy=saved(maps()[0]), b_png=drawn(GREY)), "expected one kind"),
    Bad("first-ok", one_per_image(a_npy=saved(maps()[0]), b_npy=head(f"({1 << 60},)")), ""),
    Bad("colour", one_per_image(a_png=drawn(np.dstack([GREY] * 3))), "expected class indices"),
    Bad("cut-png", one_per_image(a_png=drawn(GREY)[:40]), "is no readable image"),
    Bad("nothing", lambda path: path.mkdir(), "expected one kind"),
]  # fmt: skip
IMPORT = "import {bad} --name m --split validation --run {run}"
TRAINED = "import {maps} --name m --split validation --run {run} --trained-on {bad}"
CASES: list[Case] = [
    *through([*NPY, *NPZ[::3], *STACKS, *ZARR, *FOLDERS], IMPORT),
    *through([Bad("ids.txt", written(b"\xff\xfe\x00"), "expected a text file with one id per line")], TRAINED),
]  # fmt: skip
