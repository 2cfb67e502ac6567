"""Peak memory of `ens fuse`, `postprocess` and `score` on street scenes: N images and 8 N images.

    .venv/bin/python -m benchmarks.large_images [N] [--crf]

Images have 1024 x 2048 pixels and 19 classes, maps of two members are uint8. With --crf, one image
of 2048 x 4096, smooth with noise as of a camera, is post-processed by a dense CRF, grey and in
colour, for 5 and for 19 classes.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.memory import ens_peak_mb
from evaluation.core.types import Array

ROWS, COLS, CLASSES = 1024, 2048, 19
CELL_PX, BRIGHTNESS, TINT, NOISE = 64, 50.0, 15.0, 4.0
COMMANDS = {
    "fuse": "fuse --strategy mean --maps a.npy --maps b.npy --out fused.npy",
    "postprocess": "postprocess --maps a.npy --chain mode_filter --out labels.npy",
    "score": "score --target labels.npy --pred labels.npy --classes 19",
}
CRF = "postprocess --maps a.npy --images images.npy --chain crf --out labels.npy"


def main() -> None:
    """Print the table."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdecimal()]
    if "--crf" in sys.argv:
        print("| image | classes | s | MB |")
        print("|---|---|---|---|")
        for kind, channels in (("grey", 1), ("colour", 3)):
            for classes in (5, CLASSES):
                with TemporaryDirectory() as name:
                    _write(Path(name), 1, classes, 2 * ROWS, 2 * COLS, channels=channels)
                    start = time.perf_counter()
                    peak = ens_peak_mb(CRF.split(), Path(name))
                    seconds = time.perf_counter() - start
                print(f"| {kind} | {classes} | {seconds:.0f} | {peak:.0f} |", flush=True)
        return
    few = numbers[0] if numbers else 8
    peaks = {}
    for images in (few, 8 * few):
        with TemporaryDirectory() as name:
            _write(Path(name), images, CLASSES, ROWS, COLS)
            peaks[images] = {
                c: ens_peak_mb(line.split(), Path(name)) for c, line in COMMANDS.items()
            }
    print(f"| command | MB, {few} images | MB, {8 * few} images | ratio |")
    print("|---|---|---|---|")
    for command in COMMANDS:
        small, large = peaks[few][command], peaks[8 * few][command]
        print(f"| {command} | {small:.0f} | {large:.0f} | {large / small:.2f} |")


def _write(
    folder: Path, images: int, classes: int, rows: int, cols: int, *, channels: int = 0
) -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(classes, 0.3), rows * cols // 64).astype(np.float32)
    block = np.rint(255 * probs.T).astype(np.int64)
    block[block.argmax(axis=0), np.arange(block.shape[1])] += 255 - block.sum(axis=0)
    image = np.repeat(block.astype(np.uint8), 64, axis=1).reshape(classes, rows, cols)
    for name in ("a", "b"):
        shape = (images, classes, rows, cols)
        maps = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape)
        for index in range(images):
            maps[index] = image
        maps.flush()
    if channels:
        np.save(folder / "images.npy", _draw_image(rng, channels, rows, cols)[None])


def _draw_image(rng: np.random.Generator, channels: int, rows: int, cols: int) -> Array:
    """Draw a brightness that changes from cell to cell, tinted, with a camera's noise."""
    shape = (channels, rows // CELL_PX + 1, cols // CELL_PX + 1)
    coarse = rng.normal(128, BRIGHTNESS, shape[1:]) + rng.normal(0, TINT, shape)
    image = np.empty((channels, rows, cols), np.uint8)
    y, x = np.arange(rows) / CELL_PX, np.arange(cols) / CELL_PX
    for channel, shades in zip(image, coarse, strict=True):
        knots = [np.arange(length) for length in shades.shape]
        wide = np.stack([np.interp(x, knots[1], line) for line in shades])
        top = y.astype(int).clip(0, len(shades) - 2)
        share = (y - top)[:, None]
        smooth = wide[top] * (1 - share) + wide[top + 1] * share
        noisy = smooth + rng.normal(0, NOISE, smooth.shape)
        channel[...] = noisy.clip(0, 255)
    return image


if __name__ == "__main__":
    main()
