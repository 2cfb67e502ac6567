"""`ens report` on a run: what the page shows is what the run holds."""

import base64
import html
import io
import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ensemble as ens
from ensemble.cli import run_command
from ensemble.pipeline.report.candidate_trace import CandidateTrace
from ensemble.pipeline.report.figures import (
    _curves_title,
    _diversity_figure,
    _worth_figure,
    curves_figure,
    member_figures,
    reliability_figure,
)
from ensemble.pipeline.report.gallery import (
    BROKEN,
    BROKEN_BY_CHAIN,
    DISPUTED,
    IMPROVED,
    LABEL,
    WORST,
    absent_filters,
    arrange,
    class_shares,
    member_shares,
    review_images,
    stage_shares,
    wrong_shares,
)
from ensemble.pipeline.report.report import gallery_page, same_labels
from ensemble.pipeline.run.experiment import read_experiment
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.core.errors import BadRun
from evaluation.core.run_folder import Run
from evaluation.formatting import format_decimal
from evaluation.report.figures import Estimate, Training
from evaluation.scores import read_scores
from tests.evaluation.test_report import SVG, Reader

IGNORED = shutil.ignore_patterns("specialists*", "fused", "labels", "scores", "costs.json")
CHAIN = "suppress_background|mode_filter(size=3)"
NAME = "greedy_suppress_background.mode_filter"
FIGURES = (
    *("class-gains", "confusion", "confusion-change", "classes", "cost", "story-masked"),
    *("story-keras", "reliability", "member-worth", "error-correlation", "training"),
)


@pytest.fixture(scope="module")
def scored(trained_run, tmp_path_factory):
    """A run of two networks, a fusion and a chain."""
    folder = str(tmp_path_factory.mktemp("runs") / "tiny")
    shutil.copytree(trained_run, folder, ignore=IGNORED)
    experiment = read_experiment(Run(Path(folder)).experiment)
    kept = {name: experiment.members[name] for name in ("one", "two")}
    changes = {"members": kept, "fusions": {}, "chains": {}}
    experiment.model_copy(update=changes).write(Run(Path(folder)).experiment)
    for words in (
        ["fuse", "--strategy", "greedy"],
        ["postprocess", "--fusion", "greedy", "--chain", CHAIN],
        ["score"],
    ):
        assert run_command([*words, "--run", folder]) == 0
    return folder


def page_of(scored, *words):
    assert run_command(["report", "--run", scored, *words]) == 0
    return Path(scored, "report", "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(scored, tmp_path_factory):
    """Return what gives the page of a candidate, and its figures by file name: each made once."""
    made = {}

    def page(*words):
        if words not in made:
            made[words] = figures_of(scored, tmp_path_factory.mktemp("figures"), *words)
        return made[words]

    return page


def labels_of(scored):
    return np.load(f"{scored}/labels/{NAME}/validation/labels.npy")


def counts_of(scored):
    return read_scores(Path(scored, "scores", NAME), "validation")[1].counts


def trace_of(scored, candidate):
    return CandidateTrace.open(RunMembers.of(Run(Path(scored))), candidate, "validation", "one")


@pytest.fixture
def trace(scored):
    return trace_of(scored, NAME)


@pytest.fixture
def review(scored, trace):
    return review_images(trace, labels_of(scored), counts_of(scored))


@pytest.mark.parametrize(
    ("candidate", "stages"),
    [
        (NAME, ["one", "two", "greedy", "suppress_background", "mode_filter"]),
        ("one_argmax", ["one"]),
    ],
)
def test_the_page_shows_members_fusion_and_each_step(pages, candidate, stages):
    gallery = json.loads(Reader(pages("--candidate", candidate)[0]).scripts[1])
    assert gallery["stages"] == stages
    assert all(len(image["stages"]) == len(stages) for image in gallery["images"])


def test_the_page_says_how_labels_are_made_without_a_chain(pages):
    assert "one_argmax: one, then argmax." in pages("--candidate", "one_argmax")[0]
    assert f"then {CHAIN}." in pages("--candidate", NAME)[0]


def test_the_page_names_every_candidate_with_its_score(scored, pages, capsys):
    text, _ = pages("--candidate", NAME)
    capsys.readouterr()
    assert run_command(["compare", "--run", scored, "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["candidates"]:
        assert row["name"] in text
        assert format_decimal(row["examined"]) in text


def test_images_without_a_scored_pixel_do_not_join_a_run(scored, tmp_path, capsys):
    images, masks = np.zeros((3, 16, 24), np.uint8), np.zeros((3, 16, 24), np.uint8)
    np.savez(tmp_path / "sky.npz", images=images, masks=masks)
    here = ["--run", scored, "--split", "sky"]
    assert run_command(["predict", "--data", str(tmp_path / "sky.npz"), *here]) == 2
    assert "scored" in capsys.readouterr().err


def test_a_candidate_that_is_not_scored_is_refused(scored, capsys):
    capsys.readouterr()
    assert run_command(["report", "--run", scored, "--candidate", "nobody"]) == 2
    assert "no candidate 'nobody' is scored" in capsys.readouterr().err


def figures_of(scored, folder, *words):
    page = page_of(scored, *words, "--figures", str(folder))
    return page, {file.name: file.read_bytes() for file in folder.iterdir()}


def test_every_figure_of_the_page_is_written_as_a_file(scored, tmp_path, capsys):
    page, files = figures_of(scored, tmp_path, "--candidate", NAME, "--json")
    assert set(files) == {f"{name}.{suffix}" for name in FIGURES for suffix in ("svg", "csv")}
    assert page.count("<figure data-figure") == len(FIGURES)
    document = json.loads(capsys.readouterr().out)
    assert sorted(document["figures"]) == sorted(str(tmp_path / name) for name in files)


def test_figure_files_work_without_the_page_and_are_reproducible(pages, scored, tmp_path):
    candidate = ("--candidate", NAME)
    first, second = pages(*candidate)[1], figures_of(scored, tmp_path, *candidate)[1]
    assert first == second
    for name, file in first.items():
        assert name.endswith(".csv") or ET.fromstring(file).tag == f"{SVG}svg"


def test_only_the_best_member_alone_has_nothing_to_be_compared_with(pages):
    alone = [
        "confusion-change.svg" not in pages("--candidate", name)[1]
        for name in ("one_argmax", "two_argmax")
    ]
    assert sorted(alone) == [False, True]
    gains = ["story-masked.svg" in pages("--candidate", n)[1] for n in ("one_argmax", "two_argmax")]
    assert gains == [not one for one in alone]


def test_a_file_in_place_of_the_figures_folder_is_refused_before_anything_is_written(
    scored, tmp_path, capsys
):
    taken, page = tmp_path / "taken", tmp_path / "page.html"
    taken.write_text("mine")
    capsys.readouterr()
    words = ["report", "--run", scored, "--out", str(page), "--figures", str(taken)]
    assert run_command(words) == 2
    assert capsys.readouterr() == ("", f"ens: --figures {taken} is a file; expected a folder\n")
    assert taken.read_text() == "mine"
    assert not page.exists()


def test_the_last_layer_of_a_trace_is_the_labels_of_the_run(scored, trace):
    indices = [3, 39, 0]
    np.testing.assert_array_equal(trace.layers(indices)[-1].labels, labels_of(scored)[indices])


def test_the_fusion_is_compared_with_the_reference_and_each_step_with_the_one_before(trace):
    assert [layer.before for layer in trace.layers([0])] == [None, None, 0, 2, 3]


def test_shares_of_images_are_those_of_their_definition(scored, trace):
    labels, target = labels_of(scored), np.asarray(trace.data.target())
    names = [IMPROVED, BROKEN_BY_CHAIN, DISPUTED, LABEL, BROKEN]
    shares = stage_shares(trace, names, labels)
    one, two, fused = np.concatenate([preds for _, preds in trace.predictions()], axis=1)
    counts = (target != 0) & (target != 255)

    def share(pixels):
        return (pixels & counts).mean(axis=(1, 2))

    contradicted = (one == two) & (one != target) & (one != 0)
    np.testing.assert_allclose(wrong_shares(labels, trace.data), share(labels != target))
    np.testing.assert_allclose(shares[LABEL], share(contradicted))
    np.testing.assert_allclose(shares[DISPUTED], share(one != two) / 2)
    np.testing.assert_allclose(shares[BROKEN], share((one == target) & (fused != target)))
    improved = share((one != target) & (labels == target))
    np.testing.assert_allclose(shares[IMPROVED], improved)
    broken = share((fused == target) & (labels != target))
    np.testing.assert_allclose(shares[BROKEN_BY_CHAIN], broken)


def test_wrong_pixels_of_images_and_classes_are_those_of_the_scores(scored, trace):
    counts, labels = counts_of(scored), labels_of(scored)
    target = np.asarray(trace.data.target())
    pixels, rows = target[0].size, counts[:, 1:]
    right, total = np.trace(rows, offset=1, axis1=1, axis2=2), rows.sum(axis=(1, 2))
    np.testing.assert_allclose(wrong_shares(labels, trace.data) * pixels, total - right)
    of_scored = (target != 0) & (target != 255)
    for label, name in enumerate(trace.data.classes.names[1:], start=1):
        wrong = ((target == label) != (labels == label)) & of_scored
        shares = class_shares(counts, trace.data)[name]
        np.testing.assert_allclose(shares, wrong.mean(axis=(1, 2)))


def test_a_single_member_has_no_filters_by_fusion_or_chain(scored, trace):
    alone, members = trace_of(scored, "one_argmax"), trace.readers[:2]
    labels, counts = labels_of(scored), counts_of(scored)
    for others in ((), members):
        review = review_images(alone, labels, counts, others)
        names = {one.name for one in review.filters}
        absent = {BROKEN, BROKEN_BY_CHAIN, IMPROVED, *(() if others else (DISPUTED, LABEL))}
        assert set(review.absent) == absent
        assert not absent & names
        assert "broken by the fusion" in absent_filters(review, "one_argmax")
    of_fusion = stage_shares(trace, [DISPUTED, LABEL], labels)
    of_members = member_shares(members, trace.data)
    for name in (DISPUTED, LABEL):
        np.testing.assert_array_equal(of_members[name], of_fusion[name])


def test_the_page_of_a_single_member_shows_where_the_members_of_the_run_disagree(pages):
    text = pages("--candidate", "one_argmax")[0]
    filters = {one["name"] for one in json.loads(Reader(text).scripts[1])["filters"]}
    assert DISPUTED in filters
    assert "Not offered for one_argmax: most improved, " in text
    assert "Not offered" not in pages("--candidate", NAME)[0]


def test_the_page_calls_differences_significant_and_counts_networks(pages):
    for name, networks in (("one_argmax", "1 member (2 fold networks)"), (NAME, "(4 fold netw")):
        page = html.unescape(re.sub(r"<[^>]+>", " ", pages("--candidate", name)[0]))
        assert networks in page
        assert "significant" in page
        assert not re.search(r"\bshown\b", page.split("Written by ens")[0])


def test_candidates_of_exactly_the_same_labels_are_known(scored):
    run = Run(Path(scored))
    rows = ens.open_run(scored).leaderboard().names
    same = same_labels(run, rows, "validation")
    for name in rows:
        one = np.load(run.labels(name, "validation") / "labels.npy")
        above = [n for n in rows[: rows.index(name)] if n not in same]
        equal = [
            n
            for n in above
            if np.array_equal(np.load(run.labels(n, "validation") / "labels.npy"), one)
        ]
        assert same.get(name) == (equal[0] if equal else None)


def test_filters_list_the_worst_first_and_only_images_of_the_page(review):
    for one in review.filters:
        assert all(0 <= index < len(review.indices) for index, _ in one.images)
        shares = [float(note.split("%")[0]) for _, note in one.images if note]
        assert shares == sorted(shares, reverse=True)
    assert len(set(review.indices)) == len(review.indices)


def test_the_first_image_of_each_filter_comes_before_the_second_of_any():
    first, second = np.array([0.0, 0.5, 0.2, 0.0]), np.array([0.1, 0.0, 0.0, 0.9])
    scored = np.array([1.0, 0.625, 1.0, 0.95])
    review = arrange({WORST: first, LABEL: second}, {"rock": np.zeros(4)}, scored)
    assert review.indices[:3] == (1, 3, 0)
    assert [one.name for one in review.filters] == [WORST, LABEL, "Evenly spaced"]
    assert [index for index, _ in review.filters[0].images] == [0, 3]
    notes = [note for _, note in review.filters[0].images]
    assert notes[0] == "50.0% of all its pixels wrong (80.0% of the scored ones)"
    assert notes[1] == "20.0% of all its pixels wrong"


class TestNotebook:
    def test_a_comparison_shows_a_row_per_candidate(self, scored):
        shown = ens.open_run(scored).leaderboard()._repr_html_()
        drawing = base64.b64decode(shown.split("base64,")[1].split('"')[0]).decode()
        ET.fromstring(drawing)
        for name in ens.open_run(scored).leaderboard().names:
            assert name in drawing
            assert name in shown

    def test_a_score_shows_its_confusion_matrix(self, scored):
        run = ens.open_run(scored)
        labels = run.labels(NAME, "validation")
        shown = ens.score(run.target("validation"), labels, classes=run.classes)._repr_html_()
        drawing = base64.b64decode(shown.split("base64,")[1].split('"')[0]).decode()
        for name in run.classes.names[1:]:
            assert f">{name}</text>" in drawing

    def test_an_overlay_is_a_png_of_the_images_that_are_asked_for(self, scored, tmp_path):
        run = ens.open_run(scored)
        whole, one = (run.overlay("one_argmax", count=count) for count in (3, 1))
        one.save(tmp_path / "one.png")
        assert one._repr_png_() == (tmp_path / "one.png").read_bytes()
        heights = [Image.open(io.BytesIO(picture.png)).height for picture in (one, whole)]
        assert heights[0] < heights[1]

    def test_a_gallery_is_a_page_of_images_alone_inside_a_frame(self, scored, tmp_path):
        gallery = ens.gallery(scored, NAME)
        gallery.save(tmp_path / "gallery.html")
        assert 'id="gallery"' in gallery.page
        assert 'id="board"' not in gallery.page
        inside = html.unescape(
            gallery._repr_html_().split('srcdoc="')[1].removesuffix('"></iframe>')
        )
        assert inside == gallery.page
        assert ens.gallery(ens.open_run(scored)).page
        with pytest.raises(BadRun, match="no candidate 'x' is scored on validation; known: greedy"):
            ens.gallery(scored, "x")


class TestFigures:
    """What a figure says where the run holds little."""

    @pytest.fixture
    def copy(self, scored, tmp_path):
        shutil.copytree(scored, tmp_path / "run")
        return Run(tmp_path / "run")

    def test_without_a_scored_pixel_there_is_no_confidence_and_no_worth(self, copy):
        target = copy.data("validation") / "target.npy"
        np.save(target, np.zeros_like(np.load(target)))
        run_members = RunMembers.of(copy)
        trace = CandidateTrace.open(run_members, NAME, "validation", "one")
        assert reliability_figure(run_members, trace, "validation").title == (
            "greedy has no scored pixel"
        )
        assert member_figures(run_members, "validation", lambda _: None) == []

    def test_curves_are_of_the_networks_that_have_them(self, copy):
        table = copy.model("one", 0) / "history.csv"
        rows = table.read_text().splitlines()
        fields = dict(zip(rows[0].split(","), rows[1].split(","), strict=True))
        second = {**fields, "epoch": "2", "holdout_miou": "nan", "holdout_loss": "nan"}
        table.write_text("\n".join([*rows, ",".join(second.values())]))
        for fold in (0, 1):
            (copy.model("two", fold) / "history.csv").unlink()
        title = curves_figure(RunMembers.of(copy)).title
        assert title == "Kept epochs are 1 to 1; 1 of 2 trainings were best in their last epoch"
        for fold in (0, 1):
            (copy.model("one", fold) / "history.csv").unlink()
        assert curves_figure(RunMembers.of(copy)) is None

    def test_curves_of_trainings_that_keep_no_epoch_have_no_best(self):
        training = Training(0, [1.0, 2.0], [0.1, 0.2], None)
        assert _curves_title({"one": [training]}) == "Training curves of all members"

    def test_members_of_equal_errors_or_of_one_group_have_no_number(self):
        names = ("a", "b", "c")
        unknown = np.full((3, 3), np.nan)
        assert _diversity_figure(names, unknown).title == "Members make the same errors or none"
        known = np.array([[1, 0.2, 0.9], [0.2, 1, 0.5], [0.9, 0.5, 1]])
        title = _diversity_figure(names, known).title
        assert title == "a and c err most alike (0.90), a and b least (0.20)"
        worth = {"a": Estimate(0.1), "b": Estimate(-0.1)}
        assert _worth_figure(worth, "mIoU").title == "a adds most, +.100"

    def test_a_gallery_of_a_candidate_that_is_not_scored_is_refused(self, copy):
        with pytest.raises(
            BadRun, match="no candidate 'nobody' is scored on validation; known: gr"
        ):
            gallery_page(copy, "validation", "nobody")
