"""The biases of the highest masked mean IoU, by coordinate ascent over exact step functions."""

import numpy as np
from jaxtyping import Bool, Float

from evaluation.iou import mean_over_present
from postproc.held_out import HeldOut, PerPixel, Places

LIMIT = 8
STEPS = 128
"""A bias is a multiple of 1/128, from -8 to 8; between two of them hardly a pixel turns."""

EDGES = np.arange(-LIMIT * STEPS, LIMIT * STEPS + 1) / STEPS

ROUNDS = 20
SMALLEST_GAIN = 1e-6
"""Of mean IoU; less is not worth a change."""

Biases = Float[np.ndarray, "scored"]
Present = Bool[np.ndarray, "scored"]
PerEdge = Float[np.ndarray, "edge"]


def best_bias(pixels: HeldOut) -> Biases:
    """Return a bias for each scored class; that of the lowest class with true pixels is 0.

    While one bias moves and the others stay, a pixel turns to its class as soon as the bias passes
    what the best other class is ahead by. So the mean IoU at every value of the bias comes from
    histograms of that lead. The best value is taken, class after class, until none gains. This may
    end in a local maximum, so it is tried from no bias and from one that evens out how probable
    the classes are on the whole; the first wins a tie. A class without true pixels is left where it
    was and out of the mean, since nothing is known about it.

    Args:
        pixels: held-out pixels.
    """
    present = np.bincount(pixels.truth, minlength=len(pixels.log_maps)) > 0
    shares = np.exp(pixels.log_maps) @ pixels.weight
    even = np.round(np.log(shares.max() / shares) * STEPS) / STEPS
    first, score = _ascended(pixels, np.zeros(len(present)), present)
    second, other = _ascended(pixels, np.where(present, np.minimum(even, LIMIT), 0), present)
    best = second if other > score + SMALLEST_GAIN else first
    shifted: Biases = best - best[present.argmax()]
    return shifted


def _ascended(pixels: HeldOut, start: Biases, present: Present) -> tuple[Biases, float]:
    bias, best = start.copy(), -np.inf
    for _ in range(ROUNDS):
        before = best
        for label in np.flatnonzero(present):
            scores = _scores(pixels, bias, int(label), present)
            best = scores[np.searchsorted(EDGES, bias[label])]
            if scores.max() > best + SMALLEST_GAIN:
                # Of equally good values the smallest change.
                good = EDGES[scores == scores.max()]
                bias[label] = good[np.abs(good - bias[label]).argmin()]
                best = scores.max()
        if best <= before + SMALLEST_GAIN:
            break
    return bias, float(best)


def _scores(pixels: HeldOut, bias: Biases, label: int, present: Present) -> PerEdge:
    """Return the mean IoU for every value that the bias of one class may have."""
    rival, turns = _turns(pixels, bias, label)
    size = len(EDGES) + 1, len(bias)
    cells = turns * len(bias) + rival
    right, own = rival == pixels.truth, pixels.truth == label
    # At each edge, of each class: pixels guessed as it, and those of them that are right.
    guessed = _from_next_on(_summed(cells, pixels.weight, size))
    hits = _from_next_on(_summed(cells[right], pixels.weight[right], size))
    guessed[:, label] = _summed(turns, pixels.weight, size[:1])[:-1].cumsum()
    hits[:, label] = _summed(turns[own], pixels.weight[own], size[:1])[:-1].cumsum()
    union = np.bincount(pixels.truth, pixels.weight, len(bias)) + guessed - hits
    iou = np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)
    return mean_over_present(iou[:, present])


def _turns(pixels: HeldOut, bias: Biases, label: int) -> tuple[Places, Places]:
    """Return the best other class, and the first edge at which a pixel turns to `label`."""
    others = pixels.log_maps + bias.astype(np.float32)[:, None]
    others[label] = -np.inf
    rival = others.argmax(axis=0)
    lead = np.take_along_axis(others, rival[None], axis=0)[0] - pixels.log_maps[label]
    lead *= STEPS
    # A tie goes to the lower class.
    turns = np.where(rival < label, np.floor(lead) + 1, np.ceil(lead)) + LIMIT * STEPS
    return rival, np.clip(turns, 0, len(EDGES)).astype(np.intp)


def _summed(cells: Places, weight: PerPixel, size: tuple[int, ...]) -> Float[np.ndarray, "*size"]:
    return np.bincount(cells, weight, int(np.prod(size))).reshape(size)


def _from_next_on(
    sums: Float[np.ndarray, "turn scored"],
) -> Float[np.ndarray, "edge scored"]:
    """Sum, for each edge, what turns at a later one."""
    return sums[::-1].cumsum(axis=0)[::-1][1:]
