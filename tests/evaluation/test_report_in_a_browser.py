"""The page in a real headless Chromium: phone, laptop and wide screen, light and dark."""

import csv
import re
import shutil
from pathlib import Path

import pytest

from evaluation.core.classes import Classes
from evaluation.report.page import write_page
from tests.evaluation.report_pages import page_of

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]
NASTY = '<img src=x onerror=alert("x")>'
FEW = Classes(("sky", "sand", "rock", NASTY), ignore=0)
MANY = Classes(tuple(f"class {index:03}" for index in range(150)))
PART = "#viewer [data-part={}]".format

WIDTHS, SCHEMES = (390, 1300, 2200), ("light", "dark")
CONTRAST = 4.5

# Texts whose contrast with the nearest painted background is too low; figures lie on the page.
LOW_CONTRAST = """(least) => {
  const rgb = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !e.getClientRects().length || e.matches("script, style, option")) continue;
    const style = getComputedStyle(e);
    const a = light(rgb(e instanceof SVGElement ? style.fill : style.color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < least) bad.push(`${e.tagName} ${e.className.baseVal ?? e.className}: ${ratio}`);
  }
  return bad;
}"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Files of pages by name: of few classes, of which one is no markup, and of 150."""
    folder = tmp_path_factory.mktemp("pages")
    for name, classes, count in (("few", FEW, 6), ("many", MANY, 4)):
        write_page(folder / f"{name}.html", page_of(classes, count=count, title=NASTY))
    return folder


@pytest.fixture
def open_page(browser, pages):
    """What opens a page; none of those opened may have complained by the end."""
    complaints, tabs = [], []

    def opened(name="few", *, width=1300, scheme="light"):
        viewport = {"width": width, "height": 900}
        tab = browser.new_page(viewport=viewport, color_scheme=scheme, accept_downloads=True)
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: complaints.append(dialog.message))
        tab.on("request", lambda r: complaints.append(r.url) if r.url.startswith("http") else None)
        tab.goto((pages / f"{name}.html").as_uri())
        tabs.append(tab)
        return tab

    yield opened
    for tab in tabs:
        tab.close()
    assert complaints == []


@pytest.fixture
def tab(open_page):
    return open_page()


def names(tab):
    rows = tab.locator("[data-table=leaderboard] tbody tr:visible")
    return rows.locator("th").evaluate_all("cells => cells.map((cell) => cell.dataset.value)")


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [
        *(("few", width, scheme) for width in WIDTHS for scheme in SCHEMES),
        ("many", 390, "light"),
        ("many", 2200, "dark"),
    ],
)
def test_the_page_fits_its_window_and_can_be_read(open_page, name, width, scheme):
    tab = open_page(name, width=width, scheme=scheme)
    for details in tab.locator("details:not(.menu)").all():
        details.evaluate("element => { element.open = true; }")
    assert NASTY in tab.title()
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(LOW_CONTRAST, CONTRAST) == []


@pytest.mark.parametrize(("name", "scheme"), [("few", "light"), ("few", "dark"), ("many", "light")])
def test_axe_finds_no_serious_fault(open_page, name, scheme):
    package = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    tab = open_page(name, scheme=scheme)
    tab.locator("details.menu summary").first.click()
    faults = package.Axe().run(tab).response["violations"]
    assert [
        (fault["id"], fault["impact"], fault["nodes"][0]["html"][:200])
        for fault in faults
        if fault["impact"] in ("serious", "critical")
    ] == []


def test_without_scripts_the_statements_tables_and_figures_are_there(browser, pages):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((pages / "few.html").as_uri())
    assert tab.locator(".fact").count() == 6
    assert tab.locator("figure svg").first.is_visible()
    assert tab.locator("[data-table=leaderboard] tbody tr").count() == 6
    context.close()


class TestTables:
    def test_a_click_sorts_by_values_and_another_the_other_way(self, tab):
        heading = tab.locator("[data-table=leaderboard] th button", has_text="ms/image")
        heading.click()
        rising = names(tab)
        heading.click()
        assert names(tab) == rising[::-1]
        assert rising[-1].startswith("a_long_fusion_name_5")

    def test_the_first_click_on_a_score_shows_the_highest(self, tab):
        tab.locator("[data-table=leaderboard] th button", has_text="mIoU").first.click()
        values = tab.locator("[data-table=leaderboard] tbody td:nth-child(2)").evaluate_all(
            "cells => cells.map((cell) => Number(cell.dataset.value))"
        )
        assert values == sorted(values, reverse=True)

    def test_the_csv_of_a_filtered_table_holds_all_rows_and_says_so(self, tab, tmp_path):
        board = tab.locator("[data-table=leaderboard]")
        board.locator("[data-tag=member]").check()
        with tab.expect_download() as download:
            board.get_by_text("CSV, all rows").click()
        download.value.save_as(tmp_path / "csv")
        assert len((tmp_path / "csv").read_text().splitlines()) == 1 + 6

    def test_a_table_wider_than_its_window_says_that_it_scrolls(self, open_page):
        for width, wider in ((390, True), (1300, False)):
            tab = open_page(width=width)
            board = tab.locator("[data-table=leaderboard]")
            wide = board.locator(".wide")
            assert board.locator("[data-part=more]").is_visible() == wider
            assert ("more" in wide.get_attribute("class").split()) == wider
            wide.evaluate("element => { element.scrollLeft = element.scrollWidth; }")
            tab.wait_for_function("!document.querySelector('[data-table=leaderboard] .wide.more')")
            assert board.locator("[data-part=more]").is_visible() == wider

    def test_missing_values_stay_last(self, tab):
        heading = tab.locator("[data-table=leaderboard] th button", has_text="gap to the chosen")
        heading.click()
        chosen = names(tab)[-1]
        heading.click()
        assert names(tab)[-1] == chosen

    def test_rows_are_filtered_by_words_and_by_tags(self, tab):
        board = tab.locator("[data-table=leaderboard]")
        board.locator("[data-part=find]").fill("FUSION")
        assert len(names(tab)) == 4
        assert "4 of 6" in board.locator("[data-part=count]").inner_text()
        board.locator("[data-tag=member]").check()
        assert names(tab) == []
        board.locator("[data-part=find]").fill("")
        assert len(names(tab)) == 2

    def test_150_classes_are_columns_that_are_found_and_shown(self, open_page):
        tab = open_page("many")
        board = tab.locator("[data-table=leaderboard]")
        shown = board.locator("thead th:visible")
        before = shown.count()
        menu = board.locator("details.menu", has_text="classes (150)")
        menu.locator("summary").click()
        menu.locator("[data-part=find-column]").fill("class 077")
        assert menu.locator("label:visible", has=tab.locator("input[type=checkbox]")).count() == 1
        menu.get_by_label("class 077").check()
        assert shown.count() == before + 1
        assert shown.last.inner_text() == "class 077"
        assert re.fullmatch(
            r"\.\d{3}", board.locator("tbody tr").first.locator("td:visible").last.inner_text()
        )
        menu.locator("[data-all]").click()
        assert shown.count() == before

    def test_long_names_leave_space_for_scores_on_a_phone(self, open_page):
        tab = open_page(width=390)
        cell = tab.locator("[data-table=leaderboard] tbody th").first
        assert cell.bounding_box()["width"] <= 390 / 2


class TestFigures:
    def test_the_pointer_shows_numbers(self, tab):
        dot = tab.locator("[data-figure=class-gains] g[data-tip]").first
        dot.scroll_into_view_if_needed()
        dot.locator("circle").hover()
        assert tab.inner_text("#tip") == dot.get_attribute("data-tip")
        assert re.search(r"[+-]\.\d{3} \([+-]\.\d{3} to [+-]\.\d{3}\)", tab.inner_text("#tip"))

    def test_a_figure_is_saved_as_svg_and_its_numbers_as_csv(self, tab, tmp_path):
        figure = tab.locator("[data-figure=class-gains]")
        saved = {}
        for kind in ("svg", "csv"):
            with tab.expect_download() as download:
                figure.locator(f"[data-save={kind}]").click()
            assert download.value.suggested_filename == f"class-gains.{kind}"
            download.value.save_as(tmp_path / kind)
            saved[kind] = Path(tmp_path, kind).read_text(encoding="utf-8")
        assert saved["svg"].startswith("<svg")
        assert "--paper: #ffffff" in saved["svg"]
        rows = list(csv.reader(saved["csv"].splitlines()))
        assert rows[0] == ["class", "gain", "low", "high"]
        assert {row[0] for row in rows[1:]} == {"sand", "rock", NASTY}

    def test_numbers_are_shown_as_a_table(self, tab):
        figure = tab.locator("[data-figure=confusion]")
        figure.locator("summary").click()
        table = figure.locator("table")
        assert table.locator("th").all_inner_texts()[1:] == list(FEW.names)


class TestTheGallery:
    def test_filters_that_are_absent_are_named(self, tab):
        assert tab.locator("#viewer").get_by_text("Not offered: broken by the fusion.").is_visible()

    def test_keys_go_through_images_and_stages(self, tab):
        tab.focus("#viewer")
        assert tab.locator(PART("stage")).input_value() == "2"
        assert tab.inner_text(PART("title")) == "1 of 3: image 2"
        before = tab.get_attribute("#viewer img.labels", "src")
        tab.keyboard.press("ArrowUp")
        assert tab.locator(PART("stage")).input_value() == "1"
        assert tab.get_attribute("#viewer img.labels", "src") != before
        tab.keyboard.press("ArrowLeft")
        assert tab.inner_text(PART("title")) == "3 of 3: image 1"
        tab.keyboard.press("ArrowRight")
        assert tab.inner_text(PART("title")) == "1 of 3: image 2"

    def test_a_filter_shows_its_images_in_its_order(self, tab):
        tab.select_option(PART("filter"), label=f"Class {FEW.names[1]} (2)")
        assert tab.inner_text(PART("title")) == "1 of 2: image 4"
        assert tab.locator(f"{PART('strip')} button").count() == 2
        tab.locator(f"{PART('strip')} button").nth(1).click()
        assert tab.inner_text(PART("title")) == "2 of 2: image 3"

    def test_panels_have_the_shape_of_their_image(self, tab):
        for height, width in ((60, 20), (24, 40), (32, 32)):
            box = tab.locator("#viewer .frame").first.bounding_box()
            assert box["height"] / box["width"] == pytest.approx(height / width, rel=0.02)
            assert f"{height} x {width} px" in tab.inner_text(PART("note"))
            tab.locator(PART("next")).click()

    def test_zoom_and_pan_move_all_panels_together(self, tab):
        def places():
            boxes = [box.bounding_box() for box in tab.locator("#viewer .frame").all()]
            sheets = [box.bounding_box() for box in tab.locator("#viewer .sheet").all()]
            return [
                (
                    round((s["x"] - f["x"]) / f["width"], 2),
                    round((s["y"] - f["y"]) / f["width"], 2),
                    round(s["width"] / f["width"], 2),
                )
                for f, s in zip(boxes, sheets, strict=True)
            ]

        tab.focus("#viewer")
        tab.keyboard.press("+")
        assert len(set(places())) == 1
        assert places()[0] == (-0.5, -1.5, 2.0)
        frame = tab.locator("#viewer .frame").nth(1)
        frame.scroll_into_view_if_needed()
        box = frame.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        tab.mouse.move(x, y)
        tab.mouse.down()
        tab.mouse.move(x + box["width"] / 4, y, steps=3)
        tab.mouse.up()
        assert len(set(places())) == 1
        assert places()[0][0] == pytest.approx(-0.25, abs=0.02)
        tab.mouse.move(x + box["width"], y)
        tab.keyboard.press("0")
        assert places()[0] == (0, 0, 1)
        frame.dblclick()
        assert places()[0][2] == 2

    def test_the_slider_shows_two_layers_at_once(self, tab):
        tab.focus("#viewer")
        tab.keyboard.press("s")
        assert tab.locator("#viewer .frame").count() == 1
        assert "target | crf: labels" in tab.inner_text(PART("panels"))
        tab.locator(PART("cut")).fill("20")
        clip = tab.locator("#viewer .above").evaluate("e => getComputedStyle(e).clipPath")
        assert clip == "inset(0px 0px 0px 20%)"
        tab.select_option(PART("left"), label="one: errors")
        assert "one: errors | crf: labels" in tab.inner_text(PART("panels"))

    def test_the_pointer_names_the_classes_of_its_pixel(self, tab):
        frame = tab.locator("#viewer .frame").first
        frame.scroll_into_view_if_needed()
        frame.hover()
        tab.wait_for_timeout(100)
        frame.hover(position={"x": 5, "y": 5})
        words = tab.inner_text("#tip")
        first, second = re.fullmatch(r"target (.*), crf (.*)", words).groups()
        assert {first, second} <= set(FEW.names)
