"""The metric of a run: what stops training, is fitted, selected and ranked by.

It is a protocol, `masked` by default, or the IoU of the declared foreground of two classes.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Num

from evaluation.class_protocols import scored_class
from evaluation.core.classes import Classes
from evaluation.core.errors import BadData
from evaluation.core.specs import Spec, parse_spec
from evaluation.iou import Protocol, safe_divide
from evaluation.protocols import ALL_PROTOCOLS, PROTOCOLS, PerImageProtocol, build_protocol

MASKED = "masked"
CLASS_OPTIONS = ("of", "but")
BINARY = 2
NAMED = ("dice", "precision", "recall")
"""Protocols of a set or of each image that measure something else than IoU."""

FITTED = ("dice", "iou", "foreground")
"""Protocols that strategies and steps can be fitted by, besides `masked`."""


def default_metric(classes: Classes) -> str:
    """Return the metric where none is named: `masked`, or the IoU of a declared foreground.

    The mean of the IoUs of background and foreground hides a bad foreground, since almost any
    prediction has a high IoU of the background.

    Examples:
        >>> default_metric(Classes(("background", "nucleus"), foreground=1))
        'iou(of=nucleus)'
    """
    label = classes.foreground
    if len(classes) != BINARY or label is None or label == classes.ignore:
        return MASKED
    return str(Spec("iou", options={"of": classes.names[label]}))


def named_metric(spec: str | None, classes: Classes) -> str:
    """Return the canonical spec of a metric, classes by name; the default where none is named.

    Raises:
        BadSpec: an unknown protocol, option or class.
    """
    if spec is None:
        return default_metric(classes)
    build_protocol(spec, classes)
    parsed = ALL_PROTOCOLS.check(spec)
    options = {
        name: classes.names[scored_class(value, classes)] if name in CLASS_OPTIONS else value
        for name, value in parsed.options.items()
    }
    return str(replace(parsed, options=options))


def metric_config(metric: str) -> dict[str, str]:
    """Return what records of results say about the metric: nothing for `masked`, as ever."""
    return {} if metric == MASKED else {"metric": metric}


def reported_protocols(metric: str) -> list[str]:
    """List the metric and every definition of mean IoU."""
    return list(dict.fromkeys([*([] if metric in PROTOCOLS else [metric]), *PROTOCOLS]))


def metric_label(metric: str) -> str:
    """Return the words for a metric in texts and figures.

    Examples:
        >>> metric_label("masked"), metric_label("iou(of=nucleus)"), metric_label("dice")
        ('masked mIoU', 'IoU of nucleus', 'Dice')
    """
    match parse_spec(metric):
        case Spec("iou", (), {"of": of}):
            return f"IoU of {of}"
        case Spec("foreground", (), {"but": but, **others}) if not others:
            return f"mIoU without {but}"
        case Spec(name, (), options) if name in NAMED and set(options) <= {"per"}:
            return name.capitalize() + " per image" * (options.get("per") == "image")
        case Spec(name) if name in (*NAMED, "foreground"):
            return metric
    return f"{metric} mIoU"


def score_column(metric: str) -> str:
    """Return the head of a column of scores: `mIoU`, or what else the metric measures."""
    return "mIoU" if parse_spec(metric).name in PROTOCOLS else metric_label(metric)


def metric_note(metric: str, classes: Classes) -> str | None:
    """Return a line that says which metric decides; None for `masked`."""
    if metric == MASKED:
        return None
    why = ", since two classes have a declared foreground" * (metric == default_metric(classes))
    return f"metric: {metric_label(metric)}{why}"


@dataclass(frozen=True)
class SetMetric:
    """A mean of IoUs or Dice coefficients of the pixels of a set.

    It is what code needs that counts hits and unions itself, in place of whole tables.

    Args:
        ratio: of each class.
        over: indices of the classes that are averaged, those that occur.
    """

    ratio: Literal["iou", "dice"]
    over: tuple[int, ...]

    @classmethod
    def masked(cls, classes: int, ignore: int | None) -> "SetMetric":
        """Return the mean IoU of all classes but the ignored one."""
        return cls("iou", tuple(label for label in range(classes) if label != ignore))

    def per_class(
        self, hits: Num[np.ndarray, "*shape"], union: Num[np.ndarray, "*shape"]
    ) -> Float[np.ndarray, "*shape"]:
        """Return the ratio of each class by its pixels in both sets and in either; NaN if none."""
        if self.ratio == "dice":
            return safe_divide(2.0 * hits, union + hits)
        return safe_divide(1.0 * hits, union)


def fitted_form(metric: str) -> str:
    """Return the metric that strategies and steps are fitted by in a run of another one.

    They sum hits and unions over a set: `masked`, `dice`, `iou` and `foreground` have such a form;
    all other metrics take `masked`, and options for images and absent classes are left out.

    Examples:
        >>> fitted_form("dice(per=image)"), fitted_form("nnunet"), fitted_form("iou(of=nucleus)")
        ('dice', 'masked', 'iou(of=nucleus)')
    """
    spec = parse_spec(metric)
    if spec.name not in FITTED:
        return MASKED
    options = {name: value for name, value in spec.options.items() if name in CLASS_OPTIONS}
    return str(replace(spec, options=options))


def fitted_note(metric: str) -> str | None:
    """Return a line for results that were fitted by another metric than the run's; else None.

    Examples:
        >>> fitted_note("dice(per=image)")
        "fitted by Dice: the run's metric, Dice per image, cannot be fitted itself"
    """
    form = fitted_form(metric)
    if form == metric:
        return None
    return (
        f"fitted by {metric_label(form)}: the run's metric, {metric_label(metric)}, cannot be"
        " fitted itself"
    )


def set_metric(metric: str, classes: Classes) -> SetMetric:
    """Return the form for sums of pixels that a metric is fitted in; see `fitted_form`.

    Raises:
        BadSpec: an unknown class.
    """
    over = SetMetric.masked(len(classes), classes.ignore).over
    match parse_spec(metric):
        case Spec("dice"):
            return SetMetric("dice", over)
        case Spec("iou", _, {"of": of}):
            return SetMetric("iou", (scored_class(of, classes),))
        case Spec("foreground", _, {"but": but}):
            left_out = scored_class(but, classes)
            return SetMetric("iou", tuple(label for label in over if label != left_out))
    return SetMetric("iou", over)


def summed_form(metric: str, classes: Classes) -> str:
    """Return the metric where only the summed pixels of a set are known, as during training.

    A mean over images of Dice, precision or recall is that of the set; any other is `masked`.

    Examples:
        >>> summed_form("dice(per=image)", Classes(("sand", "rock")))
        'dice'
    """
    if not isinstance(build_protocol(metric, classes), PerImageProtocol):
        return metric
    spec = parse_spec(metric)
    if spec.name not in NAMED:
        return MASKED
    return str(replace(spec, options={k: v for k, v in spec.options.items() if k != "per"}))


def is_defined(protocol: Protocol, pixels: Num[np.ndarray, " class"], ignore: int | None) -> bool:
    """Tell whether a perfect prediction of so many pixels per class has a score.

    Where it has none, the score of other predictions is 0 or missing and says nothing.
    """
    return not np.isnan(protocol(np.diag(pixels), ignore).miou)


def check_defined(
    metric: str, classes: Classes, pixels: Num[np.ndarray, " class"], where: str
) -> None:
    """Check that a set holds what a metric measures.

    Args:
        metric: spec.
        classes: of the pixels.
        pixels: number of labelled pixels of each class.
        where: the set, for the message.

    Raises:
        BadData: it does not.
    """
    protocol = build_protocol(summed_form(metric, classes), classes)
    if not is_defined(protocol, pixels, classes.ignore):
        present = [classes.names[k] for k in classes.scored if pixels[k]]
        over = [classes.names[k] for k in set_metric(metric, classes).over]
        raise BadData(
            f"{where} has no pixel of {', '.join(over)} (it has: {', '.join(present) or 'none'}),"
            f" so its {metric_label(metric)} is undefined; give images that have some, or another"
            " metric"
        )
