"""What `ens bench crf` and `morphology` try steps on: real images and maps, or drawn ones.

The options by which a measurement takes images and maps: those of a run, or drawn ones.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from ensemble.cli.options import FILE, Verb
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.core.arrays import evenly_spaced
from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.run_folder import Run
from evaluation.core.types import Images, Labels, Map
from members.data.dataset import DataSet
from members.data.sample import draw_sample
from postproc.step import Step
from postproc.steps import STEPS

PHOTOGRAPHS, PHOTO_SIZE, PHOTO_CLASSES = ("astronaut", "coffee", "chelsea"), (64, 128), 5
BLUR_PX, NOISE = 3.0, 0.7
SEED = 0
FLOOR = 2.0**-25


@dataclass(frozen=True)
class Cases:
    """What the field is tried on.

    Args:
        maps: (image, class, row, col).
        images: uint8 (image, channel, row, col).
        ids: of the images.
        floor: of the maps' logarithms.
        about: where all this comes from.
    """

    maps: Map
    images: Images
    ids: tuple[str, ...]
    floor: float
    about: str

    def step(self, **options: Any) -> Step:
        """Build the step for these maps."""
        context = {"classes": self.maps.shape[1], "floor": self.floor, **options}
        step: Step = STEPS.build("crf", **context)
        return step

    def first(self, count: int) -> "Cases":
        """Return fewer of them, evenly spaced."""
        chosen = evenly_spaced(len(self.maps), count)
        ids = tuple(self.ids[place] for place in chosen)
        return Cases(self.maps[chosen], self.images[chosen], ids, self.floor, self.about)


def cases_of_run(run: Run, fusion: str | None, split: str, count: int) -> Cases:
    """Take images of a split, evenly spaced, and the maps of them.

    Args:
        run: the experiment folder.
        fusion: or member; by default the first member.
        split: of the images.
        count: how many at most.

    Raises:
        BadRun: no such maps, or maps of other images.
    """
    sources = RunMembers.of(run)
    name = fusion or sources.names()[0]
    maps, data = sources.open(name, split), DataSet.load(run.data(split))
    if maps.ids != data.ids:
        raise BadRun(f"{name!r} has maps of other images than {split}; make them again")
    chosen = evenly_spaced(len(data), count)
    return Cases(
        np.concatenate([maps.read(slice(place, place + 1)) for place in chosen]),
        np.asarray(data.images[chosen]),
        tuple(data.ids[place] for place in chosen),
        maps.floor,
        f"maps of {name!r} over {split!r} of {run.path}",
    )


def drawn_cases(count: int) -> Cases:
    """Take images of the built-in sample, and maps made of their masks: smoothed, with noise."""
    sample = draw_sample(images=1, test=1, validation=count)
    maps = _drawn_maps(sample.validation_masks)
    ids = tuple(str(number) for number in range(len(maps)))
    about = "images of the built-in sample; maps drawn: masks smoothed, with noise"
    return Cases(maps, sample.validation_images[:, None], ids, FLOOR, about)


def colour_cases(count: int) -> Cases:
    """Cut pieces from photographs, and draw maps of masks that are steps of their brightness.

    Raises:
        BadSpec: scikit-image is not here, which brings the photographs.
    """
    from scipy import ndimage

    try:
        from skimage import data
    except ImportError:
        raise BadSpec(
            "photographs come with scikit-image; install the extra bench, or say --no-colour"
        ) from None
    rng = np.random.default_rng(SEED)
    pieces, ids = [], []
    for number in range(count):
        name = PHOTOGRAPHS[number % len(PHOTOGRAPHS)]
        photograph = getattr(data, name)()[::2, ::2]
        row, col = (
            int(rng.integers(whole - part + 1))
            for whole, part in zip(photograph.shape, PHOTO_SIZE, strict=False)
        )
        piece = photograph[row : row + PHOTO_SIZE[0], col : col + PHOTO_SIZE[1]]
        pieces.append(np.moveaxis(piece, -1, 0))
        ids.append(f"{name} from {row}, {col}")
    images = np.stack(pieces)
    light = ndimage.gaussian_filter(images.mean(axis=1), (0, 2, 2))
    steps = np.quantile(light, np.arange(1, PHOTO_CLASSES) / PHOTO_CLASSES, axis=(1, 2))
    target = (light > steps[..., None, None]).sum(axis=0).astype(np.uint8)
    about = (
        "photographs of scikit-image at half size; maps drawn: five steps of brightness smoothed,"
        " with noise"
    )
    return Cases(_drawn_maps(target), images, tuple(ids), FLOOR, about)


def _drawn_maps(target: Labels) -> Map:
    from scipy import ndimage

    rng = np.random.default_rng(SEED)
    classes = int(target[target < 255].max()) + 1
    hot = (target[:, None] == np.arange(classes)[:, None, None]).astype(np.float32)
    scores = np.log(ndimage.gaussian_filter(hot, BLUR_PX, axes=(2, 3)) + 0.02)
    noise = ndimage.gaussian_filter(rng.normal(0, 1, scores.shape), BLUR_PX, axes=(2, 3))
    scores += NOISE * noise / noise.std()
    maps = np.exp(scores)
    found: Map = (maps / maps.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def cases_options(images: int) -> Callable[[Verb], Verb]:
    """Add `--run`, `--fusion`, `--split` and `--images`, and give the verb `cases`.

    Args:
        images: how many by default.
    """
    options = [
        click.option(
            "--run", "run_path", type=FILE, metavar="RUN", help="Take maps from this run."
        ),
        click.option(
            "--fusion", metavar="N", help="Fusion or member; by default the first member."
        ),
        click.option("--split", default="validation", show_default=True, help="Of which images."),
        click.option(
            "--images",
            type=click.IntRange(1),
            default=images,
            show_default=True,
            help="How many images.",
        ),
    ]

    def add(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def there(
            *args: Any,
            run_path: Path | None,
            fusion: str | None,
            split: str,
            images: int,
            **others: Any,
        ) -> Any:

            if run_path is None and fusion is not None:
                raise click.UsageError("--fusion is of a run; give --run too")
            if run_path is None:
                cases = drawn_cases(images)
            else:
                cases = cases_of_run(Run(run_path), fusion, split, images)
            return verb(*args, cases=cases, **others)

        return functools.reduce(lambda f, option: option(f), reversed(options), there)  # type: ignore[return-value]

    return add
