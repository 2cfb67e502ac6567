"""The jobs of a run: what trains and predicts its members, and whether that is still current."""

from collections.abc import Sequence
from pathlib import Path

from ensemble.pipeline.data.prepare import (
    classes_identity,
    run_classes,
    split_identity,
)
from ensemble.pipeline.members.teaching import (
    network_folds,
    teachers,
)
from ensemble.pipeline.run.experiment import Experiment
from evaluation.core.errors import BadRun
from evaluation.core.progress import Log
from evaluation.core.provenance import (
    digest,
    identity,
    is_current,
    is_intact,
)
from evaluation.core.run_folder import OOF, Run
from evaluation.run_metric import MASKED, metric_config, named_metric
from members.codecs import StoreDtype
from members.job_progress import show_jobs
from members.jobs import Job, PredictJob, TrainJob, run_jobs
from members.recipe import Member, is_student
from members.train import Fold


def training_job(run: Run, experiment: Experiment, member: Member, fold: Fold) -> TrainJob:
    """Return the job that trains a member in a fold of a run, with its inputs."""
    inputs = {
        "data": split_identity(run, OOF),
        "folds": digest(run.folds),
        "classes": classes_identity(run, names=False),
    }
    if is_student(member.recipe):
        (teacher,) = teachers(run, experiment, member, [fold])
        inputs |= teacher.input_digests()
    folder = run.model(member.name, fold.index)
    # A specialist is stopped by the mean IoU of its class and the rest, whatever the metric.
    metric = MASKED
    if member.label is None:
        metric = named_metric(experiment.metric, run_classes(run))
    config = {
        **member.training_config(),
        "fold": fold.index,
        "seed": experiment.seed,
        **metric_config(metric),
    }
    return TrainJob(member, run.data(OOF), fold, experiment.seed, folder, config, inputs, metric)


def is_trained(run: Run, experiment: Experiment, member: Member, fold: Fold) -> bool:
    """Tell whether a member's fold exists and would come out the same today."""
    return job_is_current(training_job(run, experiment, member, fold))


def prediction_job(
    run: Run, member: Member, split: str, folds: tuple[Fold, ...], dtype: StoreDtype
) -> PredictJob:
    """Return the job that writes a member's maps of a split, with its inputs.

    Raises:
        BadRun: the member lacks weights.
    """
    models = models_of(run, member, folds)
    inputs = {
        "images": split_identity(run, split, target=False),
        "classes": classes_identity(run),
    }
    for model in models:
        weights = identity(model)
        if weights is None:
            raise BadRun(
                f"member {member.name!r} lacks {model.name};"
                f" run `ens train-members --run {run.path} --only {member.name}`"
            )
        inputs[model.name] = weights
    return PredictJob(
        member,
        data=run.data(split),
        training=run.data(OOF),
        folds=folds,
        models=models,
        out_of_fold=split == OOF,
        folder=run.probabilities(member.name, split),
        dtype=dtype,
        config={**member.prediction_config(), "split": split, "dtype": dtype},
        inputs=inputs,
    )


def is_predicted(
    run: Run,
    member: Member,
    split: str,
    dtype: StoreDtype,
    folds: tuple[Fold, ...] | None = None,
) -> bool:
    """Tell whether a member's maps exist, by the models of these folds, and are current."""
    folds = folds or network_folds(run, member)
    if not has_all_weights(run, member, folds):
        return False
    return job_is_current(prediction_job(run, member, split, folds, dtype))


def job_is_current(job: Job) -> bool:
    """Tell whether what a job writes exists, is whole, and would come out the same today."""
    if is_current(job.folder, config=job.config, inputs=job.inputs):
        return is_intact(job.folder)
    if isinstance(job, TrainJob):
        return False
    # At first the records of maps named the target with the images, as `data`.
    before = {key: value for key, value in job.inputs.items() if key != "images"}
    before["data"] = split_identity(Run(job.data.parents[1]), job.data.name)
    return is_current(job.folder, config=job.config, inputs=before)


def models_of(run: Run, member: Member, folds: Sequence[Fold]) -> tuple[Path, ...]:
    """Return the folder of each fold's weights, or of the one network from elsewhere."""
    if member.network is not None:
        return (run.network(member.name),)
    return tuple(run.model(member.name, fold.index) for fold in folds)


def has_all_weights(run: Run, member: Member, folds: Sequence[Fold]) -> bool:
    """Tell whether a member has weights of every fold."""
    return all(identity(model) for model in models_of(run, member, folds))


def run_and_report(
    jobs: Sequence[Job],
    device_names: Sequence[str],
    workers: int | None,
    what: str,
    log: Log,
) -> dict[str, str]:
    """Run jobs; return the error of each member that failed, by name."""
    failed: dict[str, str] = {}
    ended = run_jobs(jobs, device_names, workers=workers)
    for job, error in show_jobs(ended, jobs, what):
        if error is None:
            log(f"{what}: {job.name} done")
        else:
            log(f"{what}: {job.name} failed: {error}")
            failed.setdefault(job.name.split()[0], str(error))
    return failed
