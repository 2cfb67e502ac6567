"""Everything that an experiment asks for; only what is missing or stale is done."""

from collections.abc import Callable

from ensemble.pipeline.experiment import Experiment
from ensemble.pipeline.fusing import make_fusion, planned
from ensemble.pipeline.postprocessing import make_candidate
from ensemble.pipeline.prepare import run_classes
from ensemble.pipeline.scoring import score_run
from ensemble.pipeline.sources import Sources
from ensemble.pipeline.training import train_members
from ensemble.strategy import check_strategy
from evaluation.ground.layout import Run
from evaluation.ground.locks import writing
from evaluation.leaderboard import Leaderboard
from postproc.chain import parse_chain

Tell = Callable[[str], None]


def run_experiment_file(
    run: Run, experiment: Experiment, *, device: str, workers: int | None, tell: Tell
) -> Leaderboard:
    """Train, fuse, post-process and score what an experiment names.

    Args:
        run: the experiment folder.
        experiment: what is asked.
        device: see `members.devices.devices`.
        workers: processes on each device.
        tell: gets a line for whatever was decided or done.

    Raises:
        EnsError: bad input; specs are all looked at before any work.
    """
    check_specs(experiment)
    train_members(run, experiment, device=device, workers=workers, tell=tell)
    classes = run_classes(run)
    with writing(run.path):
        sources = Sources.of(run)
        for name in experiment.fusions:
            make_fusion(sources, planned(experiment, sources, name), tell)
        for name in experiment.fusions:
            for chain_name, chain in experiment.chains.items():
                parse_chain(chain, classes=len(classes), ignore=classes.ignore)
                candidate = f"{name}_{chain_name}"
                make_candidate(sources, name, chain, name=candidate, tell=tell)
    return score_run(run, split="validation", protocol="masked", tell=tell)


def check_specs(experiment: Experiment) -> None:
    """Refuse specs that name something unknown.

    Raises:
        BadSpec: the first of them.
    """
    for recipe in experiment.recipes().values():
        recipe.check()
    for fusion in experiment.fusions.values():
        strategy = fusion if isinstance(fusion, str) else fusion.strategy
        check_strategy(strategy)
    classes = experiment.named_classes()
    for chain in experiment.chains.values():
        count, ignore = (len(classes), classes.ignore) if classes else (2, 0)
        parse_chain(chain, classes=count, ignore=ignore)
