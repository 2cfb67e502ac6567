"""Paths in an experiment folder, and the lock that gives it one writer at a time."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluation.core.errors import BadRun
from evaluation.core.files import check_no_external_links, remove_stale_temps_within

RUNS = Path("runs")
OOF = "oof"
"""The split of the training images, each predicted by the fold model that did not train on it."""

VALIDATION = "validation"
SPLITS = (OOF, VALIDATION, "test")
CANDIDATE = "candidate.json"
LOCK = ".lock"


@dataclass(frozen=True)
class Run:
    """An experiment folder; properties and methods give paths, whether they exist or not."""

    path: Path

    @property
    def experiment(self) -> Path:
        """The resolved experiment."""
        return self.path / "experiment.yaml"

    @property
    def classes(self) -> Path:
        """Class names, colours, ignored class."""
        return self.path / "data" / "classes.json"

    @property
    def folds(self) -> Path:
        """The folds that all members share."""
        return self.path / "data" / "folds.json"

    @property
    def objects(self) -> Path:
        """The name of the run in an object store."""
        return self.path / "objects.json"

    def data(self, split: str) -> Path:
        """Images and target of a split."""
        return self.path / "data" / split

    def model(self, member: str, fold: int) -> Path:
        """Weights and history of a member in a fold."""
        return self.path / "members" / member / f"fold-{fold}"

    def network(self, member: str) -> Path:
        """A member's network from elsewhere, and how it is read."""
        return self.path / "members" / member / "network"

    def probabilities(self, member: str, split: str) -> Path:
        """A member's store of probability maps."""
        return self.path / "probabilities" / member / split

    def fusion(self, name: str) -> Path:
        """A fusion's fitted state."""
        return self.path / "fused" / name

    def fused(self, name: str, split: str) -> Path:
        """A fusion's store of probability maps."""
        return self.fusion(name) / split

    def stores(self, holding: str) -> list[Path]:
        """All stores, incomplete ones too, that hold a file of this name."""
        kinds = (self.path / "probabilities", self.path / "fused")
        return [file.parent for kind in kinds for file in kind.glob(f"*/*/{holding}")]

    def labels(self, candidate: str, split: str) -> Path:
        """A candidate's label maps."""
        return self.path / "labels" / candidate / split

    def scores(self, candidate: str) -> Path:
        """A candidate's scores."""
        return self.path / "scores" / candidate

    def splits(self) -> list[str]:
        """The existing splits, in the order oof, validation, test, others."""
        names = _names(self.path / "data")
        return [s for s in SPLITS if s in names] + [n for n in names if n not in SPLITS]

    def members(self) -> list[str]:
        """The members with maps, by name."""
        return _names(self.path / "probabilities")

    def fusions(self) -> list[str]:
        """The fusions, by name."""
        return _names(self.path / "fused")

    def candidates(self) -> list[str]:
        """The candidates with a `candidate.json`, by name."""
        folder = self.path / "labels"
        return [name for name in _names(folder) if (folder / name / CANDIDATE).is_file()]


def newest_run(runs: Path = RUNS) -> Run:
    """Return the run that was modified last.

    Raises:
        BadRun: there is none.
    """
    existing = [p for p in runs.iterdir() if (p / "data").is_dir()] if runs.is_dir() else []
    if not existing:
        raise BadRun(f"no run under {runs}/; start with `ens train-members`, or name one by --run")
    return Run(max(existing, key=lambda path: (path / "data").stat().st_mtime_ns))


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


@contextlib.contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Hold the folder's lock; the system releases it however the process ends.

    Temporary files that earlier holders left are removed.

    Raises:
        BadRun: another process holds it.
        BadData: it contains a link that leads out of it.
    """
    new = not run.exists()
    run.mkdir(parents=True, exist_ok=True)
    check_no_external_links(run)
    with (run / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadRun(
                f"{run} is being written by another ens; wait for it, or use --run"
            ) from None
        remove_stale_temps_within(run)
        try:
            yield
        except BaseException:
            remove_stale_temps_within(run)  # what killed workers left
            if new and [path.name for path in run.iterdir()] == [LOCK]:
                shutil.rmtree(run)
            raise
