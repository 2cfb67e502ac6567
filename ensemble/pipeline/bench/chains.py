"""The chains that `ens bench postproc` compares: those of a file, or a usual set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ensemble.pipeline.candidates.chains import FittedChain, fit_on_oof
from ensemble.pipeline.run.open_run import OOF, RunMembers
from evaluation.core.errors import BadSpec
from members.recipe import check_name
from postproc.chain import Chain, StepContext, parse_chain
from postproc.postprocess import OutOfFoldChain

Log = Callable[[str], None]

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
"""Each step by itself, then what is often joined; at their defaults but for a weaker CRF."""


@dataclass(frozen=True)
class Compared:
    """One chain of the comparison.

    Args:
        name: in the tables.
        asked: the chain before it has learned anything.
        fitted: what it has become.
    """

    name: str
    asked: Chain
    fitted: FittedChain

    def head(self, place: int, split: str) -> Chain | OutOfFoldChain:
        """Return the steps before a place, as they label a split."""
        whole = self.fitted.of(split)
        if isinstance(whole, OutOfFoldChain):
            return OutOfFoldChain([chain.head(place) for chain in whole.chains], whole.fold_of)
        return whole.head(place)


def read_chains(path: Path) -> dict[str, str]:
    """Read chains by name: one a line, `CHAIN` or `NAME: CHAIN`, as a flat YAML mapping has it.

    Empty lines and those that begin with # are left out. `NAME:` alone is the plain argmax.

    Raises:
        BadSpec: no such file, no chain in it, or a name twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise BadSpec(f"{path} is missing; expected a file with a chain a line") from None
    except (OSError, ValueError) as error:
        raise BadSpec(f"{path} cannot be read ({error}); expected a chain a line") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, chain = _named(line.strip())
        if name in found:
            raise BadSpec(f"{path}, line {number}: {name!r} is there already; take another name")
        found[name] = chain
    if not found:
        raise BadSpec(f"{path} holds no chain; expected one a line, CHAIN or NAME: CHAIN")
    return found


def parse_all(named: Mapping[str, str], around: StepContext, where: str) -> dict[str, Chain]:
    """Parse every chain, so that a bad one is met before any work.

    Args:
        named: chains by name.
        around: what the steps are built in.
        where: the chains come from, for errors.

    Raises:
        BadSpec: one that does not parse; names it.
    """
    parsed = {}
    for name, text in named.items():
        try:
            parsed[name] = parse_chain(
                text, classes=around.classes, ignore=around.ignore, floor=around.floor
            )
        except BadSpec as error:
            raise BadSpec(f"{where}, chain {name!r}: {error}") from None
    return parsed


def usual(sources: RunMembers, source: str, around: StepContext, log: Log) -> dict[str, Chain]:
    """Parse the usual set, less what cannot be, and tell what is left out and why."""
    chains = USUAL
    if around.ignore is None:
        chains = {name: chain for name, chain in USUAL.items() if SUPPRESS not in chain}
        log(f"chains with {SUPPRESS} are left out: no class is ignored")
    parsed = parse_all(chains, around, "the usual chains")
    if OOF not in sources.splits(source):
        parsed = {name: chain for name, chain in parsed.items() if not chain.learns}
        log(f"chains that learn are left out: {source!r} has no maps of {OOF}")
    return parsed


def fit_all(
    sources: RunMembers, source: str, chains: Mapping[str, Chain], log: Log
) -> list[Compared]:
    """Fit what learns on `oof`; what looks like a leak is told once, not for each chain.

    Raises:
        BadRun: a chain learns, and the source has no maps of `oof`.
        Leak: the source was trained on some of the images.
    """
    told: set[str] = set()

    def tell_once(line: str) -> None:
        if line not in told:
            told.add(line)
            log(line)

    return [
        Compared(name, chain, fit_on_oof(sources, source, chain, tell_once))
        for name, chain in chains.items()
    ]


def _named(line: str) -> tuple[str, str]:
    """Split `NAME: CHAIN`; a colon inside a step's brackets names nothing."""
    name, colon, chain = line.partition(":")
    if not colon or any(sign in name for sign in "(|"):
        return line, line
    chain = chain.strip()
    if len(chain) > 1 and chain[0] == chain[-1] and chain[0] in "'\"":
        chain = chain[1:-1]
    return check_name(name.strip(), "chain"), chain
