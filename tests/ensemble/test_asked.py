"""From the options of `train-members` to an experiment."""

import inspect

import pytest

from ensemble.pipeline.run.experiment import ZOO, ZOO_RECIPE, Experiment, experiment_from_options
from evaluation.core.errors import BadSpec
from evaluation.core.run_folder import Run


@pytest.fixture
def asked(tmp_path):
    """Ask with a few options; the others are not given."""
    at = Run(tmp_path / "run")
    parameters = list(inspect.signature(experiment_from_options).parameters.values())[1:]
    nothing = {p.name: None if p.default is p.empty else p.default for p in parameters}

    def ask(**options):
        return experiment_from_options(
            at, **(nothing | {"members": (), "drop_outliers": False} | options)
        )

    ask.at = at
    return ask


def test_without_options_the_small_zoo_is_trained(asked):
    experiment = asked()
    assert experiment.members == ZOO
    assert experiment.defaults == ZOO_RECIPE


def test_options_apply_to_the_small_zoo(asked):
    experiment = asked(epochs=3, folds=4)
    assert experiment.defaults == ZOO_RECIPE | {"epochs": 3}
    assert experiment.folds == 4


def test_members_that_a_run_has_are_not_replaced_by_the_zoo(asked):
    Experiment(data="sample", members={"net": {"architecture": "unet"}}).write(asked.at.experiment)
    assert list(asked().members) == ["net"]
    assert asked(epochs=5).members["net"]["epochs"] == 5


def test_two_members_of_one_name_are_refused(asked):
    with pytest.raises(BadSpec, match="member 'a' is given twice; write NAME=SPEC with distinct"):
        asked(members=("a=unet", "b=unet", "a=deeplab_v3_plus"))
