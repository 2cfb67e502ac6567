"""Which images deserve a look: worst, likely label errors, disputed, broken by the fusion."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ensemble.pipeline.report.candidate_trace import CandidateTrace
from evaluation.core.blocks import blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.ragged import Stack
from evaluation.core.types import Array
from evaluation.report.page import ReviewItem, ReviewQueue
from members.data.dataset import DataSet

QUEUE_LENGTH = 12
WORST, LABEL = "Worst", "Likely label errors"
DISPUTED, BROKEN = "Disputed", "Broken by the fusion"
TEXTS = {
    WORST: "Images with the largest share of wrong pixels, after the candidate's chain.",
    LABEL: "All members predict the same class, and the label says another.",
    DISPUTED: "Members disagree most: votes for other classes than the most frequent one.",
    BROKEN: "The best member is right, and the fusion is wrong.",
}

PerImage = Float[np.ndarray, "image"]


@dataclass(frozen=True)
class ImageReview:
    """Shares of each image's pixels that meet the criterion of each queue.

    Only scored pixels count, and the share is of all pixels of the image, so that an image with
    few scored pixels ranks low however wrong it is.

    Args:
        shares: by the title of the queue.
    """

    shares: dict[str, PerImage]

    def indices(self) -> list[int]:
        """Return the images of all queues, the first of each queue first, none twice."""
        ranks = [self._top(title) for title in self.shares]
        longest = max((len(rank) for rank in ranks), default=0)
        mixed = [rank[k] for k in range(longest) for rank in ranks if k < len(rank)]
        return list(dict.fromkeys(mixed))

    def queues(self, ids: tuple[str, ...]) -> list[ReviewQueue]:
        """Return the lists of the page."""
        return [
            ReviewQueue(
                title,
                TEXTS[title],
                [ReviewItem(ids[index], f"{share[index]:.0%}") for index in self._top(title)],
            )
            for title, share in self.shares.items()
        ]

    def note(self, index: int) -> str:
        """Return the queues that an image is in, with its shares, as text."""
        return "; ".join(
            f"{title.lower()}: {share[index]:.0%} of its pixels"
            for title, share in self.shares.items()
            if index in self._top(title)
        )

    def _top(self, title: str) -> list[int]:
        return top_indices(self.shares[title], QUEUE_LENGTH)


def review_images(trace: CandidateTrace, labels: Stack) -> ImageReview:
    """Measure every image by all criteria; those that need two members only if there are two.

    Args:
        trace: the candidate's stages.
        labels: of the candidate, (image, row, col).
    """
    titles = [LABEL, DISPUTED] if len(trace.members) > 1 else []
    if trace.fused and trace.reference_index is not None:
        titles.append(BROKEN)
    return ImageReview({WORST: wrong_shares(labels, trace.data), **stage_shares(trace, titles)})


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


def stage_shares(trace: CandidateTrace, titles: Sequence[str]) -> dict[str, PerImage]:
    """Measure every image by the predictions of members and fusion, for some queues.

    Args:
        trace: the candidate's stages.
        titles: of the queues; only DISPUTED works without targets.
    """
    shares = {title: np.zeros(len(trace.data)) for title in titles}
    if titles:
        for block, labels in trace.predictions():
            for title in titles:
                marked = _criterion(title, trace, labels, block)
                shares[title][block] = _scored_share(marked, trace.data, block)
    return shares


def top_indices(shares: PerImage, count: int) -> list[int]:
    """Return up to `count` indices, the largest share first, none of share 0."""
    order = np.argsort(-shares, kind="stable")[:count]
    return [int(index) for index in order if shares[index] > 0]


def _criterion(title: str, trace: CandidateTrace, labels: Array, block: slice) -> Array:
    """Return a number from 0 to 1 for each pixel."""
    members = labels[: len(trace.members)]
    if title == DISPUTED:
        votes = [(members == label).sum(axis=0) for label in range(len(trace.data.classes))]
        minority: Array = 1 - np.max(votes, axis=0) / len(members)
        return minority
    target = np.asarray(trace.data.target()[block])
    if title == LABEL:
        contradicted: Array = (members == members[0]).all(axis=0)
        contradicted &= (members[0] != target) & (members[0] != trace.data.classes.ignore)
        return contradicted
    reference = members[trace.members.index(str(trace.reference))]
    broken: Array = (reference == target) & (labels[-1] != target)
    return broken


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
