"""Chains of steps: `suppress_background|crf(iterations=5)` becomes one function, maps to labels."""

from dataclasses import dataclass, replace

import numpy as np

from evaluation.core.arrays import argmax
from evaluation.core.errors import BadData, BadMaps, BadSpec
from evaluation.core.ragged import Extent, Stack, extent_of
from evaluation.core.specs import Spec, parse_spec, split_chain
from evaluation.core.types import Array, Labels
from evaluation.run_metric import SetMetric
from postproc.step import ImageNeed, LearnedStep, Step
from postproc.steps import STEPS

CLASS_AXIS, MAP_AXES = 1, 4
CHANNELS = (1, 3)
STEP_MAPS = 5
"""Maps of a block that the steps hold at most: read, changed, and a dense CRF's working memory."""

FLOAT16_FLOOR = 2.0**-25


def parse_chain(
    text: str,
    *,
    classes: int,
    ignore: int | None,
    floor: float = FLOAT16_FLOOR,
    metric: SetMetric | None = None,
    device: str = "auto",
) -> "Chain":
    """Parse and check a chain of steps; empty text gives the plain argmax.

    Args:
        text: specs joined by `|`, such as `blur(sigma=1)|remove_small(min_area_px=64)`.
        floor: lower bound of probabilities for steps that take logarithms: half the quantum of the
            maps' type on disk; float16's by default.
        metric: what steps that learn optimise; the masked mean IoU by default.
        device: where steps compute that can use a GPU; see `members.devices.devices`.

    Raises:
        BadSpec: an unknown step or option, a value out of range, a step on maps after one that
            returns labels, or a step repeated where the second changes nothing or could be merged
            into the first.

    Examples:
        >>> chain = parse_chain("suppress_background", classes=3, ignore=0)
        >>> maps = np.array([[0.6, 0.1, 0.3], [0.2, 0.7, 0.1]], np.float32)
        >>> chain(maps.T[None, :, None])
        array([[[2, 1]]], dtype=uint8)
    """
    return StepContext(classes, ignore, floor, metric, device).parse(text)


@dataclass(frozen=True)
class StepContext:
    """What factories of steps are given beside their options; see `parse_chain`."""

    classes: int
    ignore: int | None
    floor: float
    metric: SetMetric | None = None
    device: str = "auto"

    def parse(self, text: str) -> "Chain":
        """Parse and check a chain; see `parse_chain`."""
        specs = [parse_spec(part) for part in split_chain(text)]
        steps: list[Step | LearnedStep] = []
        for spec in specs:
            step = self.build(spec)
            if steps:
                _check_order(specs[len(steps) - 1], steps[-1], spec, step)
            steps.append(step)
        return Chain(tuple(specs), tuple(steps), self)

    def build(self, spec: Spec) -> Step | LearnedStep:
        """Build the step that a spec names."""
        step: Step | LearnedStep = STEPS.build(
            spec,
            classes=self.classes,
            ignore=self.ignore,
            floor=self.floor,
            metric=self.metric,
            device=self.device,
        )
        return step


@dataclass(frozen=True)
class Chain:
    """Steps in order; argmax turns maps into labels once, as late as the steps allow.

    Args:
        specs: one per step; none for the plain argmax.
        steps: what the specs name, checked to fit one after the other.
        context: what the steps were built with.
    """

    specs: tuple[Spec, ...]
    steps: tuple[Step | LearnedStep, ...]
    context: StepContext

    def __str__(self) -> str:
        """Return the canonical text, which `parse_chain` reads again."""
        return "|".join(str(spec) for spec in self.specs)

    @property
    def needs_images(self) -> bool:
        """Whether a step reads the images."""
        return self.image_need is not None

    @property
    def image_need(self) -> ImageNeed | None:
        """The first step that reads images of 1 or 3 channels, else of any; None without any."""
        pairs = zip(self.specs, self.steps, strict=True)
        needs = [ImageNeed(spec.name, s.any_channels) for spec, s in pairs if s.needs_images]
        return min(needs, key=lambda need: need.any_channels, default=None)

    @property
    def classes(self) -> int:
        """Number of classes that the maps must have."""
        return self.context.classes

    @property
    def learns(self) -> bool:
        """Whether a step must be fitted before the chain can be applied; see `fit_chain`."""
        return any(isinstance(step, LearnedStep) for step in self.steps)

    @property
    def optimises(self) -> bool:
        """Whether a step learns what scores highest, so that it depends on the metric."""
        pairs = zip(self.specs, self.steps, strict=True)
        return any(isinstance(s, LearnedStep) and STEPS.takes(n.name, "metric") for n, s in pairs)

    @property
    def before_learning(self) -> "Chain":
        """The steps before the last learned one: what held-out maps must go through."""
        learned = [k for k, step in enumerate(self.steps) if isinstance(step, LearnedStep)]
        return self.prefix(max(learned, default=0))

    def prefix(self, length: int) -> "Chain":
        """Return the chain of the first steps."""
        return replace(self, specs=self.specs[:length], steps=self.steps[:length])

    def replace_step(self, index: int, spec: Spec) -> "Chain":
        """Return the chain with another step, of the same kind, at an index."""
        specs, steps = list(self.specs), list(self.steps)
        specs[index], steps[index] = spec, self.context.build(spec)
        return replace(self, specs=tuple(specs), steps=tuple(steps))

    def __call__(self, maps: Array, images: Array | None = None) -> Labels:
        """Turn a block of maps into label maps.

        Args:
            maps: float32 probabilities (image, class, row, col).
            images: uint8 (image, channel, row, col) of the same images, with the channels of
                `image_need`; may be None unless `needs_images`.

        Returns:
            Labels (image, row, col), uint8.

        Raises:
            BadMaps: maps of another shape.
            BadData: images that are missing or do not fit the maps.
            BadSpec: a step is not fitted yet.
        """
        values = self.apply_to_maps(maps, images)
        labels: Labels = argmax(values) if values.ndim == MAP_AXES else values
        return labels

    def apply_to_maps(self, maps: Array, images: Array | None = None) -> Array:
        """Return the output of the last step, maps or labels; see `__call__`."""
        if maps.ndim != MAP_AXES or maps.shape[CLASS_AXIS] != self.classes:
            expected = f"(images, {self.classes} classes, rows, cols)"
            raise BadMaps(f"maps of shape {maps.shape}; expected {expected}")
        check_images(images, extent_of(maps), needed_by=self.image_need)
        values = maps
        for spec, step in zip(self.specs, self.steps, strict=True):
            if isinstance(step, LearnedStep):
                raise BadSpec(
                    f"step {spec.name!r} is not fitted; fit the chain on held-out maps and target"
                )
            values = run_step(spec, step, values, images)
        return values


def run_step(spec: Spec, step: Step, values: Array, images: Array | None) -> Array:
    """Apply one step of a chain: a step on labels gets the argmax of maps.

    Raises:
        BadMaps: it returned NaN or infinite values, which argmax would take for a class.
    """
    if step.input == "labels" and values.ndim == MAP_AXES:
        values = argmax(values)
    result: Array = step.apply(values, images)
    if step.output == "maps" and not np.isfinite(result.sum()):
        raise BadMaps(
            f"step '{spec}' returned NaN or infinite values; use other options, or check the maps"
        )
    return result


def check_image_type(images: Stack, needed_by: ImageNeed | None) -> None:
    """Check type and channels of images for the step that needs them; None needs none.

    Raises:
        BadData: the step cannot read them.
    """
    channels, advice = "any number of", ""
    if needed_by is not None:
        channels = "any number of" if needed_by.any_channels else "1 or 3"
        advice = f" for step {needed_by.step!r}; leave it out, or convert the images"
        if images.dtype == np.uint8 and STEPS.takes(needed_by.step, "projection"):
            advice += f", or write {needed_by.step}(projection=pca) for three principal components"
    fits = channels != "1 or 3" or (images.ndim == 4 and images.shape[1] in CHANNELS)
    if images.ndim != 4 or (needed_by is not None and not (fits and images.dtype == np.uint8)):
        expected = f"uint8 (images, {channels} channels, rows, cols)"
        raise BadData(
            f"images are {images.dtype} of shape {images.shape}; expected {expected}{advice}"
        )


def check_images(
    images: Stack | None,
    extent: Extent,
    *,
    needed_by: ImageNeed | None,
    option: str = "--images",
) -> None:
    """Check that images are there where a step needs them, and fit the maps.

    Args:
        images: the images, if any.
        extent: number and sizes of the maps.
        needed_by: the step that needs images; None where none does.
        option: the command's option that gives them.

    Raises:
        BadData: images that are missing, or of another type, shape, number or size.
    """
    if images is None:
        if needed_by:
            raise BadData(f"step {needed_by.step!r} needs images; give them with {option}")
        return
    check_image_type(images, needed_by)
    if len(images) != len(extent):
        raise BadData(f"{len(images)} images for maps of {len(extent)}; expected the same images")
    if extent_of(images) != extent:
        raise BadData(
            f"images of {extent_of(images)} pixels; expected {extent}, the size of the maps"
        )


def _check_order(
    before: Spec, first: Step | LearnedStep, spec: Spec, step: Step | LearnedStep
) -> None:
    """Refuse a step that cannot follow the one before it, or need not."""
    if (first.output, step.input) == ("labels", "maps"):
        raise BadSpec(
            f"step {spec.name!r} needs maps, but {before.name!r} before it returns labels;"
            f" move {spec.name!r} before the first step on labels"
        )
    if spec.name == before.name and step.when_repeated == "mergeable":
        raise BadSpec(f"step {spec.name!r} is repeated; one with other options does the same")
    if spec == before and step.when_repeated == "redundant":
        raise BadSpec(f"step '{spec}' is repeated, and the second would change nothing")
