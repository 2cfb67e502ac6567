"""Tuning: what is read from a space file and a grid's axes, and what is told in the end."""

import pytest

from ensemble.pipeline.tuning import grid, results
from ensemble.pipeline.tuning.space import read_space
from evaluation.core.errors import BadSpec
from evaluation.core.specs import Spec
from postproc.chain import StepContext


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("blur: [1, 2]", r"blur got \[1, 2\]; expected options such as remove_small"),
        ("blur: {sigma: [[1, 2]]}", r"blur\.sigma: choice \[1, 2\]; expected a number or a word"),
        ("blur: {sigma: {low: much, high: 2}}", r"blur\.sigma: 'low': Input should be a valid"),
        ("blur: {sigma: {low: 1, high: 2, wide: 3}}", r"blur\.sigma: 'wide': "),
    ],
)
def test_options_that_are_none_are_refused_with_the_file(tmp_path, space, words):
    file = tmp_path / "space.yaml"
    file.write_text(space)
    with pytest.raises(BadSpec, match=rf"space\.yaml: {words}"):
        read_space(file, StepContext(3, 0, 0.0))


class TestAGridsAxes:
    def test_need_values(self):
        with pytest.raises(BadSpec, match=r"--grid 'blur\.sigma=' names no value; expected crf"):
            grid.read_axis("blur.sigma=")

    def test_need_a_step_of_the_chain(self):
        with pytest.raises(BadSpec, match=r"--grid blur\.sigma; --chain has no step 'blur'"):
            grid.with_options([Spec("open")], (grid.read_axis("blur.sigma=1,2"), 1))

    def test_set_their_option_and_leave_the_others(self):
        specs = [Spec("open", (), {"size": 3}), Spec("blur", (), {"sigma": 9, "mode": "flat"})]
        found = grid.with_options(specs, (grid.read_axis("blur.sigma=1,2"), 2))
        assert found[0] == specs[0]
        assert found[1].options == {"sigma": 2, "mode": "flat"}


RESULT = {
    "run": "run",
    "name": "t",
    "of": "mean",
    "chain": "",
    "trials": {"done": 4},
    "steps": [],
    "images": 12,
    "groups": 1,
    "plain": 0.5,
    "tuned": 0.75,
    "examined": 0.625,
    "optimism": 0.125,
    "examined_gain": {"gain": 0.125, "interval": None},
    "classes_that_fall": [],
    "folds": [],
}
STEP = {"step": "blur", "gain": -0.25, "interval": {"low": -0.5, "high": 0.0}}


class TestWhatIsTold:
    def test_one_group_has_no_interval(self):
        assert "examined gain       +0.1250  (no interval: one group)" in results.as_text(RESULT)

    def test_no_chain_is_told_as_none(self):
        assert "chain: none; no step is shown to help" in results.as_text(RESULT)
        assert "classes that fall" not in results.as_text(RESULT)

    def test_classes_that_fall_are_named(self):
        said = results.as_text(RESULT | {"classes_that_fall": ["soil", "rock"]})
        assert "  classes that fall   soil, rock" in said.splitlines()

    @pytest.mark.parametrize(
        ("kept", "falls", "why"),
        [
            (True, [], "kept"),
            (False, ["rock"], "dropped: rock falls"),
            (False, [], "dropped: not shown to help"),
        ],
    )
    def test_a_step_is_told_with_why(self, kept, falls, why):
        step = STEP | {"kept": kept, "classes_that_fall": falls}
        said = results.as_text(RESULT | {"steps": [step]}).splitlines()
        assert f"  -0.2500 (-0.5000 to +0.0000)  blur  {why}" in said
