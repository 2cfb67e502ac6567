"""A run folder opened for reading from Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble.api.notebook import Gallery, Picture, draw_gallery, draw_overlay
from ensemble.api.results import Comparison
from ensemble.pipeline.candidates.postprocess import read_candidate, read_labels
from ensemble.pipeline.candidates.probabilities import open_probabilities
from ensemble.pipeline.candidates.staleness import scores_record
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.open_run import RunMembers, run_experiment, run_metric
from ensemble.pipeline.scoring.score import without_trained_on
from evaluation.core.classes import Classes
from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.ragged import Stack, join
from evaluation.core.run_folder import OOF, Run
from evaluation.core.types import Groups
from evaluation.leaderboard import Candidate, compare
from evaluation.run_metric import named_metric
from evaluation.scores import read_scores
from members.data.dataset import DataSet
from members.maps import MapReader

MOST_DRAWN = 200
"""Images of an overlay."""


@dataclass(frozen=True)
class OpenedRun:
    """A run: its images, probability maps, label maps and scores; nothing is written.

    Args:
        path: the run folder.
    """

    path: Path

    @property
    def _run(self) -> Run:
        return Run(self.path)

    @property
    def classes(self) -> Classes:
        """Class names, colours and the ignored class."""
        return run_classes(self._run)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, such as `oof` (out-of-fold: the training images)."""
        return tuple(self._run.splits())

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members that have probability maps."""
        return tuple(RunMembers.of(self._run).names())

    @property
    def fusions(self) -> tuple[str, ...]:
        """Names of the fusions."""
        return tuple(self._run.fusions())

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates that have label maps."""
        return tuple(self._run.candidates())

    def images(self, split: str) -> Stack:
        """Return the images, (image, channel, row, col); `Ragged` where sizes differ."""
        return self._data(split).images

    def target(self, split: str) -> Stack:
        """Return the target, (image, row, col); 255 where unlabelled.

        Raises:
            BadData: the split has no labels.
        """
        return self._data(split).target()

    def groups(self, split: str) -> Groups:
        """Return the group of each image; its id where the data have no groups."""
        return self._data(split).group_names()

    def reader(self, name: str, split: str, *, probabilities: bool = False) -> MapReader:
        """Return a reader of a member's or fusion's maps, for sets larger than memory; see `maps`.

        Raises:
            BadRun: no such maps.
        """
        opened = open_probabilities if probabilities else RunMembers.open
        return opened(RunMembers.of(self._run), name, split)

    def maps(
        self, name: str, split: str, images: slice = slice(None), *, probabilities: bool = False
    ) -> Stack:
        """Return the maps of a member or fusion, (image, class, row, col).

        They have the type in which the run stores them, float16 by default, or uint8 scaled by 255:
        so the other functions know how far sums of classes may be from 1.

        Args:
            name: of the member or fusion.
            split: name of the split.
            images: which images to read; by default all.
            probabilities: of a fusion whose decisions were fitted by the metric, give the
                probabilities (float32, fused now), not the stored scores that decide. All other
                maps are probabilities anyway.

        Raises:
            BadRun: no such maps.
        """
        reader = self.reader(name, split, probabilities=probabilities)
        start, stop, _ = images.indices(len(reader))
        dtype = getattr(reader, "dtype", "float32")
        parts = []
        for run, _ in reader.extent.slices():
            wanted = slice(max(start, run.start), min(stop, run.stop))
            if wanted.start < wanted.stop:
                maps = reader.read(wanted)
                scaled = np.rint(maps * 255) if dtype == "uint8" else maps
                parts.append(scaled.astype(dtype))
        return join(parts) if parts else np.empty((0, reader.num_classes, 0, 0), dtype)

    def labels(self, candidate: str, split: str) -> Stack:
        """Return the label maps of a candidate, (image, row, col).

        Raises:
            BadRun: no such candidate or label maps.
        """
        return read_labels(self._run, candidate, split)

    @property
    def metric(self) -> str:
        """The run's metric: the protocol that stops training, is fitted, selected and ranked by."""
        return run_metric(self._run)

    def leaderboard(self, split: str = "validation", protocol: str | None = None) -> Comparison:
        """Rank the candidates whose scores on a split are current, by default by the run's metric.

        Raises:
            BadRun: no such split, or no candidate is scored on it.
            BadSpec: an unknown protocol.
        """
        run, members = self._run, RunMembers.of(self._run)
        protocol = named_metric(protocol, self.classes) if protocol else self.metric
        self._data(split)
        experiment = run_experiment(run)
        sources = [*members.names(), *(set(experiment.fusions) & set(run.fusions()))]
        made_of = {
            name: source
            for name in run.candidates()
            if (source := read_candidate(run, name)[0]) in sources
            and scores_record(run, name, split).is_current()
        }
        candidates = [self._candidate(members, name, split) for name in made_of]
        if not candidates:
            raise BadRun(
                f"{run.path}: no candidate has current scores on split {split!r}; run"
                f" `ens score --run {run.path} --split {split}`"
            )
        candidates = without_trained_on(members, candidates, made_of, split, _ignore_line)
        rng = np.random.default_rng(experiment.seed)
        return Comparison(
            compare(candidates, run_classes(run), rng=rng, split=split, protocol=protocol)
        )

    def overlay(
        self,
        *candidates: str,
        split: str = "validation",
        ids: Sequence[str] = (),
        count: int = 4,
    ) -> Picture:
        """Draw labels of candidates over images, with the errors of the last; a notebook shows it.

        Args:
            candidates: by default the first of the leaderboard.
            split: split of the images, with labels.
            ids: images to draw; without them, `count` evenly spaced ones.
            count: how many.

        Raises:
            BadRun: no such split or candidate, or no labels to find errors by.
            BadData: no such image.
            BadSpec: a count that cannot be drawn.
        """
        if not 1 <= count <= MOST_DRAWN:
            raise BadSpec(f"count={count}; expected 1 to {MOST_DRAWN}")
        names = candidates or (self._first(split),)
        return draw_overlay(self.path, names, split, tuple(ids), count)

    def gallery(self, candidate: str | None = None, split: str = "validation") -> Gallery:
        """Return a candidate's images with stages, errors and filters; a notebook shows them.

        Args:
            candidate: by default the chosen one, or the first of the leaderboard.
            split: split of the images.

        Raises:
            BadRun: no such split or candidate, or it is not scored there.
        """
        return draw_gallery(self.path, candidate or self._first(split), split)

    def _first(self, split: str) -> str:
        board = self.leaderboard(split).leaderboard
        return board.chosen or board.rows[0].name

    def _candidate(self, members: RunMembers, name: str, split: str) -> Candidate:
        run = self._run
        source, chain = read_candidate(run, name)
        examined = read_scores(run.scores(name), split)[1]
        oof = examined if split == OOF else None
        if oof is None and scores_record(run, name, OOF).is_current():
            oof = read_scores(run.scores(name), OOF)[1]
        return Candidate(name, examined, oof, source in members.names() and not chain)

    def _data(self, split: str) -> DataSet:
        if split not in self.splits:
            raise BadRun(f"{self.path}: no split {split!r}; known: {', '.join(self.splits)}")
        return DataSet.load(self._run.data(split))


def _ignore_line(line: str) -> None:
    """Drop a line of progress."""
