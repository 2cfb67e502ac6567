"""The page as a file: what it holds, and what it never lets through."""

import base64
import csv
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.core.classes import MARS, Classes
from evaluation.report import gallery as gallery_module
from evaluation.report.figures import (
    CostPoint,
    Estimate,
    GrowthPoint,
    ScoreStage,
    Training,
    dot_rows,
    estimates_scale,
    interval_cell,
    matrix,
    member_growth,
    reliability_diagram,
    score_against_cost,
    training_curves,
    waterfall,
)
from evaluation.report.gallery import (
    BROKEN,
    FIXED,
    RIGHT,
    WRONG,
    Gallery,
    ImageFilter,
    Layer,
    errors,
    image_uri,
    labels_uri,
    uncertainty_uri,
)
from evaluation.report.page import (
    Fact,
    Figure,
    HtmlTable,
    Page,
    Section,
    TableCell,
    TableColumn,
    TableRow,
    write_figures,
    write_page,
)
from evaluation.report.svg import Scale, shorten_middle, standalone, wrapped
from tests.evaluation.report_pages import gallery

NASTY = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'
SVG = "{http://www.w3.org/2000/svg}"
NAN = float("nan")

FIGURES = {
    "rows": lambda: dot_rows(
        NASTY,
        [NASTY, "b"],
        {NASTY: [Estimate(0.5, 0.4, 0.6), Estimate(NAN)], "x": [Estimate(0.1)] * 2},
        what=NASTY,
        axis=NASTY,
    ),
    "gains": lambda: dot_rows(
        "gains",
        ["a", NASTY],
        {"gain": [Estimate(0.1, 0.05, 0.15), Estimate(-0.1, -0.3, 0.1)]},
        what="class",
        axis="gain",
        signed=True,
    ),
    "matrix": lambda: matrix(
        NASTY,
        MARS.names[1:],
        (NASTY, *MARS.names[1:]),
        np.array([[NAN] * 5, [0.5, 0.1, 0.2, 0.1, 0.1], [0.0] * 5, [1.0, 0, 0, 0, 0]]),
        axes=("target", NASTY),
    ),
    "costs": lambda: score_against_cost(
        [
            CostPoint("$a_1$", 3.0, 0.4, on_front=True, chosen=False),
            CostPoint(NASTY, 9.0, 0.5, on_front=True, chosen=True),
            CostPoint("c", 9.5, 0.4, on_front=False, chosen=False),
        ],
        "mIoU",
    ),
    "curves": lambda: training_curves(
        {NASTY: [Training(0, [1.0, 2.0], [0.2, 0.3], 2.0), Training(1, [1.0], [NAN], None)]}, NASTY
    ),
    "growth": lambda: member_growth(
        [GrowthPoint(1, 0.4, 0.4, 0.4), GrowthPoint(2, 0.5, 0.45, 0.53)], NASTY
    ),
    "reliability": lambda: reliability_diagram(
        {NASTY: np.array([[0.0, 4, 2], [0, 2.4, 1.9], [0, 2, 2]])}
    ),
    "waterfall": lambda: waterfall(
        "keras",
        [
            ScoreStage("best", 0.4),
            ScoreStage(NASTY, 0.5, -0.02, 0.12),
            ScoreStage("c", 0.45, -0.05),
        ],
    ),
    "waterfall of nothing": lambda: waterfall(
        "masked", [ScoreStage("best", NAN), ScoreStage("c", NAN, NAN, NAN)]
    ),
}


def texts_of(root):
    return [part.text for part in root.iter(f"{SVG}text")]


def figure_of(name):
    return Figure(name, NASTY, NASTY, FIGURES[name]())


def page(tmp_path, **changed):
    columns = [
        TableColumn("candidate", NASTY),
        TableColumn(NASTY, "score"),
        TableColumn("hidden", "more", shown=False, group=NASTY),
    ]
    cells = [TableCell(NASTY, NASTY, "", (NASTY,)), TableCell(".500", 0.5), TableCell("-")]
    table = HtmlTable("board", columns, [TableRow(cells, True, ("tag",))], [("tag", NASTY)])
    parts = {
        "title": NASTY,
        "facts": [Fact(NASTY, NASTY, NASTY)],
        "sections": [
            Section("board", NASTY, table, [figure_of(name) for name in FIGURES], [NASTY])
        ],
        "gallery": gallery(Classes((NASTY, "b")), prefix=NASTY),
        "classes": Classes((NASTY, "b")),
        "footer": NASTY,
    }
    write_page(tmp_path / "page.html", Page(**{**parts, **changed}))
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def pixels(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


class Reader(HTMLParser):
    """What a browser would see: scripts, addresses, attributes that run, and tags."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.addresses, self.handlers, self.tags = [], [], [], []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")
        self.addresses += [v for k, v in attributes if k in ("src", "href", "xlink:href") and v]
        self.handlers += [k for k, _ in attributes if k.startswith("on")]

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data


class TestThePage:
    def test_names_are_never_markup(self, tmp_path):
        shown = Reader(page(tmp_path))
        assert len(shown.scripts) == 6
        assert not any("alert" in script and "<" in script for script in shown.scripts[:2])
        assert not any("alert" in script for script in shown.scripts[2:])
        assert shown.handlers == []
        assert "img" not in shown.tags

    def test_names_that_look_like_markup_are_kept_as_text(self, tmp_path):
        numbers, images, *_ = Reader(page(tmp_path)).scripts
        assert json.loads(images)["images"][0]["id"] == f"{NASTY} 0"
        assert json.loads(numbers)["board"][0][1] == NASTY

    def test_the_page_needs_no_network(self, tmp_path):
        text = page(tmp_path)
        assert "default-src 'none'" in text
        addresses = Reader(text).addresses
        assert addresses
        assert all(a.startswith(("#", "data:")) for a in addresses)

    def test_the_page_needs_no_gallery(self, tmp_path):
        text = page(tmp_path, gallery=None)
        assert 'id="viewer"' not in text
        assert json.loads(Reader(text).scripts[1]) is None

    def test_numbers_that_are_missing_are_null(self, tmp_path):
        numbers = json.loads(Reader(page(tmp_path)).scripts[0])
        assert numbers["rows"][2] == ["b", None, None, None, 0.1, None, None]

    def test_columns_are_shown_or_folded_away_by_group(self, tmp_path):
        text = page(tmp_path)
        assert len(re.findall(r"<t[hd][^>]* hidden", text)) == 2
        assert 'data-column="2"' in text


class TestTheGallery:
    def test_labels_have_the_colours_of_the_classes(self):
        labels = np.array([[0, 1, 4], [2, 3, 255]], np.uint8)
        image = pixels(labels_uri(labels, MARS))
        np.testing.assert_array_equal(np.asarray(image), labels)
        assert image.convert("RGBA").getpixel((1, 0)) == (0xE6, 0x9F, 0x00, 255)
        assert image.convert("RGBA").getpixel((2, 1))[3] == 0

    def test_errors_are_marked_among_scored_pixels(self):
        target = np.array([1, 1, 1, 1, 0, 255])
        before = np.array([1, 2, 1, 2, 1, 1])
        after = np.array([2, 1, 1, 3, 2, 2])
        expected = [BROKEN, FIXED, RIGHT, WRONG, RIGHT, RIGHT]
        assert errors(target, before, after, ignore=0).tolist() == expected
        expected = [WRONG, RIGHT, RIGHT, WRONG, RIGHT, RIGHT]
        assert errors(target, None, after, ignore=0).tolist() == expected

    def test_each_layer_is_compared_with_its_before(self):
        shown = gallery(MARS)
        stages = shown.to_dict(MARS)["images"][1]["stages"]
        for k, before in enumerate([None, shown.layers[0].labels[1], shown.layers[1].labels[1]]):
            after = shown.layers[k].labels[1]
            marked = errors(shown.target[1], before, after, ignore=0)
            np.testing.assert_array_equal(np.asarray(pixels(stages[k]["errors"])), marked)

    def test_uncertainty_goes_from_dark_to_light(self):
        image = pixels(uncertainty_uri(np.array([[0.0, 0.5, 1.0]]))).convert("L")
        dark, middle, light = (image.getpixel((k, 0)) for k in range(3))
        assert dark < middle < light

    def test_images_beyond_the_byte_budget_are_left_out_of_every_filter(self, monkeypatch):
        def shown():
            return gallery(MARS).to_dict(MARS)

        whole = len(json.dumps(shown()["images"]))
        monkeypatch.setattr(gallery_module, "MAX_BYTES", whole // 3)
        fewer = shown()
        assert 1 <= len(fewer["images"]) <= 3
        assert all(k < len(fewer["images"]) for one in fewer["filters"] for k, _ in one["images"])
        assert [one["name"] for one in fewer["filters"]] == ["Worst"]

    def test_large_images_are_reduced_and_say_so(self):
        labels = [np.zeros((1500, 700), np.uint8)]
        shown = Gallery(
            ["a"],
            [np.zeros((1, 1500, 700), np.uint8)],
            labels,
            [Layer("one", labels, None)],
            "one",
            [np.zeros((1500, 700))],
            [ImageFilter("all", "", [(0, "")])],
        )
        (entry,) = shown.to_dict(MARS)["images"]
        assert (entry["height"], entry["width"], entry["step"]) == (1500, 700, 2)
        drawn = (
            entry["image"],
            entry["target"],
            entry["uncertainty"],
            entry["stages"][0]["errors"],
        )
        assert {pixels(uri).size for uri in drawn} == {(350, 750)}

    def test_small_images_are_exact_and_large_ones_compressed(self):
        noise = np.random.default_rng(0).integers(0, 255, (3, 300, 300), dtype=np.uint8)
        assert image_uri(noise).startswith("data:image/webp")
        small = np.moveaxis(np.asarray(pixels(image_uri(noise[:, :64, :64]))), -1, 0)
        np.testing.assert_array_equal(small, noise[:, :64, :64])


@pytest.mark.parametrize("name", FIGURES)
class TestFigures:
    def test_figures_are_one_svg_element_that_hides_no_markup(self, name):
        svg = FIGURES[name]().svg
        root = ET.fromstring(svg)
        assert root.tag == f"{SVG}svg"
        assert root.attrib["role"] == "img"
        assert {part.tag for part in root.iter()} <= {
            f"{SVG}{tag}" for tag in ("svg", "g", "text", "line", "polyline", "circle", "rect")
        }

    def test_figures_are_deterministic(self, name):
        assert FIGURES[name]().svg == FIGURES[name]().svg

    def test_coordinates_are_numbers_inside_the_figure(self, name):
        root = ET.fromstring(FIGURES[name]().svg)
        width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
        for part in root.iter():
            for key, limit in (("cx", width), ("x1", width), ("cy", height), ("y1", height)):
                if key in part.attrib:
                    assert -1 <= float(part.attrib[key]) <= limit + 1

    def test_standalone_figures_have_their_own_colours_on_white(self, name):
        svg = FIGURES[name]().svg
        document = ET.fromstring(standalone(svg))
        style, sheet, *_ = document
        assert "--paper: #ffffff" in str(style.text)
        assert sheet.attrib == {"width": "100%", "height": "100%", "class": "paper"}
        assert texts_of(document) == texts_of(ET.fromstring(svg))

    def test_numbers_have_a_heading_for_every_column(self, name):
        head, *rows = FIGURES[name]().data
        assert rows
        assert {len(row) for row in rows} == {len(head)}


def test_rows_of_the_numbers_are_what_is_drawn():
    drawing = FIGURES["gains"]()
    assert drawing.data[1] == ["a", 0.1, 0.05, 0.15]
    tips = [part.attrib.get("data-tip") for part in ET.fromstring(drawing.svg).iter()]
    assert "a: +.100 (+.050 to +.150)" in tips


def test_only_what_is_significant_is_filled():
    circles = [c.attrib["fill"] for c in ET.fromstring(FIGURES["gains"]().svg).iter(f"{SVG}circle")]
    assert circles == ["currentColor", "var(--paper)"]


def test_the_kept_epoch_is_a_large_dot():
    svg = ET.fromstring(FIGURES["curves"]().svg)
    dots = {c.attrib.get("data-tip"): float(c.attrib["r"]) for c in svg.iter(f"{SVG}circle")}
    kept = [tip for tip, radius in dots.items() if tip and radius > 3]
    assert [tip.rsplit(": ", 1)[1] for tip in kept] == [".300, kept"]


@pytest.mark.parametrize("classes", [5, 20])
def test_digits_of_a_matrix_do_not_overlap(classes):
    names = [f"class {k}" for k in range(classes)]
    drawn = matrix(
        "m", names, names, np.full((classes, classes), -0.25), axes=("a", "b"), signed=True
    )
    rows = {}
    for part in ET.fromstring(drawn.svg).iter(f"{SVG}text"):
        if part.text == "-.25":
            rows.setdefault(part.attrib["y"], []).append(float(part.attrib["x"]))
    assert len(rows) == classes
    width = 4 * 7.4
    assert all(np.diff(sorted(xs)).min() > width for xs in rows.values())


class TestScales:
    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [
            (0.0, 1.0, ["0", ".2", ".4", ".6", ".8", "1.0"]),
            (-0.012, 0.021, ["-.01", "0", ".01", ".02"]),
            (0.5, 10.5, ["2", "4", "6", "8", "10"]),
        ],
    )
    def test_ticks_are_round(self, low, high, expected):
        assert [words for _, words in Scale(low, high, 0, 330).ticks()] == expected

    @pytest.mark.parametrize("ratio", [1.0001, 2, 1000, 1e9])
    def test_logarithmic_scales_have_ticks_within(self, ratio):
        scale = Scale.around([3.0, 3.0 * ratio], 0, 400, log=True)
        ticks = scale.ticks()
        assert 1 <= len(ticks) <= 12
        assert all(scale.low <= value <= scale.high for value, _ in ticks)

    def test_a_scale_of_nothing_is_0_to_1(self):
        scale = Scale.around([NAN, math.inf], 0, 100, margin=0)
        assert (scale.low, scale.high) == (0, 1)

    def test_far_candidates_do_not_squeeze_the_others_and_get_an_arrow(self):
        near = [Estimate(0.5 + k / 1000, 0.45, 0.55) for k in range(12)]
        far = Estimate(0.1, 0.05, 0.15)
        scale = estimates_scale([*near, far], 6, 170)
        assert scale.low > 0.3
        assert "polyline" in interval_cell(far, scale, reference=0.5, filled=True)
        assert "polyline" not in interval_cell(near[0], scale, reference=0.5, filled=True)


class TestFiguresAsFiles:
    def test_each_figure_is_written_with_its_numbers(self, tmp_path):
        figures = [figure_of(name) for name in FIGURES]
        files = write_figures(tmp_path / "new" / "figures", figures)
        expected = [f"{name}.{suffix}" for name in FIGURES for suffix in ("svg", "csv")]
        assert [file.name for file in files] == expected
        assert sorted(files) == sorted((tmp_path / "new" / "figures").iterdir())
        with (tmp_path / "new" / "figures" / "gains.csv").open(encoding="utf-8") as file:
            assert list(csv.reader(file))[2] == [NASTY, "-0.1", "-0.3", "0.1"]

    def test_figure_files_replace_only_their_own_names(self, tmp_path):
        for name in ("curves.svg", "mine.svg"):
            (tmp_path / name).write_text("mine")
        write_figures(tmp_path, [figure_of("curves")])
        assert (tmp_path / "mine.svg").read_text() == "mine"
        assert "epoch" in (tmp_path / "curves.svg").read_text()

    def test_a_figure_that_cannot_be_written_leaves_the_old_file(self, tmp_path, monkeypatch):
        (tmp_path / "curves.svg").write_text("whole")

        def cut(self, text, **options):
            self.write_bytes(text[:100].encode())
            raise OSError("no space left")

        monkeypatch.setattr(Path, "write_text", cut)
        with pytest.raises(OSError, match="no space left"):
            write_figures(tmp_path, [figure_of("curves")])
        assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
            ("curves.svg", "whole")
        ]


@pytest.mark.parametrize("characters", [1, 2, 5, 12, 40])
def test_a_shortened_name_is_no_longer_than_asked_and_keeps_its_ends(characters):
    name = "per_class_vote_suppress_background"
    short = shorten_middle(name, characters)
    assert len(short) <= max(characters, 2)
    assert short[0] == "p"
    assert characters < 5 or short[-1] == "d"


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("unet", ["unet"]),
        ("specialists-background", ["specialists-", "background"]),
        ("abc.defghijklmnopqrstuvwxyz_0123456789", ["abc.", "defghijk…3456789"]),
        ("a" * 17 + "b" * 5, ["a" * 17, "b" * 5]),
    ],
)
def test_the_name_of_a_panel_is_broken_between_its_parts(name, lines):
    assert wrapped(name, 17) == lines
    drawn = training_curves({name: [Training(0, [1.0], [0.5], None)], "b": []}, "mIoU").svg
    texts = texts_of(ET.fromstring(drawn))
    assert texts[texts.index(lines[0]) :][: len(lines)] == lines
