"""Metrics of a whole set of images and of its groups or images, block by block."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from evaluation.core.classes import Classes
from evaluation.core.types import Array
from evaluation.metrics.metric_base import Metric, MetricInput, MetricValue
from evaluation.scores import nan_to_none

Per = Literal["set", "group", "image"]
Values = dict[str, Any]
"""JSON values of one metric on one set."""

BIN_SUMS = ("pixels", "confidence", "right")


def evaluate_metrics(
    metrics: Mapping[str, Metric],
    blocks: Iterable[tuple[MetricInput, Array]],
    classes: Classes,
    *,
    per: Per = "set",
) -> dict[str, Values]:
    """Evaluate metrics on a set of images in one pass.

    Args:
        metrics: by name.
        blocks: images, and the name of the group or image for each.
        classes: names, and the ignored class.
        per: also evaluate each group or each image; `set` adds nothing.

    Returns:
        By metric `{"overall": x, "classes": {CLASS: x}, "each": {NAME: {...}}}`; missing values
        are None, `classes` is omitted if a metric has none, `each` if `per` is `set`. `ece` has
        the sums of a reliability diagram, `reliability`: pixels, confidence and right per bin.
    """
    sums: dict[str, Array] = {}
    parts: dict[str, dict[str, Any]] = {name: {} for name in metrics}
    for block, keys in blocks:
        for name, metric in metrics.items():
            terms = metric.accumulate(block)
            sums[name] = sums.get(name, 0) + terms.sum(axis=0)
            if per == "image":
                value = metric.compute(terms)
                parts[name] |= {
                    str(key): _values(value, index, classes) for index, key in enumerate(keys)
                }
            elif per == "group":
                for key in np.unique(keys):
                    part = terms[keys == key].sum(axis=0)
                    parts[name][str(key)] = parts[name].get(str(key), 0) + part
    results = {}
    for name, metric in metrics.items():
        results[name] = _values_of_sum(metric, sums[name], classes)
        if per == "group":
            each = {key: _values_of_sum(metric, s, classes) for key, s in parts[name].items()}
            results[name]["each"] = each
        elif per == "image":
            results[name]["each"] = parts[name]
    return results


def _values_of_sum(metric: Metric, summed: Array, classes: Classes) -> Values:
    return _values(metric.compute(summed[np.newaxis]), 0, classes)


def _values(value: MetricValue, index: int, classes: Classes) -> Values:
    values: Values = {"overall": nan_to_none(float(value.overall[index]))}
    if value.per_class is not None:
        per_class = value.per_class[index]
        values["classes"] = {
            classes.names[label]: nan_to_none(float(per_class[label])) for label in classes.scored
        }
    if value.bins is not None:
        values["reliability"] = dict(zip(BIN_SUMS, value.bins[index].tolist(), strict=True))
    return values
