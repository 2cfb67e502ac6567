"""Nested tuning of post-processing: search on all images, evaluate the search fold by fold."""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.candidates.fuse import FusionSpec, resolve_fusion, update_fusion
from ensemble.pipeline.candidates.leakage_warnings import leakage_warnings
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.open_run import (
    RunMembers,
    check_metric_defined,
    check_no_leakage,
    run_experiment,
    run_metric,
)
from ensemble.pipeline.tuning.cross_fitted_counts import CvPool, NamedMaps, OuterSplit, PrefixCache
from ensemble.pipeline.tuning.refits import NestedRefits, check_single_learned_level, copy_oof
from ensemble.pipeline.tuning.results import (
    FoldResult,
    NestedResult,
    TuningResult,
    read_result,
    tuning_inputs,
    write_result,
)
from ensemble.pipeline.tuning.selection import GainTest, eliminate_all
from ensemble.pipeline.tuning.space import ChainSpace, default_space, read_space
from ensemble.pipeline.tuning.trials import ChainSearch, rank_trials
from evaluation.core.errors import BadData
from evaluation.core.files import read_json, write_json
from evaluation.core.progress import Log, progress
from evaluation.core.provenance import is_current
from evaluation.core.run_folder import OOF, Run, run_lock
from evaluation.run_metric import metric_config, metric_label, set_metric
from members.recipe import check_name
from postproc.chain import StepContext

STARTED, WORK = "begun.json", "work"

TOP_CHAINS = 3
"""Chains of each search that go into elimination: the highest may be so by chance alone."""


@dataclass(frozen=True)
class TuningBudget:
    """How long to tune: trials of each search, those of earlier calls included; a space file."""

    trials: int = 60
    seed: int = 0
    space: Path | None = None


@dataclass
class EtaReporter:
    """Adds up the seconds of trials, and after some of them logs how long the rest will take."""

    total: int
    after: int
    log: Log
    ended: int = 0
    seconds: float = 0.0

    def update(self, seconds: float) -> None:
        """Add a trial."""
        self.ended, self.seconds = self.ended + 1, self.seconds + seconds
        left = self.total - self.ended
        if self.ended == self.after and left > 0:
            mean = self.seconds / self.ended
            self.log(
                f"forecast: {left} trials to go, about {mean * left / 60:.0f} minutes"
                f" ({mean:.1f} s per trial so far; chains with a common prefix take less)"
            )


def tune(
    run: Run, source: str, budget: TuningBudget, *, name: str | None, log: Log
) -> TuningResult:
    """Search the chain that scores highest on out-of-fold images, and evaluate the search.

    The same search runs once on all images, which gives the chain, and once without each fold of
    the run, whose images evaluate what it chose. A fusion that learns is refitted for each. The
    folder `tuning/NAME` of the run gets the result; the default name is the source's.

    Raises:
        BadRun: no such fusion or member, or no out-of-fold maps.
        BadData: too few groups, or no scored pixel.
        BadSpec: a space that cannot be searched.
        LeakageError: maps of images that were trained on, groups across folds, or a fusion of one
            that learns.
    """
    name = check_name(name or source, "tuning")
    with run_lock(run.path):
        run_members = RunMembers.of(run)
        metric = run_metric(run)
        check_metric_defined(run, metric, OOF)
        spec = _check_source(run_members, source, log)
        space = _open_space(run_members, source, metric, budget.space)
        pool = CvPool.create(run, budget.seed)
        config = {"of": source, "space": space.to_dict(), "seed": budget.seed}
        config |= metric_config(metric)
        inputs = tuning_inputs(run_members, source)
        folder = run.path / "tuning" / name
        whole_config = {**config, "trials": budget.trials}
        if is_current(folder, config=whole_config, inputs=inputs):
            return read_result(folder)
        _start(folder, {"asked": config, "inputs": inputs}, log)
        for line in leakage_warnings(run_members, [source]):
            log(line)
        splits = _outer_splits(run_members, source, spec, pool, folder / WORK, log)
        total = budget.trials * (1 + pool.folds)
        eta = EtaReporter(total, len(space.initial_trials()), log)
        searches = [
            _search_split(split, space, metric, budget, folder, eta, log) for split in splits
        ]
        result = TuningResult.create(str(run.path), name, source, searches, pool, metric)
        write_result(folder, result, config=whole_config, inputs=inputs)
        shutil.rmtree(folder / WORK)
        return result


def _check_source(run_members: RunMembers, source: str, log: Log) -> FusionSpec | None:
    """Check that a source can be tuned; update a fusion and return its spec."""
    spec = None
    if source in run_members.run.fusions() and source not in run_members.names():
        spec = resolve_fusion(run_experiment(run_members.run), run_members, source)
        check_single_learned_level(run_members, spec)
        update_fusion(run_members, spec, log)
    maps = run_members.open(source, OOF)
    check_no_leakage("tune-postproc", source, maps, hint="or tune another fusion or member")
    return spec


def _open_space(run_members: RunMembers, source: str, metric: str, file: Path | None) -> ChainSpace:
    maps = run_members.open(source, OOF)
    form = set_metric(metric, run_classes(run_members.run))
    context = StepContext(len(maps.classes), maps.classes.ignore, maps.floor, form)
    return default_space(context) if file is None else read_space(file, context)


def _start(folder: Path, started: dict[str, Any], log: Log) -> None:
    """Keep what an earlier call did if its configuration and inputs were the same."""
    file = folder / STARTED
    if file.is_file() and read_json(file) != started:
        log(f"{folder}: restarted, since maps, data or options have changed")
        shutil.rmtree(folder)
    (folder / WORK).mkdir(parents=True, exist_ok=True)
    write_json(file, started)


def _outer_splits(
    run_members: RunMembers,
    source: str,
    spec: FusionSpec | None,
    pool: CvPool,
    work: Path,
    log: Log,
) -> Iterator[OuterSplit]:
    """Yield the split of the search on all images, then one without each fold."""
    cache, maps = PrefixCache(pool), copy_oof(run_members, source, pool.data, work)
    yield OuterSplit(pool, cache, maps)
    refits = NestedRefits(run_members, spec) if spec is not None else None
    for fold in range(pool.folds):
        fold_maps: NamedMaps = maps
        if refits is not None and refits.needed:
            log(f"{source}: refitted without fold {fold}")
            fold_maps = refits.fitted_without(pool, fold, work)
        yield OuterSplit(pool, cache, fold_maps, fold)


def _search_split(
    split: OuterSplit,
    space: ChainSpace,
    metric: str,
    budget: TuningBudget,
    folder: Path,
    eta: EtaReporter,
    log: Log,
) -> NestedResult:
    """Search on the train images, eliminate steps, and count the test images."""
    blocks, pool = split.train_blocks, split.pool
    test = GainTest(pool.classes, pool.groups_of(blocks), metric)
    plain = space.chain([])
    if np.isnan(test.score(split.counts(plain, blocks))):
        raise BadData(
            f"no scored pixel in the images of search {split.name!r} ({metric_label(metric)})"
        )
    search = ChainSearch(split, test, space, folder / f"{split.name}.jsonl", budget.seed)
    trials = []
    for trial in progress(search.trials(budget.trials), split.name, budget.trials):
        eta.update(trial.seconds)
        trials.append(trial)
    top = [space.parse(trial.chain) for trial in rank_trials(trials)[:TOP_CHAINS]]
    chain, steps = eliminate_all(split, test, top)
    log(f"{split.name}: {str(chain) or 'no step'}")
    test_blocks = split.test_blocks or blocks
    counts, plain_counts = split.counts(chain, test_blocks), split.counts(plain, test_blocks)
    groups = pool.groups_of(test_blocks)
    on_test = GainTest(pool.classes, groups, metric)
    result = FoldResult(
        search=split.name,
        chain=str(chain),
        fitted=str(split.fitted_without(chain, None)),
        steps=tuple(steps),
        trials=dict(Counter(trial.state for trial in trials)),
        tuned=test.score(split.counts(chain, blocks)),
        score=on_test.score(counts),
        plain=on_test.score(plain_counts),
    )
    return NestedResult(result, counts, plain_counts, groups)
