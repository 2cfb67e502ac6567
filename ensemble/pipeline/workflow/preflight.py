"""Checks before a long run: rare classes, near-duplicate images, fusions that would be refused."""

from ensemble.pipeline.candidates.fuse import strategy_learns
from ensemble.pipeline.candidates.leakage_warnings import cross_fold_duplicates
from ensemble.pipeline.members.networks import declared_ids, external_description
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import RunMembers, check_no_leakage
from evaluation.core.errors import BadRun, BadSpec, LeakageError, format_count
from evaluation.core.run_folder import OOF, Run
from members.batches import class_shares
from members.data.cleaning.near_duplicates import describe_duplicates, shared_groups
from members.data.dataset import DataSet
from members.recipe import Member

RARE_SHARE = 1e-3


def data_warnings(run: Run) -> list[str]:
    """List the classes that cannot be learned or evaluated, and images that leak across folds."""
    warnings, splits = [], run.splits()
    for split in splits:
        data = DataSet.load(run.data(split))
        if data.masks is None:
            continue
        shares = class_shares(data.masks, len(data.classes))
        absent = [data.classes.names[label] for label in data.classes.scored if not shares[label]]
        rare = [
            f"{data.classes.names[label]} ({shares[label]:.2%})"
            for label in data.classes.scored
            if 0 < shares[label] < RARE_SHARE
        ]
        if absent:
            warnings.append(f"{split}: no pixel of {', '.join(absent)}")
        if rare:
            warnings.append(f"{split}: almost no pixels of {', '.join(rare)}")
    held_out = [DataSet.load(run.data(s)) for s in (OOF, "validation") if s in splits]
    if warning := shared_groups(held_out):
        return [*warnings, warning]
    duplicates = cross_fold_duplicates(run)
    if duplicates:
        names = [name for split in splits for name in DataSet.load(run.data(split)).ids]
        where = "in another fold or in validation"
        warnings.append(describe_duplicates(duplicates, names, where))
    return warnings


def check_fusion(run_members: RunMembers, experiment: Experiment, name: str) -> bool:
    """Refuse a fusion that would be refused after training; tell whether it learns from maps.

    Only imported members need to have maps yet.

    Raises:
        BadSpec: a strategy that does not fit its members, such as weights of another number.
        BadRun: one that learns, over an imported member without maps of `oof`.
        LeakageError: one that learns from images that an imported member was trained on.
    """
    entry = experiment.fusion_entry(name)
    members = entry.members or tuple(run_members.names())
    try:
        learns = strategy_learns(run_members, entry.strategy, members, seed=experiment.seed)
    except BadSpec as error:
        raise BadSpec(f"fusion {name!r}: {error}") from None
    partial = entry.missing == "renormalise"
    for member in sorted(set(members) & set(run_members.imported)) if learns else []:
        if run_members.digest(member, OOF, partial=partial) is None:
            raise BadRun(
                f"fusion {name!r} learns from out-of-fold maps, and {member!r} has none; import"
                f" them by --split {OOF}, or name other members"
            )
        maps = run_members.open(member, OOF, partial=partial)
        check_no_leakage(f"fusion {name!r}", member, maps, hint="or name other members")
    for network in run_members.networks:
        if learns and network.name in members:
            _check_declared(run_members, name, network)
    return learns


def _check_declared(run_members: RunMembers, fusion: str, network: Member) -> None:
    """Refuse to learn from a network that declares to be trained on the images of `oof`.

    Raises:
        LeakageError: it does.
    """
    declared = declared_ids(run_members.run, external_description(network)) or ()
    leaked = set(declared) & set(DataSet.load(run_members.run.data(OOF)).ids)
    if leaked:
        raise LeakageError(
            f"fusion {fusion!r} would rely on {format_count(len(leaked), 'image')} that"
            f" {network.name!r} was trained on; name other members"
        )
