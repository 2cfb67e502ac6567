"""Run an exported candidate with onnxruntime."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.package.onnx_export import (
    IMAGES,
    LABELS,
    METADATA,
    PROBABILITIES,
    check_installed,
)
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadRun
from evaluation.core.types import Array, Images, Labels, Map
from members.data.dataset import DataSet

IMAGE_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


class OnnxCandidate:
    """A candidate that `ens freeze --format onnx` wrote.

    Args:
        path: of the file.

    Raises:
        BadSpec: onnxruntime is not installed.
        BadRun: no such file, damaged, or not written by `ens`.
    """

    def __init__(self, path: Path) -> None:
        check_installed("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            metadata = self.session.get_modelmeta().custom_metadata_map
            self.description: dict[str, Any] = json.loads(metadata[METADATA])
        except KeyError:
            raise BadRun(
                f"{path} was not written by `ens freeze --format onnx`: it has no metadata"
                f" {METADATA!r}"
            ) from None
        except Exception as error:  # onnxruntime has no common class of errors
            reason = " ".join(str(error).split())
            raise BadRun(f"{path} cannot be opened by onnxruntime ({reason})") from None
        self.candidate: str = self.description["candidate"]
        self.channels = int(self.description["channels"])
        self.image_type: str = self.description["image_type"]
        self._input_type = IMAGE_TYPES[self.session.get_inputs()[0].type]

    @cached_property
    def classes(self) -> Classes:
        """Names, values and colours of the labels."""
        return Classes.from_dict(self.description["classes"])

    def probabilities(self, images: Images) -> Map:
        """Return the maps of images (image, channel, row, col) of one size.

        Raises:
            BadRun: the graph does not take images of that size.
        """
        return self._run(PROBABILITIES, images)

    def labels(self, images: Images) -> Labels:
        """Return class indices (image, row, col) of images of one size."""
        return self._run(LABELS, images)

    def _run(self, output: str, images: Images) -> Array:
        values = images.astype(self._input_type, copy=False)
        try:
            (result,) = self.session.run([output], {IMAGES: values})
        except Exception as error:  # onnxruntime has no common class of errors
            reason = " ".join(str(error).split())[:200]
            rows, cols = images.shape[2:]
            raise BadRun(
                f"the graph of {self.candidate} fails on images of {rows} x {cols} pixels"
                f" ({reason}); freeze the candidate as a package, without --format onnx"
            ) from None
        return np.asarray(result)

    def label(self, data: DataSet) -> Iterator[tuple[slice, Labels]]:
        """Yield (block, class indices) for each block of images, in order."""
        for block in blocks(data.extent):
            yield block, self.labels(np.asarray(data.images[block]))
