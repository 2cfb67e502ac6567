"""Nested tuning of post-processing: search on all images, examine the search fold by fold.

How long a tuning will take, told once every step has been tried.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.candidates.fuse import FusionSpec, resolve_fusion, update_fusion
from ensemble.pipeline.candidates.leakage import leakage_warnings
from ensemble.pipeline.run.open_run import OOF, RunMembers, check_no_leakage, run_experiment
from ensemble.pipeline.tuning.cross_validation import Pool, pool_of
from ensemble.pipeline.tuning.outer_split import Level, groups_of
from ensemble.pipeline.tuning.prefix_cache import Heads, NamedMaps
from ensemble.pipeline.tuning.refits import Refits, maps_of, refuse_learned_below
from ensemble.pipeline.tuning.results import (
    Examined,
    document,
    read_result,
    tuned_from,
    write_result,
)
from ensemble.pipeline.tuning.selection import Judge, best_left
from ensemble.pipeline.tuning.space import ChainSpace, default_space, read_space
from ensemble.pipeline.tuning.trials import Search, ranked
from evaluation.core.errors import BadData, BadRun
from evaluation.core.files import read_json, write_json
from evaluation.core.progress import progress
from evaluation.core.provenance import is_current
from evaluation.core.run_folder import Run, run_lock
from members.recipe import check_name
from postproc.chain import StepContext

MINUTE = 60


@dataclass
class Clock:
    """Adds up the seconds of trials.

    Args:
        total: trials of all searches.
        starts: after so many it tells.
        log: receives the line.
    """

    total: int
    starts: int
    log: Callable[[str], None]
    ended: int = 0
    seconds: float = 0.0

    def tick(self, seconds: float) -> None:
        """Add a trial."""
        self.ended, self.seconds = self.ended + 1, self.seconds + seconds
        left = self.total - self.ended
        if self.ended == self.starts and left > 0:
            each = self.seconds / self.ended
            self.log(
                f"forecast: {left} trials to go, about {each * left / MINUTE:.0f} minutes"
                f" ({each:.1f} s a trial so far; chains that begin alike take less)"
            )


BEGUN, WORK = "begun.json", "work"

LEADERS = 3
"""Chains of each search that are looked at step by step: the highest may be so by luck alone."""

Log = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How long to tune.

    Args:
        trials: of each search; those of earlier calls included.
        seed: of all draws.
        space: YAML file; None for the space that is built in.
    """

    trials: int = 60
    seed: int = 0
    space: Path | None = None


def tune(run: Run, source: str, effort: Effort, *, name: str | None, log: Log) -> dict[str, Any]:
    """Search the chain that scores highest on out-of-fold images, and examine the search.

    The same search runs once on all images, which gives the chain, and once without each fold of
    the run, whose images examine what it chose. A fusion that learns is fitted anew for each.

    Args:
        run: the experiment folder; `tuning/NAME` gets what came out.
        source: name of the fusion or member.
        effort: how long.
        name: of the result; by default the source's.
        log: receives a line for whatever was done.

    Returns:
        See `ensemble.pipeline.tuning.results.document`.

    Raises:
        BadRun: no such fusion or member, or no out-of-fold maps.
        BadData: too few groups, or nothing to score.
        BadSpec: a space that cannot be searched.
        Leak: maps of images that were trained on, groups across folds, or a fusion of one that
            learns.
    """
    name = check_name(name or source, "tuning")
    with run_lock(run.path):
        sources = RunMembers.of(run)
        plan = _checked(sources, source, log)
        space = _space(sources, source, effort.space)
        pool = pool_of(run, effort.seed)
        asked = {"of": source, "space": space.document(), "seed": effort.seed}
        inputs = tuned_from(sources, source)
        folder = run.path / "tuning" / name
        done = {**asked, "trials": effort.trials}
        if is_current(folder, asked=done, inputs=inputs):
            return read_result(folder)
        _begin(folder, {"asked": asked, "inputs": inputs}, log)
        for line in leakage_warnings(sources, [source]):
            log(line)
        levels = _levels(sources, source, plan, pool, folder / WORK, log)
        result = _tuned(levels, pool, space, effort, folder, log)
        result = {"run": str(run.path), "name": name, "of": source, **result}
        write_result(folder, result, asked=done, inputs=inputs)
        shutil.rmtree(folder / WORK)
        return result


def _checked(sources: RunMembers, source: str, log: Log) -> FusionSpec | None:
    """Refuse what cannot be tuned; bring a fusion up to date and return its plan."""
    plan = None
    if source in sources.run.fusions() and source not in sources.names():
        plan = resolve_fusion(run_experiment(sources.run), sources, source)
        refuse_learned_below(sources, plan)
        update_fusion(sources, plan, log)
    if OOF not in sources.splits(source):
        sources.open(source, OOF)  # says what is missing, and how to mend it
    maps = sources.open(source, OOF)
    check_no_leakage("tune-postproc", source, maps, cure="or tune another fusion or member")
    return plan


def _space(sources: RunMembers, source: str, file: Path | None) -> ChainSpace:
    maps = sources.open(source, OOF)
    around = StepContext(len(maps.classes), maps.classes.ignore, maps.floor)
    return default_space(around) if file is None else read_space(file, around)


def _begin(folder: Path, begun: dict[str, Any], log: Log) -> None:
    """Keep what an earlier call did if it was asked the same of the same maps."""
    file = folder / BEGUN
    if file.is_file() and read_json(file) != begun:
        log(f"{folder}: begun anew, since maps, data or what is asked have changed")
        shutil.rmtree(folder)
    (folder / WORK).mkdir(parents=True, exist_ok=True)
    write_json(file, begun)


def _levels(
    sources: RunMembers, source: str, plan: FusionSpec | None, pool: Pool, work: Path, log: Log
) -> Iterator[Level]:
    """Yield the search on all images, then one without each fold."""
    heads, maps = Heads(pool), maps_of(sources, source, work)
    if maps.array.shape[0] != len(pool.data) or sources.open(source, OOF).ids != pool.data.ids:
        raise BadRun(f"{source!r} has maps of other images than {OOF}; make them again")
    yield Level(pool, heads, maps)
    refits = Refits(sources, plan) if plan is not None else None
    for fold in range(pool.folds):
        own: NamedMaps = maps
        if refits is not None and refits.needed:
            log(f"{source}: fitted anew without fold {fold}")
            own = refits.without(pool, fold, work)
        yield Level(pool, heads, own, fold)


def _tuned(
    levels: Iterator[Level], pool: Pool, space: ChainSpace, effort: Effort, folder: Path, log: Log
) -> dict[str, Any]:
    clock = Clock(effort.trials * (1 + pool.folds), len(space.starts()), log)
    found = [_examined(level, space, effort, folder, clock, log) for level in levels]
    return document(found, pool)


def _examined(
    level: Level, space: ChainSpace, effort: Effort, folder: Path, clock: Clock, log: Log
) -> Examined:
    """Search one level, drop what does not help, and count what is left where it is examined."""
    blocks = level.searched
    judge = Judge(level.pool.classes, groups_of(level.pool, blocks))
    plain = space.chain([])
    if np.isnan(judge.score(level.counts(plain, blocks))):
        raise BadData(f"no scored pixel in the images of search {level.name!r}")
    search = Search(level, judge, space, folder / f"{level.name}.jsonl", effort.seed)
    trials = []
    for tried in progress(search.trials(effort.trials), level.name, effort.trials):
        clock.tick(tried.seconds)
        trials.append(tried)
    leaders = [search.chain(tried.chain) for tried in ranked(trials)[:LEADERS]]
    chain, verdicts = best_left(level, judge, leaders)
    log(f"{level.name}: {str(chain) or 'no step'}")
    examined = level.outside or blocks
    return Examined(
        level.name,
        trials,
        chain,
        level.fitted(chain, None),
        verdicts,
        judge.score(level.counts(chain, blocks)),
        level.counts(chain, examined),
        level.counts(plain, examined),
        groups_of(level.pool, examined),
    )
