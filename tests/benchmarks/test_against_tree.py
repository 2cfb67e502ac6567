"""`python -m benchmarks.against_tree`: two source trees run the same commands on the same files."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import against_tree as module
from benchmarks.against_tree import COMMANDS, HERE, OTHER, THIS, against_tree, read_target
from evaluation.core.errors import BadRun


@pytest.mark.slow
def test_a_tree_is_compared_with_itself():
    line = [str(HERE), "--images", "8", "--rounds", "1", "--json"]
    answer = CliRunner().invoke(against_tree, line, catch_exceptions=False)
    document = json.loads(answer.stdout)
    assert document["shape"] == [8, 64, 128]
    assert set(document["commands"]) == set(COMMANDS)
    for sides in document["commands"].values():
        assert set(sides) == {THIS, OTHER}
        assert sides[OTHER]["ratio_of_minima"] == 1
        assert sides[THIS]["minimum_s"] > 0


def test_trees_take_turns_and_minima_are_compared(monkeypatch):
    seen = []

    def instead(tree, lines, folder):
        seen.append(tree == HERE)
        assert {path.name for path in folder.iterdir()} == {"a.npy", "b.npy", "target.npy"}
        return {name: (2.0 if tree == HERE else 4.0) + len(seen) for name in lines}

    monkeypatch.setattr(module, "_measure", instead)
    target = np.zeros((2, 16, 24), np.uint8)
    document = module.bench_against_tree(HERE.parent, target, 3, 2, lambda line: None)
    assert seen == [False, True, True, False]
    assert document["commands"]["score"][THIS]["ratio_of_minima"] == pytest.approx(4 / 5)
    assert "0.80" in module.format_against_tree(document)


def test_a_folder_without_the_packages_is_refused(tmp_path):
    with pytest.raises(BadRun, match="not the packages of"):
        module._measure(tmp_path, {}, tmp_path)


def test_the_drawn_sample_has_masks_of_one_size():
    target, classes = read_target(8, None)
    assert (target.shape, classes) == ((8, 64, 128), 5)
    assert target.max() < classes
