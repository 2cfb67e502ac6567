"""Sets that come beside a run's own: none is taken for images that it does not hold."""

from dataclasses import replace

import numpy as np
import pytest

from ensemble.cli import run_command
from ensemble.pipeline.data.prepare import check_same_split, make_ids_unique
from evaluation.core.classes import Classes
from evaluation.core.errors import BadData
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.data.sample import draw_sample
from members.store import ProbabilityStore

CLASSES = Classes(("background", "soil", "rock"), 0)
TINY = "unet(width=2, depth=1)"


def data_set(seed, count=70):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 1, 4, 6), dtype=np.uint8)
    masks = rng.integers(0, 3, (count, 4, 6), dtype=np.uint8)
    groups = np.array([f"g{place // 2}" for place in range(count)])
    return DataSet(images, masks, tuple(f"p{place}" for place in range(count)), groups, CLASSES)


class TestUniqueIds:
    def test_ids_that_mean_other_images_are_all_changed(self):
        found = replace(data_set(1, 3), ids=("p0", "p1", "new"))
        assert make_ids_unique(found, data_set(0), "more").ids == ("more-p0", "more-p1", "more-new")

    def test_ids_that_are_free_stay(self):
        found = replace(data_set(1, 2), ids=("a", "b"))
        assert make_ids_unique(found, data_set(0), "more") is found

    def test_ids_of_the_same_images_stay_so_that_leaks_are_detected(self):
        known = data_set(0)
        assert make_ids_unique(known.take([3, 1]), known, "more").ids == ("p3", "p1")
        mixed = known.take([3, 1])
        mixed = replace(mixed, images=np.stack([mixed.images[0], 255 - mixed.images[1]]))
        assert make_ids_unique(mixed, known, "more").ids == ("p3", "more-p1")


def changed(data, what, place):
    values = np.array(getattr(data, what))
    values[place] = np.roll(values, 1, axis=0)[place]
    return replace(data, **{what: values})


class TestAnExistingSplit:
    @pytest.mark.parametrize("what", ["images", "masks", "groups"])
    @pytest.mark.parametrize("place", [0, 68])
    def test_differs_from_a_set_with_a_single_other_image(self, what, place):
        there = data_set(0)
        words = rf"split 'more' already exists with other {what}; choose another --split"
        with pytest.raises(BadData, match=words):
            check_same_split(there, changed(there, what, place), "more")

    @pytest.mark.parametrize("what", ["masks", "groups"])
    def test_refuses_a_set_with_masks_or_groups_that_it_lacks(self, what):
        found = data_set(0)
        with pytest.raises(BadData, match=f"already exists with no {what}; choose another --split"):
            check_same_split(replace(found, **{what: None}), found, "more")

    def test_accepts_a_set_without_its_masks_and_groups(self):
        there = data_set(0)
        for found in (replace(there, masks=None, groups=None), there):
            assert check_same_split(there, found, "more") is None

    def test_differs_from_a_set_with_other_ids_or_another_number_of_images(self):
        there = data_set(0)
        for found in (replace(there, ids=there.ids[::-1]), data_set(0, 69)):
            with pytest.raises(BadData, match="other images"):
                check_same_split(there, found, "more")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("another")
    data, _ = draw_sample(images=80, test=4, validation=20, size=(16, 24)).save(folder)
    arguments = ["train-members", "--data", str(data), "--run", str(folder / "run"), "--folds", "2"]
    assert (
        run_command([*arguments, "--workers", "1", "--epochs", "1", "--member", f"one={TINY}"]) == 0
    )
    return folder


def predicted(folder, seed, split, code=0):
    data, _ = draw_sample(images=60, test=4, validation=20, seed=seed, size=(16, 24)).save(folder)
    with np.load(data) as found:
        np.savez(data, **{name: found[name] for name in ("training_set", "training_group")})
    arguments = ["predict", "--data", str(data), "--split", split, "--workers", "1"]
    assert run_command([*arguments, "--run", str(folder / "run")]) == code


@pytest.mark.slow
def test_other_images_of_the_same_names_were_not_trained_on(trained, capsys):
    predicted(trained, seed=1, split="more")
    at = Run(trained / "run")
    store = ProbabilityStore(at.probabilities("one", "more"))
    assert not store.trained_on_mask().any()
    assert store.ids[0] == "more-train-00000"
    predicted(trained, seed=1, split="more")
    predicted(trained, seed=2, split="more", code=2)
    assert "split 'more' already exists with other images" in capsys.readouterr().err
    np.testing.assert_array_equal(DataSet.load(at.data("more")).ids, store.ids)
