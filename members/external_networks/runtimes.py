"""Open the files of networks from elsewhere and run them: ONNX, TorchScript, `torch.export`.

Nothing is unpickled by Python. TorchScript and `.pt2` hold programs of torch's operators, which
torch reads by itself; parts of a `.pt2` that Python would unpickle or load as a library are
refused.
"""

import json
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from evaluation.core.array_headers import DOCUMENT_BYTES
from evaluation.core.errors import BadNetwork, BadSpec

Format = Literal["onnx", "torchscript", "pt2", "safetensors"]

SUFFIXES: dict[str, Format] = {
    ".onnx": "onnx",
    ".torchscript": "torchscript",
    ".ts": "torchscript",
    ".pt2": "pt2",
    ".safetensors": "safetensors",
}
EXPORT = (
    "export the network: torch.onnx.export(network, (image,), 'network.onnx', dynamo=True), or"
    " torch.export.save(torch.export.export(network, (image,)), 'network.pt2')"
)
PT2_PARTS = ("models/", "data/weights/", "data/constants/", "data/sample_inputs/", ".data/")
PT2_FILES = ("archive_format", "archive_version", "byteorder", "version")
TENSOR_CONSTANT = "tensor_"
"""How the name of a constant begins that is a tensor and no object of Python or of a library."""

ONNX_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
MAX_REASON = 240


@dataclass(frozen=True)
class InputShape:
    """The image that a network takes, as far as its file says.

    Args:
        sides: lengths of the four axes in the file's order, None where any will do.
        dtype: of the values.
    """

    sides: tuple[int | None, ...] = (None, None, None, None)
    dtype: str = "float32"


class Runtime(ABC):
    """An opened network.

    Attributes:
        input: what it takes.
        parameters: number of its trained values; None where the file does not tell.
    """

    input: InputShape
    parameters: int | None

    @abstractmethod
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs of a batch by name, on the device of the images.

        Raises:
            BadNetwork: the network cannot be run on it.
        """

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Move it to a device, where it can be."""


def format_of(path: Path) -> Format:
    """Return the format of a network's file, by its name and content.

    Raises:
        BadNetwork: missing, pickled, or of another kind.
    """
    if not path.is_file():
        raise BadNetwork(f"{path} is missing; expected a network ({', '.join(SUFFIXES)})")
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in (".pt", ".pth") and zipfile.is_zipfile(path):
        names = {name.partition("/")[2] for name in _names_in(path)}
        if "archive_format" in names:
            return "pt2"
        if "constants.pkl" in names and any(name.startswith("code/") for name in names):
            return "torchscript"
    if suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"):
        raise BadNetwork(
            f"{path} is pickled, which runs any code when it is read, and was not opened; {EXPORT}"
        )
    raise BadNetwork(f"{path} is no network; expected {', '.join(SUFFIXES)}, .pt of TorchScript")


def open_runtime(path: Path) -> Runtime:
    """Open a network, on the CPU.

    Raises:
        BadNetwork: pickled, damaged, or needing what is not here: operators, files beside it.
        BadSpec: ONNX, and onnxruntime is not installed.
    """
    kind = format_of(path)
    if kind == "onnx":
        return OnnxRuntime(path)
    if kind == "torchscript":
        return _open_torchscript(path)
    if kind == "pt2":
        return _open_pt2(path)
    raise BadNetwork(f"{path} holds weights alone; say its 'architecture'")


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}..."


class OnnxRuntime(Runtime):
    """A network that onnxruntime runs, on the CPU.

    Args:
        path: of the file; large weights may lie beside it.

    Raises:
        BadNetwork: it cannot be opened, or takes more than one image.
        BadSpec: onnxruntime is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise BadSpec(
                f"{path} needs onnxruntime; run `pip install -e '.[onnx]'` in the source folder"
            ) from None
        external_files(path)  # missing ones are named
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has no common class of errors
            raise BadNetwork(
                f"{path} cannot be opened by onnxruntime ({one_line(error)}); export it with"
                " standard operators"
            ) from None
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in ONNX_TYPES or len(inputs[0].shape) != 4:
            shown = ", ".join(f"{i.name} {i.type} {list(i.shape)}" for i in inputs)
            raise BadNetwork(
                f"{path} takes {shown}; expected one input of images, (image, channel, row, col) or"
                " (image, row, col, channel)"
            )
        self.name, self.type = inputs[0].name, ONNX_TYPES[inputs[0].type]
        sides = tuple(side if isinstance(side, int) else None for side in inputs[0].shape)
        self.input = InputShape(sides, np.dtype(self.type).name)
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.parameters = None

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs of a batch by name."""
        values = images.cpu().numpy().astype(self.type, copy=False)
        try:
            results = self.session.run(None, {self.name: np.ascontiguousarray(values)})
        except Exception as error:  # onnxruntime has no common class of errors
            raise BadNetwork(_failure(images, error)) from None
        return {
            name: torch.from_numpy(np.ascontiguousarray(result)).to(images.device)
            for name, result in zip(self.outputs, results, strict=True)
            if isinstance(result, np.ndarray) and result.dtype.kind in "fiu"
        }

    def to(self, device: torch.device) -> None:
        """Stay on the CPU."""


def external_files(path: Path) -> list[Path]:
    """List the files beside an ONNX file that hold its weights, relative to its folder.

    Raises:
        BadNetwork: one that is missing or lies elsewhere, or a damaged file.
        BadSpec: the package onnx is not installed.
    """
    try:
        import onnx
        from onnx.external_data_helper import _get_all_tensors, uses_external_data
    except ImportError:
        raise BadSpec(
            f"{path} needs onnx; run `pip install -e '.[onnx]'` in the source folder"
        ) from None
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # of protobuf
        raise BadNetwork(f"{path} is no readable ONNX file ({one_line(error)})") from None
    names = {
        entry.value
        for tensor in _get_all_tensors(model)
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for name in sorted(names):
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or (path.parent / name).is_symlink():
            raise BadNetwork(f"{path} keeps weights in {name}; expected a file in its own folder")
        if not (path.parent / name).is_file():
            raise BadNetwork(
                f"{path} keeps weights in {name}, which is missing; copy it beside, or export with"
                " external_data=False"
            )
    return [Path(name) for name in sorted(names)]


class _TorchRuntime(Runtime):
    """A module that takes a batch and returns a tensor, or several."""

    def __init__(self, module: Any, shape: InputShape, *, movable: bool) -> None:
        self.module, self.input, self._movable = module, shape, movable
        self.parameters: int | None = sum(p.numel() for p in module.parameters())

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs of a batch by name."""
        values = images if self._movable else images.cpu()
        try:
            results = self.module(values.to(getattr(torch, self.input.dtype)))
        except Exception as error:  # a program from elsewhere may raise anything
            raise BadNetwork(_failure(images, error)) from None
        return {name: part.to(images.device) for name, part in _named(results).items()}

    def to(self, device: torch.device) -> None:
        """Move the weights, unless the program names its device."""
        if self._movable:
            self.module.to(device)


def _open_torchscript(path: Path) -> Runtime:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as error:  # torch has many kinds for damaged files
        raise BadNetwork(
            f"{path} cannot be opened as TorchScript ({one_line(error)}); export it with torch's"
            " own operators"
        ) from None
    return _TorchRuntime(module, InputShape(), movable=True)


def _open_pt2(path: Path) -> Runtime:
    _check_pt2(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
            module = program.module()
            shape = _pt2_input(program)
    except BadNetwork:
        raise
    except Exception as error:  # torch has many kinds for damaged files
        raise BadNetwork(
            f"{path} cannot be opened by torch.export ({one_line(error)}); export it again with"
            f" torch {torch.__version__} and its own operators"
        ) from None
    return _TorchRuntime(module, shape, movable=False)


def _check_pt2(path: Path) -> None:
    """Refuse what torch would unpickle by Python's pickle, or load as a library.

    Raises:
        BadNetwork: such a part, or a damaged file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                part = name.partition("/")[2]
                if part not in PT2_FILES and not part.startswith(PT2_PARTS):
                    raise BadNetwork(f"{path} holds {part}; expected a program and its weights")
                if not part.startswith(("data/weights/", "data/constants/")):
                    continue
                if part.endswith(".json"):
                    _check_payloads(path, json.loads(_read_limited(archive, name)))
                elif part.endswith((".pt", ".pkl")):
                    raise BadNetwork(f"{path} holds pickled {part}, which was not read; {EXPORT}")
    except (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile) as error:
        raise BadNetwork(f"{path} is no readable .pt2 ({one_line(error)}); copy it again") from None


def _read_limited(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > DOCUMENT_BYTES:
        raise ValueError(f"{name} of more than {DOCUMENT_BYTES} bytes")
    return archive.read(name)


def _check_payloads(path: Path, document: Any) -> None:
    for name, payload in document["config"].items():
        is_tensor = payload["path_name"].startswith(("weight_", TENSOR_CONSTANT))
        if payload["use_pickle"] or not is_tensor:
            raise BadNetwork(
                f"{path} holds {name!r} pickled, which was not read; export a network of plain"
                " tensors"
            )


def _pt2_input(program: Any) -> InputShape:
    names = program.graph_signature.user_inputs
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    images = [values.get(name) for name in names]
    if len(images) != 1 or not isinstance(images[0], Tensor) or images[0].dim() != 4:
        raise BadNetwork(
            f"it takes {len(images)} inputs; expected one of images, (image, channel, row, col)"
        )
    sides = tuple(side if isinstance(side, int) else None for side in images[0].shape)
    return InputShape(sides, str(images[0].dtype).removeprefix("torch."))


def _names_in(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []


def _named(results: Any) -> dict[str, Tensor]:
    """Return a program's results by name: a tensor, several, or a mapping."""
    if isinstance(results, Tensor):
        return {"output": results}
    if isinstance(results, Mapping):
        named = {str(name): value for name, value in results.items()}
    elif isinstance(results, Sequence):
        named = {f"output_{index}": value for index, value in enumerate(results)}
    else:
        named = {}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def _failure(images: Tensor, error: Exception) -> str:
    return f"the network fails on images of shape {tuple(images.shape)} ({one_line(error)})"
