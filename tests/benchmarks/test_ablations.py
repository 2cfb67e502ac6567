"""The ablations: a design in which no effect hides another, and effects with their intervals."""

from itertools import combinations

import numpy as np
import pytest

from benchmarks.ablations import (
    CHANGES,
    TRAININGS,
    Ablations,
    design,
    effects,
    read_ablations,
    trainings,
)
from ensemble.pipeline.data.prepare import prepare, read_folds
from evaluation.core.errors import BadSpec
from evaluation.core.run_folder import OOF, Run
from members.data.dataset import DataSet


def test_no_change_is_mixed_with_another_or_with_a_joint_effect_of_two():
    signs = 2.0 * design(CHANGES) - 1
    assert (signs.sum(axis=0) == 0).all()
    assert (signs.T @ signs == TRAININGS * np.eye(CHANGES)).all()
    for a, b in combinations(range(CHANGES), 2):
        assert ((signs[:, a] * signs[:, b]) @ signs == 0).all()


def test_changes_replace_keys_and_add_augmentations():
    changes = {"a": {"augment": ["blur"]}, "b": {"epochs": 7}, "c": {"augment": ["cut_mix"]}}
    config = Ablations(recipe={"epochs": 3}, changes=changes)
    recipe = config.changed(iter(["a", "b", "c"]))
    assert recipe.augment == ("flips", "blur", "cut_mix")
    assert recipe.epochs == 7
    assert config.changed(iter([])).epochs == 3


@pytest.mark.parametrize("change", ["a: {ema: 0.5}, b: {ema: 0.9}", "a: {patience: 3}"])
def test_changes_that_hide_each_other_are_refused(tmp_path, change):
    path = tmp_path / "a.yaml"
    path.write_text(f"changes: {{{change}}}", encoding="utf-8")
    with pytest.raises(BadSpec, match="expected once at most"):
        read_ablations(path)


@pytest.mark.parametrize("content", ["[]", "changes: {}", "changes: {%s}"])
def test_a_file_without_a_usable_number_of_changes_is_refused(tmp_path, content):
    nine = ", ".join(f"c{k}: {{ema: 0.5}}" for k in range(9))
    path = tmp_path / "a.yaml"
    path.write_text(content % nine if "%" in content else content, encoding="utf-8")
    with pytest.raises(BadSpec, match=r"a\.yaml holds"):
        read_ablations(path)


@pytest.mark.parametrize("rounds", [1, 2])
def test_planted_effects_are_found_and_lie_in_their_intervals(sample_files, tmp_path, rounds):
    """Accuracy of the held-out pixels depends on two of four changes, and a little on chance."""
    data, validation = map(str, sample_files)
    keys = ("ema", "epochs", "oversample", "batch")
    changes = {
        name: {key: 0.5 if key == "ema" else 2} for name, key in zip("abcd", keys, strict=True)
    }
    config = Ablations(data=data, validation=validation, folds=2, changes=changes)
    run = Run(tmp_path / "run")
    prepare(run, config, lambda _: None)
    planted = np.array([0.1, 0.0, -0.06, 0.0])
    rng, images = np.random.default_rng(0), DataSet.load(run.data(OOF))
    classes = len(images.classes)
    for index, training in enumerate(trainings(run, config, rounds)):
        held_out = read_folds(run)[index // TRAININGS].held_out(len(images))
        row = design(4)[index % TRAININGS]
        share = 0.6 + planted @ row + rng.normal(0, 0.005)
        tables = np.zeros((2, len(held_out), classes, classes), np.int64)
        for view, extra in enumerate((0.0, 0.02)):
            right = np.round(1000 * (share + extra + rng.normal(0, 0.02, len(held_out))))
            tables[view, :, 1, 1], tables[view, :, 1, 2] = right, 1000 - right
            tables[view, :, 2, 2] = 1000
        np.save(training.out, tables)
    found = {row["change"]: row for row in effects(run, config, rounds)}
    assert list(found) == [*"abcd", "flips at test time"]
    for name in "bd":
        assert found[name]["low"] < 0 < found[name]["high"]
    assert found["a"]["low"] > 0.05
    assert found["c"]["high"] < -0.02
    assert found["flips at test time"]["low"] > 0
    assert found["a"]["high"] - found["a"]["low"] < 0.03
