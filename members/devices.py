"""Devices and floating-point precision."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evaluation.core.errors import BadSpec, EnsError

MAX_MEMORY_SHARE = 0.1
"""Fraction of a GPU's free memory that training images may take: several jobs share it."""


class DeviceFailed(EnsError):
    """A GPU that this process cannot use any more."""


def device_error(error: RuntimeError) -> EnsError | None:
    """Return the error to report for one of torch on a GPU; None for any other.

    After a failed kernel every later call fails in the same process: `DeviceFailed`. A GPU without
    free memory goes on working.

    Examples:
        >>> device_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    """
    if isinstance(error, torch.OutOfMemoryError):
        torch.cuda.empty_cache()
        return EnsError(
            "the GPU ran out of memory; use fewer --workers, a smaller batch or tile, or"
            " --device cpu"
        )
    text = " ".join(str(error.args[0] if error.args else error).split())
    if isinstance(error, torch.AcceleratorError) or "CUDA error" in text or "cuDNN" in text:
        reason = text.split(" CUDA kernel errors might")[0].split(" Search for")[0]
        return DeviceFailed(
            f"the GPU failed ({reason}); set CUDA_LAUNCH_BLOCKING=1 to see where, or use"
            " --device cpu"
        )
    return None


def devices(choice: str) -> list[str]:
    """Return the devices to use.

    Args:
        choice: `auto` (all GPUs, or the CPU if there are none), `cpu`, `cuda`, or `cuda:K`.

    Raises:
        BadSpec: no such device.

    Examples:
        >>> devices("cpu")
        ['cpu']
    """
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if choice == "auto":
        return gpus or ["cpu"]
    if choice == "cpu":
        return ["cpu"]
    if choice == "cuda" and gpus:
        return gpus
    if choice in gpus:
        return [choice]
    raise BadSpec(f"unknown device {choice!r}; here: {', '.join(['auto', 'cpu', *gpus])}")


@dataclass(frozen=True)
class Precision:
    """The precision that networks compute in, on one device.

    Args:
        device: `cpu` or `cuda:K`.
        choice: `auto` takes bfloat16 for forward passes of trainings where the hardware has it, and
            lets a GPU round the factors of other float32 products to 11 bits (TF32); `float32`
            does neither.
    """

    device: str
    choice: str = "auto"

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass in training: bfloat16 where that is faster.

        On a CPU with bfloat16 instructions it processes 1.6 to 1.8 times the images per second; on
        others, and on a GPU before Ampere, bfloat16 is emulated and slower.
        """
        kind = torch.device(self.device).type
        is_supported = _cpu_computes_bfloat16 if kind == "cpu" else _gpu_computes_bfloat16
        if self.choice == "float32" or not is_supported():
            return contextlib.nullcontext()
        return torch.autocast(kind, dtype=torch.bfloat16)

    @contextlib.contextmanager
    def kernels(self) -> Iterator[None]:
        """Set how a GPU multiplies float32 numbers, forwards and backwards, within the context."""
        cudnn: Any = torch.backends.cudnn
        settings = (torch.backends.cuda.matmul, cudnn.conv)
        before = [setting.fp32_precision for setting in settings]
        for setting in settings:
            setting.fp32_precision = "ieee" if self.choice == "float32" else "tf32"
        try:
            yield
        finally:
            for setting, value in zip(settings, before, strict=True):
                setting.fp32_precision = value


def send(tensor: Tensor, device: str | torch.device) -> Tensor:
    """Return a tensor on a device, without waiting for the copy.

    What lies in main memory is copied to pinned memory first, from which a GPU reads by itself.
    """
    if torch.device(device).type == "cpu" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # pragma: no cover  # needs a GPU


def data_device(size_bytes: int, device: str) -> str:
    """Return where to keep training images: on the device, unless they take too much memory."""
    if device == "cpu":
        return device
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return device if size_bytes < free_bytes * MAX_MEMORY_SHARE else "cpu"


def _cpu_computes_bfloat16() -> bool:
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def _gpu_computes_bfloat16() -> bool:
    return bool(  # pragma: no cover  # needs a GPU
        torch.cuda.is_bf16_supported(including_emulation=False)
    )
