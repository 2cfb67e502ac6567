"""Where to compute: which device, and in which precision."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from evaluation.core.errors import BadSpec

SHARE_FOR_IMAGES = 0.1


def devices(choice: str) -> list[str]:
    """Return the devices that jobs may use, one job each.

    Args:
        choice: `auto` (every GPU there is, else the CPU), `cpu`, `cuda`, or `cuda:K`.

    Raises:
        BadSpec: no such device.
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
    raise BadSpec(f"device {choice!r}; here: {', '.join(['auto', 'cpu', *gpus])}")


def autocast(device: str, precision: str) -> Callable[[], Any]:
    """Give the context of a forward pass: bfloat16 where it pays, else nothing.

    On a CPU it pays (1.6 to 1.8 times the images a second) where the instructions exist;
    elsewhere, and on a GPU before Ampere, bfloat16 is emulated and slower.
    """
    kind = torch.device(device).type
    able = _cpu_computes_bfloat16 if kind == "cpu" else _gpu_computes_bfloat16
    if precision == "float32" or not able():
        return contextlib.nullcontext
    return lambda: torch.autocast(kind, dtype=torch.bfloat16)


def data_device(size_bytes: int, device: str) -> str:
    """Return where training images should lie: on the device, unless they would crowd it.

    Args:
        size_bytes: of the images and masks.
        device: where they will be used, several jobs side by side.
    """
    if device == "cpu":
        return device
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return device if size_bytes < free_bytes * SHARE_FOR_IMAGES else "cpu"


def _cpu_computes_bfloat16() -> bool:
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def _gpu_computes_bfloat16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
