"""`ens report` on a run: what the page shows is what the run holds."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from ensemble.cli import run_command
from ensemble.pipeline.report.candidate_trace import CandidateTrace
from ensemble.pipeline.report.gallery import BROKEN, DISPUTED, LABEL, WORST, review_images
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.core.run_folder import Run
from members.data.sample import draw_sample
from tests.evaluation.test_report import SVG, Reader

TINY = "unet(width=2, depth=1)"
CHAIN = "suppress_background|mode_filter(size=3)"
NAME = "greedy_suppress_background.mode_filter"
FIGURES = (
    *("story-masked", "story-keras", "classes", "confusion-start", "confusion-candidate"),
    *("reliability", "member-worth", "error-correlation", "cost", "training"),
)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    sample = draw_sample(images=80, test=9, validation=40, size=(16, 24))
    data, validation = sample.save(tmp_path_factory.mktemp("sample"))
    folder = str(tmp_path_factory.mktemp("runs") / "tiny")
    sets = ["--data", str(data), "--validation", str(validation), "--folds", "2"]
    training = ["--epochs", "1", "--workers", "1", "--member", f"one={TINY}"]
    training += ["--member", f"two={{architecture: '{TINY}', loss: dice}}"]
    for words in (
        ["train-members", *sets, *training],
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


def trace_of(scored, candidate):
    return CandidateTrace.open(RunMembers.of(Run(Path(scored))), candidate, "validation", "one")


@pytest.fixture
def trace(scored):
    return trace_of(scored, NAME)


@pytest.fixture
def review(scored, trace):
    return review_images(trace, labels_of(scored))


@pytest.mark.parametrize(
    ("candidate", "stages"),
    [
        (NAME, ["one", "two", "greedy", "suppress_background", "mode_filter"]),
        ("one_argmax", ["one"]),
    ],
)
def test_the_page_shows_members_fusion_and_each_step(pages, candidate, stages):
    gallery = json.loads(Reader(pages("--candidate", candidate)[0]).scripts[0])
    assert [layer["name"] for layer in gallery[0]["layers"]] == stages


def test_the_page_says_how_labels_are_made_without_a_chain(pages):
    assert "one_argmax: one, then argmax." in pages("--candidate", "one_argmax")[0]
    assert f"then {CHAIN}." in pages("--candidate", NAME)[0]


def test_the_page_names_every_candidate_with_its_score(scored, pages, capsys):
    text, _ = pages("--candidate", NAME)
    capsys.readouterr()
    assert run_command(["compare", "--run", scored, "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["candidates"]:
        assert row["name"] in text
        assert f"{row['examined']:.3f}" in text


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
    assert set(files) == {f"{name}.svg" for name in FIGURES}
    assert page.count("<svg") == len(files)
    document = json.loads(capsys.readouterr().out)
    assert sorted(document["figures"]) == sorted(str(tmp_path / name) for name in files)


def test_figure_files_work_without_the_page_and_are_reproducible(pages, scored, tmp_path):
    candidate = ("--candidate", NAME)
    first, second = pages(*candidate)[1], figures_of(scored, tmp_path, *candidate)[1]
    assert first == second
    for file in first.values():
        assert ET.fromstring(file).tag == f"{SVG}svg"
        assert b"var(" not in file


def test_only_the_best_member_alone_has_no_confusion_matrix_to_start_from(pages):
    alone = [
        "confusion-start.svg" not in pages("--candidate", name)[1]
        for name in ("one_argmax", "two_argmax")
    ]
    assert sorted(alone) == [False, True]


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


def test_review_shares_are_those_of_their_definition(scored, trace, review):
    shares, labels = review.shares, labels_of(scored)
    target = np.asarray(trace.data.target())
    one, two, fused = np.concatenate([preds for _, preds in trace.predictions()], axis=1)
    counts = (target != 0) & (target != 255)

    def share(pixels):
        return (pixels & counts).mean(axis=(1, 2))

    contradicted = (one == two) & (one != target) & (one != 0)
    np.testing.assert_allclose(shares[WORST], share(labels != target))
    np.testing.assert_allclose(shares[LABEL], share(contradicted))
    np.testing.assert_allclose(shares[DISPUTED], share(one != two) / 2)
    np.testing.assert_allclose(shares[BROKEN], share((one == target) & (fused != target)))


def test_wrong_pixels_of_the_review_are_those_of_the_scores(scored, trace, review):
    with np.load(f"{scored}/scores/{NAME}/validation.npz") as archive:
        counts = archive["counts"][:, 1:]
    pixels = trace.data.target()[0].size
    right, total = np.trace(counts, offset=1, axis1=1, axis2=2), counts.sum(axis=(1, 2))
    np.testing.assert_allclose(review.shares[WORST] * pixels, total - right)


def test_a_single_member_is_reviewed_by_wrong_pixels_only(scored):
    review = review_images(trace_of(scored, "one_argmax"), labels_of(scored))
    assert list(review.shares) == [WORST]


def test_queues_list_the_worst_first_and_nothing_without_errors(trace, review):
    for queue in review.queues(trace.data.ids):
        shares = [int(item.note.rstrip("%")) for item in queue.items]
        assert shares == sorted(shares, reverse=True)
        assert len(shares) <= 12
