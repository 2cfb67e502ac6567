"""The Python API: fuse, post-process, score and compare arrays, and read runs.

Shapes are the same everywhere: probability maps (image, class, row, col), or with the classes last,
or (image, row, col) of the foreground; label maps (image, row, col), images (image, row, col) or
with 1 or 3 channels second or last. Each may be an array, a
memory map, a list with one array per image, a `.npy` or `.npz` file, or a folder with one file per
image.
Nothing heavy is imported before it is needed.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.core.errors import BadData, BadLabels, BadMaps, BadRun, BadSpec

if TYPE_CHECKING:
    from ensemble.api.inputs import ArrayLike, MapsLike, MembersLike, OpenedArrays
    from ensemble.api.notebook import Gallery
    from ensemble.api.opened_run import OpenedRun
    from ensemble.api.results import AuditResult, Comparison, ScoreResult
    from ensemble.strategies import Missing
    from evaluation.core.classes import Classes
    from evaluation.core.label_options import LabelOptions
    from evaluation.core.ragged import Stack
    from evaluation.core.types import Array, Counts, Groups

SCORE_COLUMN = "score"


def fuse(
    maps: "MembersLike",
    strategy: str = "mean",
    *,
    fit_maps: "MembersLike" = (),
    fit_target: "ArrayLike | None" = None,
    images: "ArrayLike | None" = None,
    fit_images: "ArrayLike | None" = None,
    classes: int | None = None,
    ignore: int | None = None,
    logits: bool = False,
    missing: "Missing" = "refuse",
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    fit_truth: "ArrayLike | None" = None,
) -> "Stack":
    """Fuse the probability maps of several members into one map per image.

    `weighted_mean`, `stacking`, `stacking_conv`, `evidence` and `gate` are fitted by the metric by
    default: their maps hold scores that sum to 1 and whose highest is the decision, not
    probabilities. For these (calibration error, log-loss, entropy, distillation), write
    `objective=log_loss`, as in `stacking(objective=log_loss)`.

    Args:
        maps: one entry per member: floating point, or uint8 scaled by 255. Files and memory maps
            are read block by block.
        strategy: spec, such as `mean` or `stacking(l2=0.1)`.
        fit_maps: for a strategy that learns: maps of images that no member was trained on, one
            entry per member in the same order.
        fit_target: class index per pixel of the images of `fit_maps`; 255 where unlabelled.
        images: uint8 images of `maps`, for a strategy that needs them.
        fit_images: images of `fit_maps`.
        classes: number of classes, where the maps do not say which axis is theirs (logits do not).
        ignore: index of the class that is not scored; None if every class is.
        logits: whether maps and held-out maps are logits, which the softmax makes probabilities.
        missing: of images that not all members have, by the names of files: `refuse` them, `skip`
            them, or `renormalise` the weights of the members that have them.
        seed: random seed of strategies that sample.
        out: a `.npy` file to write instead of filling memory, or a folder for one per image.
        fit_truth: old name of `fit_target`.

    Returns:
        Fused maps, float32, (image, class, row, col); `Ragged`, which is indexed by images, where
        sizes differ.

    Raises:
        BadSpec: an unknown strategy or option, or a strategy that lacks something to learn from.
        BadMaps: maps that are no probabilities, or differ in images, classes or pixels.
        BadLabels: a target that does not fit the held-out maps.
        BadData: images that do not fit, or files that cannot be read.

    Examples:
        >>> import numpy as np
        >>> import ensemble as ens
        >>> a = np.full((1, 2, 1, 1), 0.5, np.float32)
        >>> b = np.array([0.9, 0.1], np.float32).reshape(1, 2, 1, 1)
        >>> ens.fuse([a, b], "mean").ravel()
        array([0.7, 0.3], dtype=float32)
    """
    from ensemble.api.fusion import fit_fusion
    from evaluation.core.label_options import LabelOptions

    fusion = fit_fusion(
        maps,
        strategy,
        fit_maps=fit_maps,
        fit_target=_renamed(fit_target, fit_truth),
        images=images,
        fit_images=fit_images,
        labels=LabelOptions(classes, ignore=ignore),
        logits=logits,
        missing=missing,
        seed=seed,
    )
    return fusion.fuse(None if out is None else Path(out))


fuse_maps = fuse
"""Old name of `fuse`."""


def postprocess(
    maps: "MapsLike",
    chain: str = "",
    *,
    images: "ArrayLike | None" = None,
    fit_maps: "MapsLike | None" = None,
    fit_target: "ArrayLike | None" = None,
    fit_images: "ArrayLike | None" = None,
    classes: int | None = None,
    ignore: int | None = None,
    logits: bool = False,
    out: str | PathLike[str] | None = None,
    fit_truth: "ArrayLike | None" = None,
) -> "Stack":
    """Turn probability maps into label maps through a chain of steps.

    Args:
        maps: of one member or fusion.
        chain: steps joined by `|`, such as `suppress_background|crf(iterations=5)`; empty for the
            plain argmax.
        images: uint8 images of `maps`, for steps that need them.
        fit_maps: for steps that learn: maps of images that no member was trained on.
        fit_target: class index per pixel of the images of `fit_maps`; 255 where unlabelled.
        fit_images: images of `fit_maps`.
        classes: number of classes, where the maps do not say which axis is theirs (logits do not).
        ignore: index of the class that is not scored; None if every class is.
        logits: whether maps and held-out maps are logits, which the softmax makes probabilities.
        out: a `.npy` file to write instead of filling memory, or a folder for one `.png` per image.
        fit_truth: old name of `fit_target`.

    Returns:
        Label maps, uint8, (image, row, col); `Ragged`, which is indexed by images, where sizes
        differ.

    Raises:
        BadSpec: an unknown step or option, or a step that lacks something to learn from.
        BadMaps: maps that are no probabilities.
        BadLabels: a target that does not fit the held-out maps.
        BadData: images that are missing or do not fit, or files that cannot be read.

    Examples:
        >>> import numpy as np
        >>> import ensemble as ens
        >>> maps = np.array([0.5, 0.1, 0.4], np.float32).reshape(1, 3, 1, 1)
        >>> ens.postprocess(maps).item()
        0
        >>> ens.postprocess(maps, "suppress_background", ignore=0).item()
        2
    """
    from ensemble.api.postprocessing import fit_array_chain
    from evaluation.core.label_options import LabelOptions

    fitted = fit_array_chain(
        maps,
        chain,
        images=images,
        fit_maps=fit_maps,
        fit_target=_renamed(fit_target, fit_truth),
        fit_images=fit_images,
        labels=LabelOptions(classes, ignore=ignore),
        logits=logits,
    )
    return fitted.label(None if out is None else Path(out))


def score(
    target: "ArrayLike",
    pred: "ArrayLike",
    *,
    classes: "int | Sequence[str] | Classes",
    ignore: int | str | None = None,
    unlabelled: int | None = None,
    foreground: int | None = None,
    protocol: str | None = None,
    groups: "Sequence[object] | Groups | None" = None,
) -> "ScoreResult":
    """Score predicted label maps; pixels of the ignored class and unlabelled pixels are left out.

    Images may have several sizes if they come as a list or a folder.

    Args:
        target: class index per pixel; 255 where unlabelled.
        pred: label maps, or probability maps, whose argmax is scored.
        classes: the number of classes, or their names.
        ignore: name or index of the class that is not scored; None if every class is.
        unlabelled: value of unlabelled pixels in masks, besides 255.
        foreground: value of the foreground in masks of two values, such as 255.
        protocol: definition of the score; `result.under(NAME)` gives it under another. By default
            `masked`, the mean IoU, or of two classes with a declared foreground its IoU.
        groups: the group of each image (patient, drive, ...), for the interval; by default each
            image is a group.

    Returns:
        `miou`, `iou` per class, `interval`, and tables.

    Raises:
        BadLabels: labels outside the classes, shapes that differ, or no integers.
        BadSpec: an unknown protocol, or an ignored class outside the classes.
        BadData: groups that do not fit, or files that cannot be read.

    Examples:
        >>> import numpy as np
        >>> import ensemble as ens
        >>> target, pred = np.array([[[0, 1, 1, 2]]]), np.array([[[1, 1, 2, 2]]])
        >>> result = ens.score(target, pred, classes=3, ignore=0)
        >>> result.miou, result.iou
        (0.5, (nan, 0.5, 0.5))
    """
    from ensemble.api.inputs import open_labels
    from ensemble.api.results import ScoreResult
    from evaluation.core.label_options import LabelOptions
    from evaluation.run_metric import named_metric

    labels = LabelOptions(ignore=ignore, unlabelled=unlabelled, foreground=foreground)
    known = classes_of_labels(classes, labels, target)
    metric = named_metric(protocol, known)
    opened = open_labels(target, "target", known)
    counts = _count(opened, _open_pred(pred, "pred", known), len(known))
    return ScoreResult(counts, _group_array(groups, len(counts)), known, metric)


def compare(
    target: "ArrayLike",
    preds: "Mapping[str, ArrayLike]",
    *,
    classes: "int | Sequence[str] | Classes | None" = None,
    ignore: int | str | None = None,
    unlabelled: int | None = None,
    foreground: int | None = None,
    groups: "Sequence[object] | Groups | None" = None,
    protocol: str | None = None,
    seed: int = 0,
) -> "Comparison":
    """Rank several predictions of the same images: which may be best, and gaps to the first.

    Args:
        target: class index per pixel; 255 where unlabelled.
        preds: label maps by name, or probability maps, whose argmax is scored.
        classes: the number of classes, or their names; by default one more than the highest label.
        ignore: name or index of the class that is not scored; None if every class is.
        unlabelled: value of unlabelled pixels in masks, besides 255.
        foreground: value of the foreground in masks of two values, such as 255.
        groups: the group of each image, for intervals and tests; by default each image is a group.
        protocol: definition of the score that ranks; by default as in `score`.
        seed: random seed of the resamples.

    Returns:
        The ranking; `to_frame()` gives a pandas table with the score in column `score`.

    Raises:
        BadLabels: labels outside the classes, shapes that differ, or no integers.
        BadSpec: an unknown protocol, or an ignored class outside the classes.
        BadData: nothing to compare, groups that do not fit, or files that cannot be read.

    Examples:
        >>> import numpy as np
        >>> import ensemble as ens
        >>> target = np.array([[[0, 1]], [[1, 1]], [[0, 0]]])
        >>> board = ens.compare(target, {"right": target, "wrong": 1 - target})
        >>> board.names, board.to_frame().loc["right", "score"].item()
        (('right', 'wrong'), 1.0)
    """
    import numpy as np

    from ensemble.api.inputs import open_labels
    from ensemble.api.results import Comparison
    from evaluation.core.label_options import LabelOptions
    from evaluation.core.seeds import check_seed
    from evaluation.leaderboard import Candidate
    from evaluation.leaderboard import compare as rank
    from evaluation.run_metric import named_metric
    from evaluation.scores import ScoredImages

    if not preds:
        raise BadData("`preds` is empty; expected one or more predictions by name")
    labels = LabelOptions(ignore=ignore, unlabelled=unlabelled, foreground=foreground)
    known = classes_of_labels(classes, labels, target, list(preds.values()))
    metric = named_metric(protocol, known)
    opened = open_labels(target, "target", known)
    candidates = []
    for name, pred in preds.items():
        counts = _count(opened, _open_pred(pred, name, known), len(known))
        ids = tuple(map(str, opened.ids or range(len(counts))))
        scored = ScoredImages(counts, ids, _group_array(groups, len(counts)))
        candidates.append(Candidate(name, scored))
    rng = np.random.default_rng(check_seed(seed))
    return Comparison(rank(candidates, known, rng=rng, split=SCORE_COLUMN, protocol=metric))


def audit(
    target: "ArrayLike",
    before: "ArrayLike",
    after: "ArrayLike",
    *,
    classes: "int | Sequence[str] | Classes",
    ignore: int | str | None = None,
    unlabelled: int | None = None,
    foreground: int | None = None,
) -> "AuditResult":
    """Split the gain between two predictions, under every protocol, into pixels and denominator.

    "Pixels" is what the IoUs of the same classes gained. "Denominator" is what averaging over fewer
    or other classes gained, which makes no pixel better. McNemar's test says whether the two have
    the same share of correct pixels, over images.

    Args:
        target: class index per pixel; 255 where unlabelled.
        before: label maps that the gain starts from, or probability maps.
        after: label maps that the gain leads to.
        classes: the number of classes, or their names.
        ignore: name or index of the class that is not scored; None if every class is.
        unlabelled: value of unlabelled pixels in masks, besides 255.
        foreground: value of the foreground in masks of two values, such as 255.

    Raises:
        BadLabels: labels outside the classes, shapes that differ, or no integers.
        BadSpec: an ignored class outside the classes.
        BadData: files that cannot be read.

    Examples:
        >>> import numpy as np
        >>> import ensemble as ens
        >>> target = np.array([[[0, 1, 1, 2]]])
        >>> result = ens.audit(target, np.array([[[1, 1, 2, 2]]]), target, classes=3, ignore=0)
        >>> result.gains["masked"].pixels, result.gains["masked"].denominator
        (0.5, 0.0)
    """
    import numpy as np

    from ensemble.api.inputs import open_labels
    from ensemble.api.results import AuditResult
    from evaluation.core.label_options import LabelOptions
    from evaluation.mcnemar import count_discordant, mcnemar

    labels = LabelOptions(ignore=ignore, unlabelled=unlabelled, foreground=foreground)
    known = classes_of_labels(classes, labels, target)
    opened = open_labels(target, "target", known)
    preds = [_open_pred(before, "before", known), _open_pred(after, "after", known)]
    counts = [_count(opened, pred, len(known)) for pred in preds]
    labels_of = [pred.array for pred in preds]
    discordant = count_discordant(opened.array, *labels_of, ignore=known.ignore)
    test = mcnemar(discordant, np.arange(len(discordant)))
    return AuditResult.from_counts((preds[0].name, preds[1].name), counts, known, test)


def open_run(path: str | PathLike[str]) -> "OpenedRun":
    """Open a run folder for reading: maps, label maps, targets and the leaderboard.

    Raises:
        BadRun: no run there.

    Examples:
        >>> import ensemble as ens
        >>> ens.open_run("nowhere")
        Traceback (most recent call last):
        ...
        evaluation.core.errors.BadRun: nowhere is no run folder; expected one with experiment.yaml
    """
    from ensemble.api.opened_run import OpenedRun

    folder = Path(path)
    if not (folder / "experiment.yaml").is_file():
        raise BadRun(f"{folder} is no run folder; expected one with experiment.yaml")
    return OpenedRun(folder)


def gallery(
    run: "OpenedRun | str | PathLike[str]", candidate: str | None = None, split: str = "validation"
) -> "Gallery":
    """Return the images of a run's candidate for a notebook: stages, errors, filters.

    Args:
        run: an opened run, or its folder.
        candidate: by default the chosen one, or the first of the leaderboard.
        split: split of the images.

    Raises:
        BadRun: no run there, no such split or candidate, or it is not scored there.

    Examples:
        >>> import ensemble as ens
        >>> ens.gallery("nowhere")
        Traceback (most recent call last):
        ...
        evaluation.core.errors.BadRun: nowhere is no run folder; expected one with experiment.yaml
    """
    opened = open_run(run) if isinstance(run, str | PathLike) else run
    return opened.gallery(candidate, split)


def _renamed(value: "ArrayLike | None", old: "ArrayLike | None") -> "ArrayLike | None":
    if value is not None and old is not None:
        raise BadSpec("`fit_truth` is the old name of `fit_target`; give one of them")
    return old if value is None else value


def classes_of_labels(
    classes: "int | Sequence[str] | Classes | None",
    labels: "LabelOptions",
    target: "ArrayLike",
    others: "Sequence[ArrayLike]" = (),
) -> "Classes":
    """Return the classes that are given, or that labels of which no stored value is known hold."""
    from ensemble.api.inputs import open_labels, stored_values
    from evaluation.core.classes import Classes
    from evaluation.core.label_options import LabelOptions

    if isinstance(classes, Classes):
        return classes
    if classes is not None:
        names = classes if isinstance(classes, int) else tuple(classes)
        labels = labels.updated(LabelOptions(names))
    known = labels.without_data()
    if known is not None and len(known) > 2:
        return known
    of_target = stored_values(open_labels(target, "target"))
    present: set[int] = set().union(*of_target)
    if labels.num_classes is None:
        for other in others:
            present |= set().union(*stored_values(_open_pred(other, "prediction")))
    known = known or labels.resolve(present)
    labels.check_coding(of_target, known)
    return known


def _open_pred(source: "ArrayLike", name: str, classes: "Classes | None" = None) -> "OpenedArrays":
    """Open label maps; of probability maps, take the argmax."""
    from ensemble.api.inputs import OpenedArrays, is_floating, open_labels, open_maps

    if not is_floating(source):
        return open_labels(source, name, classes, complete=True)
    from evaluation.core.arrays import argmax
    from members.external.stacks import LabelView
    from members.maps import ArrayMaps

    maps = open_maps(source, name, classes=None if classes is None else len(classes))
    assert isinstance(maps, ArrayMaps)
    if classes is not None and maps.num_classes != len(classes):
        raise BadMaps(f"{maps.name} has {maps.num_classes} classes; expected {len(classes)}")
    try:
        maps.check()
    except BadMaps as error:
        raise BadMaps(f"{error}; logits become labels by `postprocess` with `logits`") from None
    return OpenedArrays(maps.name, LabelView(maps.array, argmax), maps.ids)


def _count(target: "OpenedArrays", pred: "OpenedArrays", classes: int) -> "Counts":
    """Count pixels per image by (target class, predicted class)."""
    from ensemble.api.inputs import check_same_images
    from evaluation.confusion import parallel_confusion

    check_same_images(target, pred)
    try:
        return parallel_confusion(target.array, pred.array, classes=classes)
    except BadLabels as error:
        raise BadLabels(f"{target.name} and {pred.name}: {error}") from None


def _group_array(groups: "Sequence[object] | Groups | None", images: int) -> "Array":
    import numpy as np

    array = np.arange(images) if groups is None else np.asarray(groups)
    if array.shape != (images,):
        raise BadData(f"groups have shape {array.shape} for {images} images; expected one each")
    return array
