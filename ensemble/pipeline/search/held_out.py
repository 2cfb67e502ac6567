"""The score of a recipe on images that its network was not trained on; the data of a search."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ensemble.pipeline.data.prepare import prepare, run_classes, split_identity
from ensemble.pipeline.run.experiment import Experiment, read_experiment, resolve_data_path
from ensemble.pipeline.run.open_run import check_metric_defined
from evaluation.confusion import confusion
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.label_options import NOTHING_SAID, LabelOptions
from evaluation.core.progress import Log
from evaluation.core.provenance import digest
from evaluation.core.run_folder import OOF, Run
from evaluation.iou import Tables
from evaluation.protocols import build_protocol
from evaluation.run_metric import MASKED, metric_config, named_metric, summed_form
from members.data.dataset import DataSet
from members.data.layouts import DEFAULT_LAYOUT, LayoutOptions
from members.network import check_size
from members.predict import predict
from members.recipe import Member, Recipe
from members.resizing import resized_extent
from members.train import Fold, load_network, train_fold
from members.trainers.loop import EpochCallback


def held_out_counts(
    member: Member,
    data: DataSet,
    fold: Fold,
    *,
    seed: int,
    device: str,
    metric: str = MASKED,
    watch: EpochCallback = lambda _: None,
) -> Tables:
    """Train in one fold and count the pixels of its held-out images.

    The weights equal those of `train-members` for the same member, fold and seed; none are kept.

    Args:
        member: what to train; not a family of specialists.
        data: the training images with target.
        fold: which of them may be used for training.
        seed: of the training.
        device: `cpu` or `cuda:K`.
        metric: see `members.train.train_fold`.
        watch: see `members.train.train_fold`.

    Returns:
        Pixels, (target, prediction), summed over the held-out images.

    Raises:
        EnsError: the member cannot be trained.
    """
    with TemporaryDirectory(prefix="ens-search-") as name:
        folder = Path(name)
        train_fold(
            member,
            data,
            fold,
            seed=seed,
            device=device,
            folder=folder,
            metric=metric,
            watch=watch,
        )
        network = load_network(member, folder, channels=data.channels, classes=len(data.classes))
    network = network.to(device)
    held_out = fold.held_out(len(data))
    total: Tables = np.zeros((len(data.classes),) * 2, np.int64)
    extent = data.extent.take(held_out)
    for block in blocks(extent):
        maps = predict(network, np.asarray(data.images[held_out[block]]), device, member)
        target = np.asarray(data.target()[held_out[block]])
        total += confusion(target, argmax(maps), classes=len(data.classes)).sum(axis=0)
    return total


def score_counts(counts: Tables, metric: str, classes: Classes) -> float:
    """Score counts (target, prediction), which are summed over images; NaN if undefined.

    Args:
        counts: of the held-out images.
        metric: in its `summed_form`.
        classes: of the counts.
    """
    return float(build_protocol(metric, classes)(counts, classes.ignore).miou)


def searched_metric(run: Run, experiment: Experiment) -> str:
    """Return the metric of a prepared run as an experiment sets it, for summed pixels.

    Raises:
        BadSpec: it names a class that the run has not.
        BadData: it is undefined on the training images.
    """
    classes = run_classes(run)
    metric = summed_form(named_metric(experiment.metric, classes), classes)
    check_metric_defined(run, metric, OOF)
    return metric


def searched_experiment(
    run: Run,
    *,
    data: str | None,
    validation: str | None,
    experiment: Path | None,
    folds: int | None,
    seed: int | None,
    labels: LabelOptions = NOTHING_SAID,
    layout: LayoutOptions = DEFAULT_LAYOUT,
) -> Experiment:
    """Return the experiment of a run as changed by options; None leaves a setting as it is.

    The run need not exist. A file `experiment` replaces data, classes, folds and seed.

    Raises:
        BadSpec: an experiment file that cannot be read.
    """
    base = read_experiment(run.experiment) if run.experiment.is_file() else Experiment()
    if experiment is not None:
        kept = {"members": base.members, "fusions": base.fusions, "chains": base.chains}
        base = read_experiment(experiment).model_copy(update=kept)
    given = {
        "data": data and resolve_data_path(data),
        "validation": validation and resolve_data_path(validation),
        "folds": folds,
        "seed": seed,
    }
    base = base.model_copy(update={key: v for key, v in given.items() if v is not None})
    return base.with_data_options(labels, layout)


def prepare_search(
    run: Run, experiment: Experiment, recipes: list[Recipe], log: Log
) -> dict[str, str]:
    """Write the run's data and folds if missing, and check that the recipes fit the images.

    What was decided is logged once nothing can be refused any more.

    Returns:
        The digests of what a score depends on besides the recipe.

    Raises:
        BadData: data that cannot be prepared, a size that an architecture does not take, or a
            metric that is undefined on them.
    """
    lines: list[str] = []
    prepare(run, experiment, lines.append)
    extent = DataSet.load(run.data(OOF)).extent
    for architecture, size in dict.fromkeys((r.architecture, r.size) for r in recipes):
        check_size(architecture, resized_extent(extent, size))
    metric = searched_metric(run, experiment)
    experiment.write(run.experiment)
    for line in lines:
        log(line)
    return {"data": split_identity(run, OOF), "folds": digest(run.folds), **metric_config(metric)}
