"""The t-SNE picture: like pictures lie together, coloured by what becomes of them."""

import io

import numpy as np
from jaxtyping import Bool, Float, Integer

from members.data.cleaning.novelty import Features
from members.data.cleaning.reasons import Findings, Reason

# t-SNE of more takes minutes; what is dropped is always shown.
MOST_KEPT = 2500
ROUNDS = 500
PERPLEXITY = 30
NEIGHBOUR_SHARE = 1 / 4
STAYS = "#BBBBBB"
# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = {
    Reason.LISTED: "#0072B2",
    Reason.SHARED_MASK: "#D55E00",
    Reason.COPY: "#009E73",
    Reason.NOVELTY: "#CC79A7",
}

Places = Integer[np.ndarray, "shown"]
Points = Float[np.ndarray, "shown 2"]
Ringed = Bool[np.ndarray, "shown"]


def scatter(findings: Findings, ringed: list[int], *, seed: int = 0) -> bytes | None:
    """Draw the t-SNE picture as PNG; None where there are too few pictures or all are the same.

    Args:
        findings: what was found.
        ringed: places of pictures that stay and get a ring.
        seed: decides the embedding, and which pictures stand for more than 2,500 that stay.
    """
    shown = _shown(findings, ringed, seed)
    if not findings.described.any():
        return None
    points = embedding(findings.described[shown], seed=seed)
    return _drawn(findings, shown, points, np.isin(shown, ringed))


def embedding(described: Features, *, seed: int = 0) -> Points:
    """Return t-SNE's two coordinates a picture."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, NEIGHBOUR_SHARE * len(described))
    machine = TSNE(perplexity=perplexity, init="pca", max_iter=ROUNDS, random_state=seed)
    # Threads that wait for each other on a busy machine make it many times slower.
    with threadpool_limits(1):
        return np.asarray(machine.fit_transform(described))


def _shown(findings: Findings, ringed: list[int], seed: int) -> Places:
    kept = np.flatnonzero(findings.kept)
    if len(kept) > MOST_KEPT:
        chosen = np.random.default_rng(seed).choice(kept, MOST_KEPT, replace=False)
        kept = np.union1d(chosen, np.array(ringed, np.int64))
    return np.union1d(kept, np.flatnonzero(~findings.kept))


def _drawn(findings: Findings, shown: Places, points: Points, ringed: Ringed) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axes = figure.add_subplot()
    x, y = points.T
    kept = findings.kept[shown]
    part = "" if kept.sum() == findings.kept.sum() else f"{kept.sum()} of "
    label = f"stays ({part}{findings.kept.sum()})"
    axes.scatter(x[kept], y[kept], s=7, color=STAYS, label=label)
    for reason, colour in COLOURS.items():
        drops = findings.of(reason)
        if drops:
            at = np.isin(shown, [drop.place for drop in drops])
            label = f"{reason} ({len(drops)})"
            axes.scatter(x[at], y[at], s=13, color=colour, label=label)
    if ringed.any():
        label = f"strangest that stay ({ringed.sum()})"
        axes.scatter(x[ringed], y[ringed], s=34, facecolors="none", edgecolors="k", label=label)
    axes.set(xticks=[], yticks=[])
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
