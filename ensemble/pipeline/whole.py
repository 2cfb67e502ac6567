"""Everything that an experiment asks for; only what is missing or stale is done."""

from collections.abc import Callable

from ensemble.pipeline.chains import check_chains
from ensemble.pipeline.experiment import Experiment
from ensemble.pipeline.fusing import make_fusion, planned
from ensemble.pipeline.postprocessing import ARGMAX, make_candidate
from ensemble.pipeline.scoring import score_run
from ensemble.pipeline.sources import Sources
from ensemble.pipeline.training import train_members
from ensemble.strategy import check_strategy
from evaluation.ground.errors import BadSpec
from evaluation.ground.layout import Run
from evaluation.ground.locks import writing
from evaluation.leaderboard import Leaderboard

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
    with writing(run.path):
        sources = Sources.of(run)
        for name in experiment.fusions:
            make_fusion(sources, planned(experiment, sources, name), tell)
        for name in experiment.fusions:
            for chain_name, chain in experiment.chains.items():
                candidate = f"{name}_{chain_name}"
                make_candidate(sources, name, chain, name=candidate, tell=tell)
    return score_run(run, split="validation", protocol="masked", tell=tell)


def check_specs(experiment: Experiment) -> None:
    """Refuse specs that name something unknown, and two candidates of one name.

    Raises:
        BadSpec: the first of them.
    """
    for recipe in experiment.recipes().values():
        recipe.check()
    for fusion in experiment.fusions.values():
        strategy = fusion if isinstance(fusion, str) else fusion.strategy
        check_strategy(strategy)
    check_chains(experiment, experiment.named_classes())
    check_candidates(experiment)


def check_candidates(experiment: Experiment) -> None:
    """Refuse candidates whose names say the same of other labels.

    Raises:
        BadSpec: the first of them.
    """
    if experiment.chains.get(ARGMAX):
        raise BadSpec(f"chain {ARGMAX!r} has steps; that name is the empty chain's, take another")
    known: dict[str, str] = {}
    for fusion in experiment.fusions:
        for chain in experiment.chains:
            name = f"{fusion}_{chain}"
            if name in known:
                raise BadSpec(
                    f"fusion {known[name]!r} and fusion {fusion!r} both have a candidate {name!r};"
                    " rename a fusion or a chain"
                )
            known[name] = fusion
