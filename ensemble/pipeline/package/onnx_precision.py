"""Lower the precision of an exported candidate: half floats, or calibrated 8-bit integers."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ensemble.pipeline.package.onnx_export import IMAGES, quiet
from evaluation.core.errors import BadRun
from evaluation.core.files import atomic_file
from evaluation.core.types import Array
from members.data.dataset import DataSet

Precision = Literal["float32", "float16", "int8"]

CALIBRATION_IMAGES = 64
QUANTISED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Operators with nearly all of the work; the fusion and the steps keep float32."""


def lower_precision(
    path: Path, precision: Precision, training: DataSet, *, rng: np.random.Generator
) -> None:
    """Replace an exported graph by one of lower precision.

    `float16` keeps weights and values between operators as half floats; images and probabilities
    keep their types. `int8` keeps weights per channel and values per tensor as 8-bit integers,
    whose ranges are those of training images; labels have no part in it.

    Args:
        path: of the ONNX file, which is replaced whole or not at all.
        precision: `float32` changes nothing.
        training: the images of `oof`, some of which are drawn for calibration.
        rng: draws them.

    Raises:
        BadRun: onnxruntime cannot convert the graph.

    References:
        Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", CVPR 2018.
    """
    if precision == "float32":
        return
    with warnings.catch_warnings(), quiet(""), atomic_file(path) as partial:
        warnings.simplefilter("ignore")
        try:
            if precision == "float16":
                _to_float16(path, partial)
            else:
                _to_int8(path, partial, training, rng)
        except Exception as error:  # the converters have no common class of errors
            reason = " ".join(str(error).split())[:200]
            raise BadRun(
                f"the graph cannot be converted to {precision} ({reason}); freeze it with"
                " --precision float32"
            ) from None


def _to_float16(path: Path, partial: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(path))
    converted = convert_float_to_float16(model, keep_io_types=True)
    partial.write_bytes(_with_metadata_of(model, converted).SerializeToString())


def _to_int8(path: Path, partial: Path, training: DataSet, rng: np.random.Generator) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        """Gives calibration images one by one."""

        def __init__(self) -> None:
            self._images = _drawn(training, rng)

        def get_next(self) -> dict[str, Array] | None:
            """Return the next image as the graph's input; None at the end."""
            image = next(self._images, None)
            return None if image is None else {IMAGES: image}

    quantize_static(
        str(path),
        str(partial),
        Images(),
        per_channel=True,
        op_types_to_quantize=list(QUANTISED),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    converted = _with_metadata_of(onnx.load(str(path)), onnx.load(str(partial)))
    partial.write_bytes(converted.SerializeToString())


def _drawn(training: DataSet, rng: np.random.Generator) -> Iterator[Array]:
    """Yield some of the images, (1, channel, row, col), in the type of the graph's input."""
    count = min(CALIBRATION_IMAGES, len(training))
    for index in np.sort(rng.choice(len(training), count, replace=False)):
        image = np.asarray(training.images[int(index)])[None]
        yield image if image.dtype == np.uint8 else image.astype(np.float32)


def _with_metadata_of(model: Any, converted: Any) -> Any:
    """Return the converted model with what the original says about itself, once."""
    del converted.metadata_props[:]
    converted.metadata_props.extend(model.metadata_props)
    return converted
