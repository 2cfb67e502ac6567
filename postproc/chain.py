"""Chains: `suppress_background|crf(iterations=5)` becomes one function from maps to labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.ground.arrays import Array, Labels, Map
from evaluation.ground.errors import BadData, BadMaps, BadSpec
from evaluation.ground.specs import Spec, parse_spec, split_chain
from postproc.step import Step
from postproc.steps import STEPS

CLASS_AXIS = 1
CHANNELS = (1, 3)
FLOAT16_FLOOR = 2.0**-25


def parse_chain(
    text: str, *, classes: int, ignore: int | None, floor: float = FLOAT16_FLOOR
) -> "Chain":
    """Read and check a chain of steps; empty text gives the plain argmax.

    Args:
        text: specs joined by `|`, such as `blur(sigma=1)|remove_small(min_area_px=64)`.
        classes: how many classes the maps have.
        ignore: the class that is not scored, or None.
        floor: what steps that take logarithms raise smaller probabilities to: half the quantum
            of the maps' type on disk; by default float16's.

    Raises:
        BadSpec: an unknown step or option, a value out of range, or a step that needs maps after
            one that gives labels.
    """
    specs = [parse_spec(part) for part in split_chain(text)]
    steps: list[Step] = []
    for spec in specs:
        step: Step = STEPS.build(spec, classes=classes, ignore=ignore, floor=floor)
        if steps and (steps[-1].gives, step.takes) == ("labels", "maps"):
            before = specs[len(steps) - 1].name
            raise BadSpec(
                f"step {spec.name!r} needs maps, but {before!r} before it gives labels;"
                f" put {spec.name!r} before the first step on labels"
            )
        steps.append(step)
    return Chain(tuple(specs), tuple(steps), classes)


@dataclass(frozen=True)
class Chain:
    """Steps in order; maps become labels once, by argmax, as late as the steps allow.

    Args:
        specs: what was asked, one a step; none for the plain argmax.
        steps: what the specs name, checked to fit one after the other.
        classes: how many classes the maps must have.
    """

    specs: tuple[Spec, ...]
    steps: tuple[Step, ...]
    classes: int

    def __str__(self) -> str:
        """Give the canonical text, which `parse_chain` reads again."""
        return "|".join(str(spec) for spec in self.specs)

    @property
    def needs_pictures(self) -> bool:
        """Whether a step looks at the pictures."""
        return self.first_in_need is not None

    @property
    def first_in_need(self) -> str | None:
        """The name of the first step that looks at the pictures; None where none does."""
        pairs = zip(self.specs, self.steps, strict=True)
        return next((spec.name for spec, step in pairs if step.needs_pictures), None)

    def __call__(self, maps: Array, pictures: Array | None = None) -> Labels:
        """Turn a block of maps into label maps.

        Args:
            maps: float32 probabilities (picture, class, row, col).
            pictures: uint8 (picture, channel, row, col) of the same pictures, with 1 or 3
                channels; may be None unless `needs_pictures`.

        Returns:
            Labels (picture, row, col), uint8.

        Raises:
            BadMaps: maps of another shape than (picture, class, row, col).
            BadData: pictures that are missing, or do not fit the maps.
        """
        self._check(maps, pictures)
        values: Any = maps
        are: str = "maps"
        for step in self.steps:
            if step.takes == "labels" and are == "maps":
                values = argmax(values)
            values, are = step.apply(values, pictures), step.gives
        labels: Labels = argmax(values) if are == "maps" else values
        return labels

    # Any array comes in here, so that the errors are ours, which a user understands.
    def _check(self, maps: Array, pictures: Array | None) -> None:
        if maps.ndim != 4 or maps.shape[CLASS_AXIS] != self.classes:
            expected = f"(pictures, {self.classes} classes, rows, cols)"
            raise BadMaps(f"maps of shape {maps.shape}; expected {expected}")
        check_pictures(pictures, maps.shape[0], maps.shape[2:], needed_by=self.first_in_need)


def check_pictures(
    pictures: Array | None,
    count: int,
    size: tuple[int, ...] | None = None,
    *,
    needed_by: str | None,
) -> None:
    """Refuse pictures that are missing where a step needs them, or do not fit the maps.

    Args:
        pictures: what was given.
        count: how many pictures the maps are of.
        size: rows and columns of the maps; None where they are not known yet.
        needed_by: the step that needs pictures; None where none does.

    Raises:
        BadData: the first thing found.
    """
    if pictures is None:
        if needed_by:
            raise BadData(f"step {needed_by!r} looks at the pictures; give them with --images")
        return
    shape = pictures.shape
    if pictures.ndim != 4 or shape[1] not in CHANNELS or pictures.dtype != np.uint8:
        expected = "uint8 (pictures, 1 or 3 channels, rows, cols)"
        raise BadData(f"pictures are {pictures.dtype} of shape {shape}; expected {expected}")
    if shape[0] != count:
        raise BadData(f"{shape[0]} pictures for maps of {count}; expected the same pictures")
    if size is not None and shape[2:] != size:
        met, expected = ("x".join(map(str, sides)) for sides in (shape[2:], size))
        raise BadData(f"pictures of {met} pixels; expected {expected}, the size of the maps")


def argmax(maps: Map) -> Labels:
    """Give each pixel its most probable class, the lowest of several; uint8."""
    labels: Labels = maps.argmax(axis=CLASS_AXIS).astype(np.uint8)
    return labels
