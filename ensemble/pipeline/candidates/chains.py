"""Chains whose steps learn: fitted on the out-of-fold maps of a run, saved beside the candidate."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.block_fusion import leave_one_fold_out
from ensemble.pipeline.candidates.leakage_warnings import leakage_warnings
from ensemble.pipeline.data.prepare import split_identity
from ensemble.pipeline.run.expected_record import ExpectedRecord
from ensemble.pipeline.run.open_run import OpenedSplit, RunMembers, open_split, run_metric
from evaluation.confusion import confusion
from evaluation.core.errors import BadRun
from evaluation.core.files import read_json, write_json
from evaluation.core.progress import Log
from evaluation.core.provenance import digest, digests, verify_outputs
from evaluation.core.run_folder import OOF, Run
from evaluation.protocols import build_protocol, score_images
from evaluation.run_metric import fitted_note, metric_config, metric_label
from postproc.chain import Chain
from postproc.fit_chain import fit_chain
from postproc.postprocess import OutOfFoldChain, postprocess

FITTED, PART = "fitted.json", "fitted"


@dataclass(frozen=True)
class FittedChain:
    """A chain as it is applied to each split.

    Args:
        chain: fitted on all of `oof`, or one that learns nothing.
        cross_fitted: for `oof` itself: a chain per fold, fitted on the other folds.
    """

    chain: Chain
    cross_fitted: OutOfFoldChain | None = None

    def for_split(self, split: str) -> Chain | OutOfFoldChain:
        """Return what labels a split."""
        return self.cross_fitted if split == OOF and self.cross_fitted else self.chain


def fit_on_oof(run_members: RunMembers, source: str, chain: Chain, log: Log) -> FittedChain:
    """Fit the steps of a chain that learn: once on all of `oof`, and once without each fold.

    A chain that learns nothing is returned as it is. Signs of leakage are logged.

    Raises:
        BadRun: the source has no maps of `oof`.
        BadMaps: its maps are of other images.
        LeakageError: it was trained on some of the images.
        BadData: no scored pixel, in all folds or in all but one.
    """
    if not chain.learns:
        return FittedChain(chain)
    if OOF not in run_members.splits(source):
        raise BadRun(f"chain {chain} learns from out-of-fold maps; {source!r} has none")
    oof = open_split(run_members, OOF, [source])
    oof.check_no_leakage(f"chain {chain}", hint="or take a chain that learns nothing")
    maps, images = oof.readers[0], oof.data.images
    fitted = fit_chain(chain, maps, oof.target, images)
    without_fold = [
        fit_chain(chain, maps, target, images)
        for target in leave_one_fold_out(oof.target, oof.folds)
    ]
    result = FittedChain(fitted, OutOfFoldChain(without_fold, oof.folds))
    if chain.optimises:
        if note := fitted_note(run_metric(run_members.run)):
            log(f"{chain}: {note}")
        log(_optimism(run_members, oof, result))
    for line in leakage_warnings(run_members, [source]):
        log(line)
    return result


def _optimism(run_members: RunMembers, oof: OpenedSplit, fitted: FittedChain) -> str:
    """Say what was fitted, its score on what it was fitted on, and that by the other folds."""
    metric, classes = run_metric(run_members.run), oof.data.classes
    protocol, plain = build_protocol(metric, classes), fitted.chain.prefix(0)

    def score(chain: Chain | OutOfFoldChain) -> float:
        labelled = postprocess(oof.readers[0], chain, images=oof.data.images)
        counts = [
            confusion(np.asarray(oof.target[block]), labels, classes=len(classes))
            for block, labels in labelled
        ]
        return float(score_images(protocol, np.concatenate(counts), classes.ignore).miou)

    assert fitted.cross_fitted is not None
    before, inside, outside = (score(c) for c in (plain, fitted.chain, fitted.cross_fitted))
    return (
        f"{fitted.chain}: {metric_label(metric)} {inside:.4f} on {OOF}, which it was fitted on;"
        f" {outside:.4f} fitted without each fold, optimism {inside - outside:+.4f};"
        f" argmax {before:.4f}"
    )


def fit_digests(run_members: RunMembers, source: str, chain: Chain) -> dict[str, str]:
    """Return the digests of all that a chain learns from, and the metric that it is fitted by.

    There are none where it does not learn, and no metric if that is `masked`.
    """
    if not chain.learns:
        return {}
    return {
        "fit_maps": str(run_members.digest(source, OOF)),
        "fit_data": split_identity(run_members.run, OOF),
        "folds": digest(run_members.run.folds),
        **(metric_config(run_metric(run_members.run)) if chain.optimises else {}),
    }


def fitted_chain_record(
    run_members: RunMembers, candidate: str, source: str, chain: Chain
) -> ExpectedRecord:
    """Return what the record of a candidate's fitted chain would say today."""
    config = {"of": source, "chain": str(chain)}
    folder = run_members.run.path / "labels" / candidate
    return ExpectedRecord(folder, config, fit_digests(run_members, source, chain), PART)


def save_fitted_chain(expected: ExpectedRecord, fitted: FittedChain) -> None:
    """Write a candidate's fitted chain, as the specs that `--chain` takes."""
    expected.invalidate()
    file = expected.folder / FITTED
    file.unlink(missing_ok=True)
    if fitted.cross_fitted is not None:
        without_fold = [str(chain) for chain in fitted.cross_fitted.chains]
        write_json(file, {"chain": str(fitted.chain), "without_fold": without_fold})
    expected.write(outputs=digests(file.parent, [FITTED] if fitted.cross_fitted else []))


def read_fitted_chain(run: Run, candidate: str) -> dict[str, Any] | None:
    """Return a candidate's fitted chain: `chain` and `without_fold`; None where it learned nothing.

    Raises:
        BadRun: the file was changed since it was written.
    """
    file = run.path / "labels" / candidate / FITTED
    verify_outputs(file.parent, PART)
    return dict(read_json(file)) if file.is_file() else None
