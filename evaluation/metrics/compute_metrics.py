"""Metrics of a whole set of images and of its groups or images, block by block."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from evaluation.core.classes import Classes
from evaluation.core.types import Array
from evaluation.metrics.metric_base import Metric, MetricInput, MetricValue
from evaluation.scores import number

Per = Literal["set", "group", "image"]
Document = dict[str, Any]

BINS = ("pixels", "confidence", "right")


def measure(
    metrics: Mapping[str, Metric],
    blocks: Iterable[tuple[MetricInput, Array]],
    classes: Classes,
    *,
    per: Per = "set",
) -> dict[str, Document]:
    """Measure a set of images in one pass.

    Args:
        metrics: by name.
        blocks: images, and the name of each: of its group, or its own.
        classes: names, and the ignored class.
        per: what has values beside the whole set: each group, each image, or nothing.

    Returns:
        By metric `{"overall": x, "classes": {CLASS: x}, "each": {NAME: {...}}}`; None is no value,
        `classes` is left out where a metric has none, `each` where nothing was asked; `ece` has
        the sums of a reliability diagram, `reliability`: pixels, confidence and right by bin.
    """
    sums: dict[str, Array] = {}
    parts: dict[str, dict[str, Any]] = {name: {} for name in metrics}
    for seen, names in blocks:
        for name, metric in metrics.items():
            terms = metric.terms(seen)
            sums[name] = sums.get(name, 0) + terms.sum(axis=0)
            if per == "image":
                found = metric.value(terms)
                parts[name] |= {
                    str(key): _at(found, place, classes) for place, key in enumerate(names)
                }
            elif per == "group":
                for key in np.unique(names):
                    mine = terms[names == key].sum(axis=0)
                    parts[name][str(key)] = parts[name].get(str(key), 0) + mine
    documents = {}
    for name, metric in metrics.items():
        documents[name] = _document(metric, sums[name], classes)
        if per == "group":
            each = {key: _document(metric, part, classes) for key, part in parts[name].items()}
            documents[name]["each"] = each
        elif per == "image":
            documents[name]["each"] = parts[name]
    return documents


def _document(metric: Metric, summed: Array, classes: Classes) -> Document:
    return _at(metric.value(summed[np.newaxis]), 0, classes)


def _at(found: MetricValue, place: int, classes: Classes) -> Document:
    document: Document = {"overall": number(float(found.overall[place]))}
    if found.per_class is not None:
        values = found.per_class[place]
        document["classes"] = {
            classes.names[label]: number(float(values[label])) for label in classes.scored
        }
    if found.bins is not None:
        rows = found.bins[place].tolist()
        document["reliability"] = dict(zip(BINS, rows, strict=True))
    return document
