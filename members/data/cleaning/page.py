"""The page that shows what would be dropped and why, and the same as lists."""

import base64
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluation.ground.arrays import Array
from evaluation.ground.classes import UNLABELLED, Classes
from evaluation.ground.errors import BadData
from evaluation.ground.files import whole_file
from members.data.cleaning.reasons import Findings, Reason
from members.data.cleaning.scatter import scatter
from members.data.dataset import DataSet

PAGE, TABLE, LIST = "index.html", "dropped.csv", "dropped.txt"
RINGED = 24
WIDEST_PX = 128
UNLABELLED_COLOUR = "#888888"
MEANING = {
    Reason.LISTED: "You listed them.",
    Reason.SHARED_MASK: "One mask with an outline that ten pictures or more share was not drawn for"
    " any of them.",
    Reason.COPY: "They show the same as the picture below each, which stays.",
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

    The page holds its pictures itself and needs no script.

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
    with whole_file(folder / PAGE) as partial:
        partial.write_text(page, encoding="utf-8")


def _write_lists(findings: Findings, folder: Path) -> None:
    rows = [(findings.data.ids[drop.place], drop.reason, drop.why) for drop in findings.drops]
    with (
        whole_file(folder / TABLE) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([("id", "reason", "why"), *rows])
    with whole_file(folder / LIST) as partial:
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
        "pictures": len(data),
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
    """Return a picture and its mask in class colours, where it has one, as data URIs."""
    picture = np.moveaxis(data.pictures[place], 0, -1)
    shown = [Image.fromarray(np.ascontiguousarray(picture.squeeze()))]
    if data.masks is not None:
        shown.append(coloured(data.masks[place], data.classes))
    return [_inlined(_png(image)) for image in shown]


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
