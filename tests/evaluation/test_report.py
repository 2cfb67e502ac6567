"""The page as a file: what it holds, and what it never lets through."""

import base64
import io
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.core.classes import MARS
from evaluation.report import gallery as gallery_module
from evaluation.report.figure_base import PAPER, standalone, wrap
from evaluation.report.figures import (
    CostPoint,
    GrowthPoint,
    MemberWorth,
    ScoreStage,
    class_bars,
    confusion_matrix,
    error_correlation,
    member_growth,
    member_worth,
    reliability_diagram,
    score_against_cost,
    training_curves,
    waterfall,
)
from evaluation.report.gallery import (
    BROKEN,
    FIXED,
    SAME,
    Gallery,
    Layer,
    changes,
    labels_uri,
)
from evaluation.report.page import (
    Figure,
    HtmlTable,
    Page,
    ReviewItem,
    ReviewQueue,
    Section,
    TableCell,
    TableRow,
    write_figures,
    write_page,
)

NASTY = '</script><script>alert("x")</script>'
SVG = "{http://www.w3.org/2000/svg}"
RNG = np.random.default_rng(0)
NAN = float("nan")

FIGURES = {
    "classes": lambda: class_bars(
        ["a", NASTY],
        MARS.names[1:],
        np.array([[0.5, 0.6, NAN, 0.1]] * 2),
        np.array([[0.4, 0.5, NAN, 0.0]] * 2),
        np.array([[0.6, 0.7, NAN, 0.3]] * 2),
    ),
    "confusion": lambda: confusion_matrix(
        NASTY, MARS.names, np.array([[0] * 5, *np.arange(20).reshape(4, 5)])
    ),
    "costs": lambda: score_against_cost(
        [
            CostPoint("$a_1$", 3.0, 0.4, True),
            CostPoint(NASTY, 9.0, 0.5, True),
            CostPoint("c", 9.5, 0.4, False),
        ]
    ),
    "curves": lambda: training_curves({NASTY: [[(1.0, 0.2), (2.0, 0.3)], [(1.0, 0.1)]]}),
    "growth": lambda: member_growth(
        [GrowthPoint(1, 0.4, 0.4, 0.4), GrowthPoint(2, 0.5, 0.45, 0.53)]
    ),
    "worth": lambda: member_worth(
        [MemberWorth(NASTY, 0.01, -0.02, 0.03), MemberWorth("b", 0.0, 0.0, 0.0)]
    ),
    "correlation": lambda: error_correlation([NASTY, "b", "c"], np.array([[NAN] * 3] * 3)),
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


def some_gallery(count=3, *, ids=None):
    labels = RNG.integers(0, 5, (3, count, 6, 8), dtype=np.uint8)
    layers = [
        Layer("one", labels[0], None),
        Layer("fused", labels[1], 0),
        Layer("last", labels[2], 1),
    ]
    target = RNG.integers(0, 5, (count, 6, 8), dtype=np.uint8)
    images = RNG.integers(0, 255, (count, 1, 6, 8), dtype=np.uint8)
    names = ids or [f"p{k}" for k in range(count)]
    return Gallery(names, ["note"] * count, images, target, layers)


def page(tmp_path, **changed):
    board = HtmlTable(
        ["candidate", "mIoU"], [TableRow([TableCell(NASTY, NASTY), TableCell(".500", 0.5)], True)]
    )
    parts = {
        "title": NASTY,
        "subtitle": NASTY,
        "sections": [
            Section("board", NASTY, [NASTY], board, [Figure("curves", FIGURES["curves"](), NASTY)])
        ],
        "gallery": some_gallery(ids=[NASTY, "b", "c"]),
        "queues": [ReviewQueue(NASTY, NASTY, [ReviewItem(NASTY, NASTY)])],
        "classes": MARS,
        "footer": NASTY,
    }
    write_page(tmp_path / "page.html", Page(**{**parts, **changed}))
    return (tmp_path / "page.html").read_text()


def pixels(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.scripts, self.addresses, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")
        self.addresses += [v for k, v in attributes if k in ("src", "href", "xlink:href") and v]

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data


class TestThePage:
    def test_names_are_never_markup(self, tmp_path):
        scripts = Reader(page(tmp_path)).scripts
        assert len(scripts) == 2
        assert not any("alert" in script and "<" in script for script in scripts)

    def test_names_that_look_like_markup_are_kept_as_text(self, tmp_path):
        shown = json.loads(Reader(page(tmp_path)).scripts[0])
        assert shown[0]["id"] == NASTY

    def test_the_page_needs_no_network(self, tmp_path):
        text = page(tmp_path)
        assert "default-src 'none'" in text
        addresses = Reader(text).addresses
        assert addresses
        assert all(a.startswith(("#", "data:")) for a in addresses)

    def test_the_page_needs_neither_gallery_nor_queues(self, tmp_path):
        text = page(tmp_path, gallery=None, queues=[])
        assert "Review queue" not in text
        assert "slider" not in text.split("<script")[0]


class TestTheGallery:
    def test_labels_have_the_colours_of_the_classes(self):
        labels = np.array([[0, 1, 4], [2, 3, 255]], np.uint8)
        image = pixels(labels_uri(labels, MARS))
        np.testing.assert_array_equal(np.asarray(image), labels)
        assert image.convert("RGBA").getpixel((1, 0)) == (0xE6, 0x9F, 0x00, 255)
        assert image.convert("RGBA").getpixel((2, 1))[3] == 0

    def test_fixed_and_broken_are_marked_among_scored_pixels(self):
        target = np.array([1, 1, 1, 1, 0, 255])
        before = np.array([1, 2, 1, 2, 1, 1])
        after = np.array([2, 1, 1, 3, 0, 255])
        expected = [BROKEN, FIXED, SAME, SAME, SAME, SAME]
        assert changes(target, before, after, ignore=0).tolist() == expected

    def test_each_layer_is_compared_with_its_before(self):
        result = some_gallery()
        entry = result.to_dict(MARS)[1]
        assert entry["layers"][0]["changes"] == ""
        marked = changes(
            result.target[1], result.layers[1].labels[1], result.layers[2].labels[1], ignore=0
        )
        np.testing.assert_array_equal(np.asarray(pixels(entry["layers"][2]["changes"])), marked)

    def test_images_beyond_the_byte_budget_are_left_out(self, monkeypatch):
        whole = some_gallery(9).to_dict(MARS)
        size = sum(len(json.dumps(entry)) for entry in whole)
        monkeypatch.setattr(gallery_module, "MAX_BYTES", size // 2)
        fewer = some_gallery(9).to_dict(MARS)
        assert 2 <= len(fewer) <= 6

    def test_large_images_are_reduced(self):
        assert pixels(labels_uri(np.zeros((1500, 700), np.uint8), MARS)).size == (234, 500)


@pytest.mark.parametrize("name", FIGURES)
class TestFigures:
    def test_figures_take_their_colours_from_the_page(self, name):
        svg = FIGURES[name]()
        assert "var(--ink)" in svg
        assert "#010203" not in svg

    def test_figures_are_one_svg_element_without_scripts(self, name):
        svg = FIGURES[name]()
        assert svg.startswith("<svg")
        assert svg.rstrip().endswith("</svg>")
        assert "<script" not in svg

    def test_figures_are_deterministic(self, name):
        assert FIGURES[name]() == FIGURES[name]()

    def test_standalone_figures_have_fixed_colours_on_white(self, name):
        text = standalone(FIGURES[name]())
        assert "var(" not in text
        sheet, *above = ET.fromstring(text.encode())
        assert sheet.tag == f"{SVG}rect"
        assert sheet.attrib == {"width": "100%", "height": "100%", "fill": PAPER}
        assert f"{SVG}g" in {part.tag for part in above}

    def test_standalone_figures_have_the_same_text(self, name):
        shown, alone = (
            ET.fromstring(text.encode()) for text in (FIGURES[name](), standalone(FIGURES[name]()))
        )
        texts = [[part.text for part in root.iter(f"{SVG}text")] for root in (shown, alone)]
        assert texts[0]
        assert texts[0] == texts[1]


class TestFiguresAsFiles:
    def test_figure_files_are_named_after_the_figures(self, tmp_path):
        figures = [Figure(name, draw(), "") for name, draw in FIGURES.items()]
        files = write_figures(tmp_path / "new" / "figures", figures)
        assert [file.name for file in files] == [f"{name}.svg" for name in FIGURES]
        assert sorted(files) == sorted((tmp_path / "new" / "figures").iterdir())

    def test_figure_files_replace_only_their_own_names(self, tmp_path):
        for name in ("curves.svg", "mine.svg"):
            (tmp_path / name).write_text("mine")
        write_figures(tmp_path, [Figure("curves", FIGURES["curves"](), "")])
        assert (tmp_path / "mine.svg").read_text() == "mine"
        assert "epoch" in (tmp_path / "curves.svg").read_text()

    def test_a_figure_that_cannot_be_written_leaves_the_old_file(self, tmp_path, monkeypatch):
        (tmp_path / "curves.svg").write_text("whole")

        def cut(self, text, **options):
            self.write_bytes(text[:100].encode())
            raise OSError("no space left")

        monkeypatch.setattr(Path, "write_text", cut)
        with pytest.raises(OSError, match="no space left"):
            write_figures(tmp_path, [Figure("curves", FIGURES["curves"](), "")])
        assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
            ("curves.svg", "whole")
        ]


def test_ids_of_different_figures_differ():
    result = [
        set(re.findall(r'id="(m?[0-9a-f]{10,}|p[0-9a-f]{10})"', FIGURES[n]())) for n in FIGURES
    ]
    clips = [set(re.findall(r'<clipPath id="([^"]+)"', FIGURES[n]())) for n in FIGURES]
    for kind in (result, clips):
        everything = [one for group in kind for one in group]
        assert len(everything) == len(set(everything))


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("unet_argmax", ["unet_argmax"]),
        ("per_class_vote_argmax", ["per_class_", "vote_argmax"]),
        ("blur|remove_small.crf", ["blur|", "remove_", "small.crf"]),
        ("x" * 14, ["x" * 12, "xx"]),
        ("", [""]),
    ],
)
def test_a_long_name_is_wrapped_after_its_parts(name, lines):
    assert wrap(name, 12).split("\n") == lines


def test_stage_names_do_not_overlap():
    long = "per_class_vote_suppress_background.crf"
    svg = waterfall(
        "masked", [ScoreStage("best", 0.4), ScoreStage(long, 0.5, 0.1), ScoreStage(long, 0.6, 0.1)]
    )
    texts = [text.strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]
    assert texts.count("suppress_background.") == 2
    assert max(map(len, texts)) <= 22


@pytest.mark.parametrize(("epochs", "dots"), [(1, True), (2, False)])
def test_a_training_of_one_epoch_is_drawn_as_a_dot(epochs, dots):
    svg = training_curves({"a": [[(float(k), 0.5) for k in range(epochs)]]})
    assert bool(re.search(r"<use [^>]*#0072b2", svg)) == dots
