"""Run a whole experiment; only what is missing or stale is done."""

from ensemble.pipeline.candidates.fuse import resolve_fusion, update_fusion
from ensemble.pipeline.candidates.postprocess import ARGMAX, update_candidate
from ensemble.pipeline.candidates.staleness import requested_candidates
from ensemble.pipeline.members.train import train_members
from ensemble.pipeline.run.experiment import Experiment, check_chains
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.pipeline.scoring.score import score_run
from ensemble.strategy import check_strategy
from evaluation.core.errors import BadSpec
from evaluation.core.progress import Log
from evaluation.core.run_folder import Run, run_lock
from evaluation.leaderboard import Leaderboard


def run_experiment(
    run: Run, experiment: Experiment, *, device: str, workers: int | None, log: Log
) -> Leaderboard:
    """Train, fuse, post-process and score what an experiment names.

    Raises:
        EnsError: bad input; all specs are checked before any work.
    """
    check_specs(experiment)
    train_members(run, experiment, device=device, workers=workers, log=log)
    with run_lock(run.path):
        run_members = RunMembers.of(run)
        for name in experiment.fusions:
            update_fusion(run_members, resolve_fusion(experiment, run_members, name), log)
        for name, (fusion, chain) in requested_candidates(experiment).items():
            update_candidate(run_members, fusion, chain, name=name, log=log, device=device)
    return score_run(run, split="validation", log=log)


def check_specs(experiment: Experiment) -> None:
    """Refuse specs that name something unknown, and two candidates of one name.

    Raises:
        BadSpec: the first of them.
    """
    for recipe in experiment.recipes().values():
        recipe.check()
    for name in experiment.fusions:
        check_strategy(experiment.fusion_entry(name).strategy)
    check_chains(experiment, experiment.named_classes())
    check_candidates(experiment)


def check_candidates(experiment: Experiment) -> None:
    """Refuse two candidates of one name.

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


DEMO = Experiment(
    data="sample",
    drop_outliers=True,
    defaults={
        "epochs": 8,
        "optimizer": "adamw(lr=4e-3)",
        "loss": "cross_entropy(weights=frequency, power=0.5)",
        "oversample": 2,
    },
    members={
        "unet": {
            "architecture": "unet(width=6, depth=3)",
            "loss": "cross_entropy(ignored_weight=1)",
        },
        "unet_aspp": {"architecture": "unet(width=8, depth=3, bottleneck=aspp)"},
        "deeplab": {"architecture": "deeplab_v3_plus(width=4)"},
        "specialists": {"architecture": "specialists(unet(width=4, depth=3))", "epochs": 5},
    },
    fusions={"mean": "mean", "per_class_vote": "per_class_vote", "stacking": "stacking"},
    chains={
        "suppressed": "suppress_background",
        "crf": "suppress_background|crf(iterations=5, bilateral_compat=3)",
        "cleaned": "suppress_background|mode_filter(size=5)|remove_small(min_area_px=64)",
    },
)
"""The whole job on the built-in sample, in a minute or two on two cores."""
