"""Devices and floating-point precision."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from evaluation.core.errors import BadSpec

MAX_MEMORY_SHARE = 0.1
"""Fraction of a GPU's free memory that training images may take: several jobs share it."""


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


def autocast(device: str, precision: str) -> Callable[[], Any]:
    """Return the context for a forward pass: bfloat16 where it is faster, else none.

    On a CPU with bfloat16 instructions it processes 1.6 to 1.8 times the images per second; on
    others, and on a GPU before Ampere, bfloat16 is emulated and slower.
    """
    kind = torch.device(device).type
    is_supported = _cpu_computes_bfloat16 if kind == "cpu" else _gpu_computes_bfloat16
    if precision == "float32" or not is_supported():
        return contextlib.nullcontext
    return lambda: torch.autocast(kind, dtype=torch.bfloat16)


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
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
