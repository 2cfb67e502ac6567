"""What to look at before a long run: classes nobody shows, images alike, fusions that leak."""

import numpy as np

from ensemble.fusion import LearnedFusion
from ensemble.pipeline.candidates.leakage import cross_fold_duplicates
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import OOF, RunMembers
from ensemble.strategy import build_strategy
from evaluation.core.errors import BadRun, BadSpec, LeakageError
from evaluation.core.run_folder import Run
from members.batches import class_shares
from members.data.dataset import DataSet
from postproc.chain import FLOAT16_FLOOR

RARE_SHARE = 1e-3


def data_warnings(run: Run) -> list[str]:
    """Say which classes cannot be learnt or examined, and which images leak through folds."""
    said = []
    for split in run.splits():
        data = DataSet.load(run.data(split))
        if data.masks is None:
            continue
        shares = class_shares(np.asarray(data.masks), len(data.classes))
        names = [data.classes.names[label] for label in data.classes.scored if not shares[label]]
        rare = [
            f"{data.classes.names[label]} ({shares[label]:.2%})"
            for label in data.classes.scored
            if 0 < shares[label] < RARE_SHARE
        ]
        if names:
            said.append(f"{split}: no pixel of {', '.join(names)}")
        if rare:
            said.append(f"{split}: hardly a pixel of {', '.join(rare)}")
    alike = cross_fold_duplicates(run)
    if alike:
        first, second = alike[0]
        said.append(
            f"{len(alike)} images show the same as one in another fold or in validation (first:"
            f" {first} and {second}); give groups, or drop them by `ens data clean`"
        )
    return said


def check_fusion(sources: RunMembers, experiment: Experiment, name: str) -> bool:
    """Refuse a fusion that would be refused after training; tell whether it learns from maps.

    Args:
        sources: the members; only foreign ones need to have maps yet.
        experiment: names the fusion.
        name: of it.

    Raises:
        BadSpec: a strategy that does not fit its members, such as weights of another number.
        BadRun: one that learns, over a foreign member without maps of `oof`.
        Leak: one that learns from images that a foreign member was trained on.
    """
    asked = experiment.fusions[name]
    strategy, chosen = (asked, ()) if isinstance(asked, str) else (asked.strategy, asked.members)
    members = chosen or sources.names()
    data = DataSet.load(sources.run.data(OOF))
    try:
        built = build_strategy(
            strategy,
            classes=len(data.classes),
            ignore=data.classes.ignore,
            kinds=("probabilities",) * len(members),
            floor=FLOAT16_FLOOR,
            seed=experiment.seed,
        )
    except BadSpec as error:
        raise BadSpec(f"fusion {name!r}: {error}") from None
    if isinstance(built, LearnedFusion):
        for member in set(members) & set(sources.foreign):
            _refuse_leak(sources, name, member)
    return isinstance(built, LearnedFusion)


def _refuse_leak(sources: RunMembers, fusion: str, member: str) -> None:
    if OOF not in sources.splits(member):
        raise BadRun(
            f"fusion {fusion!r} learns from out-of-fold maps, and {member!r} has none; import them"
            f" by --split {OOF}, or name other members"
        )
    saw = sources.open(member, OOF).saw()
    if saw is not None and saw.any():
        raise LeakageError(
            f"fusion {fusion!r} would learn from {int(saw.sum())} images that {member!r} was"
            " trained on; name other members"
        )
