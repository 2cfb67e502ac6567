"""Figures of the report: each function takes numbers and returns them drawn and as a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from evaluation.core.arrays import evenly_spaced
from evaluation.formatting import format_decimal
from evaluation.reliability import Reliability
from evaluation.report.svg import (
    CHARACTER_PX,
    TINT,
    WIDTH,
    Number,
    Plot,
    Scale,
    axis_name,
    element,
    figure,
    label,
    label_width,
    legend,
    legend_height,
    line,
    path,
    row_label,
    rows_from,
    series,
    shorten_middle,
    wrapped,
)

Cell: TypeAlias = str | Number | None
Table: TypeAlias = list[list[Cell]]
"""Rows of a table, the first of which holds the headings; NaN where a number is missing."""

ROW_PX, DOT_PX = 26, 12
LOWER_PX = 40
"""Height of the tick labels and the name of a horizontal axis."""

SMALLEST_RANGE = 0.002
"""Of scores on an axis: smaller differences are no larger to the eye."""

FEW, FAR = 8, 4.0
"""Of more numbers than `FEW`, those are far that lie by `FAR` quartile ranges below the rest."""

CELL_PX, TURNED = 34, 0.77
HIDDEN_BELOW = 0.005
"""Shares that would be written as 0 are left out of a matrix."""

PANELS, PANEL_PX, LINE_PX = 3, 110, 14
BROAD_PX = 1.25 * WIDTH
"""Figures that are wider take a whole row of the page."""

MOST_NUMBERED = 10
"""Candidates of the front that have a number and a name below the figure."""

TIPS = 25
"""Points of a line that show their numbers."""


class Drawing(NamedTuple):
    """A figure: an SVG element, the numbers in it, and whether it needs a whole row of the page."""

    svg: str
    data: Table
    broad: bool = False


class Estimate(NamedTuple):
    """A number with the ends of its interval, NaN where it has none."""

    value: Number
    low: Number = math.nan
    high: Number = math.nan

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def words(self, sign: str = "") -> str:
        """Write the number and its interval."""
        number = format_decimal(self.value, sign)
        if math.isnan(self.low):
            return number
        return f"{number} ({format_decimal(self.low, sign)} to {format_decimal(self.high, sign)})"


def estimates_scale(
    estimates: Sequence[Estimate],
    start: Number,
    end: Number,
    *,
    zero: bool = False,
    far: bool = False,
) -> Scale:
    """Return a scale that holds numbers and their intervals, and 0 if asked for.

    Numbers far below the others are left out unless `far`, since they would leave no room for the
    others.
    """
    known = [one for one in estimates if math.isfinite(one.value)]
    if len(known) > FEW and not far:
        low, high = np.quantile([one.value for one in known], [0.25, 0.75])
        known = [one for one in known if one.value >= low - FAR * max(high - low, SMALLEST_RANGE)]
    values = [value for one in known for value in one] + ([0.0] if zero else [])
    return Scale.around(values, start, end, at_least=SMALLEST_RANGE)


def interval_cell(estimate: Estimate, scale: Scale, *, reference: Number, filled: bool) -> str:
    """Draw an interval for a cell of a table; `reference` is where a line crosses all rows."""
    width, height = scale.start + scale.end, 22.0
    parts = [line(scale(reference), 0, scale(reference), height, class_="axis")]
    if not math.isnan(estimate.value):
        parts.append(_inside(estimate, scale, height / 2, filled))
    return element(
        "svg", *parts, class_="figure cell", viewBox=f"0 0 {width:g} {height:g}", aria_hidden="true"
    )


def _inside(estimate: Estimate, scale: Scale, y: Number, filled: bool) -> str:
    """Draw what lies on the scale; an arrow for a number that lies left of it."""
    value, low, high = (max(scale.low, end) for end in estimate)
    if estimate.value >= scale.low:
        return _mark(Estimate(value, low, high), scale, y, filled, {"class_": "s0"})
    start = scale.start
    arrow = path([(start + 6, y - 5), (start, y), (start + 6, y + 5)], stroke_width=2)
    tail = line(start, y, scale(high), y, stroke_width=2) if high > scale.low else ""
    return element("g", arrow, tail, class_="s0")


def axis_cell(scale: Scale) -> str:
    """Draw the ends of the scale of `interval_cell`, for the head of its column."""
    ticks = scale.ticks()
    shown = [ticks[0], ticks[-1]] if len(ticks) > 1 else ticks
    parts = [label(scale(v), 8, words, anchor="middle", class_="soft") for v, words in shown]
    parts += [line(scale(v), 16, scale(v), 22, class_="axis") for v, _ in shown]
    box = f"0 0 {scale.start + scale.end:g} 22"
    return element("svg", *parts, class_="figure cell", viewBox=box, aria_hidden="true")


def _mark(
    estimate: Estimate,
    x: Scale,
    y: Number,
    filled: bool,
    style: Mapping[str, Any],
    tip: str | None = None,
) -> str:
    """Draw a dot with its interval."""
    parts = []
    if not math.isnan(estimate.low):
        parts.append(line(x(estimate.low), y, x(estimate.high), y, stroke_width=2))
    fill = "currentColor" if filled else "var(--paper)"
    parts.append(element("circle", cx=x(estimate.value), cy=y, r=4, fill=fill, stroke_width=1.5))
    return element("g", *parts, tip=tip, **style)


def dot_rows(
    name: str,
    rows: Sequence[str],
    columns: Mapping[str, Sequence[Estimate]],
    *,
    what: str,
    axis: str,
    signed: bool = False,
) -> Drawing:
    """Draw a row per name, with a dot and its interval for each column.

    Args:
        name: of the figure.
        rows: their names.
        columns: by name, an estimate per row; NaN where one is missing.
        what: what the rows are, such as `class`.
        axis: what the numbers are.
        signed: whether they are differences: blue above 0, orange below, and filled where the
            interval excludes 0.
    """
    names = list(columns) if len(columns) > 1 else []
    top = legend_height(names) + 12
    height = max(ROW_PX, DOT_PX * len(columns) + 8)
    left = label_width(rows)
    everything = [one for column in columns.values() for one in column]
    x = estimates_scale(everything, left + 4, WIDTH - 14, zero=signed, far=True)
    bottom = top + height * len(rows)
    parts = [legend(names, 10), _vertical_grid(x, bottom, top, axis)]
    if signed:
        parts.append(line(x(0), top, x(0), bottom, class_="axis"))
    for row, y in zip(rows, rows_from(top, height, len(rows)), strict=True):
        parts.append(row_label(left, y, row, left))
    for index, (column, values) in enumerate(columns.items()):
        offset = DOT_PX * (index - (len(columns) - 1) / 2)
        for row, y, one in zip(rows, rows_from(top, height, len(rows)), values, strict=True):
            if math.isnan(one.value):
                continue
            style = {"class_": "s0" if one.value >= 0 else "s1"} if signed else series(index)
            heading = f"{row}, {column}" if names else row
            tip = f"{heading}: {one.words('+' if signed else '')}"
            parts.append(_mark(one, x, y + offset, one.significant or not signed, style, tip))
    heads = [f"{c} {part}".strip() for c in columns for part in ("", "low", "high")]
    body: Table = [
        [row, *(number for column in columns.values() for number in column[k])]
        for k, row in enumerate(rows)
    ]
    return Drawing(figure(name, bottom + LOWER_PX, *parts), [[what, *heads], *body])


def _vertical_grid(x: Scale, bottom: Number, top: Number, axis: str) -> str:
    parts = []
    for value, words in x.ticks():
        parts.append(line(x(value), top, x(value), bottom, class_="grid"))
        parts.append(label(x(value), bottom + 11, words, anchor="middle", class_="soft"))
    return "".join([*parts, axis_name(x, bottom, axis)])


class CostPoint(NamedTuple):
    """A candidate of the cost figure; `cost_ms` is per image."""

    name: str
    cost_ms: Number
    score: Number
    on_front: bool
    chosen: bool


def score_against_cost(points: Sequence[CostPoint], metric: str) -> Drawing:
    """Draw scores against costs; candidates on the Pareto front are joined, up to ten named.

    Args:
        points: one per candidate.
        metric: words for the score.
    """
    x = Scale.around([p.cost_ms for p in points], 44, WIDTH - 14, log=True)
    y = Scale.around([p.score for p in points], 220, 28, margin=0.1, at_least=SMALLEST_RANGE)
    front = sorted((p for p in points if p.on_front), key=lambda p: p.cost_ms)
    spread = evenly_spaced(len(front), MOST_NUMBERED)
    numbered = [p for k, p in enumerate(front) if k in spread or p.chosen]
    parts = [Plot(x, y).axes("ms per image", metric)]
    steps = [(x(front[0].cost_ms), y(front[0].score))] if front else []
    for before, after in pairwise(front):
        steps += [(x(after.cost_ms), y(before.score)), (x(after.cost_ms), y(after.score))]
    parts.append(path(steps, class_="s0", stroke_width=1.5))
    for point in sorted(points, key=lambda p: p in numbered):
        tip = f"{point.name}: {format_decimal(point.score)}, {point.cost_ms:.3g} ms"
        number = numbered.index(point) + 1 if point in numbered else None
        parts.append(_cost_mark(point, x(point.cost_ms), y(point.score), number, tip))
    names_top = 220 + LOWER_PX + 8
    for number, point in enumerate(numbered, start=1):
        words = f"{number}  {point.name}{', chosen' if point.chosen else ''}"
        value = f"{format_decimal(point.score)}, {point.cost_ms:.3g} ms"
        row = names_top + 18 * number - 12
        space = int((WIDTH - 20) / CHARACTER_PX) - len(value)
        parts.append(label(12, row, words if len(words) <= space else f"{words[: space - 1]}…"))
        parts.append(label(WIDTH - 14, row, value, anchor="end", class_="soft"))
    data: Table = [["candidate", "ms per image", metric, "on the front", "chosen"]]
    data += [[p.name, p.cost_ms, p.score, int(p.on_front), int(p.chosen)] for p in points]
    return Drawing(figure("score against cost", names_top + 18 * len(numbered), *parts), data)


def _cost_mark(point: CostPoint, x: Number, y: Number, number: int | None, tip: str) -> str:
    if number is None:
        style = "s1" if point.chosen else "s0" if point.on_front else "faint"
        return element("circle", cx=x, cy=y, r=4, fill="var(--paper)", class_=style, tip=tip)
    circle = element("circle", cx=x, cy=y, r=8, fill="var(--paper)", stroke_width=1.5)
    digits = label(x, y, str(number), anchor="middle", class_="small bold")
    return element("g", circle, digits, class_="s1" if point.chosen else "s0", tip=tip)


class Training(NamedTuple):
    """The holdout's score after each epoch of one fold; `kept` is the epoch of the weights."""

    fold: int
    epochs: Sequence[Number]
    scores: Sequence[Number]
    kept: Number | None


def training_curves(members: Mapping[str, Sequence[Training]], metric: str) -> Drawing:
    """Draw a panel per member, and in it a line per fold, with a dot at the epoch that was kept.

    Args:
        members: the folds of each.
        metric: words for the score.
    """
    everything = [one for folds in members.values() for one in folds]
    folds = sorted({one.fold for one in everything})
    names = [f"fold {fold}" for fold in folds]
    width = (WIDTH - 40) / PANELS
    headings = {name: wrapped(name, int(width / CHARACTER_PX) - 1) for name in members}
    room = LINE_PX * max(len(lines) for lines in headings.values())
    top, parts = legend_height(names) + 12 + room, [legend(names, 10)]
    pitch = PANEL_PX + 32 + room
    scores = [score for one in everything for score in one.scores]
    epochs = [epoch for one in everything for epoch in one.epochs]
    for index, (name, trainings) in enumerate(members.items()):
        left, above = 34 + width * (index % PANELS), top + pitch * (index // PANELS)
        x = Scale.around([*epochs, 1], left + 6, left + width - 8)
        y = Scale.around(scores, above + PANEL_PX, above, at_least=SMALLEST_RANGE)
        parts.append(_panel_axes(x, y, first=index % PANELS == 0))
        lines = headings[name]
        for place, words in enumerate(lines):
            y_of_line = above - 12 - LINE_PX * (len(lines) - 1 - place)
            parts.append(label(x.start, y_of_line, words))
        parts += [_training(name, one, x, y, series(folds.index(one.fold))) for one in trainings]
    rows = -(-len(members) // PANELS)
    height = top + pitch * rows + 4
    parts.append(label(WIDTH / 2, height - 10, "epoch", anchor="middle", class_="soft"))
    data: Table = [["member", "fold", "epoch", metric, "kept"]]
    data += [
        [name, one.fold, epoch, score, int(epoch == one.kept)]
        for name, trainings in members.items()
        for one in trainings
        for epoch, score in zip(one.epochs, one.scores, strict=True)
    ]
    return Drawing(figure("training curves", height, *parts), data)


def _panel_axes(x: Scale, y: Scale, *, first: bool) -> str:
    parts = []
    for value, words in y.ticks():
        parts.append(line(x.start, y(value), x.end, y(value), class_="grid"))
        if first:
            parts.append(label(x.start - 5, y(value), words, anchor="end", class_="soft small"))
    for value, words in x.ticks():
        if value == int(value):
            parts.append(label(x(value), y.start + 11, words, anchor="middle", class_="soft small"))
    return "".join(parts)


def _training(name: str, one: Training, x: Scale, y: Scale, style: Mapping[str, Any]) -> str:
    points = [
        (epoch, x(epoch), y(score), score)
        for epoch, score in zip(one.epochs, one.scores, strict=True)
        if math.isfinite(score)
    ]
    shown = {points[k][0] for k in evenly_spaced(len(points), TIPS)} | {one.kept}
    parts = [path([(px, py) for _, px, py, _ in points], stroke_width=1.5)]
    for epoch, px, py, score in points:
        if epoch in shown:
            kept = epoch == one.kept
            words = f"{name}, fold {one.fold}, epoch {epoch:g}: {format_decimal(score)}"
            parts.append(
                element(
                    "circle",
                    cx=px,
                    cy=py,
                    r=4 if kept else 2,
                    fill="currentColor",
                    tip=words + (", kept" if kept else ""),
                )
            )
    return element("g", *parts, **style)


def reliability_diagram(sums: Mapping[str, Reliability]) -> Drawing:
    """Draw the share of correct pixels against their confidence; on the diagonal both are equal.

    Args:
        sums: by name, as of `evaluation.reliability.reliability`.
    """
    names = list(sums)
    top = legend_height(names) + 28
    bottom = top + 260
    x, y = Scale(0, 1, 44, WIDTH - 14), Scale(0, 1, bottom, top)
    parts = [legend(names, 10), Plot(x, y).axes("confidence", "share that is correct")]
    parts.append(line(x(0), y(0), x(1), y(1), class_="axis"))
    data: Table = [["maps", "pixels", "confidence", "share that is correct"]]
    for index, (name, (pixels, confidence, correct)) in enumerate(sums.items()):
        filled = pixels > 0
        shares = [
            (int(n), float(c / n), float(r / n))
            for n, c, r in zip(pixels[filled], confidence[filled], correct[filled], strict=True)
        ]
        dots = [
            element(
                "circle",
                cx=x(c),
                cy=y(r),
                r=3.5,
                fill="currentColor",
                tip=f"{name}: {r:.1%} of {n:,} pixels of confidence {format_decimal(c)} correct",
            )
            for n, c, r in shares
        ]
        joined = path([(x(c), y(r)) for _, c, r in shares], stroke_width=1.5)
        parts.append(element("g", joined, *dots, **series(index)))
        data += [[name, n, c, r] for n, c, r in shares]
    return Drawing(figure("reliability", bottom + LOWER_PX, *parts), data)


def matrix(
    name: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Float[np.ndarray, "row column"],
    *,
    axes: tuple[str, str],
    signed: bool = False,
    strongest: Number | None = None,
) -> Drawing:
    """Draw a table of shares as tinted cells with their numbers.

    Args:
        name: of the figure.
        rows: their names.
        columns: their names.
        values: NaN is left empty.
        axes: what rows and columns are.
        signed: whether the values are differences: blue above 0, orange below.
        strongest: the value of the strongest tint; by default the largest one.
    """
    left, turned = label_width(rows, 0.32), TURNED * label_width(columns, 0.32)
    longest = int(label_width(columns, 0.32) / CHARACTER_PX)
    right = max(10.0, TURNED * CHARACTER_PX * min(len(columns[-1]), longest) - CELL_PX / 2)
    cell = min(2 * CELL_PX, max(CELL_PX, (WIDTH - left - right) / len(columns)))
    width, above = max(WIDTH, left + cell * len(columns) + right), 30 + turned
    largest = float(np.nanmax(np.abs(values), initial=0))
    strongest = max(strongest or largest, 1e-9)
    parts = [label(left - 8, above - 10, axes[0], anchor="end", class_="soft")]
    parts.append(label(left + cell * len(columns) / 2, 9, axes[1], anchor="middle", class_="soft"))
    for k, column in enumerate(columns):
        place = f"translate({left + (k + 0.5) * cell - 4:.1f} {above - 6:.1f}) rotate(-40)"
        parts.append(label(0, 0, shorten_middle(column, longest), transform=place, tip=column))
    for r, row in enumerate(rows):
        y = above + r * CELL_PX
        parts.append(row_label(left, y + CELL_PX / 2, row, left))
        for c, column in enumerate(columns):
            value = float(values[r, c])
            if not math.isnan(value):
                box = (left + c * cell, y, cell - 1, CELL_PX - 1)
                tip = f"{row}, {column}: {format_decimal(value, '+' if signed else '')}"
                parts.append(_tinted(value, strongest, box, signed, tip))
    data: Table = [[f"{axes[0]} \\ {axes[1]}", *columns]]
    data += [[row, *map(float, values[r])] for r, row in enumerate(rows)]
    svg = figure(name, above + CELL_PX * len(rows) + 8, *parts, width=width)
    return Drawing(svg, data, broad=width > BROAD_PX)


def _tinted(
    value: Number,
    strongest: Number,
    box: tuple[Number, Number, Number, Number],
    signed: bool,
    tip: str,
) -> str:
    x, y, width, height = box
    tint = TINT * min(1.0, abs(value) / strongest)
    colour = "s1" if value < 0 else "s0"
    fill: dict[str, Any] = {"fill": "currentColor", "fill_opacity": tint}
    square = element("rect", x=x, y=y, width=width, height=height, **fill)
    words = ""
    if abs(value) >= HIDDEN_BELOW:
        written = format_decimal(value, "+" if signed else "", places=2)
        words = label(x + width / 2, y + height / 2, written, anchor="middle", class_="small")
    return element("g", square, words, class_=colour, tip=tip)


class ScoreStage(NamedTuple):
    """The score after one stage, and the gains by pixels and by denominator that led to it."""

    name: str
    score: Number
    pixels: Number = 0.0
    denominator: Number = 0.0


def waterfall(title: str, stages: Sequence[ScoreStage]) -> Drawing:
    """Draw the scores from the best member to the candidate, and the gains between them as bars.

    Args:
        title: of the figure: what the scores are.
        stages: in order; nothing is drawn if a score is NaN, since then no pixel could be scored.
    """
    names, top = ["by pixels", "by the denominator"], 34
    rows = [stage.name for stage in stages]
    left, height = label_width(rows), 34
    bottom = top + height * len(stages)
    corners = [level for k, stage in enumerate(stages) for level in _levels(stages, k)]
    x = Scale.around(corners, left + 8, WIDTH - 56, margin=0.12, at_least=SMALLEST_RANGE)
    parts = [legend(names, 10), _vertical_grid(x, bottom, top, title)]
    scored = not any(math.isnan(level) for level in corners)
    for k, (stage, y) in enumerate(zip(stages, rows_from(top, height, len(stages)), strict=True)):
        parts.append(row_label(left, y, stage.name, left))
        if not scored:
            continue
        before, middle, after = _levels(stages, k)
        for index, (start, end) in enumerate(((before, middle), (middle, after))):
            words = f"{stage.name}: {format_decimal(end - start, '+')} {names[index]}"
            parts.append(
                element(
                    "rect",
                    x=min(x(start), x(end)),
                    y=y - 9 + 9 * index,
                    width=abs(x(end) - x(start)),
                    height=8,
                    fill="currentColor",
                    tip=words,
                    class_=f"s{index}",
                )
            )
        reach = y + (height if k + 1 < len(stages) else 10)
        parts.append(line(x(after), y - 10, x(after), reach, class_="axis"))
        parts.append(label(max(x(before), x(middle), x(after)) + 6, y, format_decimal(after)))
    data: Table = [["stage", title, *names], *(list[Cell](stage) for stage in stages)]
    return Drawing(figure(title, bottom + LOWER_PX, *parts), data)


def _levels(stages: Sequence[ScoreStage], index: int) -> tuple[Number, Number, Number]:
    """Return the scores before a stage, after its better pixels, and after it."""
    stage = stages[index]
    before = stages[max(index - 1, 0)].score
    return before, before + stage.pixels, stage.score


class GrowthPoint(NamedTuple):
    """Average score of the mean of `members`, with the ends of the last gain's interval."""

    members: int
    score: Number
    low: Number
    high: Number


def member_growth(sizes: Sequence[GrowthPoint], metric: str) -> Drawing:
    """Draw the score by the number of members, which ascends; `metric` is words for the score."""
    x = Scale.around([size.members for size in sizes], 44, WIDTH - 14, at_least=1.0)
    x = replace(x, whole=True)
    levels = [level for size in sizes for level in size[1:]]
    y = Scale.around(levels, 220, 28, at_least=SMALLEST_RANGE)
    parts = [Plot(x, y).axes("number of members", f"{metric} of their mean")]
    marks = [path([(x(s.members), y(s.score)) for s in sizes], stroke_width=1.5)]
    for size in sizes:
        at = x(size.members)
        marks.append(line(at, y(size.low), at, y(size.high), stroke_width=2))
        tip = f"{size.members}: {format_decimal(size.score)}"
        marks.append(element("circle", cx=at, cy=y(size.score), r=4, fill="currentColor", tip=tip))
    parts.append(element("g", *marks, class_="s0"))
    data: Table = [["members", metric, "low", "high"], *(list[Cell](size) for size in sizes)]
    return Drawing(figure("score by number of members", 220 + LOWER_PX, *parts), data)
