"""A chain parsed and fitted for maps that are given directly, not as part of a run."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble.api.fusion import check_values
from ensemble.api.inputs import (
    ArrayLike,
    MapsLike,
    check_same_images,
    classes_of_maps,
    new_stack,
    open_images,
    open_labels,
    open_maps,
    written_stack,
)
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadLabels, BadMaps, BadSpec
from evaluation.core.label_options import NOTHING_SAID, LabelOptions
from evaluation.core.progress import progress
from evaluation.core.ragged import Stack
from evaluation.run_metric import default_metric, set_metric
from members.maps import MapReader
from postproc.chain import Chain, parse_chain
from postproc.fit_chain import fit_chain
from postproc.postprocess import postprocess


@dataclass(frozen=True)
class ArrayChain:
    """A fitted chain with the maps that it turns into labels.

    Args:
        maps: a reader of the maps.
        chain: the chain; its text holds what was learned.
        classes: of the maps, with the values that label maps store for them.
        images: the images of the maps; None where there are none.
        unfitted: the canonical text of the chain before it was fitted.
        learned: whether a step was fitted.
    """

    maps: MapReader
    chain: Chain
    classes: Classes
    images: Stack | None
    unfitted: str
    learned: bool

    def label(self, out: Path | None = None) -> Stack:
        """Label all images by stored values, into a uint8 array, a `.npy` file or a folder."""
        extent = self.maps.extent
        labelled = postprocess(self.maps, self.chain, images=self.images)
        with new_stack(out, np.uint8, extent, ids=self.maps.ids) as labels:
            for block, part in progress(labelled, "postprocess", len(blocks(extent))):
                labels[block] = self.classes.stored(part)
        return labels if out is None else written_stack(out)


def fit_array_chain(
    maps: MapsLike,
    chain: str,
    *,
    images: ArrayLike | None = None,
    fit_maps: MapsLike | None = None,
    fit_target: ArrayLike | None = None,
    fit_images: ArrayLike | None = None,
    labels: LabelOptions = NOTHING_SAID,
    logits: bool = False,
) -> ArrayChain:
    """Parse a chain, and fit it where it learns; see `ensemble.postprocess`."""
    said = labels.num_classes
    reader = open_maps(maps, "maps", classes=said, logits=logits)
    fitting = None
    if fit_maps is not None:
        fitting = open_maps(fit_maps, "fit_maps", classes=said, logits=logits)
    classes = classes_of_maps(labels, reader.num_classes, fit_target)
    floor = max(each.floor for each in (reader, fitting) if each is not None)
    metric = set_metric(default_metric(classes), classes)
    parsed = parse_chain(
        chain, classes=len(classes), ignore=classes.ignore, floor=floor, metric=metric
    )
    opened_images = None if images is None else open_images(images, "images", reader)
    check_values([reader])
    fitted = parsed
    if parsed.learns:
        fitted = _fit(parsed, fitting, fit_target, fit_images, classes)
    return ArrayChain(reader, fitted, classes, opened_images, str(parsed), learned=parsed.learns)


def _fit(
    chain: Chain,
    fitting: MapReader | None,
    fit_target: ArrayLike | None,
    fit_images: ArrayLike | None,
    classes: Classes,
) -> Chain:
    if fitting is None or fit_target is None:
        raise BadSpec(f"chain '{chain}' learns; give it held-out `fit_maps` and `fit_target`")
    if fitting.num_classes != chain.classes:
        raise BadMaps(
            f"{fitting.name} has {fitting.num_classes} classes; expected {chain.classes} as in the"
            " maps"
        )
    check_values([fitting])
    target = open_labels(fit_target, "fit_target", classes)
    check_same_images(fitting, target)
    images = None if fit_images is None else open_images(fit_images, "fit_images", fitting)
    try:
        return fit_chain(chain, fitting, target.array[:], images)
    except BadLabels as error:
        raise BadLabels(f"{target.name}: {error}") from None
