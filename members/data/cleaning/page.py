"""The page that shows what would be dropped and why, the same as lists, and a t-SNE plot.

In the plot similar images lie together, coloured by the reason why they are dropped.
"""

import base64
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from PIL import Image

from evaluation.core.arrays import view_image
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadData
from evaluation.core.files import atomic_file
from evaluation.core.types import Array
from members.data.cleaning.novelty import Features
from members.data.cleaning.rules import CleaningReport, Reason
from members.data.dataset import DataSet

PAGE, TABLE, LIST = "index.html", "dropped.csv", "dropped.txt"
NUM_STRANGEST = 24
"""Images that stay and are shown as the most novel."""

MAX_WIDTH_PX = 128
UNLABELLED_COLOUR = "#888888"
MEANING = {
    Reason.LISTED: "You listed them.",
    Reason.SHARED_MASK: "A mask with an outline that ten images or more share was not drawn for any"
    " of them.",
    Reason.COPY: "They show the same as the image below each, which stays.",
    Reason.NOVELTY: "A one-class SVM finds them least like the rest; the most novel first.",
}

# t-SNE of more takes minutes; what is dropped is always shown.
MAX_KEPT_SHOWN = 2500
TSNE_ITERATIONS = 500
MAX_PERPLEXITY = 30
PERPLEXITY_SHARE = 1 / 4
KEPT_COLOUR = "#BBBBBB"
# Okabe and Ito's colours, distinct for colour-blind readers too.
COLOURS = {
    Reason.LISTED: "#0072B2",
    Reason.SHARED_MASK: "#D55E00",
    Reason.COPY: "#009E73",
    Reason.NOVELTY: "#CC79A7",
}

Indices = Integer[np.ndarray, "shown"]
Points = Float[np.ndarray, "shown 2"]


def check_page_folder(folder: Path) -> None:
    """Refuse a folder that holds another page, or is a file, before any work.

    Raises:
        BadData: such a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise BadData(f"--page {folder} is a file; expected a folder")
    if (folder / PAGE).exists() and not (folder / TABLE).exists():
        raise BadData(f"{folder / PAGE} is another page; take another --page")


def write_page(report: CleaningReport, name: str, folder: Path) -> None:
    """Write `index.html`, `dropped.csv` (id, reason, why) and `dropped.txt`, a list for `--drop`.

    The page embeds its images and needs no script.

    Args:
        report: what would be dropped.
        name: of the data set.
        folder: of the page; pages of earlier runs are replaced.

    Raises:
        BadData: the folder holds another page.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    check_page_folder(folder)
    loader = PackageLoader("members.data", "cleaning")
    template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    page = template.get_template("page.html").render(_content(report, name))
    rows = [(report.data.ids[drop.index], drop.reason, drop.detail) for drop in report.drops]
    with (
        atomic_file(folder / TABLE) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([("id", "reason", "why"), *rows])
    with atomic_file(folder / LIST) as partial:
        lines = [f"{name}  # {reason}: {detail}\n" for name, reason, detail in rows]
        partial.write_text("".join(lines), encoding="utf-8")
    with atomic_file(folder / PAGE) as partial:
        partial.write_text(page, encoding="utf-8")


def _content(report: CleaningReport, name: str) -> dict[str, Any]:
    data, classes = report.data, report.data.classes
    strangest = report.strangest_kept(NUM_STRANGEST)
    plot = embedding_plot(report, strangest)
    by_reason = {reason: report.drops_for(reason) for reason in Reason}
    by_reason[Reason.NOVELTY].sort(key=lambda drop: -report.scores[drop.index])
    return {
        "name": name,
        "images": len(data),
        "kept": int(report.kept.sum()),
        "legend": list(zip(classes.names, classes.colours, strict=True)),
        "plot": plot and _data_uri(plot),
        "sections": [
            {
                "title": str(reason),
                "meaning": MEANING[reason],
                "cards": [_card(data, d.index, d.detail, d.duplicate_of) for d in drops],
            }
            for reason, drops in by_reason.items()
        ],
        "strangest": [
            _card(data, index, f"score {report.scores[index]:.3f}", None) for index in strangest
        ],
    }


def _card(data: DataSet, index: int, detail: str, duplicate_of: int | None) -> dict[str, Any]:
    card: dict[str, Any] = {"id": data.ids[index], "detail": detail, "kept": None}
    card["panels"] = _panels(data, index)
    if duplicate_of is not None:
        card["kept"] = {"id": data.ids[duplicate_of], "panels": _panels(data, duplicate_of)}
    return card


def _panels(data: DataSet, index: int) -> list[str]:
    """Return an image and its mask in class colours, where it has one, as data URIs."""
    panels = [Image.fromarray(view_image(np.asarray(data.images[index])))]
    if data.masks is not None:
        panels.append(_paint(data.masks[index], data.classes))
    return [_data_uri(_to_png(panel)) for panel in panels]


def _paint(mask: Array, classes: Classes) -> Image.Image:
    """Return a mask in the classes' colours; unlabelled pixels are grey."""
    colours = dict.fromkeys(range(UNLABELLED + 1), UNLABELLED_COLOUR)
    colours |= dict(enumerate(classes.colours))
    image = Image.fromarray(np.ascontiguousarray(mask))
    image.putpalette(bytes.fromhex("".join(colour[1:] for colour in colours.values())))
    return image


def _to_png(image: Image.Image) -> bytes:
    if image.width > MAX_WIDTH_PX:
        resampling = Image.Resampling.NEAREST if image.mode == "P" else Image.Resampling.BOX
        height = round(image.height * MAX_WIDTH_PX / image.width)
        image = image.resize((MAX_WIDTH_PX, height), resampling)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def embedding_plot(report: CleaningReport, ringed: list[int], *, seed: int = 0) -> bytes | None:
    """Return the t-SNE plot as PNG; None where there are too few images or all are the same.

    Args:
        report: what would be dropped.
        ringed: indices of images that stay and get a ring.
        seed: of the embedding, and of the sample of images where more than 2,500 stay.
    """
    if not report.features.any():
        return None
    kept = np.flatnonzero(report.kept)
    if len(kept) > MAX_KEPT_SHOWN:
        chosen = np.random.default_rng(seed).choice(kept, MAX_KEPT_SHOWN, replace=False)
        kept = np.union1d(chosen, np.array(ringed, np.int64))
    shown: Indices = np.union1d(kept, np.flatnonzero(~report.kept))
    points = _embed(report.features[shown], seed)
    from evaluation.core.literal_text import literal_text

    with literal_text():
        return _draw_plot(report, shown, points, ringed)


def _embed(features: Features, seed: int) -> Points:
    """Return t-SNE's two coordinates per image."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(MAX_PERPLEXITY, PERPLEXITY_SHARE * len(features))
    tsne = TSNE(perplexity=perplexity, init="pca", max_iter=TSNE_ITERATIONS, random_state=seed)
    # Threads that wait for each other on a busy machine make it many times slower.
    with threadpool_limits(1):
        return np.asarray(tsne.fit_transform(features))


def _draw_plot(report: CleaningReport, shown: Indices, points: Points, ringed: list[int]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axes = figure.add_subplot()
    x, y = points.T
    kept, total = report.kept[shown], report.kept.sum()
    part = "" if kept.sum() == total else f"{kept.sum()} of "
    axes.scatter(x[kept], y[kept], s=7, color=KEPT_COLOUR, label=f"stays ({part}{total})")
    for reason, colour in COLOURS.items():
        drops = report.drops_for(reason)
        if drops:
            dropped = np.isin(shown, [drop.index for drop in drops])
            label = f"{reason} ({len(drops)})"
            axes.scatter(x[dropped], y[dropped], s=13, color=colour, label=label)
    if ringed:
        ring = np.isin(shown, ringed)
        label = f"most novel that stay ({ring.sum()})"
        axes.scatter(x[ring], y[ring], s=34, facecolors="none", edgecolors="k", label=label)
    axes.set(xticks=[], yticks=[])
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
