"""Compare an exported candidate with the run that it comes from: labels, score and time."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ensemble.pipeline.candidates.postprocess import read_labels
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.package.apply import predict_labels
from ensemble.pipeline.package.manifest import Package
from ensemble.pipeline.package.onnx_run import OnnxCandidate
from ensemble.pipeline.run.open_run import run_metric
from evaluation.confusion import confusion
from evaluation.core.run_folder import OOF, Run
from evaluation.formatting import format_decimal, format_interval
from evaluation.intervals import Interval, interval_to_dict, paired_interval
from evaluation.protocols import build_protocol, score_images
from evaluation.run_metric import metric_label
from members.data.dataset import DataSet

TIMED_IMAGES = 16


@dataclass(frozen=True)
class OnnxExamined:
    """How an exported candidate compares with the run's.

    Args:
        path: of the file.
        size: of the file, in bytes.
        split: whose images were labelled; None where the run has labels of `oof` alone.
        images: number of those images.
        equal: share of the pixels whose label is the run's.
        metric: the run's.
        score: of the exported candidate; None without target.
        change: that score minus the run's.
        milliseconds: per image on one core, by onnxruntime.
        torch_milliseconds: the same, by torch and `ens apply` of a package.
        precision: of the graph.
        interval: paired, of the change; None without target or with one group of images.
    """

    path: Path
    size: int
    split: str | None = None
    images: int = 0
    equal: float | None = None
    metric: str | None = None
    score: float | None = None
    change: float | None = None
    milliseconds: float | None = None
    torch_milliseconds: float | None = None
    precision: str = "float32"
    interval: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        ends = interval_to_dict(self.interval)
        return {**asdict(self), "path": str(self.path), "interval": ends}

    def describe_loss(self) -> str:
        """Return the score that the precision costs, with its paired interval, in words."""
        if self.change is None:
            return f"{self.precision}: the score lost is unknown"
        words = "no interval: one group of images"
        if self.interval is not None:
            words = f"{self.interval.level:.0%} {format_interval(self.interval)}"
        return (
            f"{self.precision}: the score changes by {self.change:+.5f} ({words}) on {self.split}"
        )

    def describe(self) -> str:
        """Return the comparison in words."""
        head = f"{self.path}: {self.precision}, {self.size / 1e6:.1f} MB, for images of any size"
        if self.split is None or self.equal is None:
            return f"{head}\nnot compared: the run has labels of {OOF} only"
        lines = [head, f"on {self.images} images of {self.split}: {self.equal:.4%} of the labels"]
        lines[-1] += " are the run's"
        if self.score is not None and self.change is not None and self.metric is not None:
            score = format_decimal(self.score)
            lines[-1] += f"; {metric_label(self.metric)} {score} ({self.change:+.5f})"
        lines.append(
            f"{self.milliseconds:.1f} ms per image on one core by onnxruntime,"
            f" {self.torch_milliseconds:.1f} by `ens apply` of a package"
        )
        return "\n".join(lines)


def examine(run: Run, package: Package, path: Path, precision: str = "float32") -> OnnxExamined:
    """Label a split with an exported candidate, and compare with the run's labels and score.

    Args:
        run: the experiment folder.
        package: what was exported.
        path: of the ONNX file.
        precision: of its graph.
    """
    examined = OnnxExamined(path, path.stat().st_size, precision=precision)
    split = next(
        (s for s in run.splits() if s != OOF and run.labels(package.candidate, s).is_dir()), None
    )
    if split is None:
        return examined
    data, theirs = DataSet.load(run.data(split)), read_labels(run, package.candidate, split)
    exported, classes = OnnxCandidate(path), run_classes(run)
    equal, counts = 0, []
    for block, labels in exported.label(data):
        before = np.asarray(theirs[block])
        equal += int((labels == before).sum())
        if data.masks is not None:
            target = np.asarray(data.masks[block])
            both = (confusion(target, pred, classes=len(classes)) for pred in (labels, before))
            counts.append(list(both))
    few = data.take(slice(0, min(TIMED_IMAGES, data.extent.runs[0][0])))
    examined = replace(
        examined,
        split=split,
        images=len(data),
        equal=equal / data.extent.pixels,
        milliseconds=_milliseconds(lambda: list(exported.label(few)), few),
        torch_milliseconds=_milliseconds(lambda: list(predict_labels(package, few, "cpu")), few),
    )
    if not counts:
        return examined
    metric = run_metric(run)
    protocol = build_protocol(metric, classes)
    own, runs = (np.concatenate(tables) for tables in zip(*counts, strict=True))
    score, former = (
        float(score_images(protocol, table, classes.ignore).miou) for table in (own, runs)
    )
    change = paired_interval(own, runs, data.group_names(), protocol, classes.ignore)
    return replace(examined, metric=metric, score=score, change=score - former, interval=change)


def _milliseconds(label: Callable[[], Any], data: DataSet) -> float:
    """Return the time per image of the second pass, by one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        label()
        started = time.perf_counter()
        label()
        return 1e3 * (time.perf_counter() - started) / len(data)
    finally:
        torch.set_num_threads(threads)
