"""Training steps recorded as CUDA graphs, which a GPU repeats without a launch per kernel."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Step = Callable[[Tensor, Tensor], None]
"""Trains on images and target, on the device."""

PLAIN_STEPS = 3
"""Steps before a graph is recorded: libraries choose their kernels, optimisers make their state."""


def is_recordable(loss: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether steps on a GPU can be recorded: losses that work on the host cannot."""
    groups = optimizer.param_groups
    on_host = any(getattr(module, "works_on_host", False) for module in loss.modules())
    return not on_host and all("capturable" in group for group in groups)


def make_recordable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Keep an optimiser's number of steps and learning rate on the device, where graphs read."""
    for group in optimizer.param_groups:
        group["capturable"] = True
        group["lr"] = torch.tensor(group["lr"], device=device)


@dataclass(frozen=True)
class _Recorded:
    graph: Any
    images: Tensor
    target: Tensor


class StepGraphs:
    """Records a step once for each shape of a batch, and repeats it from then on.

    The batches of an epoch have at most two shapes (`BatchLoader`). If the step cannot be recorded
    all steps are plain ones. Random numbers that the step draws on the device differ in each step.

    Args:
        record: see `record_graph`.
    """

    def __init__(self, record: Callable[[Step, Any, Tensor, Tensor], Any]) -> None:
        self._record = record
        self._plain_steps: Counter[tuple[int, ...]] = Counter()
        self._recorded: dict[tuple[int, ...], _Recorded] = {}
        self._fails = False

    @property
    def is_recorded(self) -> bool:
        """Whether a step has been recorded."""
        return bool(self._recorded)

    def run(self, step: Step, images: Tensor, target: Tensor) -> None:
        """Train on a batch.

        Args:
            step: always the same; works on tensors of fixed places: weights, gradients, sums.
            images: of the batch, on the device.
            target: of the batch, on the device.
        """
        shape = tuple(images.shape)
        recorded = self._recorded.get(shape)
        if recorded is None and not self._fails and self._plain_steps[shape] >= PLAIN_STEPS:
            recorded = self._try_to_record(step, images, target)
        if recorded is None:
            self._plain_steps[shape] += 1
            step(images, target)
            return
        recorded.images.copy_(images, non_blocking=True)
        recorded.target.copy_(target, non_blocking=True)
        recorded.graph.replay()

    def _try_to_record(self, step: Step, images: Tensor, target: Tensor) -> _Recorded | None:
        images, target = images.clone(), target.clone()
        others = next(iter(self._recorded.values()), None)
        pool = others.graph.pool() if others else None
        try:
            graph = self._record(step, pool, images, target)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            self._fails = True
            return None
        recorded = self._recorded[tuple(images.shape)] = _Recorded(graph, images, target)
        return recorded


def record_graph(  # pragma: no cover  # needs a GPU
    step: Step, pool: Any, images: Tensor, target: Tensor
) -> Any:
    """Record a step as a CUDA graph without running it.

    Args:
        step: what to record.
        pool: memory of another graph that never runs at the same time; None for new memory.
        images: the graph reads its batch from here.
        target: and from here.
    """
    graph = torch.cuda.CUDAGraph()
    stream: Any = torch.cuda.current_stream(images.device)
    if stream == torch.cuda.default_stream(images.device):
        stream = None  # nothing can be recorded there; torch takes one of its own
    mode = "thread_local"  # other threads may copy to pinned memory meanwhile
    with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode=mode):
        step(images, target)
    return graph
