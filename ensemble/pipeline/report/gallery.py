"""Which images deserve a look: worst, improved, broken, disputed, likely label errors, a class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from ensemble.pipeline.report.candidate_trace import CandidateTrace, predicted_labels
from evaluation.core.arrays import evenly_spaced
from evaluation.core.blocks import blocks
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.ragged import Stack
from evaluation.core.types import Array, Counts
from evaluation.report.gallery import ImageFilter
from members.data.dataset import DataSet
from members.maps import MapReader

FILTER_LENGTH, CLASS_LENGTH = 12, 3
"""Images that a filter shows, and those that each class adds to the page."""

SPREAD = 12
"""Evenly spaced images on the page, whatever is wrong with them."""

MANY_FILTERS = 40
"""Up to so many classes, each adds images of its own."""

WORST, LABEL = "Worst", "Likely label errors"
IMPROVED, BROKEN_BY_CHAIN = "Most improved", "Most broken by post-processing"
DISPUTED, BROKEN = "Most disputed", "Broken by the fusion"
EVERY, OF_CLASS = "Evenly spaced", "Class {}"
MEMBERS = "Members (of the candidate; for a single member, all of the run)"
RANKED = "Ranked by the share of all pixels, so that an image with few scored pixels ranks low."
TEXTS = {
    WORST: "Most pixels are wrong, after the candidate's post-processing.",
    IMPROVED: "Wrong for the best single member, and right for the candidate.",
    BROKEN_BY_CHAIN: "Right before the candidate's post-processing, and wrong after it.",
    DISPUTED: f"{MEMBERS} disagree most: votes for other classes than the most frequent one.",
    LABEL: f"{MEMBERS} all predict the same class, and the label says another.",
    BROKEN: "The best single member is right, and the fusion is wrong.",
}
NOTES = {
    WORST: "wrong",
    IMPROVED: "improved",
    BROKEN_BY_CHAIN: "broken",
    DISPUTED: "disputed",
    LABEL: "contradicted",
    BROKEN: "broken",
}

PerImage = Float[np.ndarray, "image"]
Shares = Mapping[str, PerImage]
"""By the name of a filter, the share of each image's pixels that meet its criterion.

Only scored pixels count, and the share is of all pixels of the image, so that an image with few
scored pixels ranks low however wrong it is.
"""


@dataclass(frozen=True)
class ImageReview:
    """The images of the page, and in which order each filter shows them.

    Args:
        indices: of the images in the split, the first of each filter first, none twice.
        filters: by the number of an image among `indices`.
        absent: names of the filters that do not apply to the candidate.
    """

    indices: tuple[int, ...]
    filters: tuple[ImageFilter, ...]
    absent: tuple[str, ...] = ()


def arrange(shares: Shares, class_shares: Shares, scored: PerImage) -> ImageReview:
    """Choose the images of the page, and arrange them by filter.

    Args:
        shares: of the filters that add their first images.
        class_shares: the share of each image's pixels that are wrong about a class, by its name.
        scored: the share of each image's pixels that are scored.
    """
    images = len(scored)
    tops = [top_indices(share, FILTER_LENGTH) for share in shares.values()]
    if len(class_shares) <= MANY_FILTERS:
        tops += [top_indices(share, CLASS_LENGTH) for share in class_shares.values()]
    tops.append(evenly_spaced(images, SPREAD))
    longest = max(map(len, tops))
    mixed = [top[k] for k in range(longest) for top in tops if k < len(top)]
    indices = tuple(dict.fromkeys(mixed))
    filters = [
        _filter(
            name,
            f"{TEXTS[name]} {RANKED}",
            NOTES[name],
            (share, scored),
            top_indices(share, FILTER_LENGTH),
            indices,
        )
        for name, share in shares.items()
    ]
    filters += [
        _filter(
            OF_CLASS.format(name),
            f"Of the images on this page, those with most pixels wrongly {name} or wrongly not.",
            f"wrong about {name}",
            (share, scored),
            [k for k in top_indices(share, images) if k in indices],
            indices,
        )
        for name, share in class_shares.items()
    ]
    spread = [(indices.index(k), "") for k in evenly_spaced(images, SPREAD)]
    filters.append(ImageFilter(EVERY, "Whatever is right or wrong with them.", spread))
    return ImageReview(indices, tuple(one for one in filters if one.images))


def _filter(
    name: str,
    text: str,
    note: str,
    shares: tuple[PerImage, PerImage],
    top: Sequence[int],
    indices: Sequence[int],
) -> ImageFilter:
    """Return a filter whose notes tell the share of all pixels, and that of the scored ones."""
    share, scored = shares
    images = []
    for k in top:
        words = f"{share[k]:.1%} of all its pixels {note}"
        if scored[k] < 1:
            words += f" ({share[k] / scored[k]:.1%} of the scored ones)"
        images.append((indices.index(k), words))
    return ImageFilter(name, text, images)


def review_images(
    trace: CandidateTrace, labels: Stack, counts: Counts, members: Sequence[MapReader] = ()
) -> ImageReview:
    """Measure every image by all criteria that apply to the candidate.

    Args:
        trace: the candidate's stages.
        labels: of the candidate, (image, row, col).
        counts: of the candidate.
        members: maps of all members of the run, which tell of a single member's images where
            members disagree with one another or with the labels.
    """
    names = []
    if trace.reference_index is not None and len(trace.readers) + len(trace.chain.specs) > 1:
        names.append(IMPROVED)
    if trace.chain.specs:
        names.append(BROKEN_BY_CHAIN)
    if len(trace.members) > 1:
        names += [DISPUTED, LABEL]
    if trace.fused and trace.reference_index is not None:
        names.append(BROKEN)
    shares = {WORST: wrong_shares(labels, trace.data), **stage_shares(trace, names, labels)}
    if len(trace.members) == 1 and len(members) > 1:
        shares |= member_shares(members, trace.data)
    wrong = class_shares(counts, trace.data)
    absent = tuple(name for name in TEXTS if name not in shares)
    return replace(arrange(shares, wrong, scored_shares(trace.data)), absent=absent)


def absent_filters(review: ImageReview, candidate: str) -> str:
    """Return a sentence on the filters that do not apply to a candidate; empty if all do."""
    if not review.absent:
        return ""
    names = ", ".join(name.lower() for name in review.absent)
    return (
        f"Not offered for {candidate}: {names}. They need several members, a fusion of the best"
        " single one, or post-processing; `ens report --candidate NAME` explains another candidate."
    )


def class_shares(counts: Counts, data: DataSet) -> dict[str, PerImage]:
    """Return the share of each image's pixels that are wrongly of a class, or wrongly not.

    Args:
        counts: of the candidate, of the images of `data`.
        data: the images.
    """
    classes: Classes = data.classes
    scored = counts[:, list(classes.scored)]
    pixels = np.array([np.prod(np.shape(target)) for target in data.target()])
    shares = {}
    for row, label in enumerate(classes.scored):
        right = scored[:, row, label]
        wrong = scored[:, row].sum(axis=1) + scored[:, :, label].sum(axis=1) - 2 * right
        shares[classes.names[label]] = wrong / pixels
    return shares


def wrong_shares(labels: Stack, data: DataSet) -> PerImage:
    """Return the share of each image's pixels that are scored and labelled wrong.

    Args:
        labels: class index per pixel, (image, row, col).
        data: the images, with targets.
    """
    shares = np.zeros(len(data))
    target = data.target()
    for block in blocks(data.extent):
        shares[block] = _scored_share(labels[block] != target[block], data, block)
    return shares


def scored_shares(data: DataSet) -> PerImage:
    """Return the share of each image's pixels that are scored."""
    shares = np.zeros(len(data))
    target = data.target()
    for block in blocks(data.extent):
        shares[block] = _scored_share(np.ones(target[block].shape, bool), data, block)
    return shares


def member_shares(members: Sequence[MapReader], data: DataSet) -> dict[str, PerImage]:
    """Measure every image by the predictions of members alone: DISPUTED and LABEL."""
    shares = {name: np.zeros(len(data)) for name in (DISPUTED, LABEL)}
    for block, labels in predicted_labels(members, data.extent):
        for name, share in shares.items():
            share[block] = _scored_share(_of_members(name, labels, data, block), data, block)
    return shares


def stage_shares(
    trace: CandidateTrace, names: Sequence[str], final: Stack | None = None
) -> dict[str, PerImage]:
    """Measure every image by the predictions of members, fusion and candidate, for some filters.

    Args:
        trace: the candidate's stages.
        names: of the filters; only DISPUTED works without targets.
        final: labels of the candidate; IMPROVED and BROKEN_BY_CHAIN need them.
    """
    shares = {name: np.zeros(len(trace.data)) for name in names}
    if names:
        for block, labels in trace.predictions():
            last = labels[-1] if final is None else np.asarray(final[block])
            for name in names:
                marked = _criterion(name, trace, labels, last, block)
                shares[name][block] = _scored_share(marked, trace.data, block)
    return shares


def top_indices(shares: PerImage, count: int) -> list[int]:
    """Return up to `count` indices, the largest share first, none of share 0."""
    order = np.argsort(-shares, kind="stable")[:count]
    return [int(index) for index in order if shares[index] > 0]


def _criterion(name: str, trace: CandidateTrace, labels: Array, last: Array, block: slice) -> Array:
    """Return a number from 0 to 1 for each pixel."""
    members = labels[: len(trace.members)]
    if name in (DISPUTED, LABEL):
        return _of_members(name, members, trace.data, block)
    target = np.asarray(trace.data.target()[block])
    if name == BROKEN_BY_CHAIN:
        broken: Array = (labels[-1] == target) & (last != target)
        return broken
    reference = members[trace.members.index(str(trace.reference))]
    if name == IMPROVED:
        improved: Array = (reference != target) & (last == target)
        return improved
    lost: Array = (reference == target) & (labels[-1] != target)
    return lost


def _of_members(name: str, members: Array, data: DataSet, block: slice) -> Array:
    """Return a number from 0 to 1 for each pixel, for DISPUTED or LABEL."""
    if name == DISPUTED:
        votes = [(members == label).sum(axis=0) for label in range(len(data.classes))]
        minority: Array = 1 - np.max(votes, axis=0) / len(members)
        return minority
    target = np.asarray(data.target()[block])
    contradicted: Array = (members == members[0]).all(axis=0)
    contradicted &= (members[0] != target) & (members[0] != data.classes.ignore)
    return contradicted


def _scored_share(marked: Array, data: DataSet, block: slice) -> PerImage:
    """Return the mean over each image; pixels that are known not to be scored count as 0."""
    scored = np.ones(marked.shape, bool)
    if data.masks is not None:
        target = np.asarray(data.masks[block])
        scored = target != UNLABELLED
        if data.classes.ignore is not None:
            scored &= target != data.classes.ignore
    shares: Array = (marked * scored).mean(axis=(1, 2))
    return shares
