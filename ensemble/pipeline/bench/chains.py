"""The chains that `ens bench postproc` compares: read or usual, fitted, and applied to a split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ensemble.pipeline.candidates.chains import FittedChain, fit_on_oof
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.confusion import ChangeCounts, confusion, pixel_changes
from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.errors import BadSpec
from evaluation.core.progress import Log, progress
from evaluation.core.run_folder import OOF
from evaluation.core.text_files import read_lines
from evaluation.core.types import Array, Counts, Labels
from members.data.dataset import DataSet
from members.maps import MapReader
from members.recipe import check_name
from postproc.chain import Chain, StepContext
from postproc.postprocess import OutOfFoldChain

SUPPRESS = "suppress_background"
USUAL = {
    SUPPRESS: SUPPRESS,
    "class_bias": "class_bias",
    "crf": "crf",
    "weak_crf": "crf(bilateral_compat=3)",
    "blur": "blur",
    "mode_filter": "mode_filter",
    "remove_small": "remove_small",
    "fill_holes": "fill_holes",
    "open": "open",
    "smoothed": f"{SUPPRESS}|blur|remove_small",
    "cleaned": f"{SUPPRESS}|mode_filter|remove_small|fill_holes",
    "weak_crf_cleaned": f"{SUPPRESS}|crf(bilateral_compat=3)|remove_small",
    "bias_smoothed": "class_bias|blur|remove_small",
}
"""Each step by itself, then common combinations; at their defaults except for a weaker CRF."""


@dataclass(frozen=True)
class ComparedChain:
    """One chain of the comparison, as it was given and as it was fitted on `oof`."""

    name: str
    chain: Chain
    fitted: FittedChain

    def prefix(self, length: int, split: str) -> Chain | OutOfFoldChain:
        """Return the first steps, as they label a split."""
        whole = self.fitted.for_split(split)
        if isinstance(whole, OutOfFoldChain):
            return OutOfFoldChain([chain.prefix(length) for chain in whole.chains], whole.fold_of)
        return whole.prefix(length)


@dataclass(frozen=True)
class ChainCounts:
    """Pixels of a split, (image, true class, predicted class), and the changes by each step."""

    counts: Counts
    changes: tuple[ChangeCounts, ...]


def read_chains(path: Path) -> dict[str, str]:
    """Read chains by name: one per line, `CHAIN` or `NAME: CHAIN`, as in a flat YAML mapping.

    Empty lines and lines that start with # are skipped. `NAME:` alone is the plain argmax.

    Raises:
        BadSpec: no such file, no chain in it, or a duplicated name.
    """
    lines = read_lines(path, "a file with one chain per line", BadSpec)
    chains: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, chain = _split_name(line.strip())
        if name in chains:
            raise BadSpec(f"{path}, line {number}: {name!r} already exists; take another name")
        chains[name] = chain
    if not chains:
        raise BadSpec(f"{path} holds no chain; expected one per line, CHAIN or NAME: CHAIN")
    return chains


def parse_all(named: Mapping[str, str], context: StepContext, where: str) -> dict[str, Chain]:
    """Parse every chain, so that a bad one is refused before any work, with its name and origin."""
    parsed = {}
    for name, text in named.items():
        try:
            parsed[name] = context.parse(text)
        except BadSpec as error:
            raise BadSpec(f"{where}, chain {name!r}: {error}") from None
    return parsed


def usual_chains(
    run_members: RunMembers, source: str, context: StepContext, log: Log
) -> dict[str, Chain]:
    """Parse the usual chains, and log which ones are left out and why."""
    chains = USUAL
    if context.ignore is None:
        chains = {name: chain for name, chain in USUAL.items() if SUPPRESS not in chain}
        log(f"chains with {SUPPRESS} are left out: no class is ignored")
    parsed = parse_all(chains, context, "the usual chains")
    if OOF not in run_members.splits(source):
        parsed = {name: chain for name, chain in parsed.items() if not chain.learns}
        log(f"chains that learn are left out: {source!r} has no maps of {OOF}")
    return parsed


def fit_all(
    run_members: RunMembers, source: str, chains: Mapping[str, Chain], log: Log
) -> list[ComparedChain]:
    """Fit chains that learn on `oof`; each warning is logged once."""
    logged: set[str] = set()

    def log_once(line: str) -> None:
        if line not in logged:
            logged.add(line)
            log(line)

    return [
        ComparedChain(name, chain, fit_on_oof(run_members, source, chain, log_once))
        for name, chain in chains.items()
    ]


def count_all(
    chains: Sequence[ComparedChain], maps: MapReader, data: DataSet, split: str
) -> list[ChainCounts]:
    """Label a split by every chain, step by step, in one pass with flat memory.

    Labels before and after a step are those of the chain that ends there, so a step on maps is
    judged by the argmax of its output. A common prefix of chains runs once. On `oof` each fold has
    chains of its own.
    """
    target, classes = data.target(), data.classes

    def work(block: slice) -> list[tuple[Array, list[ChangeCounts]]]:
        values, images = maps.read(block), np.asarray(data.images[block])
        true = np.asarray(target[block])
        cache: dict[str, Labels] = {}

        def label(chain: ComparedChain, length: int) -> Labels:
            # The key is the unfitted prefix: what it learns does not depend on what follows.
            key = str(chain.chain.prefix(length))
            if key not in cache:
                prefix = chain.prefix(length, split)
                apply = prefix if isinstance(prefix, Chain) else prefix.for_block(block)
                cache[key] = apply(values, images)
            return cache[key]

        results = []
        for chain in chains:
            stages = [label(chain, length) for length in range(len(chain.chain.steps) + 1)]
            changes = [
                pixel_changes(true, before, after, classes=len(classes), ignore=classes.ignore)
                for before, after in pairwise(stages)
            ]
            results.append((confusion(true, stages[-1], classes=len(classes)), changes))
        return results

    done = map_blocks(work, data.extent)
    per_block = list(progress(done, "label", len(blocks(data.extent))))
    return [_join(parts) for parts in zip(*per_block, strict=True)]


def _join(parts: Sequence[tuple[Array, list[ChangeCounts]]]) -> ChainCounts:
    counts = np.concatenate([counts for counts, _ in parts])
    steps = zip(*(changes for _, changes in parts), strict=True)
    return ChainCounts(counts, tuple(np.sum(step, axis=0) for step in steps))


def _split_name(line: str) -> tuple[str, str]:
    """Split `NAME: CHAIN`; a colon inside a step's brackets does not count."""
    name, colon, chain = line.partition(":")
    if not colon or any(sign in name for sign in "(|"):
        return line, line
    chain = chain.strip()
    if len(chain) > 1 and chain[0] == chain[-1] and chain[0] in "'\"":
        chain = chain[1:-1]
    return check_name(name.strip(), "chain"), chain
