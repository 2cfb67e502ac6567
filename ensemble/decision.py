"""Decide by the metric: parameters of a strategy fitted beyond its log-loss, chosen by inner folds.

Probabilities are fitted by their log-loss, and stay so. Which class a pixel gets is another
question, which the metric answers: it gives a rare class the weight of a frequent one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Integer

from ensemble.blas import one_blas_thread
from ensemble.fusion import (
    Fusion,
    ScoredLabels,
    fuse_block,
    needs_images,
    scored_labels,
    some_members,
)
from ensemble.sampling import PixelSample
from ensemble.soft_score import LogScores, Pixels, ScoredPixels, Tables
from evaluation.bias_search import Biases, FitPixels, ascend
from evaluation.core.errors import BadData
from evaluation.core.types import Images, Map, Maps
from evaluation.intervals import standard_error
from evaluation.run_metric import SetMetric

Objective = Literal["metric", "log_loss"]
"""An option: what decisions are fitted by. `metric` is the run's, in its form for sums of pixels
(`masked`, `dice`, `iou` or `foreground`; any other takes `masked`), chosen by inner folds among the
fit by the metric, that by the log-loss, the mean and the best member."""

INNER_FOLDS, MIN_GROUPS = 3, 2
INNER_PIXELS = 10_000
"""Pixels that inner folds fit on, and that a fit starts on; they are examined on all."""

STRENGTHS = (1.0, 0.1, 0.01)
"""Of the penalty, from the strongest; each fit starts from the one before."""

MARGIN = 0.5
"""Gains of a fit below so many standard errors do not count."""

Labels = Integer[np.ndarray, "candidate pixel"]
InnerTables = Float[np.ndarray, "inner group scored predicted"]


@dataclass(frozen=True)
class Decided:
    """A fusion whose decisions were fitted by a metric, beside its probabilities.

    Calling it gives scores that sum to 1 and whose highest is the decision.

    Args:
        decision: what decides the classes.
        probabilities: fitted by the log-loss (and calibrated, where asked for).
        chosen: what the inner folds chose: `metric`, `log_loss`, `mean` or `member`.
        strength: of the penalty of the fit by the metric.
    """

    decision: Fusion
    probabilities: Fusion
    chosen: str
    strength: float

    @property
    def needs_images(self) -> bool:
        """Whether one of the two reads the images."""
        return needs_images(self.decision) or needs_images(self.probabilities)

    def of_members(self, members: Sequence[int]) -> Fusion:
        """Return the fusion of some of the members; see `ensemble.fusion.some_members`."""
        decision = some_members(self.decision, members)
        return replace(
            self, decision=decision, probabilities=some_members(self.probabilities, members)
        )

    def describe(self) -> str:
        """Return what decides, in words."""
        words = {
            "metric": f"the fit by the metric (penalty {self.strength:g})",
            "log_loss": "the fit by the log-loss",
            "mean": "the mean of the members",
            "member": "the best member",
        }
        return f"{words[self.chosen]} scored highest in inner folds, and decides"

    def describe_maps(self) -> str:
        """Return what decides, and whether fused maps are the fitted probabilities, in words."""
        if self.decision is self.probabilities:
            return f"{self.describe()}; the maps are its probabilities"
        return (
            f"{self.describe()}; the maps hold what decides, not fitted probabilities: for these"
            " (ece, log-loss, entropy, distillation) take objective=log_loss"
        )

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        """Fuse for the decision."""
        return fuse_block(self.decision, maps, images)


def probabilities_of(fusion: Fusion) -> Fusion:
    """Return what gives a fusion's probabilities: itself where no metric decides."""
    return fusion.probabilities if isinstance(fusion, Decided) else fusion


class Learner(ABC):
    """A strategy's parameters as they are fitted to sampled pixels; `rows` are some of them.

    Args:
        pixels: the target of the sample.
        labels: decisions of the mean, then of each member: indices among the scored classes, or
            their number where the ignored class is predicted.
    """

    strengths: ClassVar[Sequence[float]] = STRENGTHS
    margin: ClassVar[float] = MARGIN

    def __init__(self, pixels: ScoredPixels, labels: Labels) -> None:
        self.pixels, self.labels = pixels, labels

    @abstractmethod
    def start(self, rows: Pixels) -> Any:
        """Return the parameters of the lowest log-loss."""

    @abstractmethod
    def improve(self, rows: Pixels, start: Any, anchor: Any, strength: float) -> Any:
        """Fit parameters by the metric, from some on, pulled to the `anchor`."""

    @abstractmethod
    def logits(self, parameters: Any, rows: Pixels) -> LogScores:
        """Return the scores of the scored classes; the highest is the decision."""

    @abstractmethod
    def with_bias(self, parameters: Any, bias: Biases) -> Any:
        """Add a bias to the score of each class."""

    @abstractmethod
    def fusion(self, parameters: Any) -> Fusion:
        """Return what fuses by these parameters."""

    def probabilities(self, start: Any) -> Fusion:
        """Return what fuses by the parameters of `start`."""
        return self.fusion(start)

    def path(self, rows: Pixels, start: Any) -> list[Any]:
        """Return a fit by the metric for each strength of the penalty, from the strongest on."""
        fits, latest = [], start
        for strength in self.strengths:
            latest = self.refine(rows, latest, start, strength)
            fits.append(latest)
        return fits

    def refine(self, rows: Pixels, latest: Any, start: Any, strength: float) -> Any:
        """Return a fit by the metric from the latest one on, never below it or the start.

        It ends with an exact search for a bias per class on hard counts.
        """
        improved = self.improve(rows, latest, start, strength)
        return self._best_of([start, latest, improved], rows, self.pixels.take(rows))

    def finish(self, rows: Pixels, latest: Any, start: Any, strength: float) -> Any:
        """Return what comes of a fit to a part of the pixels on all of them."""
        return self.refine(rows, latest, start, strength)

    def _best_of(self, fits: Sequence[Any], rows: Pixels, pixels: ScoredPixels) -> Any:
        """Return what scores highest, with the bias that scores highest."""
        scored = []
        for fit in fits:
            logits = self.logits(fit, rows)
            scored.append((pixels.score_of(logits), fit, logits))
        _, fit, logits = max(scored, key=lambda each: each[0])
        return self.with_bias(fit, _exact_bias(pixels, logits))


def fit_decision(
    learner: Learner, baselines: Sequence[Fusion], inner: Learner | None = None
) -> Decided:
    """Fit by the log-loss and by the metric, and keep what inner folds of whole groups choose.

    They choose among the fits by the metric, that by the log-loss, the mean and the best member:
    the better of the last two, unless the gain of a fit is larger than a part of its uncertainty.

    Args:
        learner: of the whole sample.
        baselines: fusions that decide as the rows of `Learner.labels`: the mean, then each member.
        inner: of fewer pixels, for the inner folds; `learner` by default.

    Raises:
        BadData: a single group, or no pixel of the classes that the metric measures.
    """
    pixels, small = learner.pixels, inner or learner
    _check_learnable(pixels)
    with one_blas_thread():
        chosen, index = _choose(learner, small)
        rows = np.arange(len(pixels.target))
        start = learner.start(rows)
        probabilities = learner.probabilities(start)
        decision, strength = probabilities, 0.0
        if chosen == "metric":
            strength = learner.strengths[index]
            fit = small.path(np.arange(len(small.pixels.target)), start)[index]
            if small is not learner:
                fit = learner.finish(rows, fit, start, strength)
            decision = learner.fusion(fit)
        elif chosen == "mean":
            decision = baselines[0]
        elif chosen == "member":
            decision = baselines[1 + best_member(learner.labels, pixels)]
    return Decided(decision, probabilities, chosen, strength)


def best_member(labels: Labels, pixels: ScoredPixels) -> int:
    """Return the index of the member whose decisions score highest."""
    groups = int(pixels.group.max()) + 1
    scores = [pixels.score(pixels.tables(one, groups).sum(axis=0)) for one in labels[1:]]
    return int(np.argmax(np.nan_to_num(scores)))


def _choose(learner: Learner, small: Learner) -> tuple[str, int]:
    """Return what scores highest on the inner folds, and the index of its strength.

    Networks of one fold tell nothing about those of another, and a fit to their maps may lose on
    maps of these. Only the mean and the best member are compared then, which are not fitted.
    """
    pixels = learner.pixels
    groups = int(pixels.group.max()) + 1
    names = [("mean", 0), ("member", 0)]
    if not _of_one_fold(pixels):
        names += [("log_loss", 0), *(("metric", index) for index in range(len(learner.strengths)))]
    member = 1 + best_member(learner.labels, pixels)
    fold_of = _inner_folds(pixels)
    inner = int(fold_of.max()) + 1
    tables = np.zeros((len(names), inner, groups, pixels.classes, pixels.classes + 1))
    for fold in range(inner):
        rows = np.flatnonzero(fold_of[_undivided(small.pixels)] != fold)
        held_out = np.flatnonzero(fold_of[_undivided(pixels)] == fold)
        decided = [*learner.labels[[0, member]][:, held_out]]
        if len(names) > len(decided):
            start = small.start(rows)
            fits = start, *small.path(rows, start)
            decided += [learner.logits(fit, held_out).argmax(axis=0) for fit in fits]
        examined = pixels.take(held_out)
        for table, pred in zip(tables[:, fold], decided, strict=True):
            table += examined.tables(pred, groups)
    scores = np.nan_to_num(pixels.score(tables.sum(axis=(1, 2))))
    best = int(scores[:2].argmax())
    fitted = [2, 3 + int(scores[3:].argmax())] if len(names) > 2 else []
    for index in fitted:
        if _gain_is_certain(pixels, tables[index], tables[best], learner.margin):
            best = index
    return names[best]


def _gain_is_certain(
    pixels: ScoredPixels,
    tables: InnerTables,
    over: InnerTables,
    margin: float,
) -> bool:
    """Tell whether the gain exceeds a multiple of its standard error, by the jackknife.

    Over groups; and over inner folds, where each was predicted by networks of its own.
    """
    gain, error = _gain_and_error(pixels, tables.sum(axis=0), over.sum(axis=0))
    if pixels.fold is not None:
        error = max(error, _gain_and_error(pixels, tables.sum(axis=1), over.sum(axis=1))[1])
    return gain > margin * error


def _gain_and_error(pixels: ScoredPixels, tables: Tables, over: Tables) -> tuple[float, float]:
    both = np.stack([tables, over])
    total = both.sum(axis=1, keepdims=True)
    gain = float(np.subtract(*pixels.score(total[:, 0])))
    left_out = np.subtract(*pixels.score(total - both))
    return gain, standard_error(left_out[~np.isnan(left_out)])


def _undivided(pixels: ScoredPixels) -> Pixels:
    """Return of each pixel what inner folds do not divide: its fold, with several; or its group.

    A part that is held out is then predicted by networks that the fit has not seen.
    """
    return pixels.group if pixels.fold is None or _of_one_fold(pixels) else pixels.fold


def _of_one_fold(pixels: ScoredPixels) -> bool:
    return pixels.fold is not None and len(np.unique(pixels.fold)) == 1


def _inner_folds(pixels: ScoredPixels) -> Pixels:
    """Deal the groups (or folds) to inner folds, so that each has a like share of every class.

    Those with the largest share of a class come first. Those without a pixel have no inner fold.

    Returns:
        The inner fold of each, or -1.
    """
    unit = _undivided(pixels)
    counts = np.zeros((int(unit.max()) + 1, pixels.classes))
    np.add.at(counts, (unit, pixels.target), 1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    present = np.flatnonzero(counts.any(axis=1))
    folds = min(INNER_FOLDS, len(present))
    held, fold_of = np.zeros((folds, pixels.classes)), np.full(len(counts), -1)
    for group in present[np.argsort(-shares[present].max(axis=1), kind="stable")]:
        fold_of[group] = ((held + shares[group]) ** 2 - held**2).sum(axis=1).argmin()
        held[fold_of[group]] += shares[group]
    return fold_of


def _check_learnable(pixels: ScoredPixels) -> None:
    measured = np.bincount(pixels.target, minlength=pixels.classes)[list(pixels.metric.over)]
    if not measured.any():
        raise BadData("target to fit on has no pixel of the classes that the metric measures")
    if not _of_one_fold(pixels):  # else nothing fitted is compared
        check_groups(len(np.unique(pixels.group)), "target to fit on")


def check_groups(groups: int, where: str) -> None:
    """Check that inner folds can hold a group out and leave one.

    Args:
        groups: number of groups of images (or of images, where groups are unknown) with labels.
        where: whose, for the message.

    Raises:
        BadData: they cannot.
    """
    if groups < MIN_GROUPS:
        raise BadData(
            f"{where} has scored pixels in {groups} group of images; a decision by the metric needs"
            f" {MIN_GROUPS} or more: add images, or choose objective=log_loss"
        )


def _exact_bias(pixels: ScoredPixels, logits: LogScores) -> Biases:
    present = np.bincount(pixels.target, minlength=pixels.classes) > 0
    exact = FitPixels(logits, pixels.target, pixels.weight, pixels.metric)
    bias, _ = ascend(exact, np.zeros(pixels.classes), present)
    centred: Biases = bias - bias[present].mean()
    return centred


@dataclass(frozen=True)
class DecisionSample:
    """A sample of pixels, prepared for a `Learner`.

    Args:
        sample: the pixels.
        scored: labels of the scored classes.
        pixels: their target and what is measured.
        labels: see `Learner`.
    """

    sample: PixelSample
    scored: ScoredLabels
    pixels: ScoredPixels
    labels: Labels

    @classmethod
    def of(
        cls, sample: PixelSample, metric: SetMetric | None, ignore: int | None, general: Any
    ) -> "DecisionSample":
        """Prepare a sample.

        Args:
            sample: drawn by `ensemble.sampling.draw_pixels`.
            metric: of class labels; the masked mean IoU by default.
            ignore: the ignored class.
            general: marks the members that the mean is taken of.
        """
        classes = len(sample.counts)
        scored = scored_labels(classes, ignore)
        index = np.full(classes, len(scored))
        index[scored] = np.arange(len(scored))
        measured = metric or SetMetric.masked(classes, ignore)
        over = SetMetric(measured.ratio, tuple(int(index[label]) for label in measured.over))
        drawn = np.bincount(sample.target, minlength=classes)
        represented = (sample.counts / np.maximum(drawn, 1))[sample.target]
        assert sample.group is not None
        pixels = ScoredPixels(
            index[sample.target], represented, sample.group, over, len(scored), sample.fold
        )
        means = sample.maps[:, general].mean(axis=1, keepdims=True)
        decided = np.concatenate([means, sample.maps], axis=1).argmax(axis=2)
        return cls(sample, scored, pixels, index[decided.T])
