"""Winners leave the house: submissions, packages, overlays."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble.cli import run
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.pipeline.submission import formats
from evaluation.core.classes import MARS
from evaluation.core.errors import BadData
from evaluation.core.run_folder import Run, submit
from members.data.sample import draw_sample

TINY = "unet(width=2, depth=1)"
MIXED, ALONE = "gate_class_bias.crf", "one_suppress_background"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a fusion of specialists that learns, behind a chain that learns and looks."""
    sample = draw_sample(images=80, test=70, validation=40, size=(16, 24))
    data, validation = sample.save(tmp_path_factory.mktemp("sample"))
    folder = str(tmp_path_factory.mktemp("runs") / "tiny")
    here = ["--run", folder]
    sets = ["--data", str(data), "--validation", str(validation), "--folds", "2"]
    training = ["--epochs", "1", "--workers", "1", "--member", f"one={TINY}", "--specialists", TINY]
    for words in (
        ["train-members", *sets, *training],
        ["fuse", "--strategy", "gate"],
        ["postprocess", "--fusion", "gate", "--chain", "class_bias|crf(iterations=2)"],
        ["postprocess", "--fusion", "one", "--chain", "suppress_background"],
    ):
        assert run([*words, *here]) == 0
    return folder


@pytest.fixture(scope="module")
def package(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("packages") / "mixed"
    assert run(["freeze", "--run", trained, "--candidate", MIXED, "--out", str(out)]) == 0
    return out


def images_of(trained, split="test"):
    return np.load(f"{trained}/data/{split}/images.npy")


def labels_of(trained, candidate, split="test"):
    return np.load(f"{trained}/labels/{candidate}/{split}/labels.npy")


def ids_of(trained, split="test"):
    with Path(trained, "data", split, "index.csv").open(newline="") as file:
        return [row["id"] for row in csv.DictReader(file)]


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert run([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1, said.err
    return said.err


class TestPackages:
    def test_label_as_the_run_does_bit_for_bit(self, trained, package, tmp_path):
        np.save(tmp_path / "new.npy", images_of(trained))
        out = tmp_path / "labels.npy"
        assert run(["apply", str(package), str(tmp_path / "new.npy"), "--out", str(out)]) == 0
        np.testing.assert_array_equal(np.load(out), labels_of(trained, MIXED))

    def test_of_one_member_do_too(self, trained, tmp_path):
        assert (
            run(["freeze", "--run", trained, "--candidate", ALONE, "--out", str(tmp_path / "p")])
            == 0
        )
        np.save(tmp_path / "new.npy", images_of(trained))
        out = tmp_path / "labels.npy"
        assert (
            run(["apply", str(tmp_path / "p"), str(tmp_path / "new.npy"), "--out", str(out)]) == 0
        )
        np.testing.assert_array_equal(np.load(out), labels_of(trained, ALONE))

    def test_take_a_folder_of_images_and_give_one_of_labels(self, trained, package, tmp_path):
        seen, out = tmp_path / "seen", tmp_path / "labels"
        seen.mkdir()
        for name, image in zip(ids_of(trained), images_of(trained), strict=True):
            Image.fromarray(image[0]).save(seen / f"{name}.png")
        assert run(["apply", str(package), str(seen), "--out", str(out)]) == 0
        written = {file.stem: np.asarray(Image.open(file)) for file in out.iterdir()}
        for name, labels in zip(ids_of(trained), labels_of(trained, MIXED), strict=True):
            # Sorted by name, images come in other blocks; rounding may differ in a pixel or two.
            assert (written[name] != labels).mean() < 0.01
        assert len(written) == 70

    def test_label_images_whatever_their_masks_hold(self, trained, package, tmp_path):
        images = images_of(trained)[:3]
        np.save(tmp_path / "bare.npy", images)
        masks = np.full((3, 16, 24), 9, np.uint8)
        np.savez(tmp_path / "other.npz", images=images, masks=masks)
        for name in ("bare.npy", "other.npz"):
            out = tmp_path / f"labels of {name}.npy"
            assert run(["apply", str(package), str(tmp_path / name), "--out", str(out)]) == 0
        found, expected = (
            np.load(tmp_path / f"labels of {name}.npy") for name in ("other.npz", "bare.npy")
        )
        np.testing.assert_array_equal(found, expected)

    def test_are_tried_before_they_count_as_done(self, trained, tmp_path, capsys):
        capsys.readouterr()
        out = tmp_path / "p"
        assert run(["freeze", "--run", trained, "--candidate", MIXED, "--out", str(out)]) == 0
        said = capsys.readouterr()
        assert "tried on 40 images of validation: every pixel as in the run" in said.err
        assert "ens apply" in said.out

    def test_explain_themselves(self, package):
        page = (package / "README.md").read_text()
        for words in (MIXED, "ens apply", "| 4 | big rock |", "background (not scored)", "gate"):
            assert words in page

    def test_move_to_another_place(self, trained, package, tmp_path):
        shutil.copytree(package, tmp_path / "moved")
        np.save(tmp_path / "new.npy", images_of(trained)[:3])
        out = tmp_path / "labels.npy"
        words = ["apply", str(tmp_path / "moved"), str(tmp_path / "new.npy"), "--out", str(out)]
        assert run(words) == 0
        assert np.load(out).shape == (3, 16, 24)

    @pytest.mark.parametrize("what", ["weights", "fusion/fitted.npz", "README.md"])
    def test_with_a_flipped_bit_are_refused(self, package, tmp_path, capsys, what):
        copy = tmp_path / "copy"
        shutil.copytree(package, copy)
        file = next(f for f in [copy / what, *sorted((copy / what).rglob("*"))] if f.is_file())
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        line = refusal(capsys, "apply", copy, copy, "--out", tmp_path / "x.npy")
        assert "is not what was frozen" in line
        assert file.name in line

    def test_without_a_file_are_refused(self, package, tmp_path, capsys):
        copy = tmp_path / "copy"
        shutil.copytree(package, copy)
        (copy / "fusion" / "fitted.json").unlink()
        line = refusal(capsys, "apply", copy, copy, "--out", tmp_path / "x.npy")
        assert "lacks fusion/fitted.json" in line

    def test_that_are_none_are_refused(self, tmp_path, capsys):
        line = refusal(capsys, "apply", tmp_path, tmp_path, "--out", tmp_path / "x.npy")
        assert "holds no package.json" in line

    @pytest.mark.parametrize(
        ("key", "value"), [("folds", 0), ("format", 2), ("shape", [0, 8]), ("more", 1)]
    )
    def test_that_say_what_cannot_be_are_refused(self, package, tmp_path, capsys, key, value):
        copy = tmp_path / "copy"
        shutil.copytree(package, copy)
        document = json.loads((copy / "package.json").read_text())
        (copy / "package.json").write_text(json.dumps({**document, key: value}))
        assert f"'{key}" in refusal(capsys, "apply", copy, copy, "--out", tmp_path / "x.npy")

    def test_refuse_images_of_another_size(self, package, tmp_path, capsys):
        np.save(tmp_path / "new.npy", np.zeros((2, 8, 8), np.uint8))
        line = refusal(capsys, "apply", package, tmp_path / "new.npy", "--out", tmp_path / "x.npy")
        assert "1 x 8 x 8; the package takes 1 x 16 x 24" in line

    def test_of_fusions_of_fusions_are_refused(self, trained, tmp_path, capsys):
        folder = tmp_path / "run"
        shutil.copytree(trained, folder)
        here = ["--run", str(folder)]
        assert run(["fuse", "--strategy", "mean", "--members", "one,gate", *here]) == 0
        assert run(["postprocess", "--fusion", "mean", "--chain", "", *here]) == 0
        asked = ["--candidate", "mean_argmax", "--out", tmp_path / "package"]
        said = refusal(capsys, "freeze", *here, *asked)
        assert "'mean_argmax' fuses the fusion 'gate', which a package cannot hold" in said

    def test_never_overwrite_a_folder_that_is_no_package(self, trained, tmp_path, capsys):
        (tmp_path / "mine.txt").write_text("mine")
        line = refusal(capsys, "freeze", "--run", trained, "--candidate", MIXED, "--out", tmp_path)
        assert "is there and is no package" in line
        assert (tmp_path / "mine.txt").read_text() == "mine"

    def test_labels_never_overwrite_a_folder(self, trained, package, tmp_path, capsys):
        (tmp_path / "mine.txt").write_text("mine")
        np.save(tmp_path / "new.npy", images_of(trained)[:3])
        line = refusal(capsys, "apply", package, tmp_path / "new.npy", "--out", tmp_path)
        assert "choose a new folder" in line


class TestSubmissions:
    def test_by_runs_can_be_decoded_as_kaggle_does(self, trained, tmp_path):
        out = tmp_path / "runs.csv"
        words = ["submit", "--run", trained, "--candidate", MIXED, "--form", "runs"]
        assert run([*words, "--out", str(out)]) == 0
        found = {name: np.full((16, 24), 9) for name in ids_of(trained)}
        with out.open(newline="") as file:
            for row in csv.DictReader(file):
                flat = np.zeros(16 * 24, bool)
                numbers = list(map(int, row["runs"].split()))
                for start, length in zip(numbers[::2], numbers[1::2], strict=True):
                    flat[start - 1 : start - 1 + length] = True
                found[row["id"]][flat.reshape(24, 16).T] = MARS.names.index(row["class"])
        np.testing.assert_array_equal(list(found.values()), labels_of(trained, MIXED))

    def test_as_png_hold_indices_and_colours(self, trained, tmp_path):
        out = tmp_path / "labels"
        words = ["submit", "--run", trained, "--candidate", MIXED, "--form", "png"]
        assert run([*words, "--out", str(out)]) == 0
        name, labels = ids_of(trained)[7], labels_of(trained, MIXED)[7]
        image = Image.open(out / f"{name}.png")
        np.testing.assert_array_equal(np.asarray(image), labels)
        assert np.asarray(image.convert("RGB"))[labels == 1][0].tolist() == [0xE6, 0x9F, 0x00]

    @pytest.mark.parametrize("form", ["csv", "runs", "png"])
    def test_that_read_back_otherwise_are_no_submissions(
        self, trained, tmp_path, monkeypatch, form
    ):
        from ensemble.pipeline.submission import submit

        def garbled(*_):
            labels = labels_of(trained, MIXED).copy()
            labels[5, 3, 2] ^= 1
            return zip(ids_of(trained), labels, strict=True)

        monkeypatch.setattr(submit, "_read", garbled)
        words = ["submit", "--run", trained, "--candidate", MIXED, "--form", form]
        with pytest.raises(OSError, match="does not read back"):
            run([*words, "--out", str(tmp_path / "out")])
        assert list(tmp_path.iterdir()) == []

    def test_of_what_is_no_label_are_refused(self, trained, tmp_path, capsys):
        copy = tmp_path / "copy"
        shutil.copytree(trained, copy)
        file = copy / "labels" / MIXED / "test" / "labels.npy"
        words = ["submit", "--run", copy, "--candidate", MIXED, "--out", tmp_path / "x.csv"]
        (file.parent / "provenance.json").unlink()  # nobody knows where they come from
        np.save(file, np.full((70, 16, 24), np.nan, np.float32))
        assert "float32 labels" in refusal(capsys, *words)
        np.save(file, np.full((70, 16, 24), 5, np.uint8))
        assert "labels up to 5; expected uint8 up to 4" in refusal(capsys, *words)
        np.save(file, np.zeros((69, 16, 24), np.uint8))
        assert "expected (70, 16, 24)" in refusal(capsys, *words)

    def test_never_overwrite_a_folder(self, trained, tmp_path, capsys):
        (tmp_path / "mine.txt").write_text("mine")
        words = ["submit", "--run", trained, "--candidate", MIXED, "--form", "png"]
        assert "choose a new folder" in refusal(capsys, *words, "--out", tmp_path)

    def test_from_a_run_that_is_being_written_are_refused_before_work(
        self, trained, tmp_path, capsys
    ):
        words = ["submit", "--run", trained, "--candidate", MIXED, "--out", tmp_path / "x.csv"]
        with submit(Path(trained)):
            assert "is being written by another ens" in refusal(capsys, *words)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3)])
    def test_of_any_size_and_label_come_back(self, tmp_path, shape):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 5, (4, *shape), dtype=np.uint8)
        ids = ("a", 'with "quotes", and commas', "ünï", "d")
        formats.write_rle_csv(tmp_path / "runs.csv", ids, labels, MARS)
        formats.write_pixels_csv(tmp_path / "pixels.csv", ids, labels, MARS)
        for found in (
            formats.read_rle_csv(tmp_path / "runs.csv", shape, MARS),
            formats.read_pixels_csv(tmp_path / "pixels.csv", shape),
        ):
            names, maps = zip(*found, strict=True)
            assert names == ids
            np.testing.assert_array_equal(maps, labels)


class TestOverlays:
    def test_show_the_image_through_the_labels(self, trained, tmp_path):
        out, name = tmp_path / "o.png", ids_of(trained, "validation")[3]
        words = ["overlay", "--run", trained, "--candidate", MIXED, "--image", name]
        for opacity in ("0", "1"):
            assert run([*words, "--opacity", opacity, "--out", str(out)]) == 0
            seen = np.asarray(Image.open(out).convert("RGB")).astype(int)
            panels = seen[-100:-4]
            grey = (panels.max(axis=-1) == panels.min(axis=-1)).mean()
            assert (grey > 0.95) == (opacity == "0")

    def test_without_ids_are_evenly_spaced(self, trained, tmp_path, capsys):
        capsys.readouterr()
        words = ["overlay", "--run", trained, "--candidate", ALONE, "--count", "3", "--json"]
        assert run([*words, "--out", str(tmp_path / "o.png")]) == 0
        drawn = json.loads(capsys.readouterr().out)["images"]
        known = ids_of(trained, "validation")
        assert drawn == [known[0], known[19], known[39]]

    def picked(self, trained, tmp_path, capsys, *words):
        capsys.readouterr()
        out = str(tmp_path / "o.png")
        assert run(["overlay", "--run", trained, "--json", "--out", out, *words]) == 0
        return json.loads(capsys.readouterr().out)["images"]

    def test_of_the_worst_begin_with_what_the_first_candidate_has_wrong_most(
        self, trained, tmp_path, capsys
    ):
        words = ["--candidate", MIXED, "--candidate", ALONE, "--pick", "worst", "--count", "30"]
        drawn = self.picked(trained, tmp_path, capsys, *words)
        target = np.load(f"{trained}/data/validation/target.npy")
        scored = (target != 0) & (target != 255)
        wrong = (scored & (labels_of(trained, MIXED, "validation") != target)).sum(axis=(1, 2))
        place = {name: place for place, name in enumerate(ids_of(trained, "validation"))}
        highest = np.sort(wrong)[::-1][:30]
        np.testing.assert_array_equal([wrong[place[name]] for name in drawn], highest)

    def test_of_the_disputed_need_no_target(self, trained, tmp_path, capsys):
        words = ["--candidate", MIXED, "--split", "test", "--pick", "disputed", "--count", "3"]
        drawn = self.picked(trained, tmp_path, capsys, *words)
        sources = RunMembers.of(Run(Path(trained)))
        maps = [sources.open(name, "test").read(slice(0, 70)) for name in sources.names()]
        one, other = (some.argmax(axis=1) for some in maps)
        order = np.argsort(-(one != other).mean(axis=(1, 2)), kind="stable")
        assert drawn == [ids_of(trained)[place] for place in order[:3]]

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["--pick", "worst", "--image", "x"], "--image names them, --pick chooses them"),
            (["--pick", "spread", "--image", "x"], "--image names them, --pick chooses them"),
            (["--pick", "worst", "--split", "test"], "split 'test' has no target to be wrong by"),
            (["--pick", "disputed"], f"{ALONE} has one member, whom nobody contradicts"),
        ],
    )
    def test_that_cannot_be_picked_are_refused(self, trained, tmp_path, capsys, words, told):
        out = tmp_path / "o.png"
        here = ["overlay", "--run", trained, "--candidate", ALONE, "--out", out]
        assert told in refusal(capsys, *here, *words)
        assert not out.exists()

    def test_of_a_set_without_a_wrong_pixel_are_refused(self, trained, tmp_path, capsys):
        sky = tmp_path / "sky"
        shutil.copytree(trained, sky)
        target = sky / "data" / "validation" / "target.npy"
        np.save(target, np.zeros_like(np.load(target)))
        words = ["overlay", "--run", sky, "--candidate", ALONE, "--pick", "worst"]
        told = refusal(capsys, *words, "--out", tmp_path / "o.png")
        assert "no scored pixel of validation is wrong; take --pick spread" in told

    def test_of_no_such_image_are_refused(self, trained, tmp_path, capsys):
        words = ["overlay", "--run", trained, "--candidate", MIXED, "--image", "nope"]
        assert "no image 'nope'" in refusal(capsys, *words, "--out", tmp_path / "o.png")


class TestASubmissionIsReadBack:
    def submitted(self, trained, out):
        return run(
            ["submit", "--run", trained, "--candidate", ALONE, "--split", "test", "--out", out]
        )

    def test_one_that_lacks_images_is_not_left(self, trained, tmp_path, monkeypatch):
        monkeypatch.setattr(formats, "read_pixels_csv", lambda path, shape: iter(()))
        with pytest.raises(OSError, match="holds 0 images of 70"):
            self.submitted(trained, str(tmp_path / "f.csv"))
        assert not list(tmp_path.iterdir())

    def test_one_with_another_pixel_is_not_left(self, trained, tmp_path, monkeypatch):
        read = formats.read_pixels_csv

        def changed(path, shape):
            for place, (name, labels) in enumerate(read(path, shape)):
                yield name, labels + (place == 3)

        monkeypatch.setattr(formats, "read_pixels_csv", changed)
        with pytest.raises(
            OSError, match=f"not read back as it was written, from '{ids_of(trained)[3]}'"
        ):
            self.submitted(trained, str(tmp_path / "f.csv"))
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "a\nb", "a" * 300])
def test_an_id_that_is_no_file_name_makes_no_png(tmp_path, name):
    labelled = [(slice(0, 2), np.zeros((2, 4, 4), np.uint8))]
    with pytest.raises(BadData, match=r"is no file name; expected one without '/' and leading"):
        formats.write_pngs(tmp_path, ["good", name], labelled, MARS)
    assert not list(tmp_path.iterdir())
