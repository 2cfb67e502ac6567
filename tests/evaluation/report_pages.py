"""Pages of made-up scores, of few classes and of many, for the tests of the page."""

import numpy as np

from ensemble.pipeline.report.classes import (
    class_changes,
    class_table,
    confusion_figures,
    gains_figure,
    scores_figure,
)
from ensemble.pipeline.report.headline import headline
from ensemble.pipeline.report.leaderboard import cost_figure, leaderboard_table, table_notes
from ensemble.pipeline.report.story import ScoredStage, waterfalls
from evaluation.core.classes import Classes
from evaluation.leaderboard import Candidate, compare
from evaluation.report.gallery import Gallery, ImageFilter, Layer
from evaluation.report.page import Page, Section
from evaluation.scores import ScoredImages

IMAGES, PIXELS = 24, 400
SIZES = ((24, 40), (32, 32), (60, 20))


def scored(classes, share, seed):
    """About `share` of each image's pixels right, the others of the next class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(len(classes))
    hard = np.random.default_rng(0).uniform(-0.2, 0.2, (IMAGES, len(classes)))
    right = np.clip(share + hard + rng.uniform(-0.1, 0.1, hard.shape), 0, 1)
    counts = np.zeros((IMAGES, len(classes), len(classes)), np.int64)
    counts[:, labels, labels] = np.round(PIXELS * right)
    counts[:, labels, (labels + 1) % len(classes)] = PIXELS - counts[:, labels, labels]
    ids = tuple(f"image {k}" for k in range(IMAGES))
    return ScoredImages(counts, ids, np.arange(IMAGES) // 2)


def candidates(classes, count):
    """Return two members, then fusions, the chosen one not the first."""
    return [
        Candidate(
            f"member_{k}_argmax" if k < 2 else f"a_long_fusion_name_{k}_suppress_background.crf",
            scored(classes, 0.5 + 0.2 * k / count, k),
            scored(classes, 0.5 + 0.01 * (k % 3), 50 + k),
            is_member=k < 2,
            members=tuple(f"member_{m}" for m in range(min(k, 5) + 1)),
            milliseconds=2.0 + 3 * k,
        )
        for k in range(count)
    ]


def gallery(classes, *, images=9, prefix="image"):
    """Return random images of several sizes."""
    rng = np.random.default_rng(0)
    sizes = [SIZES[k % len(SIZES)] for k in range(images)]

    def labels():
        return [rng.integers(0, len(classes), size, dtype=np.uint8) for size in sizes]

    return Gallery(
        ids=[f"{prefix} {k}" for k in range(images)],
        images=[rng.integers(0, 255, (3, *size), dtype=np.uint8) for size in sizes],
        target=labels(),
        layers=[
            Layer("one", labels(), None),
            Layer("fused", labels(), 0),
            Layer("crf", labels(), 1),
        ],
        source="fused",
        uncertainty=[rng.random(size) for size in sizes],
        filters=[
            ImageFilter(
                "Worst", "The largest share of wrong pixels.", [(k, "9%") for k in (2, 0, 1)]
            ),
            ImageFilter(f"Class {classes.names[1]}", "Wrong about it.", [(k, "") for k in (4, 3)]),
        ],
        note="Not offered: broken by the fusion.",
    )


def page_of(classes: Classes, *, count=6, title="a run") -> Page:
    """Return a page with all that is made from scores, and images."""
    rng = np.random.default_rng(0)
    entries = candidates(classes, count)
    board = compare(entries, classes, rng=rng)
    counts = {entry.name: entry.examined for entry in entries}
    row = next(row for row in board.rows if row.chosen)
    way = [ScoredStage(name, counts[name]) for name in (str(board.reference), row.name)]
    changes = class_changes(way[0].images, way[1].images, board, classes, rng)
    cost = cost_figure(board)
    assert cost is not None
    return Page(
        title=title,
        facts=headline(board, row, classes, IMAGES, changes, ""),
        sections=[
            Section("board", "Leaderboard", leaderboard_table(board), notes=table_notes(board)),
            Section(
                "classes",
                "Classes",
                class_table(changes, way, board),
                [
                    gains_figure(changes, way),
                    *confusion_figures(way, classes),
                    scores_figure(way, board, classes),
                ],
            ),
            Section("cost", "Cost", figures=[cost, *waterfalls(way, board.protocol, classes)]),
        ],
        gallery=gallery(classes),
        classes=classes,
        footer="Made up.",
    )
