"""Compute metrics of candidates of a run, or of files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.api import classes_of_labels
from ensemble.api.fusion import check_values
from ensemble.api.inputs import check_same_images, open_labels, open_maps
from ensemble.pipeline.candidates.postprocess import read_candidate, read_labels
from ensemble.pipeline.candidates.probabilities import open_probabilities
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.pipeline.scoring.score import counts_of
from evaluation.confusion import LazyLabels, confusion
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadLabels, BadMaps, BadSpec
from evaluation.core.label_options import LabelOptions
from evaluation.core.progress import Log
from evaluation.core.ragged import Extent, extent_of
from evaluation.core.run_folder import Run
from evaluation.core.types import Array
from evaluation.formatting import note_of_shown_classes, shown_classes
from evaluation.metrics import METRICS
from evaluation.metrics.compute_metrics import Per, evaluate_metrics
from evaluation.metrics.metric_base import Metric, MetricInput
from members.data.dataset import DataSet
from members.maps import MapReader, read_checked

Document = dict[str, Any]
ALL = "all"
NO_MAPS = "there are no maps of these labels"


def measure_run(
    run: Run,
    candidates: Sequence[str],
    wanted: Sequence[str],
    *,
    split: str,
    per: Per,
    log: Log,
) -> Document:
    """Compute metrics of candidates of a run; what is missing or stale is made again first.

    Maps are those of the candidate's member or fusion, where its chain is empty; maps after steps
    are not kept, so that metrics over maps do not apply to them.

    Args:
        run: the experiment folder.
        candidates: names; by default those that have scores.
        wanted: names or specs of metrics, or `all`.
        split: the images.
        per: what gets values of its own, besides the whole split.
        log: receives a line per result.

    Raises:
        BadSpec: an unknown metric.
        BadRun: no such candidate or split, or a split without target.
    """
    metrics = build_metrics(wanted, run_classes(run))
    names = list(candidates) or run.candidates()
    counts_of(run, names, split=split, log=log)
    run_members, classes = RunMembers.of(run), run_classes(run)
    data = DataSet.load(run.data(split))
    keys = np.array(data.ids) if per == "image" else data.group_names()
    results = {}
    for name in names:
        known = name if name in run.candidates() else f"{name}_argmax"
        source, chain = read_candidate(run, known)
        maps = None if chain else open_probabilities(run_members, source, split)
        pred = read_labels(run, known, split)
        results[name] = _compute(metrics, data.target(), pred, maps, classes, keys, per)
    return {"split": split, "per": per, "candidates": results}


def measure_files(
    target: Path,
    pred: Path,
    maps: Path | None,
    wanted: Sequence[str],
    *,
    labels: LabelOptions,
    per: Per,
    logits: bool = False,
) -> Document:
    """Compute metrics of label maps, and of probability maps where given, in files.

    Args:
        target: (image, row, col), integers; 255 where there is no label.
        pred: (image, row, col), integers.
        maps: (image, class, row, col), for the metrics over probabilities.
        wanted: names or specs of metrics, or `all`.
        labels: number of classes, ignored class and stored values.
        per: what gets values of its own, besides the whole set; images go by their number.
        logits: whether the maps are logits, which the softmax makes probabilities.

    Raises:
        BadSpec: an unknown metric, or groups, which files do not have.
        BadLabels: labels outside the classes, shapes that differ; names the files.
        BadMaps: maps that are no probabilities or of other images.
    """
    if per == "group":
        raise BadSpec("--per group with files, which have no groups; expected set or image")
    for spec in _specs(wanted):
        METRICS.check(spec, "classes")
    classes = classes_of_labels(None, labels, target, [pred])
    metrics = build_metrics(wanted, classes)
    opened = open_labels(target, "target", classes)
    opened_pred = open_labels(pred, "prediction", classes, complete=True)
    check_same_images(opened, opened_pred)
    target_labels, pred_labels = opened.array, opened_pred.array
    reader = None if maps is None else open_maps(maps, "maps", classes=len(classes), logits=logits)
    if reader is not None:
        check_same_images(opened, reader)
        _check_maps(reader, classes, extent_of(target_labels))
    keys = np.arange(len(target_labels))
    try:
        result = _compute(metrics, target_labels, pred_labels, reader, classes, keys, per)
    except BadLabels as error:
        raise BadLabels(f"{target} and {pred}: {error}") from None
    return {"per": per, "candidates": {str(pred): result}}


def build_metrics(wanted: Sequence[str], classes: Classes) -> dict[str, Metric]:
    """Build metrics by spec; `all` stands for every one by name.

    Raises:
        BadSpec: an unknown metric or option, or values for another number of classes.
    """
    return {spec: METRICS.build(spec, classes=len(classes)) for spec in _specs(wanted)}


def _specs(wanted: Sequence[str]) -> list[str]:
    return list(METRICS) if ALL in wanted else list(wanted)


def _check_maps(maps: MapReader, classes: Classes, extent: Extent) -> None:
    if (maps.num_classes, maps.extent) != (len(classes), extent):
        raise BadMaps(
            f"{maps.name} holds {len(maps)} images of {maps.extent} pixels and {maps.num_classes}"
            f" classes; expected {len(extent)} of {extent} and {len(classes)}, as the labels"
        )
    check_values([maps])


def _compute(
    metrics: dict[str, Metric],
    target: LazyLabels,
    pred: LazyLabels,
    maps: MapReader | None,
    classes: Classes,
    keys: Array,
    per: Per,
) -> Document:
    if not target.shape[0]:
        raise BadLabels("target holds no image; expected at least one")
    possible = {name: m for name, m in metrics.items() if maps is not None or m.requires != "maps"}
    if not any(metric.requires == "maps" for metric in possible.values()):
        maps = None
    result: Document = evaluate_metrics(
        possible, _metric_inputs(target, pred, maps, classes, keys), classes, per=per
    )
    return result | {name: {"not_measured": NO_MAPS} for name in metrics if name not in possible}


def _metric_inputs(
    target: LazyLabels,
    pred: LazyLabels,
    maps: MapReader | None,
    classes: Classes,
    keys: Array,
) -> Iterator[tuple[MetricInput, Array]]:
    if pred.shape != target.shape:
        raise BadLabels(f"prediction has shape {pred.shape}; expected {target.shape} as in target")
    if extent_of(pred) != extent_of(target):
        raise BadLabels("prediction and target have images of different sizes; expected the same")
    for block in blocks(extent_of(target)):
        target_labels, pred_labels = np.asarray(target[block]), np.asarray(pred[block])
        yield (
            MetricInput(
                target=target_labels,
                pred=pred_labels,
                counts=confusion(target_labels, pred_labels, classes=len(classes)),
                ignore=classes.ignore,
                maps=None if maps is None else read_checked(maps, block),
                floor=1e-12 if maps is None else maps.floor,
            ),
            keys[block],
        )


def format_metrics(document: Document) -> str:
    """Format metrics as text: a line per metric, then one per group or image if requested."""
    lines = []
    for candidate, metrics in document["candidates"].items():
        all_names = list(dict.fromkeys(n for m in metrics.values() for n in m.get("classes", {})))
        first: Document = next((m["classes"] for m in metrics.values() if m.get("classes")), {})
        names = [all_names[k] for k in shown_classes([first.get(n) for n in all_names])]
        notes = note_of_shown_classes(len(all_names), "the first metric", "--json holds all")
        lines.append(f"{candidate:32}{'overall':>10}" + "".join(f"{n[:9]:>10}" for n in names))
        for name, result in metrics.items():
            if "not_measured" in result:
                lines.append(f"{name:32}  {result['not_measured']}")
                continue
            lines.append(_line(name, result, names))
            lines += [_line(f"  {k}", each, names) for k, each in result.get("each", {}).items()]
        lines += notes
    return "\n".join(lines)


def _line(name: str, result: Document, names: Sequence[str]) -> str:
    per_class = result.get("classes", {})
    values = [result["overall"], *(per_class.get(n) for n in names)]
    return f"{name:32}" + "".join(f"{'-' if v is None else f'{v:.4f}':>10}" for v in values)
