"""The real sets, where they are next to the checkout."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.core.classes import MARS
from evaluation.core.label_options import LabelOptions
from members.data.ai4mars import import_ai4mars
from members.data.cleaning.rules import shared_masks
from members.data.folds import hold_out, split_folds
from members.data.inspect import inspect_dataset
from members.data.load_dataset import load_dataset

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def needs(name):
    """Skip a test where a real set is missing: the project ships none."""
    folder = DATA / name
    return pytest.mark.skipif(not folder.is_dir(), reason=f"{folder} is not here")


@pytest.fixture(scope="module")
def sets():
    return load_dataset(DATA / "mars" / "mars_for_students.npz")


@needs("mars")
def test_the_competition_file_loads(sets):
    assert sets["training"].images.shape == (2615, 1, 64, 128)
    assert sets["test"].images.shape == (2609, 1, 64, 128)
    assert sets["training"].classes == MARS
    assert len(set(np.asarray(sets["training"].groups))) == 296


@needs("mars")
def test_the_real_outliers_are_the_110_that_share_an_outline(sets):
    (found,) = shared_masks(sets["training"].target())
    assert len(found) == 110
    constant = shared_masks(sets["training"].target(), constant=True)
    assert [len(places) for places in constant] == [362, 311, 26]


@needs("mars")
def test_folds_and_holdout_of_the_real_set_divide_no_rover_position(sets):
    data = sets["training"]
    dealt = split_folds(data.target(), data.groups, 3, classes=data.classes, seed=0)
    assert np.bincount(dealt).min() > 840
    groups = np.asarray(data.groups)
    held = hold_out(data.target(), groups, 0.15, 0)
    assert abs(held.mean() - 0.15) < 0.01
    assert not set(groups[held]) & set(groups[~held])


@needs("mars")
def test_the_validation_file_loads_with_ids_that_tell_the_image():
    data = load_dataset(DATA / "mars" / "mars_validation.npz")["training"]
    assert len(data) == 1002
    assert data.ids[0] == "NLB_471625303EDR_F0442336NCAM00353M1-00000"
    assert np.asarray(data.groups)[0] == "F0442336"


@pytest.mark.slow
@needs("mars")
def test_inspecting_the_real_set_finds_the_outliers():
    shared = inspect_dataset(DATA / "mars" / "mars_for_students.npz")["sets"]["training"][
        "shared_masks"
    ]
    assert [(one["images"], one["constant"]) for one in shared[:2]] == [(110, False), (362, True)]


@needs("ai4mars")
def test_the_full_images_are_cut_into_tiles(tmp_path):
    assert import_ai4mars(DATA / "ai4mars", tmp_path / "tiles.npz") == 28
    data = load_dataset(tmp_path / "tiles.npz")["training"]
    assert data.extent.one_size == (64, 128)
    assert set(np.asarray(data.groups)) == {"F0020000"}


@needs("camvid")
def test_camvid_is_divided_as_it_lies_with_void_unlabelled_and_drives_as_groups():
    sets = load_dataset(DATA / "camvid")
    assert {name: len(data) for name, data in sets.items()} == {
        "training": 367,
        "validation": 101,
        "test": 233,
    }
    training = sets["training"]
    assert (len(training.classes), training.classes.unlabelled) == (11, (11, 255))
    assert len(set(training.groups)) == 3
    assert set(np.unique(training.target())) == {*range(11), 255}


@needs("nuclei")
def test_nuclei_keep_their_sizes_and_the_value_of_their_foreground():
    data = load_dataset(DATA / "nuclei" / "validation", labels=LabelOptions(foreground=255))
    assert (len(data["training"]), data["training"].channels) == (131, 3)
    assert len(set(data["training"].extent.sizes)) == 7
    assert data["training"].classes.values == (0, 255)


@needs("camvid")
def test_frames_of_camvid_that_are_held_out_beside_their_drive_are_told():
    (warning,) = inspect_dataset(DATA / "camvid")["warnings"]
    assert "held-out images of groups of training images: 101" in warning


@needs("camvid")
@pytest.mark.parametrize(("classes", "told"), [(12, True), (11, False)])
def test_void_of_camvid_is_recognised_by_what_it_touches_and_no_class_is(classes, told):
    labels = LabelOptions(classes, unlabelled=None if told else 11)
    described = inspect_dataset(DATA / "camvid" / "validation", labels=labels)
    warnings = described["sets"]["training"]["warnings"]
    assert any("'11', the last" in line for line in warnings) == told
    assert not any("'10', the last" in line for line in warnings)
