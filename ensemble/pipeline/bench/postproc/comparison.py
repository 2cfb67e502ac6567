"""Chains on the same maps: score, speed, memory, and what each step does to the pixels."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ensemble.pipeline.bench.postproc.chains import (
    Compared,
    Tell,
    fit_all,
    parse_all,
    read_chains,
    usual,
)
from ensemble.pipeline.bench.postproc.choice import open_maps, open_truth, scored_highest
from ensemble.pipeline.bench.postproc.costs import TIMED_BLOCKS, costs
from ensemble.pipeline.bench.postproc.labelling import label_all, ledger_document
from ensemble.pipeline.bench.postproc.scores import boards_of, scores_document
from ensemble.pipeline.bench.timing import machine
from ensemble.pipeline.chains import FittedChain
from ensemble.pipeline.sources import Sources, run_experiment
from evaluation.ground.layout import Run
from postproc.chain import FLOAT16_FLOOR, Chain, Surroundings

PLAIN = ""
"""The name of no post-processing, which no chain of a file can have."""


@dataclass(frozen=True)
class Asked:
    """What is compared.

    Args:
        fusion: or member; by default the fusion that is the highest on `oof`.
        chains: a file of them; by default a usual set.
        split: the pictures that are examined.
        rounds: how often each chain is timed.
    """

    fusion: str | None
    chains: Path | None
    split: str
    rounds: int


def bench_postproc(run: Run, asked: Asked, tell: Tell) -> dict[str, Any]:
    """Compare chains with no post-processing on the same maps; nothing is written into the run.

    Args:
        run: the experiment folder.
        asked: which maps, which chains.
        tell: gets a line for each part.

    Returns:
        A JSON document: the machine and what was compared; `plain`, the argmax alone, and
        `chains`: of each the score under both protocols with its gain over plain and the paired
        interval, pictures a second of processor time, peak memory, and the ledger, a row a step.

    Raises:
        BadSpec: a chain that does not parse.
        BadRun: no such maps or split, or a chain that learns and no out-of-fold maps.
        Leak: a chain would learn from pictures that the source was trained on.
    """
    sources, data = Sources.of(run), open_truth(run, asked.split)
    classes, named = data.classes, None if asked.chains is None else read_chains(asked.chains)
    around = Surroundings(len(classes), classes.ignore, FLOAT16_FLOOR)
    # Before anything is told; a second time with the floor of the maps, once they are chosen.
    parse_all(named or {}, around, str(asked.chains))
    source = asked.fusion or scored_highest(sources, tell)
    maps = open_maps(sources, source, asked.split, data)
    around = replace(around, floor=maps.floor)
    if named is None:
        chains = usual(sources, source, around, tell)
    else:
        chains = parse_all(named, around, str(asked.chains))
    tell(f"{source}: {len(chains)} chains over {len(data)} pictures of {asked.split}")
    plain = Chain((), (), around)
    compared = [
        Compared(PLAIN, plain, FittedChain(plain)),
        *fit_all(sources, source, chains, tell),
    ]
    labelled = label_all(compared, maps, data, asked.split)
    tell("chains are scored")
    counts = {one.name: done.counts for one, done in zip(compared, labelled, strict=True)}
    boards = boards_of(counts, data, asked.split, seed=run_experiment(run).seed)
    spent = costs({one.name: one.fitted.chain for one in compared}, maps, data, asked.rounds)
    rows = [
        {
            **_about(one),
            "protocols": scores_document(boards, one.name),
            **spent[one.name],
            "ledger": ledger_document(one.asked, done, data.classes),
        }
        for one, done in zip(compared, labelled, strict=True)
    ]
    return {
        "machine": machine(),
        "run": str(run.path),
        "source": source,
        "split": asked.split,
        "pictures": len(data),
        "groups": boards["masked"].groups,
        "level": boards["masked"].level,
        "interval_level": boards["masked"].gain_level,
        "cores": 1,
        "rounds": asked.rounds,
        "timed_blocks": TIMED_BLOCKS,
        "plain": rows[0],
        "chains": rows[1:],
    }


def _about(one: Compared) -> dict[str, Any]:
    fitted = str(one.fitted.chain) if one.asked.learns else None
    return {"name": one.name, "chain": str(one.asked), "fitted": fitted}
