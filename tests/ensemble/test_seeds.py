"""Seeds from 0 to 2^64 - 1 work everywhere; others are refused before anything is done."""

import json

import numpy as np
import pytest
import yaml

import ensemble
from ensemble.strategies import STRATEGIES
from evaluation.core.errors import BadSpec
from evaluation.core.seeds import MAX_SEED, check_seed, seed_32_bits

LARGE = [2**32 - 1, 2**32, 2**63, MAX_SEED]
BAD = [-1, MAX_SEED + 1, True]
SAMPLING = [
    "greedy(bags=2)",
    "gate",
    "evidence",
    "weighted_mean",
    "stacking",
    "stacking_boosted(rounds=2)",
    "stacking_conv(width=2, steps=2)",
    "mean(calibrate=isotonic)",
]


def maps(seed):
    drawn = np.random.default_rng(seed).random((8, 3, 8, 8), np.float32)
    return drawn / drawn.sum(axis=1, keepdims=True)


def fused(strategy, seed):
    target = np.random.default_rng(9).integers(0, 3, (8, 8, 8), np.uint8)
    images = np.zeros((8, 1, 8, 8), np.uint8)
    held_out = {"fit_maps": [maps(1), maps(2)], "fit_target": target, "fit_images": images}
    return ensemble.fuse([maps(3), maps(4)], strategy, images=images, seed=seed, **held_out)


@pytest.mark.parametrize("seed", LARGE)
@pytest.mark.parametrize("strategy", SAMPLING)
def test_every_strategy_that_samples_takes_a_large_seed(strategy, seed):
    assert np.isfinite(fused(strategy, seed)).all()


@pytest.mark.parametrize("seed", BAD)
def test_the_api_refuses_what_is_no_seed(seed):
    target = np.zeros((2, 1, 2), np.uint8)
    for call in (
        lambda: fused("stacking", seed),
        lambda: ensemble.compare(target, {"a": target}, classes=2, seed=seed),
        lambda: check_seed(seed),
    ):
        with pytest.raises(BadSpec, match=r"seed .*; expected an integer from 0 to 2\^64 - 1"):
            call()


def test_a_seed_that_fits_in_32_bits_is_passed_on_as_it_is():
    assert [seed_32_bits(seed) for seed in (0, 7, 2**32 - 1)] == [0, 7, 2**32 - 1]
    large = [seed_32_bits(2**32 + k) for k in range(100)]
    assert len(set(large)) == 100
    assert all(0 <= seed < 2**32 for seed in large)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
@pytest.mark.parametrize(
    "words",
    [
        ["fuse", "--maps", "a.npy", "--strategy", "mean", "--out", "b.npy"],
        ["tune-postproc", "--run", "r"],
        ["train-members", "--run", "r"],
        ["search", "space.yaml", "--run", "r"],
        ["search-loss", "--losses", "dice,focal", "--run", "r"],
    ],
    ids=lambda words: words[0],
)
def test_every_command_refuses_what_is_no_seed(refusal, words, seed):
    assert "is not in the range" in refusal(*words, f"--seed={seed}")


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_an_experiment_and_a_spec_refuse_what_is_no_seed(tmp_path, refusal, seed):
    file = tmp_path / "e.yaml"
    file.write_text(f"seed: {seed}\n")
    assert "'seed' got" in refusal("run", file, "--run", tmp_path / "run")
    with pytest.raises(BadSpec, match="seed"):
        STRATEGIES.check(f"stacking(seed={-1})")


def test_a_run_takes_the_largest_seed_in_every_command(tmp_path, sample_files, answer):
    run, seed = tmp_path / "run", MAX_SEED
    data, validation = sample_files
    options = ["--folds", "2", "--epochs", "1", "--workers", "1", "--data", data]
    members = ["--member", "one=unet(width=2, depth=1)", "--validation", validation]
    answer("train-members", "--run", run, "--seed", seed, *options, *members)
    answer("fuse", "--run", run, "--strategy", "stacking_boosted(rounds=2)")
    assert "stacking_boosted_argmax" in answer("score", "--run", run)
    assert yaml.safe_load((run / "experiment.yaml").read_text())["seed"] == MAX_SEED
    searched = ["--fusion", "stacking_boosted", "--seed", seed, "--trials", "2"]
    document = json.loads(answer("tune-postproc", "--run", run, *searched, "--json"))
    assert document["trials"] == {"complete": 6}  # two in each of two folds, and on all
