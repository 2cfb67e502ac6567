"""How a run's data are laid out: what is dropped, what is found again, what is refused."""

import numpy as np
import pytest
from PIL import Image

from ensemble.pipeline.data import prepare as laying
from ensemble.pipeline.data.prepare import (
    is_prepared,
    matches_prepared_data,
    prepare,
    prepare_folds,
    read_folds,
    run_classes,
)
from ensemble.pipeline.run.experiment import Experiment
from evaluation.core.errors import BadData, BadRun
from evaluation.core.run_folder import OOF, Run
from members.data.dataset import DataSet
from members.data.sample import draw_sample


@pytest.fixture(scope="module")
def sample():
    return draw_sample(images=260, test=10, validation=24, size=(16, 24))


@pytest.fixture
def at(tmp_path):
    return Run(tmp_path / "run")


def silent(line):
    """Take a line and drop it."""


def test_outliers_are_dropped_and_counted(sample, at, tmp_path):
    data, validation = map(str, sample.save(tmp_path))
    experiment = Experiment(data=data, validation=validation, drop_outliers=True, folds=2)
    told: list[str] = []
    prepare(at, experiment, told.append)
    ids = np.array(sample.sets()["training"].ids)
    kept = DataSet.load(at.data(OOF)).ids
    assert kept == tuple(np.delete(ids, sample.outliers))
    first = ids[sample.outliers.min()]
    assert told == [
        (
            f"outliers: {len(sample.outliers)} of 260 training images dropped, which share a"
            f" non-constant mask with nine others or more (first: {first})"
        )
    ]


def test_without_outliers_nothing_is_dropped_or_logged(sample, at, tmp_path):
    training = sample.sets()["training"]
    kept = np.delete(training.images, sample.outliers, axis=0)
    masks = np.delete(training.target(), sample.outliers, axis=0)
    np.savez(tmp_path / "clean.npz", images=kept[:, 0], masks=masks)
    data = str(tmp_path / "clean.npz")
    told: list[str] = []
    prepare(at, Experiment(data=data, validation=data, drop_outliers=True, folds=2), told.append)
    assert len(DataSet.load(at.data(OOF))) == len(kept)
    assert not [line for line in told if "outliers" in line]


def test_the_built_in_sample_is_that_of_the_seed(sample, at, monkeypatch):
    drawn = []

    def draw(*, seed):
        drawn.append(seed)
        return sample

    monkeypatch.setattr(laying, "draw_sample", draw)
    prepare(at, Experiment(data="sample", folds=2, seed=5), silent)
    assert drawn == [5]
    assert at.splits() == [OOF, "validation", "test"]
    np.testing.assert_array_equal(
        DataSet.load(at.data("test")).images, sample.sets()["test"].images
    )


class TestAFolderOfImages:
    @pytest.fixture
    def experiment(self, tmp_path):
        rng = np.random.default_rng(0)
        for folder in ("images", "masks"):
            (tmp_path / "pairs" / folder).mkdir(parents=True)
        for place in range(24):
            for folder, high in (("images", 256), ("masks", 3)):
                image = Image.fromarray(rng.integers(0, high, (16, 16), dtype=np.uint8))
                image.save(tmp_path / "pairs" / folder / f"{place:02}.png")
        return Experiment(data=str(tmp_path / "pairs"), folds=2)

    def test_is_prepared_until_one_file_changes(self, experiment, at, tmp_path):
        prepare(at, experiment, silent)
        assert is_prepared(at, experiment)
        Image.fromarray(np.ones((16, 16), np.uint8)).save(tmp_path / "pairs" / "masks" / "07.png")
        assert not is_prepared(at, experiment)
        prepare(at, experiment, silent)
        data = DataSet.load(at.data(OOF))
        aside = DataSet.load(at.data("validation"))
        targets = dict(zip((*data.ids, *aside.ids), (*data.target(), *aside.target()), strict=True))
        assert (targets["07"] == 1).all()

    def test_need_not_be_there_any_more(self, experiment, at, tmp_path):
        prepare(at, experiment, silent)
        (tmp_path / "pairs").rename(tmp_path / "away")
        assert matches_prepared_data(at, experiment)
        assert not matches_prepared_data(at, experiment.model_copy(update={"seed": 1}))
        with pytest.raises(BadData, match="pairs is missing; expected a data file or folder"):
            prepare(at, experiment, silent)

    def test_without_masks_nothing_can_be_learnt(self, experiment, at, tmp_path):
        (tmp_path / "pairs" / "masks").rename(tmp_path / "away")
        with pytest.raises(BadData, match="pairs holds no masks; expected labelled images"):
            prepare(at, experiment, silent)
        assert not at.path.exists()


def test_a_run_without_data_says_how_to_start(at):
    with pytest.raises(BadRun, match=r"holds no data; start with `ens train-members --run"):
        run_classes(at)


def test_validation_set_aside_without_a_scored_pixel_is_refused(at, tmp_path, monkeypatch):
    masks = np.arange(8, dtype=np.uint8).repeat(16).reshape(8, 4, 4) % 2
    masks[6:] = 2
    said = {"classes": np.array(["x", "y", "z"]), "ignore": np.array("z")}
    np.savez(tmp_path / "own.npz", images=masks, masks=masks, **said)
    monkeypatch.setattr(laying, "hold_out", lambda *_, **__: np.arange(8) >= 6)
    experiment = Experiment(data=str(tmp_path / "own.npz"), folds=2)
    with pytest.raises(BadData, match="masks of validation hold no pixel of a scored class"):
        prepare(at, experiment, silent)
    assert not at.data(OOF).exists()


def test_outliers_that_held_all_of_a_class_leave_nothing_to_learn(at, tmp_path):
    masks = np.zeros((24, 4, 4), np.uint8)
    masks[:12, 1:3] = 1
    np.savez(tmp_path / "own.npz", images=masks, masks=masks)
    experiment = Experiment(data=str(tmp_path / "own.npz"), drop_outliers=True, folds=2)
    with pytest.raises(BadData, match="the masks hold 0; expected two or more"):
        prepare(at, experiment, silent)


@pytest.fixture
def two_sets(tmp_path):
    """Training and validation file, and the ids of the training images."""
    sample = draw_sample(images=60, test=4, validation=24, size=(16, 24))
    return [*map(str, sample.save(tmp_path)), sample.sets()["training"].ids]


class TestFoldsFromElsewhere:
    def test_images_without_a_fold_are_left_out_and_counted(self, two_sets, at):
        data, _, ids = two_sets
        fold_of = {name: index % 2 for index, name in enumerate(ids[:50])}
        told = []
        experiment = Experiment(data=data, folds=2)
        prepare_folds(at, experiment, fold_of.get, told.append)
        assert told == ["10 of 60 labelled images are in no fold, and are left out"]
        assert DataSet.load(at.data(OOF)).ids == ids[:50]
        assert [fold.held_out(50).tolist() for fold in read_folds(at)] == [
            list(range(0, 50, 2)),
            list(range(1, 50, 2)),
        ]
        prepare_folds(at, experiment, lambda name: pytest.fail("it is prepared"), told.append)
        assert len(told) == 1

    def test_folds_of_other_images_are_refused(self, two_sets, at):
        data, _, ids = two_sets
        with pytest.raises(BadData, match=rf"no image of .* is in a fold \(first: '{ids[0]}'\)"):
            prepare_folds(at, Experiment(data=data, folds=2), {}.get, silent)
        assert not at.path.exists()


def test_validation_without_masks_is_refused(two_sets, at, tmp_path):
    data, validation, _ = two_sets
    with np.load(validation) as arrays:
        np.savez(tmp_path / "bare.npz", images=arrays["images"])
    given = Experiment(data=data, validation=str(tmp_path / "bare.npz"), folds=2)
    with pytest.raises(BadData, match=r"bare.npz holds no masks; expected labelled images"):
        prepare(at, given, silent)


def test_a_list_of_all_images_as_validation_leaves_nothing_to_train_on(at, tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"t{number}" for number in range(6)]
    for name in names:
        for folder, values in (("images", 256), ("masks", 3)):
            pixels = rng.integers(0, values, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / folder / f"{name}.png")
    (tmp_path / "all.txt").write_text("\n".join(names))
    given = Experiment(data=str(tmp_path / "set"), validation=str(tmp_path / "all.txt"), folds=2)
    with pytest.raises(BadData, match=r"all.txt lists all images; expected some that are left for"):
        prepare(at, given, silent)
