"""Chains: `suppress_background|crf(iterations=5)` becomes one function from maps to labels."""

from dataclasses import dataclass, replace

from evaluation.core.arrays import argmax
from evaluation.core.errors import BadMaps, BadSpec
from evaluation.core.specs import Spec, parse_spec, split_chain
from evaluation.core.types import Array, Labels
from postproc.images import check_images
from postproc.step import LearnedStep, Step
from postproc.steps import STEPS

CLASS_AXIS = 1
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
        BadSpec: an unknown step or option, a value out of range, a step that needs maps after
            one that gives labels, or one right after itself where that makes no sense: the second
            would change nothing, or both would be one with other options.
    """
    around = StepContext(classes, ignore, floor)
    specs = [parse_spec(part) for part in split_chain(text)]
    steps: list[Step | LearnedStep] = []
    for spec in specs:
        step = around.build(spec)
        if steps:
            _check_order(specs[len(steps) - 1], steps[-1], spec, step)
        steps.append(step)
    return Chain(tuple(specs), tuple(steps), around)


@dataclass(frozen=True)
class StepContext:
    """What steps are built in; see `parse_chain`."""

    classes: int
    ignore: int | None
    floor: float

    def build(self, spec: Spec) -> Step | LearnedStep:
        """Build the step that a spec names."""
        step: Step | LearnedStep = STEPS.build(
            spec, classes=self.classes, ignore=self.ignore, floor=self.floor
        )
        return step


@dataclass(frozen=True)
class Chain:
    """Steps in order; maps become labels once, by argmax, as late as the steps allow.

    Args:
        specs: what was asked, one a step; none for the plain argmax.
        steps: what the specs name, checked to fit one after the other.
        around: what the steps were built in.
    """

    specs: tuple[Spec, ...]
    steps: tuple[Step | LearnedStep, ...]
    around: StepContext

    def __str__(self) -> str:
        """Give the canonical text, which `parse_chain` reads again."""
        return "|".join(str(spec) for spec in self.specs)

    @property
    def needs_images(self) -> bool:
        """Whether a step looks at the images."""
        return self.first_in_need is not None

    @property
    def first_in_need(self) -> str | None:
        """The name of the first step that looks at the images; None where none does."""
        pairs = zip(self.specs, self.steps, strict=True)
        return next((spec.name for spec, step in pairs if step.needs_images), None)

    @property
    def classes(self) -> int:
        """How many classes the maps must have."""
        return self.around.classes

    @property
    def learns(self) -> bool:
        """Whether a step must learn before the chain can be applied; see `fit_chain`."""
        return any(isinstance(step, LearnedStep) for step in self.steps)

    @property
    def before_learning(self) -> "Chain":
        """The steps before the last one that learns: what held-out maps must go through."""
        places = [k for k, step in enumerate(self.steps) if isinstance(step, LearnedStep)]
        return self.head(max(places, default=0))

    def head(self, place: int) -> "Chain":
        """Return the chain of the steps before a place."""
        return replace(self, specs=self.specs[:place], steps=self.steps[:place])

    def put(self, place: int, spec: Spec) -> "Chain":
        """Return the chain with another step, of the same kind, at a place."""
        specs, steps = list(self.specs), list(self.steps)
        specs[place], steps[place] = spec, self.around.build(spec)
        return replace(self, specs=tuple(specs), steps=tuple(steps))

    def __call__(self, maps: Array, images: Array | None = None) -> Labels:
        """Turn a block of maps into label maps.

        Args:
            maps: float32 probabilities (image, class, row, col).
            images: uint8 (image, channel, row, col) of the same images, with 1 or 3
                channels; may be None unless `needs_images`.

        Returns:
            Labels (image, row, col), uint8.

        Raises:
            BadMaps: maps of another shape than (image, class, row, col).
            BadData: images that are missing, or do not fit the maps.
            BadSpec: a step has not learned yet.
        """
        values = self.through(maps, images)
        labels: Labels = argmax(values) if values.ndim == maps.ndim else values
        return labels

    def through(self, maps: Array, images: Array | None = None) -> Array:
        """Return what the last step gives, maps or labels; see `__call__`."""
        self._check(maps, images)
        values, are = maps, "maps"
        for spec, step in zip(self.specs, self.steps, strict=True):
            if isinstance(step, LearnedStep):
                raise BadSpec(
                    f"step {spec.name!r} has not learned; give it held-out maps and target"
                )
            if step.takes == "labels" and are == "maps":
                values = argmax(values)
            values, are = step.apply(values, images), step.gives
        return values

    # Any array comes in here, so that the errors are ours, which a user understands.
    def _check(self, maps: Array, images: Array | None) -> None:
        if maps.ndim != 4 or maps.shape[CLASS_AXIS] != self.classes:
            expected = f"(images, {self.classes} classes, rows, cols)"
            raise BadMaps(f"maps of shape {maps.shape}; expected {expected}")
        check_images(images, maps.shape[0], maps.shape[2:], needed_by=self.first_in_need)


def _check_order(
    before: Spec, first: Step | LearnedStep, spec: Spec, step: Step | LearnedStep
) -> None:
    """Refuse a step that cannot follow the one before it, or need not."""
    if (first.gives, step.takes) == ("labels", "maps"):
        raise BadSpec(
            f"step {spec.name!r} needs maps, but {before.name!r} before it gives labels;"
            f" put {spec.name!r} before the first step on labels"
        )
    if spec.name == before.name and step.again == "merges":
        raise BadSpec(f"step {spec.name!r} stands twice in a row; one with other options does both")
    if spec == before and step.again == "nothing":
        raise BadSpec(f"step '{spec}' stands twice in a row, and the second would change nothing")
