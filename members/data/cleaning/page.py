"""The page that shows what would be dropped and why, and the same as lists.

The t-SNE image: like images lie together, coloured by what becomes of them.
"""

import base64
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer
from PIL import Image

from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadData
from evaluation.core.files import atomic_file
from evaluation.core.types import Array
from members.data.cleaning.novelty import Features
from members.data.cleaning.rules import Findings, Reason
from members.data.dataset import DataSet

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
    """Draw the t-SNE image as PNG; None where there are too few images or all are the same.

    Args:
        findings: what was found.
        ringed: places of images that stay and get a ring.
        seed: decides the embedding, and which images stand for more than 2,500 that stay.
    """
    shown = _shown_scatter(findings, ringed, seed)
    if not findings.described.any():
        return None
    points = embedding(findings.described[shown], seed=seed)
    return _drawn(findings, shown, points, np.isin(shown, ringed))


def embedding(described: Features, *, seed: int = 0) -> Points:
    """Return t-SNE's two coordinates an image."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, NEIGHBOUR_SHARE * len(described))
    machine = TSNE(perplexity=perplexity, init="pca", max_iter=ROUNDS, random_state=seed)
    # Threads that wait for each other on a busy machine make it many times slower.
    with threadpool_limits(1):
        return np.asarray(machine.fit_transform(described))


def _shown_scatter(findings: Findings, ringed: list[int], seed: int) -> Places:
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


PAGE, TABLE, LIST = "index.html", "dropped.csv", "dropped.txt"
RINGED = 24
WIDEST_PX = 128
UNLABELLED_COLOUR = "#888888"
MEANING = {
    Reason.LISTED: "You listed them.",
    Reason.SHARED_MASK: "One mask with an outline that ten images or more share was not drawn for"
    " any of them.",
    Reason.COPY: "They show the same as the image below each, which stays.",
    Reason.NOVELTY: "A one-class SVM finds them least like the rest; strangest first.",
}

Card = dict[str, Any]


def refuse_folder(folder: Path) -> None:
    """Refuse a folder that holds another page, or that is none, before any work.

    Raises:
        BadData: such a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise BadData(f"--page {folder} is a file; expected a folder")
    if (folder / PAGE).exists() and not (folder / TABLE).exists():
        raise BadData(f"{folder / PAGE} is another page; take another --page")


def write_page(findings: Findings, name: str, folder: Path) -> None:
    """Write `index.html`, `dropped.csv` (id, reason, why) and `dropped.txt`, a list for `--drop`.

    The page holds its images itself and needs no script.

    Args:
        findings: what was found.
        name: what the data set is called.
        folder: where to; pages of earlier runs are replaced.

    Raises:
        BadData: the folder holds another page.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    refuse_folder(folder)
    loader = PackageLoader("members.data", "cleaning")
    template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    page = template.get_template("page.html").render(_content(findings, name))
    _write_lists(findings, folder)
    with atomic_file(folder / PAGE) as partial:
        partial.write_text(page, encoding="utf-8")


def _write_lists(findings: Findings, folder: Path) -> None:
    rows = [(findings.data.ids[drop.place], drop.reason, drop.why) for drop in findings.drops]
    with (
        atomic_file(folder / TABLE) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([("id", "reason", "why"), *rows])
    with atomic_file(folder / LIST) as partial:
        lines = [f"{name}  # {reason}: {why}\n" for name, reason, why in rows]
        partial.write_text("".join(lines), encoding="utf-8")


def _content(findings: Findings, name: str) -> dict[str, Any]:
    data, classes = findings.data, findings.data.classes
    ringed = findings.strangest_kept(RINGED)
    drawn = scatter(findings, ringed)
    by_reason = {reason: findings.of(reason) for reason in Reason}
    by_reason[Reason.NOVELTY].sort(key=lambda drop: -findings.scores[drop.place])
    return {
        "name": name,
        "images": len(data),
        "kept": int(findings.kept.sum()),
        "legend": list(zip(classes.names, classes.colours, strict=True)),
        "scatter": drawn and _inlined(drawn),
        "sections": [
            {
                "title": str(reason),
                "meaning": MEANING[reason],
                "cards": [_card(data, drop.place, drop.why, drop.like) for drop in drops],
            }
            for reason, drops in by_reason.items()
        ],
        "strangest": [
            _card(data, place, f"score {findings.scores[place]:.3f}", None) for place in ringed
        ],
    }


def _card(data: DataSet, place: int, why: str, like: int | None) -> Card:
    return {
        "id": data.ids[place],
        "why": why,
        "shown": _shown(data, place),
        "like": None if like is None else {"id": data.ids[like], "shown": _shown(data, like)},
    }


def _shown(data: DataSet, place: int) -> list[str]:
    """Return an image and its mask in class colours, where it has one, as data URIs."""
    image = np.moveaxis(data.images[place], 0, -1)
    shown = [Image.fromarray(np.ascontiguousarray(image.squeeze()))]
    if data.masks is not None:
        shown.append(coloured(data.masks[place], data.classes))
    return [_inlined(_png(panel)) for panel in shown]


def coloured(mask: Array, classes: Classes) -> Image.Image:
    """Return a mask in the classes' colours; unlabelled pixels are grey."""
    colours = dict.fromkeys(range(UNLABELLED + 1), UNLABELLED_COLOUR)
    colours |= dict(enumerate(classes.colours))
    image = Image.fromarray(np.ascontiguousarray(mask))
    image.putpalette(bytes.fromhex("".join(colour[1:] for colour in colours.values())))
    return image


def _png(image: Image.Image) -> bytes:
    if image.width > WIDEST_PX:
        smooth = Image.Resampling.NEAREST if image.mode == "P" else Image.Resampling.BOX
        image = image.resize((WIDEST_PX, round(image.height * WIDEST_PX / image.width)), smooth)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _inlined(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
