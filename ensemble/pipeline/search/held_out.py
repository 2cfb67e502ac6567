"""The score of a recipe on images that its network did not see: what all searches go by.

The data of a search: those of a run, prepared as `train-members` does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ensemble.pipeline.data.prepare import prepare, split_identity
from ensemble.pipeline.run.experiment import Experiment, read_experiment, resolve_data_path
from evaluation.confusion import confusion
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks
from evaluation.core.provenance import digest
from evaluation.core.run_folder import Run
from evaluation.iou import Tables
from evaluation.protocols import PROTOCOLS
from members.data.dataset import DataSet
from members.network import check_size
from members.predict import predict
from members.recipe import Member, Recipe
from members.train import Fold, load_network, train_fold
from members.trainers.loop import Watch


def held_out_counts(
    member: Member,
    data: DataSet,
    fold: Fold,
    *,
    seed: int,
    device: str,
    watch: Watch = lambda _, __: None,
) -> Tables:
    """Train in one fold and count on the images that were left out of it.

    Nothing is kept but the counts. The weights are those of `train-members` for the same member,
    fold and seed.

    Args:
        member: what to train; no specialist.
        data: the training images with target.
        fold: which of them may be seen.
        seed: of the training.
        device: `cpu` or `cuda:K`.
        watch: see `members.train.train_fold`.

    Returns:
        Pixels, (true class, predicted class), summed over the held-out images.

    Raises:
        EnsError: the member cannot be trained so.
    """
    with TemporaryDirectory(prefix="ens-search-") as name:
        folder = Path(name)
        train_fold(member, data, fold, seed=seed, device=device, folder=folder, watch=watch)
        network = load_network(member, folder, channels=data.channels, classes=len(data.classes))
    network = network.to(device)
    held = np.setdiff1d(np.arange(len(data)), fold.training)
    total: Tables = np.zeros((len(data.classes),) * 2, np.int64)
    for block in blocks(len(held)):
        maps = predict(network, np.asarray(data.images[held[block]]), device, member)
        target = np.asarray(data.target()[held[block]])
        pred = argmax(maps)
        total += confusion(target, pred, classes=len(data.classes)).sum(axis=0)
    return total


def masked_miou(counts: Tables, ignore: int | None) -> float:
    """Return the masked mIoU of counts (true class, predicted class); NaN where nothing counts."""
    return float(PROTOCOLS.build("masked")(counts, ignore).miou)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Count what one recipe does in one fold; a picklable job for a device."""

    member: Member
    data: Path
    fold: Fold
    seed: int

    def __call__(self, device: str) -> Tables:
        """Train and count; see `held_out_counts`."""
        data = DataSet.load(self.data)
        return held_out_counts(self.member, data, self.fold, seed=self.seed, device=device)


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
        "data": data and resolve_data_path(data),
        "validation": validation and resolve_data_path(validation),
        "folds": folds,
        "seed": seed,
    }
    return base.model_copy(update={key: v for key, v in given.items() if v is not None})


def lay_out(
    run: Run, experiment: Experiment, recipes: list[Recipe], log: Callable[[str], None]
) -> None:
    """Write the run's data and folds where they are not, and check that recipes fit the images.

    Args:
        run: the experiment folder.
        experiment: says which data.
        recipes: what may be trained.
        log: receives a line for whatever was decided, once nothing is refused any more.

    Raises:
        BadData: data that cannot be used, or images too small.
        BadRun: the run holds members of other data.
    """
    decided: list[str] = []
    prepare(run, experiment, decided.append)
    shape = DataSet.load(run.data("oof")).shape
    for architecture in dict.fromkeys(recipe.architecture for recipe in recipes):
        check_size(architecture, *shape)
    experiment.write(run.experiment)
    for line in decided:
        log(line)


def data_identity(run: Run) -> dict[str, str]:
    """Return the digests of what a score depends on besides the recipe."""
    return {"data": split_identity(run, "oof"), "folds": digest(run.folds)}
