"""The page in a real headless Chromium."""

import shutil

import pytest

from evaluation.report.page import (
    HtmlTable,
    Section,
    TableCell,
    TableRow,
)
from tests.evaluation.test_report import NASTY, page, some_gallery

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]
VALUES = {"b": 0.25, "a": 0.5, "c": "", "d": 0.125}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, tmp_path):
    """The page, open; it must not have complained by the end."""
    rows = [TableRow([TableCell(n, n), TableCell(str(v), v)]) for n, v in VALUES.items()]
    board = Section("board", "Board", [], HtmlTable(["name", "score"], rows))
    page(tmp_path, sections=[board], gallery=some_gallery(3, ids=[NASTY, "p1", "p2"]))
    complaints = []
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: complaints.append(dialog.message))
    tab.on("request", lambda r: complaints.append(r.url) if r.url.startswith("http") else None)
    tab.goto((tmp_path / "page.html").as_uri())
    yield tab
    tab.close()
    assert complaints == []


def names(tab):
    return tab.locator("tbody tr td:first-child").all_inner_texts()


def test_the_page_opens_and_shows_names_as_text(opened, tmp_path):
    assert NASTY in opened.title()
    shot = tmp_path / "shot.png"
    opened.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 10_000


def test_a_click_sorts_with_missing_values_last(opened):
    heading = opened.locator("th button", has_text="score")
    heading.click()
    assert names(opened) == ["a", "b", "d", "c"]
    heading.click()
    assert names(opened) == ["d", "b", "a", "c"]
    opened.locator("th button", has_text="name").click()
    assert names(opened) == ["d", "c", "b", "a"]


def test_keys_go_through_images_and_layers(opened):
    part = "#gallery [data-part={}]".format
    opened.focus("#gallery")
    assert opened.inner_text(part("stage")) == "last"
    assert NASTY in opened.inner_text(part("title"))
    before = opened.get_attribute(part("labels"), "src")
    opened.keyboard.press("ArrowUp")
    assert opened.inner_text(part("stage")) == "fused"
    assert opened.get_attribute(part("labels"), "src") != before
    opened.keyboard.press("ArrowUp")
    opened.keyboard.press("ArrowUp")
    assert opened.inner_text(part("stage")) == "one"
    assert opened.locator(part("changes")).is_hidden()
    opened.keyboard.press("ArrowLeft")
    assert "3 of 3: p2" in opened.inner_text(part("title"))


def test_a_review_item_opens_its_image(opened):
    opened.keyboard.press("End")
    opened.focus("#gallery")
    opened.keyboard.press("ArrowRight")
    opened.locator(".queue button").click()
    assert "1 of 3" in opened.inner_text("#gallery [data-part=title]")


def test_the_page_fits_a_phone(opened):
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_long_names_leave_space_for_scores_on_a_phone(opened):
    name = "per_class_vote_suppress_background.crf.remove_small"
    opened.evaluate(f"document.querySelector('tbody td').textContent = '{name}'")
    assert opened.locator("tbody td").first.bounding_box()["width"] <= 390 / 2
