"""Find masks with a planted wrong region: the rankings of `ens data disagreements`.

    python -m benchmarks.label_errors                      # chooses on seeds 0 to 9
    python -m benchmarks.label_errors --first-seed 100     # evaluates on seeds 100 to 109

Each data set has 200 images of 48 x 64 pixels and five classes, of which 20 have a disc of another
class in their mask: small (radius 2.5 to 4 px) or large (9 to 14 px), or have the mask of another
image (whole). Maps follow the true labels;
clean ones have soft edges and a little noise, noisy ones also smooth errors whose strength differs
by image, and a class that is predicted too often. Printed is how many of the 20 are among the first
20, and the paired difference to cleanlab's `softmin` and to `score` with its interval over seeds.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, stats
from scipy.special import softmax

from ensemble.calibration.calibrators import vector
from ensemble.fusion import TrainingBlock
from ensemble.pipeline.analysis.label_disagreement import DEFAULT, MEASURES
from ensemble.sampling import draw_pixels
from evaluation.core.classes import Classes
from evaluation.core.types import Array
from members.data.label_disagreement import class_confidence, class_thresholds, disagreement

CLASSES = Classes(tuple("abcde"))
IMAGES, SIZE, PLANTED = 200, (48, 64), 20
RADII_PX = {"small": (2.5, 4), "large": (9, 14)}
PIXELS = 20_000
"""To calibrate on."""

SETTINGS = [(region, maps) for region in (*RADII_PX, "whole") for maps in ("clean", "noisy")]


@dataclass(frozen=True)
class Planted:
    """Maps, masks, and which masks have a wrong region."""

    maps: Array
    masks: Array
    wrong: Array

    def __iter__(self) -> Iterator[TrainingBlock]:
        """Yield all images as one block of one member."""
        yield TrainingBlock(self.maps[None], self.masks, None)


def draw(region: str, kind: str, seed: int) -> Planted:
    rng = np.random.default_rng(seed)

    def field(sigma: float) -> Array:
        noise = rng.normal(size=(IMAGES, len(CLASSES), *SIZE))
        smooth = ndimage.gaussian_filter(noise, sigma, axes=(2, 3))
        return np.asarray(smooth / smooth.std())

    true = field(6).argmax(axis=1)
    soft = np.eye(len(CLASSES))[true].transpose(0, 3, 1, 2)
    logits = 6 * ndimage.gaussian_filter(soft, 1, axes=(2, 3))
    if kind == "clean":
        logits += 0.3 * rng.normal(size=logits.shape)
    else:
        strength = rng.gamma(2, 0.5, size=(IMAGES, 1, 1, 1))
        logits += 1.2 * strength * field(3) + 0.5 * rng.normal(size=logits.shape)
        logits[:, 3] += 1
    masks = true.copy()
    wrong = rng.choice(IMAGES, PLANTED, replace=False)
    rows, cols = np.indices(SIZE)
    if region == "whole":
        masks[wrong] = true[(wrong + 1) % IMAGES]
    for image in wrong if region in RADII_PX else ():
        radius = rng.uniform(*RADII_PX[region])
        row, col = (rng.integers(side) for side in SIZE)
        disc = np.hypot(rows - row, cols - col) <= radius
        masks[image, disc] = (true[image, disc] + rng.integers(1, len(CLASSES))) % len(CLASSES)
    maps = softmax(logits, axis=1).astype(np.float32)
    return Planted(maps, masks.astype(np.uint8), wrong)


def found(data: Planted) -> dict[str, int]:
    """Count the wrong masks among the first 20 by each ranking."""
    sample = draw_pixels(data, classes=len(CLASSES), ignore=None, pixels=PIXELS, seed=0)
    measured = disagreement(
        data.maps,
        data.masks,
        classes=CLASSES,
        floor=2.0**-25,
        calibrated=vector(None)(sample)(data.maps[None]),
        thresholds=class_thresholds(class_confidence(data.maps, data.masks, CLASSES)),
    )
    return {
        by: int(np.isin(np.argsort(-getattr(measured, field))[:PLANTED], data.wrong).sum())
        for by, (field, _) in MEASURES.items()
    }


def difference(first: Array, second: Array) -> str:
    """Return the mean difference over seeds and its 95 % interval (Student's t)."""
    gaps = first - second
    half = stats.t.ppf(0.975, len(gaps) - 1) * stats.sem(gaps)
    return f"{gaps.mean():+.1f} ({gaps.mean() - half:+.1f} to {gaps.mean() + half:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    print(f"seeds {seeds[0]} to {seeds[-1]}; of {PLANTED} wrong masks among the first {PLANTED}")
    print("| regions | maps | " + " | ".join(MEASURES) + " | against softmin | against score |")
    print("|---" * (len(MEASURES) + 4) + "|")
    totals: dict[str, list[float]] = {by: [] for by in MEASURES}
    for region, kind in SETTINGS:
        counts = [found(draw(region, kind, seed)) for seed in seeds]
        by = {name: np.array([count[name] for count in counts], float) for name in MEASURES}
        for name, values in by.items():
            totals[name].append(values.mean())
        cells = [f"{values.mean():.1f}" for values in by.values()]
        cells += [difference(by[DEFAULT], by[rival]) for rival in ("softmin", "score")]
        print(f"| {region} | {kind} | " + " | ".join(cells) + " |", flush=True)
    means = [f"{np.mean(values):.2f}" for values in totals.values()]
    print("| all | | " + " | ".join(means) + " | | |")


if __name__ == "__main__":
    main()
