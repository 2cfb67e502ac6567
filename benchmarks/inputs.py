"""Images and probability maps to measure steps on: of a run, synthetic, or of photographs."""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from ensemble.cli.options import FILE, CommandFunction
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.core.arrays import evenly_spaced
from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.run_folder import Run
from evaluation.core.types import Images, Labels, Map
from members.data.dataset import DataSet
from members.data.sample import draw_sample
from members.maps import check_same_images

PHOTOGRAPHS, PHOTO_SIZE, PHOTO_CLASSES = ("astronaut", "coffee", "chelsea"), (64, 128), 5
BLUR_PX, NOISE = 3.0, 0.7
SEED = 0
FLOOR = 2.0**-25


@dataclass(frozen=True)
class BenchInputs:
    """Images with their maps.

    Args:
        maps: (image, class, row, col).
        images: uint8 (image, channel, row, col).
        ids: of the images.
        floor: lower bound of probabilities before taking logarithms.
        about: where they come from, for people.
    """

    maps: Map
    images: Images
    ids: tuple[str, ...]
    floor: float
    about: str

    def subset(self, count: int) -> "BenchInputs":
        """Return up to `count` of them, evenly spaced."""
        chosen = evenly_spaced(len(self.maps), count)
        ids = tuple(self.ids[index] for index in chosen)
        return BenchInputs(self.maps[chosen], self.images[chosen], ids, self.floor, self.about)


def run_inputs(
    run: Run, fusion: str | None, split: str, count: int, *, colour: bool = False
) -> BenchInputs:
    """Take evenly spaced images of a split, of its commonest size, and their maps.

    Args:
        run: the experiment folder.
        fusion: fusion or member; by default the first member.
        split: split of the images.
        count: maximum number of images.
        colour: leave out images whose channels are equal, such as grey ones among colour ones.

    Raises:
        BadRun: no such maps, or maps of other images.
    """
    sources = RunMembers.of(run)
    name = fusion or sources.names()[0]
    maps, data = sources.open(name, split), DataSet.load(run.data(split))
    check_same_images(maps.ids, data.ids, member=name, split=split, error=BadRun)
    usable = np.arange(len(data))
    if colour:
        usable = np.array([i for i in usable if np.ptp(data.images[i : i + 1], axis=1).any()])
    sizes = [data.extent.size_of(int(index)) for index in usable]
    (rows, cols), _ = Counter(sizes).most_common(1)[0]
    usable = usable[[size == (rows, cols) for size in sizes]]
    chosen = usable[evenly_spaced(len(usable), count)]
    return BenchInputs(
        np.concatenate([maps.read(slice(index, index + 1)) for index in chosen]),
        np.asarray(data.images[chosen]),
        tuple(data.ids[index] for index in chosen),
        maps.floor,
        f"maps of {name!r} over {split!r} of {run.path}, {rows} x {cols}",
    )


def synthetic_inputs(count: int) -> BenchInputs:
    """Take images of the built-in sample, and maps from their masks: smoothed, with noise."""
    sample = draw_sample(images=1, test=1, validation=count)
    maps = _maps_from(sample.validation_masks)
    ids = tuple(str(number) for number in range(len(maps)))
    about = "images of the built-in sample; synthetic maps: masks smoothed, with noise"
    return BenchInputs(maps, sample.validation_images[:, None], ids, FLOOR, about)


def photo_inputs(count: int) -> BenchInputs:
    """Cut pieces from photographs, with maps of masks that are steps of their brightness.

    Raises:
        BadSpec: scikit-image, which brings the photographs, is not installed.
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
            int(rng.integers(length - part + 1))
            for length, part in zip(photograph.shape, PHOTO_SIZE, strict=False)
        )
        piece = photograph[row : row + PHOTO_SIZE[0], col : col + PHOTO_SIZE[1]]
        pieces.append(np.moveaxis(piece, -1, 0))
        ids.append(f"{name} from {row}, {col}")
    images = np.stack(pieces)
    brightness = ndimage.gaussian_filter(images.mean(axis=1), (0, 2, 2))
    steps = np.quantile(brightness, np.arange(1, PHOTO_CLASSES) / PHOTO_CLASSES, axis=(1, 2))
    target = (brightness > steps[..., None, None]).sum(axis=0).astype(np.uint8)
    about = (
        "photographs of scikit-image at half size; synthetic maps: five steps of brightness"
        " smoothed, with noise"
    )
    return BenchInputs(_maps_from(target), images, tuple(ids), FLOOR, about)


def _maps_from(target: Labels) -> Map:
    from scipy import ndimage

    rng = np.random.default_rng(SEED)
    classes = int(target[target < 255].max()) + 1
    one_hot = (target[:, None] == np.arange(classes)[:, None, None]).astype(np.float32)
    scores = np.log(ndimage.gaussian_filter(one_hot, BLUR_PX, axes=(2, 3)) + 0.02)
    noise = ndimage.gaussian_filter(rng.normal(0, 1, scores.shape), BLUR_PX, axes=(2, 3))
    scores += NOISE * noise / noise.std()
    maps = np.exp(scores)
    normalised: Map = (maps / maps.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def inputs_options(images: int) -> Callable[[CommandFunction], CommandFunction]:
    """Add `--run`, `--fusion`, `--split` and `--images`, and pass `inputs` to the command.

    Args:
        images: default of `--images`.
    """
    options = [
        click.option(
            "--run", "run_path", type=FILE, metavar="RUN", help="Take maps from this run."
        ),
        click.option(
            "--fusion", metavar="N", help="Fusion or member; by default the first member."
        ),
        click.option("--split", default="validation", show_default=True, help="Split to use."),
        click.option("--only-colour", is_flag=True, help="Leave out the run's grey images."),
        click.option(
            "--images",
            type=click.IntRange(1),
            default=images,
            show_default=True,
            help="Maximum number of images.",
        ),
    ]

    def add(command: CommandFunction) -> CommandFunction:
        @functools.wraps(command)
        def with_inputs(
            *args: Any,
            run_path: Path | None,
            fusion: str | None,
            split: str,
            images: int,
            only_colour: bool,
            **others: Any,
        ) -> Any:
            if run_path is None and fusion is not None:
                raise click.UsageError("--fusion needs a run; give --run too")
            if run_path is None:
                inputs = synthetic_inputs(images)
            else:
                inputs = run_inputs(Run(run_path), fusion, split, images, colour=only_colour)
            return command(*args, inputs=inputs, **others)

        return functools.reduce(lambda f, option: option(f), reversed(options), with_inputs)  # type: ignore[return-value]

    return add
