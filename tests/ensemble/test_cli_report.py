"""`ens report` on a run: what the page tells is what the run holds."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from ensemble.cli import run
from ensemble.pipeline.report.candidate_trace import Walk
from ensemble.pipeline.report.gallery import (
    BROKEN,
    DISPUTED,
    LABEL,
    WORST,
    review,
)
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.core.run_folder import Run
from members.data.sample import draw_sample
from tests.evaluation.test_report import SVG, Reader

TINY = "unet(width=2, depth=1)"
CHAIN = "suppress_background|mode_filter(size=3)"
NAME = "greedy_suppress_background.mode_filter"


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
        assert run([*words, "--run", folder]) == 0
    return folder


def page_of(scored, *words):
    assert run(["report", "--run", scored, *words]) == 0
    return Path(scored, "report", "index.html").read_text(encoding="utf-8")


def labels_of(scored):
    return np.load(f"{scored}/labels/{NAME}/validation/labels.npy")


@pytest.fixture
def walk(scored):
    return Walk.of(RunMembers.of(Run(Path(scored))), NAME, "validation", "one")


@pytest.fixture
def found(scored, walk):
    return review(walk, labels_of(scored))


class TestThePage:
    def test_walks_from_members_over_the_fusion_through_each_step(self, scored):
        shown = json.loads(Reader(page_of(scored, "--candidate", NAME)).scripts[0])
        names = [layer["name"] for layer in shown[0]["layers"]]
        assert names == ["one", "two", "greedy", "suppress_background", "mode_filter"]

    def test_names_every_candidate_and_its_score(self, scored, capsys):
        text = page_of(scored)
        capsys.readouterr()
        assert run(["compare", "--run", scored, "--json"]) == 0
        for row in json.loads(capsys.readouterr().out)["candidates"]:
            assert row["name"] in text
            assert f"{row['examined']:.3f}" in text

    def test_tells_of_one_member_alone_too(self, scored):
        text = page_of(scored, "--candidate", "one_argmax")
        shown = json.loads(Reader(text).scripts[0])
        assert [layer["name"] for layer in shown[0]["layers"]] == ["one"]

    def test_of_images_without_a_pixel_to_score_has_no_members_figures(self, scored, tmp_path):
        images, masks = np.zeros((3, 16, 24), np.uint8), np.zeros((3, 16, 24), np.uint8)
        np.savez(tmp_path / "sky.npz", images=images, masks=masks)
        here = ["--run", scored, "--split", "sky"]
        assert run(["predict", "--data", str(tmp_path / "sky.npz"), *here]) == 0
        assert run(["score", *here]) == 0
        text = page_of(scored, "--split", "sky")
        assert "No pixel of sky can be scored" in text
        assert "correlation of errors" not in text

    def test_of_nobody_is_refused(self, scored, capsys):
        capsys.readouterr()
        assert run(["report", "--run", scored, "--candidate", "nobody"]) == 2
        assert "no candidate 'nobody' is scored" in capsys.readouterr().err


class TestItsFiguresAsFiles:
    def written(self, scored, folder, *words):
        page = page_of(scored, *words, "--figures", str(folder))
        return page, {file.name: file.read_bytes() for file in folder.iterdir()}

    def test_are_all_of_the_page_by_name(self, scored, tmp_path, capsys):
        page, files = self.written(scored, tmp_path, "--candidate", NAME, "--json")
        assert set(files) == {
            "story-masked.svg",
            "story-keras.svg",
            "classes.svg",
            "confusion-start.svg",
            "confusion-candidate.svg",
            "reliability.svg",
            "member-worth.svg",
            "error-correlation.svg",
            "cost.svg",
            "training.svg",
        }
        assert page.count("<svg") == len(files)
        document = json.loads(capsys.readouterr().out)
        assert sorted(document["figures"]) == sorted(str(tmp_path / name) for name in files)

    def test_are_drawings_without_a_page(self, scored, tmp_path):
        for file in self.written(scored, tmp_path)[1].values():
            assert ET.fromstring(file).tag == f"{SVG}svg"
            assert b"var(" not in file

    def test_are_the_same_a_second_time(self, scored, tmp_path):
        first, second = (self.written(scored, tmp_path / part)[1] for part in "ab")
        assert first == second

    def test_of_the_best_member_alone_have_no_confusion_to_start_from(self, scored, tmp_path):
        alone = [
            "confusion-start.svg"
            not in self.written(scored, tmp_path / name, "--candidate", name)[1]
            for name in ("one_argmax", "two_argmax")
        ]
        assert sorted(alone) == [False, True]

    def test_are_refused_where_a_file_lies_before_anything_is_written(
        self, scored, tmp_path, capsys
    ):
        taken, page = tmp_path / "taken", tmp_path / "page.html"
        taken.write_text("mine")
        capsys.readouterr()
        words = ["report", "--run", scored, "--out", str(page), "--figures", str(taken)]
        assert run(words) == 2
        told = f"ens: --figures {taken} is a file; expected a folder\n"
        assert capsys.readouterr() == ("", told)
        assert taken.read_text() == "mine"
        assert not page.exists()


class TestTheWay:
    def test_ends_at_the_labels_of_the_run(self, scored, walk):
        places = [3, 39, 0]
        labels = labels_of(scored)[places]
        np.testing.assert_array_equal(walk.layers(places)[-1].labels, labels)

    def test_compares_the_fusion_with_the_reference_and_each_step_with_the_one_before(self, walk):
        assert [layer.before for layer in walk.layers([0])] == [None, None, 0, 2, 3]


class TestReview:
    def test_measures_what_it_says(self, scored, walk, found):
        shares, labels = found.shares, labels_of(scored)
        target = np.asarray(walk.data.target())
        one, two, fused = np.concatenate([preds for _, preds in walk.preds()], axis=1)
        counts = (target != 0) & (target != 255)

        def share(pixels):
            return (pixels & counts).mean(axis=(1, 2))

        against = (one == two) & (one != target) & (one != 0)
        np.testing.assert_allclose(shares[WORST], share(labels != target))
        np.testing.assert_allclose(shares[LABEL], share(against))
        np.testing.assert_allclose(shares[DISPUTED], share(one != two) / 2)
        np.testing.assert_allclose(shares[BROKEN], share((one == target) & (fused != target)))

    def test_of_the_worst_is_what_the_scores_count(self, scored, walk, found):
        with np.load(f"{scored}/scores/{NAME}/validation.npz") as kept:
            counts = kept["counts"][:, 1:]
        pixels = walk.data.target()[0].size
        right, total = np.trace(counts, offset=1, axis1=1, axis2=2), counts.sum(axis=(1, 2))
        np.testing.assert_allclose(found.shares[WORST] * pixels, total - right)

    def test_of_one_member_alone_has_the_worst_only(self, scored):
        walk = Walk.of(RunMembers.of(Run(Path(scored))), "one_argmax", "validation", "one")
        assert list(review(walk, labels_of(scored)).shares) == [WORST]

    def test_lists_the_worst_first_and_nothing_that_is_fine(self, walk, found):
        for queue in found.queues(walk.data.ids):
            shares = [int(item.note.rstrip("%")) for item in queue.items]
            assert shares == sorted(shares, reverse=True)
            assert len(shares) <= 12
