"""Nested tuning of post-processing: search on all pictures, examine the search fold by fold."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.folds import OOF, refuse_leak
from ensemble.pipeline.fusing import Plan, make_fusion, planned
from ensemble.pipeline.leaks import leak_notes
from ensemble.pipeline.sources import Sources, run_experiment
from ensemble.pipeline.tuning.elimination import best_left
from ensemble.pipeline.tuning.forecast import Clock
from ensemble.pipeline.tuning.heads import Heads, NamedMaps
from ensemble.pipeline.tuning.judge import Judge
from ensemble.pipeline.tuning.level import Level, groups_of
from ensemble.pipeline.tuning.pool import Pool, pool_of
from ensemble.pipeline.tuning.refits import Refits, maps_of, refuse_learned_below
from ensemble.pipeline.tuning.results import Examined, document, read_result, write_result
from ensemble.pipeline.tuning.space import ChainSpace
from ensemble.pipeline.tuning.space_file import default_space, read_space
from ensemble.pipeline.tuning.trials import Search, ranked
from ensemble.pipeline.tuning.tuned_from import tuned_from
from evaluation.ground.errors import BadData, BadRun
from evaluation.ground.files import read_json, write_json
from evaluation.ground.layout import Run
from evaluation.ground.locks import writing
from evaluation.ground.progress import progress
from evaluation.ground.provenance import is_current
from members.recipe import check_name
from postproc.chain import Surroundings

BEGUN, WORK = "begun.json", "work"

LEADERS = 3
"""Chains of each search that are looked at step by step: the highest may be so by luck alone."""

Tell = Callable[[str], None]


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


def tune(run: Run, source: str, effort: Effort, *, name: str | None, tell: Tell) -> dict[str, Any]:
    """Search the chain that scores highest on out-of-fold pictures, and examine the search.

    The same search runs once on all pictures, which gives the chain, and once without each fold of
    the run, whose pictures examine what it chose. A fusion that learns is fitted anew for each.

    Args:
        run: the experiment folder; `tuning/NAME` gets what came out.
        source: name of the fusion or member.
        effort: how long.
        name: of the result; by default the source's.
        tell: gets a line for whatever was done.

    Returns:
        See `ensemble.pipeline.tuning.results.document`.

    Raises:
        BadRun: no such fusion or member, or no out-of-fold maps.
        BadData: too few groups, or nothing to score.
        BadSpec: a space that cannot be searched.
        Leak: maps of pictures that were trained on, groups across folds, or a fusion of one that
            learns.
    """
    name = check_name(name or source, "tuning")
    with writing(run.path):
        sources = Sources.of(run)
        plan = _checked(sources, source, tell)
        space = _space(sources, source, effort.space)
        pool = pool_of(run, effort.seed)
        asked = {"of": source, "space": space.document(), "seed": effort.seed}
        inputs = tuned_from(sources, source)
        folder = run.path / "tuning" / name
        done = {**asked, "trials": effort.trials}
        if is_current(folder, asked=done, inputs=inputs):
            return read_result(folder)
        _begin(folder, {"asked": asked, "inputs": inputs}, tell)
        for line in leak_notes(sources, [source]):
            tell(line)
        levels = _levels(sources, source, plan, pool, folder / WORK, tell)
        result = _tuned(levels, pool, space, effort, folder, tell)
        result = {"run": str(run.path), "name": name, "of": source, **result}
        write_result(folder, result, asked=done, inputs=inputs)
        shutil.rmtree(folder / WORK)
        return result


def _checked(sources: Sources, source: str, tell: Tell) -> Plan | None:
    """Refuse what cannot be tuned; bring a fusion up to date and return its plan."""
    plan = None
    if source in sources.run.fusions() and source not in sources.names():
        plan = planned(run_experiment(sources.run), sources, source)
        refuse_learned_below(sources, plan)
        make_fusion(sources, plan, tell)
    if OOF not in sources.splits(source):
        sources.open(source, OOF)  # says what is missing, and how to mend it
    maps = sources.open(source, OOF)
    refuse_leak("tune-postproc", source, maps, cure="or tune another fusion or member")
    return plan


def _space(sources: Sources, source: str, file: Path | None) -> ChainSpace:
    maps = sources.open(source, OOF)
    around = Surroundings(len(maps.classes), maps.classes.ignore, maps.floor)
    return default_space(around) if file is None else read_space(file, around)


def _begin(folder: Path, begun: dict[str, Any], tell: Tell) -> None:
    """Keep what an earlier call did if it was asked the same of the same maps."""
    file = folder / BEGUN
    if file.is_file() and read_json(file) != begun:
        tell(f"{folder}: begun anew, since maps, data or what is asked have changed")
        shutil.rmtree(folder)
    (folder / WORK).mkdir(parents=True, exist_ok=True)
    write_json(file, begun)


def _levels(
    sources: Sources, source: str, plan: Plan | None, pool: Pool, work: Path, tell: Tell
) -> Iterator[Level]:
    """Yield the search on all pictures, then one without each fold."""
    heads, maps = Heads(pool), maps_of(sources, source, work)
    if maps.array.shape[0] != len(pool.data) or sources.open(source, OOF).ids != pool.data.ids:
        raise BadRun(f"{source!r} has maps of other pictures than {OOF}; make them again")
    yield Level(pool, heads, maps)
    refits = Refits(sources, plan) if plan is not None else None
    for fold in range(pool.folds):
        own: NamedMaps = maps
        if refits is not None and refits.needed:
            tell(f"{source}: fitted anew without fold {fold}")
            own = refits.without(pool, fold, work)
        yield Level(pool, heads, own, fold)


def _tuned(
    levels: Iterator[Level], pool: Pool, space: ChainSpace, effort: Effort, folder: Path, tell: Tell
) -> dict[str, Any]:
    clock = Clock(effort.trials * (1 + pool.folds), len(space.starts()), tell)
    found = [_examined(level, space, effort, folder, clock, tell) for level in levels]
    return document(found, pool)


def _examined(
    level: Level, space: ChainSpace, effort: Effort, folder: Path, clock: Clock, tell: Tell
) -> Examined:
    """Search one level, drop what does not help, and count what is left where it is examined."""
    blocks = level.searched
    judge = Judge(level.pool.classes, groups_of(level.pool, blocks))
    plain = space.chain([])
    if np.isnan(judge.score(level.counts(plain, blocks))):
        raise BadData(f"no scored pixel in the pictures of search {level.name!r}")
    search = Search(level, judge, space, folder / f"{level.name}.jsonl", effort.seed)
    trials = []
    for tried in progress(search.trials(effort.trials), level.name, effort.trials):
        clock.tick(tried.seconds)
        trials.append(tried)
    leaders = [search.chain(tried.chain) for tried in ranked(trials)[:LEADERS]]
    chain, verdicts = best_left(level, judge, leaders)
    tell(f"{level.name}: {str(chain) or 'no step'}")
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
