"""A result depends on what it was made from, and on nothing else."""

import json

import numpy as np
import pytest

from ensemble.pipeline.candidates.fuse import fuse_members, resolve_fusion
from ensemble.pipeline.candidates.postprocess import is_labelled, postprocess_run
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from evaluation.core.files import write_json
from evaluation.core.provenance import record
from evaluation.core.run_folder import OOF, Run
from members.data.dataset import write_classes
from tests.ensemble.test_run_refusals import CLASSES, IMAGES, add_maps, data_set

SPLITS = (OOF, "validation")


def silent(_):
    """Drop a line."""


@pytest.fixture
def run(tmp_path):
    """A run of two imported members with maps of both splits."""
    run = Run(tmp_path / "run")
    write_classes(run.classes, CLASSES)
    for seed, split in enumerate(SPLITS):
        data_set(split, seed).save(run.data(split))
        for name in ("one", "two"):
            add_maps(run, name, split)
    write_json(run.folds, {"folds": 2, "fold": [k % 2 for k in range(IMAGES)]})
    record(run.path / "data", config={}, inputs={})
    Experiment(data="sample", folds=2).write(run.experiment)
    return run


def relabel(split):
    def change(run):
        target = np.load(run.data(split) / "target.npy", mmap_mode="r+")
        target[0, 0, 0] = 3 - target[0, 0, 0]
        target.flush()

    return change


def refold(run):
    folds = json.loads(run.folds.read_text())
    folds["fold"][0] = 1 - folds["fold"][0]
    run.folds.write_text(json.dumps(folds))


def repaint(run):
    images = np.load(run.data("validation") / "images.npy", mmap_mode="r+")
    images[0, 0, 0, 0] ^= 1
    images.flush()


def remap(run):
    for split in SPLITS:
        record(run.probabilities("one", split), config={"foreign": "one", "again": True}, inputs={})


# what is changed -> whether results that learn and results that do not go stale
CHANGES = {
    "a pixel of the out-of-fold target": (relabel(OOF), True, False),
    "a pixel of the validation target": (relabel("validation"), False, False),
    "a fold": (refold, True, False),
    "the maps": (remap, True, True),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("strategy", "learns"),
    [
        ("mean", False),
        ("weighted_mean(weights=[1, 2])", False),
        ("stacking", True),
        ("mean(calibrate=temperature)", True),
    ],
)
def test_a_fusion_goes_stale_by_the_target_and_the_folds_only_if_it_learns(
    run, change, strategy, learns
):
    fuse_members(run, strategy, name="f", log=silent)
    how, stale_if_learned, stale_otherwise = CHANGES[change]
    how(run)
    run_members = RunMembers.of(run)
    spec = resolve_fusion(run_experiment(run), run_members, "f")
    assert spec.learns == learns
    stale = [not spec.is_current(run_members, split) for split in SPLITS]
    assert stale == [stale_if_learned if learns else stale_otherwise] * 2


@pytest.mark.parametrize("strategy", ["mean", "stacking"])
def test_a_fusion_of_one_split_depends_on_maps_of_oof_only_if_it_learns(run, strategy):
    fuse_members(run, strategy, name="f", log=silent)
    record(run.probabilities("one", OOF), config={"foreign": "one", "again": True}, inputs={})
    run_members = RunMembers.of(run)
    spec = resolve_fusion(run_experiment(run), run_members, "f")
    assert not spec.is_current(run_members, OOF)
    assert spec.is_current(run_members, "validation") == (strategy == "mean")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("chain", "learns"), [("mode_filter(size=3)", False), ("crf", False), ("class_bias", True)]
)
def test_labels_go_stale_by_the_target_and_the_folds_only_if_the_chain_learns(
    run, change, chain, learns
):
    name = postprocess_run(run, "one", chain, log=silent)
    how, stale_if_learned, stale_otherwise = CHANGES[change]
    how(run)
    run_members = RunMembers.of(run)
    stale = [not is_labelled(run_members, "one", chain, name, split) for split in SPLITS]
    assert stale == [stale_if_learned if learns else stale_otherwise] * 2


@pytest.mark.parametrize(("chain", "stale"), [("mode_filter(size=3)", False), ("crf", True)])
def test_labels_go_stale_by_the_images_only_if_a_step_needs_images(run, chain, stale):
    name = postprocess_run(run, "one", chain, log=silent)
    repaint(run)
    run_members = RunMembers.of(run)
    assert is_labelled(run_members, "one", chain, name, "validation") != stale
    assert is_labelled(run_members, "one", chain, name, OOF)
