"""Chains that learn: fitted on the out-of-fold maps of a run, and kept beside the candidate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.pipeline.candidates.leakage import leakage_warnings
from ensemble.pipeline.data.prepare import split_identity
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import (
    OOF,
    RunMembers,
    check_no_leakage,
    fold_indices,
    leave_one_fold_out,
)
from evaluation.core.classes import Classes
from evaluation.core.errors import BadRun
from evaluation.core.files import read_json, write_json
from evaluation.core.provenance import (
    digest,
    digests,
    invalidate,
    is_current,
    record,
    verify_outputs,
)
from evaluation.core.run_folder import Run
from evaluation.core.specs import split_chain
from members.data.dataset import DataSet
from postproc.chain import Chain, parse_chain
from postproc.fit_chain import fit_chain
from postproc.postprocess import OutOfFoldChain
from postproc.steps import STEPS

FITTED, PART = "fitted.json", "fitted"


@dataclass(frozen=True)
class FittedChain:
    """What a chain has become, for each split.

    Args:
        chain: fitted on all of `oof`, or one that learns nothing.
        crossed: for `oof` itself: a chain for each fold, fitted on the others.
    """

    chain: Chain
    crossed: OutOfFoldChain | None = None

    def of(self, split: str) -> Chain | OutOfFoldChain:
        """Return what labels a split."""
        return self.crossed if split == OOF and self.crossed else self.chain


def check_chains(experiment: Experiment, classes: Classes | None) -> None:
    """Refuse chains that cannot be built.

    Args:
        experiment: whose.
        classes: of the data; None while they are not known, and no class can be out of range.

    Raises:
        BadSpec: the first of them.
    """
    for text in experiment.chains.values():
        if classes is not None:
            parse_chain(text, classes=len(classes), ignore=classes.ignore)
            continue
        for part in split_chain(text):
            STEPS.check(part, "classes", "ignore", "floor")


def fit_on_oof(
    sources: RunMembers, source: str, chain: Chain, log: Callable[[str], None]
) -> FittedChain:
    """Fit the steps of a chain that learn, on all of `oof` and without each fold.

    Args:
        sources: of the run.
        source: name of the fusion or member.
        chain: what to fit; one that learns nothing comes back as it is.
        log: receives a line for whatever looks like a leak.

    Raises:
        BadRun: the source has no maps of `oof`, or those of other images.
        Leak: it was trained on some of the images.
        BadData: no scored pixel, in all folds but one even.
    """
    if not chain.learns:
        return FittedChain(chain)
    run = sources.run
    if OOF not in sources.splits(source):
        raise BadRun(f"chain {chain} learns from out-of-fold maps; {source!r} has none")
    maps, data = sources.open(source, OOF), DataSet.load(run.data(OOF))
    if maps.ids != data.ids:
        raise BadRun(f"{source!r} has maps of other images than {OOF}; make them again")
    check_no_leakage(f"chain {chain}", source, maps, cure="or take a chain that learns nothing")
    target, folds = np.asarray(data.target()), fold_indices(run)
    fitted = fit_chain(chain, maps, target, data.images)
    each = [
        fit_chain(chain, maps, others, data.images) for others in leave_one_fold_out(target, folds)
    ]
    for line in leakage_warnings(sources, [source]):
        log(line)
    return FittedChain(fitted, OutOfFoldChain(each, folds))


def fit_inputs(sources: RunMembers, source: str, chain: Chain) -> dict[str, str]:
    """Return the identities of all that a chain learned from; nothing where it does not learn."""
    if not chain.learns:
        return {}
    return {
        "fit_maps": str(sources.identity(source, OOF)),
        "fit_data": split_identity(sources.run, OOF),
        "folds": digest(sources.run.folds),
    }


def save_fitted_chain(
    run: Run,
    candidate: str,
    fitted: FittedChain,
    *,
    asked: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    """Write what a candidate's chain has become, in the words that `--chain` takes.

    Args:
        run: the experiment folder.
        candidate: its name.
        fitted: its chain.
        asked: what is asked of the candidate.
        inputs: what the chain learned from; see `fit_inputs`.
    """
    folder = run.path / "labels" / candidate
    invalidate(folder, PART)
    (folder / FITTED).unlink(missing_ok=True)
    if fitted.crossed is not None:
        without = [str(chain) for chain in fitted.crossed.chains]
        write_json(folder / FITTED, {"chain": str(fitted.chain), "without_fold": without})
    written = digests(folder, [FITTED] if fitted.crossed else [])
    record(folder, asked=asked, inputs=inputs, outputs=written, part=PART)


def fitted_chain_is_current(
    run: Run, candidate: str, *, asked: Mapping[str, Any], inputs: Mapping[str, str]
) -> bool:
    """Tell whether what `save_fitted_chain` wrote is there and of just this."""
    folder = run.path / "labels" / candidate
    return is_current(folder, asked=asked, inputs=inputs, part=PART)


def read_fitted_chain(run: Run, candidate: str) -> dict[str, Any] | None:
    """Return what a candidate's chain has become; None where it learned nothing.

    Raises:
        BadRun: it is not what was written.
    """
    file = run.path / "labels" / candidate / FITTED
    verify_outputs(file.parent, PART)
    return dict(read_json(file)) if file.is_file() else None
