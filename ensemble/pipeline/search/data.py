"""The data of a search: those of a run, prepared as `train-members` does."""

from collections.abc import Callable
from pathlib import Path

from ensemble.pipeline.asked import full_path
from ensemble.pipeline.experiment import Experiment, read_experiment
from ensemble.pipeline.prepare import prepare, split_identity
from evaluation.ground.layout import Run
from evaluation.ground.provenance import digest
from members.data.dataset import DataSet
from members.network import check_size
from members.recipe import Recipe


def searched_experiment(
    run: Run,
    *,
    data: str | None,
    validation: str | None,
    experiment: Path | None,
    folds: int | None,
    seed: int | None,
) -> Experiment:
    """Return the experiment of a run with what options change; a file gives its data alone.

    Args:
        run: the experiment folder; need not be there.
        data: file or folder of the training data, or `sample`.
        validation: a labelled set, which no search looks at.
        experiment: a file to take data, classes, folds and seed from.
        folds: how many.
        seed: of folds and training.

    Raises:
        BadSpec: a file that cannot be read.
    """
    base = read_experiment(run.experiment) if run.experiment.is_file() else Experiment()
    if experiment is not None:
        mine = {"members": base.members, "fusions": base.fusions, "chains": base.chains}
        base = read_experiment(experiment).model_copy(update=mine)
    given = {
        "data": data and full_path(data),
        "validation": validation and full_path(validation),
        "folds": folds,
        "seed": seed,
    }
    return base.model_copy(update={key: v for key, v in given.items() if v is not None})


def lay_out(
    run: Run, experiment: Experiment, recipes: list[Recipe], tell: Callable[[str], None]
) -> None:
    """Write the run's data and folds where they are not, and check that recipes fit the pictures.

    Args:
        run: the experiment folder.
        experiment: says which data.
        recipes: what may be trained.
        tell: gets a line for whatever was decided, once nothing is refused any more.

    Raises:
        BadData: data that cannot be used, or pictures too small.
        BadRun: the run holds members of other data.
    """
    decided: list[str] = []
    prepare(run, experiment, decided.append)
    shape = DataSet.load(run.data("oof")).shape
    for architecture in dict.fromkeys(recipe.architecture for recipe in recipes):
        check_size(architecture, *shape)
    experiment.write(run.experiment)
    for line in decided:
        tell(line)


def data_identity(run: Run) -> dict[str, str]:
    """Return the digests of what a score depends on besides the recipe."""
    return {"data": split_identity(run, "oof"), "folds": digest(run.folds)}
