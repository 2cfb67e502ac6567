"""What leaves a run: packages and their labels, submissions, overlays."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble.cli import run_command
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.pipeline.submission import formats
from ensemble.pipeline.submission import submit as submit_module
from evaluation.core.classes import MARS, Classes
from evaluation.core.errors import BadData
from evaluation.core.run_folder import Run, run_lock
from members.data.contact_sheet import MARK_COLOUR
from members.data.sample import draw_sample

TINY = "unet(width=2, depth=1)"
MIXED, ALONE = "gate_class_bias.crf", "one_suppress_background"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a learned fusion of specialists, and a learned chain that needs images."""
    sample = draw_sample(images=80, test=70, validation=40, size=(16, 24))
    data, validation = sample.save(tmp_path_factory.mktemp("sample"))
    folder = str(tmp_path_factory.mktemp("runs") / "tiny")
    sets = ["--data", str(data), "--validation", str(validation), "--folds", "2"]
    training = ["--epochs", "1", "--workers", "1", "--member", f"one={TINY}", "--specialists", TINY]
    for words in (
        ["train-members", *sets, *training],
        ["fuse", "--strategy", "gate"],
        ["postprocess", "--fusion", "gate", "--chain", "class_bias|crf(iterations=2)"],
        ["postprocess", "--fusion", "one", "--chain", "suppress_background"],
    ):
        assert run_command([*words, "--run", folder]) == 0
    return folder


@pytest.fixture(scope="module")
def package(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("packages") / "mixed"
    ens("freeze", "--run", trained, "--candidate", MIXED, "--out", out)
    return out


def ens(*words):
    assert run_command([str(word) for word in words]) == 0


def images_of(trained, split="test"):
    return np.load(f"{trained}/data/{split}/images.npy")


def labels_of(trained, candidate, split="test"):
    return np.load(f"{trained}/labels/{candidate}/{split}/labels.npy")


def ids_of(trained, split="test"):
    with Path(trained, "data", split, "index.csv").open(newline="") as file:
        return [row["id"] for row in csv.DictReader(file)]


def refusal(capsys, *words):
    capsys.readouterr()
    assert run_command([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    return err


def apply_to(package, images, folder):
    np.save(folder / "new.npy", images)
    ens("apply", package, folder / "new.npy", "--out", folder / "labels.npy")
    return np.load(folder / "labels.npy")


def test_a_package_labels_as_the_run_does_bit_for_bit(trained, package, tmp_path):
    labels = apply_to(package, images_of(trained), tmp_path)
    np.testing.assert_array_equal(labels, labels_of(trained, MIXED))


def test_a_package_of_one_member_labels_as_the_run_does(trained, tmp_path):
    ens("freeze", "--run", trained, "--candidate", ALONE, "--out", tmp_path / "package")
    labels = apply_to(tmp_path / "package", images_of(trained), tmp_path)
    np.testing.assert_array_equal(labels, labels_of(trained, ALONE))


def test_a_package_takes_a_folder_of_images_and_writes_one_of_labels(trained, package, tmp_path):
    images, out = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    for name, image in zip(ids_of(trained), images_of(trained), strict=True):
        Image.fromarray(image[0]).save(images / f"{name}.png")
    ens("apply", package, images, "--out", out)
    written = {file.stem: np.asarray(Image.open(file)) for file in out.iterdir()}
    for name, labels in zip(ids_of(trained), labels_of(trained, MIXED), strict=True):
        # Sorted by name, images come in other blocks; rounding may differ in a pixel or two.
        assert (written[name] != labels).mean() < 0.01
    assert len(written) == 70


def test_a_package_labels_every_image_of_a_folder_as_it_is_viewed(trained, package, tmp_path):
    image, upside_down = images_of(trained)[0, 0], Image.Exif()
    upside_down[274] = 3
    folder, out = tmp_path / "images", tmp_path / "labels"
    folder.mkdir()
    for name in ("a.png", "b.tif", "c.BMP", "d.TIFF"):
        Image.fromarray(image).save(folder / name)
    Image.fromarray(image[::-1, ::-1]).save(folder / "e.png", exif=upside_down)
    Image.fromarray(np.dstack([image] * 3)).save(folder / "f.webp", lossless=True)
    np.save(folder / "g.npy", image)
    ens("apply", package, folder, "--out", out)
    assert sorted(file.stem for file in out.iterdir()) == list("abcdefg")
    first, *others = (np.asarray(Image.open(out / f"{name}.png")) for name in "abcdefg")
    for labels in others:
        np.testing.assert_array_equal(labels, first)


def test_a_package_ignores_the_masks_of_new_images(trained, package, tmp_path):
    images = images_of(trained)[:3]
    masks = np.full((3, 16, 24), 9, np.uint8)
    np.savez(tmp_path / "masked.npz", images=images, masks=masks)
    ens("apply", package, tmp_path / "masked.npz", "--out", tmp_path / "masked.npy")
    bare = apply_to(package, images, tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "masked.npy"), bare)


def test_a_package_is_tested_before_it_counts_as_done(trained, tmp_path, capsys):
    capsys.readouterr()
    ens("freeze", "--run", trained, "--candidate", MIXED, "--out", tmp_path / "package")
    out, err = capsys.readouterr()
    assert "tested on 40 images of validation: all pixels are as in the run" in err
    assert "ens apply" in out


def test_the_readme_of_a_package_says_how_to_use_it(package):
    page = (package / "README.md").read_text()
    for words in (MIXED, "ens apply", "| 4 | big rock |", "background (not scored)", "gate"):
        assert words in page


def test_a_package_works_at_another_path(trained, package, tmp_path):
    shutil.copytree(package, tmp_path / "moved")
    labels = apply_to(tmp_path / "moved", images_of(trained)[:3], tmp_path)
    assert labels.shape == (3, 16, 24)


@pytest.mark.parametrize("what", ["weights", "fusion/fitted.npz", "README.md"])
def test_a_package_with_a_flipped_bit_is_refused(package, tmp_path, capsys, what):
    copy = tmp_path / "copy"
    shutil.copytree(package, copy)
    file = next(f for f in [copy / what, *sorted((copy / what).rglob("*"))] if f.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    line = refusal(capsys, "apply", copy, copy, "--out", tmp_path / "x.npy")
    assert "is not what was frozen" in line
    assert file.name in line


def test_a_package_without_one_of_its_files_is_refused(package, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(package, copy)
    (copy / "fusion" / "fitted.json").unlink()
    line = refusal(capsys, "apply", copy, copy, "--out", tmp_path / "x.npy")
    assert "lacks fusion/fitted.json" in line


def test_a_folder_without_a_manifest_is_refused(tmp_path, capsys):
    line = refusal(capsys, "apply", tmp_path, tmp_path, "--out", tmp_path / "x.npy")
    assert "holds no package.json" in line


@pytest.mark.parametrize(
    ("key", "value"), [("folds", 0), ("format", 2), ("shape", [0, 8]), ("more", 1)]
)
def test_a_manifest_with_an_invalid_value_is_refused(package, tmp_path, capsys, key, value):
    copy = tmp_path / "copy"
    shutil.copytree(package, copy)
    document = json.loads((copy / "package.json").read_text())
    (copy / "package.json").write_text(json.dumps({**document, key: value}))
    assert f"'{key}" in refusal(capsys, "apply", copy, copy, "--out", tmp_path / "x.npy")


def test_images_of_another_size_are_labelled(package, tmp_path):
    np.save(tmp_path / "new.npy", np.zeros((2, 8, 40), np.uint8))
    ens("apply", package, tmp_path / "new.npy", "--out", tmp_path / "x.npy")
    assert np.load(tmp_path / "x.npy").shape == (2, 8, 40)


def test_images_of_other_values_than_the_package_takes_are_refused(package, tmp_path, capsys):
    np.save(tmp_path / "new.npy", np.zeros((2, 8, 8), np.uint16))
    line = refusal(capsys, "apply", package, tmp_path / "new.npy", "--out", tmp_path / "x.npy")
    assert "images of uint16; the package takes uint8" in line


def test_labels_of_several_sizes_do_not_fit_one_array(package, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    for side in (8, 10):
        Image.fromarray(np.zeros((side, 8), np.uint8)).save(tmp_path / f"images/{side}.png")
    line = refusal(capsys, "apply", package, tmp_path / "images", "--out", tmp_path / "x.npy")
    assert "has images of 2 sizes, 8x8 to 10x8; give a folder as --out" in line


def test_images_with_other_channels_than_the_package_takes_are_refused(package, tmp_path, capsys):
    np.save(tmp_path / "new.npy", np.zeros((2, 8, 8, 3), np.uint8))
    line = refusal(capsys, "apply", package, tmp_path / "new.npy", "--out", tmp_path / "x.npy")
    assert "images of 3 channels; the package takes 1" in line


def test_a_package_takes_options_about_the_data_and_refuses_other_classes(
    trained, package, tmp_path, capsys
):
    images = images_of(trained)[:3]
    (tmp_path / "in").mkdir()
    for index, image in enumerate(images):
        name = f"{'ab'[index % 2]}{index}.png"
        Image.fromarray(np.asarray(image[0])).save(tmp_path / "in" / name)
    ens("apply", package, tmp_path / "in", "--out", tmp_path / "out", "--images", "a{id}.png")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["0.png", "2.png"]
    command = ["apply", package, tmp_path / "in", "--out", tmp_path / "other", "--classes", "3"]
    assert "the training set has 5 classes" in refusal(capsys, *command)
    assert not (tmp_path / "other").exists()


def test_a_fusion_of_fusions_cannot_be_frozen(trained, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    here = ["--run", folder]
    ens("fuse", "--strategy", "mean", "--members", "one,gate", *here)
    ens("postprocess", "--fusion", "mean", "--chain", "", *here)
    words = ["--candidate", "mean_argmax", "--out", tmp_path / "package"]
    line = refusal(capsys, "freeze", *here, *words)
    assert "'mean_argmax' fuses the fusion 'gate', which a package cannot hold" in line


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["freeze", "--candidate", MIXED, "--run"], "already exists and is not a package"),
        (["apply"], "already exists; choose a new folder"),
        (["submit", "--candidate", MIXED, "--form", "png", "--run"], "choose a new folder"),
    ],
)
def test_a_folder_with_other_files_is_never_overwritten(
    trained, package, tmp_path, capsys, command, reason
):
    (tmp_path / "mine.txt").write_text("mine")
    inputs = [package, f"{trained}/data/test/images.npy"] if command == ["apply"] else [trained]
    assert reason in refusal(capsys, *command, *inputs, "--out", tmp_path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


def submit_words(trained, out, form="csv", candidate=MIXED):
    return ["submit", "--run", trained, "--candidate", candidate, "--form", form, "--out", out]


def test_run_lengths_are_decoded_as_kaggle_does(trained, tmp_path):
    out = tmp_path / "runs.csv"
    ens(*submit_words(trained, out, "runs"))
    decoded = {name: np.full((16, 24), 9) for name in ids_of(trained)}
    with out.open(newline="") as file:
        for row in csv.DictReader(file):
            flat = np.zeros(16 * 24, bool)
            numbers = list(map(int, row["runs"].split()))
            for start, length in zip(numbers[::2], numbers[1::2], strict=True):
                flat[start - 1 : start - 1 + length] = True
            decoded[row["id"]][flat.reshape(24, 16).T] = MARS.names.index(row["class"])
    np.testing.assert_array_equal(list(decoded.values()), labels_of(trained, MIXED))


def test_pngs_hold_class_indices_and_the_classes_colours(trained, tmp_path):
    ens(*submit_words(trained, tmp_path / "labels", "png"))
    name, labels = ids_of(trained)[7], labels_of(trained, MIXED)[7]
    image = Image.open(tmp_path / "labels" / f"{name}.png")
    np.testing.assert_array_equal(np.asarray(image), labels)
    colours = [list(bytes.fromhex(colour[1:])) for colour in MARS.colours]
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.array(colours)[labels])


@pytest.mark.parametrize("form", ["csv", "runs", "png"])
@pytest.mark.parametrize(
    ("damage", "error"),
    [("pixel", "does not read back as it was written, from '{}'"), ("all", "holds 0 images of 70")],
)
def test_a_submission_that_does_not_read_back_is_not_left(
    trained, tmp_path, monkeypatch, form, damage, error
):
    read = submit_module._read

    def damaged(*arguments):
        for index, (name, labels) in enumerate(read(*arguments)):
            if damage == "pixel":
                yield name, labels + np.uint8(index == 5)

    monkeypatch.setattr(submit_module, "_read", damaged)
    with pytest.raises(OSError, match=error.format(ids_of(trained)[5])):
        run_command([str(word) for word in submit_words(trained, tmp_path / "out", form)])
    assert list(tmp_path.iterdir()) == []


def test_labels_that_are_not_classes_are_refused(trained, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    file = copy / "labels" / MIXED / "test" / "labels.npy"
    words = submit_words(copy, tmp_path / "x.csv")
    (file.parent / "provenance.json").unlink()  # or the file would be refused as changed
    np.save(file, np.full((70, 16, 24), np.nan, np.float32))
    assert "float32 labels" in refusal(capsys, *words)
    np.save(file, np.full((70, 16, 24), 5, np.uint8))
    assert "labels up to 5; expected uint8 up to 4" in refusal(capsys, *words)
    np.save(file, np.zeros((69, 16, 24), np.uint8))
    assert "expected uint8 of 70 images of 16x24 pixels" in refusal(capsys, *words)


def test_a_run_that_is_being_written_is_refused_before_work(trained, tmp_path, capsys):
    with run_lock(Path(trained)):
        line = refusal(capsys, *submit_words(trained, tmp_path / "x.csv"))
    assert "is being written by another ens" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_long_runs_are_read_back(tmp_path, share):
    rng, path = np.random.default_rng(0), tmp_path / "runs.csv"
    labels = (rng.random((2, 1024, 512)) < share / 2).astype(np.uint8)
    names = Classes(("soil, wet", 'a "rock"'))
    ids = ['a,"b"', "c\r\nd\u2028e"]
    before = csv.field_size_limit()
    formats.write_rle_csv(path, ids, labels, names)
    assert max(map(len, path.read_text(encoding="utf-8").split(","))) > before
    found = dict(formats.read_rle_csv(path, [(1024, 512)] * 2, names))
    assert list(found) == ids
    np.testing.assert_array_equal(np.stack([*found.values()]), labels)
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3)])
def test_labels_of_any_shape_are_read_back_from_csv(tmp_path, shape):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (4, *shape), dtype=np.uint8)
    stored = Classes(MARS.names, values=(10, 0, 30, 40, 255), unlabelled=())
    ids = ("a", 'with "quotes", and commas', "ünï", "d")
    formats.write_rle_csv(tmp_path / "runs.csv", ids, labels, MARS)
    formats.write_pixels_csv(tmp_path / "pixels.csv", ids, labels, stored)
    for read in (
        formats.read_rle_csv(tmp_path / "runs.csv", [shape] * 4, MARS),
        formats.read_pixels_csv(tmp_path / "pixels.csv", shape, stored),
    ):
        names, maps = zip(*read, strict=True)
        assert names == ids
        np.testing.assert_array_equal(maps, labels)


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "a\nb", "a" * 300])
def test_an_id_that_cannot_be_a_file_name_is_refused_for_png(tmp_path, name):
    labelled = [(slice(0, 2), np.zeros((2, 4, 4), np.uint8))]
    with pytest.raises(BadData, match=r"cannot be a file name; expected one without '/' and"):
        formats.write_pngs(tmp_path, ["good", name], labelled, MARS)
    assert not list(tmp_path.iterdir())


def overlay_ids(trained, tmp_path, capsys, *words):
    capsys.readouterr()
    ens("overlay", "--run", trained, "--json", "--out", tmp_path / "o.png", *words)
    return json.loads(capsys.readouterr().out)["images"]


def test_an_overlay_shows_the_image_through_the_labels(trained, tmp_path):
    out, name = tmp_path / "o.png", ids_of(trained, "validation")[3]
    words = ["overlay", "--run", trained, "--candidate", MIXED, "--image", name]
    for opacity in ("0", "1"):
        ens(*words, "--opacity", opacity, "--out", out)
        pixels = np.asarray(Image.open(out).convert("RGB")).astype(int)
        panels = pixels[-100:-4]
        grey = (panels.max(axis=-1) == panels.min(axis=-1)).mean()
        assert (grey > 0.95) == (opacity == "0")


def test_an_overlay_marks_the_scored_pixels_that_a_candidate_has_wrong(trained, tmp_path, capsys):
    words = ["--candidate", ALONE, "--errors", MIXED, "--pick", "worst", "--count", "1"]
    index = ids_of(trained, "validation").index(*overlay_ids(trained, tmp_path, capsys, *words))
    target = np.load(f"{trained}/data/validation/target.npy")[index]
    labels = labels_of(trained, MIXED, "validation")[index]
    wrong = (labels != target) & (target != 0) & (target != 255)
    red = (np.asarray(Image.open(tmp_path / "o.png").convert("RGB")) == MARK_COLOUR).all(axis=-1)
    rows, cols = np.nonzero(red)
    panel = red[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    scale = round(np.sqrt(red.sum() / wrong.sum()))
    drawn = wrong[np.ix_(wrong.any(axis=1).nonzero()[0], wrong.any(axis=0).nonzero()[0])]
    enlarged = np.kron(drawn, np.ones((scale, scale), bool))
    assert 0 < wrong.mean() < 1
    np.testing.assert_array_equal(panel, enlarged)


def test_an_overlay_without_ids_takes_evenly_spaced_images(trained, tmp_path, capsys):
    chosen = overlay_ids(trained, tmp_path, capsys, "--candidate", ALONE, "--count", "3")
    ids = ids_of(trained, "validation")
    assert chosen == [ids[0], ids[19], ids[39]]


def test_an_overlay_of_the_worst_ranks_by_wrong_pixels_of_the_first_candidate(
    trained, tmp_path, capsys
):
    words = ["--candidate", MIXED, "--candidate", ALONE, "--pick", "worst", "--count", "30"]
    chosen = overlay_ids(trained, tmp_path, capsys, *words)
    target = np.load(f"{trained}/data/validation/target.npy")
    scored = (target != 0) & (target != 255)
    wrong = (scored & (labels_of(trained, MIXED, "validation") != target)).sum(axis=(1, 2))
    index = {name: index for index, name in enumerate(ids_of(trained, "validation"))}
    highest = np.sort(wrong)[::-1][:30]
    np.testing.assert_array_equal([wrong[index[name]] for name in chosen], highest)


def test_an_overlay_of_the_disputed_needs_no_labels(trained, tmp_path, capsys):
    words = ["--candidate", MIXED, "--split", "test", "--pick", "disputed", "--count", "3"]
    chosen = overlay_ids(trained, tmp_path, capsys, *words)
    run_members = RunMembers.of(Run(Path(trained)))
    maps = [run_members.open(name, "test").read(slice(0, 70)) for name in run_members.names()]
    one, other = (m.argmax(axis=1) for m in maps)
    order = np.argsort(-(one != other).mean(axis=(1, 2)), kind="stable")
    assert chosen == [ids_of(trained)[index] for index in order[:3]]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--pick", "worst", "--image", "x"], "--image names them, --pick chooses them"),
        (["--pick", "spread", "--image", "x"], "--image names them, --pick chooses them"),
        (["--pick", "worst", "--split", "test"], "split 'test' has no labels, so errors cannot be"),
        (["--errors", ALONE, "--split", "test"], "split 'test' has no labels to find errors by"),
        (["--pick", "disputed"], f"{ALONE} has only one member, so there is no disagreement"),
        (["--image", "nope"], "no image 'nope'"),
    ],
)
def test_images_that_cannot_be_chosen_are_refused(trained, tmp_path, capsys, words, reason):
    out = tmp_path / "o.png"
    here = ["overlay", "--run", trained, "--candidate", ALONE, "--out", out]
    assert reason in refusal(capsys, *here, *words)
    assert not out.exists()


def test_an_overlay_of_the_worst_without_a_scored_pixel_is_refused(trained, tmp_path, capsys):
    sky = tmp_path / "sky"
    shutil.copytree(trained, sky)
    target = sky / "data" / "validation" / "target.npy"
    np.save(target, np.zeros_like(np.load(target)))
    words = ["overlay", "--run", sky, "--candidate", ALONE, "--pick", "worst"]
    line = refusal(capsys, *words, "--out", tmp_path / "o.png")
    assert "no scored pixel of validation is wrong; use --pick spread" in line
