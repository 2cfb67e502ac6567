"""The training loop that all trainers share: minimise the loss, validate on the holdout."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from evaluation.core.errors import EnsError
from evaluation.iou import Protocol
from members.network import NormalisedNetwork
from members.optimizers import OPTIMIZERS, SCHEDULES
from members.recipe import Recipe
from members.trainers.epoch_metrics import (
    MASKED,
    EpochMetrics,
    batch_confusion,
    compute_epoch_metrics,
)

Batches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""From an epoch's number to its batches: images and target, on the device."""

Validate = Callable[[nn.Module], EpochMetrics]
"""From a network to its metrics on the holdout."""

AuxLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From images, main logits and target to a loss that is added to the recipe's."""

EpochCallback = Callable[[int, float], None]
"""Called with the number of each epoch, from 1, and its monitored score (higher is better); by
raising, it stops the training."""

History = list[dict[str, int | float]]
"""One row per epoch."""


@dataclass(frozen=True)
class TrainingTask:
    """What a trainer needs.

    Args:
        network: trained in place.
        loss: of logits and target; its own parameters are trained too.
        batches: of one epoch.
        steps: batches per epoch.
        validate: scores a network on the holdout.
        recipe: epochs, optimiser, schedule, patience.
        autocast: returns the context of the forward pass.
        classes: number of logits per pixel.
        ignore: the ignored class, or None.
        protocol: the run's metric, of the batches during training; `validate` has its own.
        watch: called after each epoch.
    """

    network: NormalisedNetwork
    loss: nn.Module
    batches: Batches
    steps: int
    validate: Validate
    recipe: Recipe
    autocast: Callable[[], Any]
    classes: int
    ignore: int | None
    protocol: Protocol = MASKED
    watch: EpochCallback = lambda _, __: None


Trainer = Callable[[TrainingTask], History]


def fit(
    task: TrainingTask,
    parameters: Iterable[nn.Parameter],
    *,
    epochs: int,
    first_epoch: int = 0,
    output: int | None = None,
    aux_loss: AuxLoss | None = None,
) -> History:
    """Train until epochs or patience are used up; the network ends with its best weights.

    Args:
        task: what to train, and with what.
        parameters: what is trained; the rest of the network stays unchanged.
        epochs: maximum number.
        first_epoch: number of the first one, on which the random draws depend.
        output: index of the only output that is trained. The holdout score is that of the main
            output, so such a network keeps its last weights, and patience does not stop it.
        aux_loss: added to the recipe's loss.

    Raises:
        EnsError: the loss became NaN or infinite, or the holdout score is so after every epoch.
    """
    recipe = task.recipe
    learner = _Learner(task, [*parameters, *task.loss.parameters()], epochs, output, aux_loss)
    history: History = []
    scores: list[float] = []
    best, best_epoch, best_score = _copy_state(learner.validated), 0, -math.inf
    for epoch in range(epochs):
        started = time.perf_counter()
        training = learner.train_epoch(task.batches(first_epoch + epoch), epoch, scores)
        holdout = task.validate(learner.validated.eval())
        history.append(
            {
                "epoch": first_epoch + epoch + 1,
                "learning_rate": learner.learning_rate,
                **{f"training_{name}": value for name, value in asdict(training).items()},
                **{f"holdout_{name}": value for name, value in asdict(holdout).items()},
                "seconds": time.perf_counter() - started,
            }
        )
        scores.append(holdout.monitored(recipe.monitor))
        task.watch(first_epoch + epoch + 1, scores[-1])
        # A first score that is NaN beats the untrained weights all the same.
        if epoch == 0 or scores[-1] > best_score or output is not None:
            best, best_epoch = _copy_state(learner.validated), epoch
        best_score = max(best_score, scores[-1])  # unchanged by NaN, which is greater than nothing
        if epoch - best_epoch >= recipe.patience:
            break
    if best_score == -math.inf and output is None:
        raise EnsError(
            f"the holdout score is {scores[-1]} after every epoch; use a smaller learning rate than"
            f" {recipe.optimizer}"
        )
    task.network.load_state_dict(best)
    return history


class _Learner:
    """A network with its optimiser, schedule and moving average, trained epoch by epoch.

    `validated` is the network to validate and save: the average if the recipe asks for one.
    """

    def __init__(
        self,
        task: TrainingTask,
        parameters: list[nn.Parameter],
        epochs: int,
        output: int | None,
        aux_loss: AuxLoss | None,
    ) -> None:
        recipe = task.recipe
        self._task, self._parameters = task, parameters
        self._output, self._aux_loss = output, aux_loss
        self._optimizer = OPTIMIZERS.build(recipe.optimizer, parameters=parameters)
        self._schedule = SCHEDULES.build(recipe.schedule, epochs=epochs)
        self._full_rates = [group["lr"] for group in self._optimizer.param_groups]
        self._averaged = _moving_average(task.network, recipe.ema) if recipe.ema else None
        self.validated: nn.Module = task.network if not self._averaged else self._averaged.module

    @property
    def learning_rate(self) -> float:
        """Of the latest step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def train_epoch(
        self, batches: Iterator[tuple[Tensor, Tensor]], epochs_done: int, scores: list[float]
    ) -> EpochMetrics:
        """Train for one epoch; return the metrics of the batches during training."""
        task = self._task
        task.network.train()
        total_loss = 0.0
        counts = torch.zeros(task.classes, task.classes, dtype=torch.int64)
        for step, (images, target) in enumerate(batches):
            fraction = self._schedule(epochs_done + step / task.steps, scores)
            for group, rate in zip(self._optimizer.param_groups, self._full_rates, strict=True):
                group["lr"] = rate * fraction
            loss, logits = self._step(images, target)
            total_loss += loss
            counts += batch_confusion(logits, target, task.classes).cpu()
            if self._averaged is not None:
                self._averaged.update_parameters(task.network)
        return compute_epoch_metrics(total_loss / task.steps, counts, task.ignore, task.protocol)

    def _step(self, images: Tensor, target: Tensor) -> tuple[float, Tensor]:
        """Train on one batch; return its loss and its main logits."""
        task = self._task
        with task.autocast():
            outputs = task.network(images)
        # Deep supervision: each output has a loss of its own.
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        trained = outputs if self._output is None else [outputs[self._output]]
        loss: Tensor = torch.stack([task.loss(logits.float(), target) for logits in trained]).mean()
        if self._aux_loss is not None:
            loss = loss + self._aux_loss(images, outputs[0].float(), target)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise EnsError(
                f"the loss became {value}; use a smaller learning rate than {task.recipe.optimizer}"
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, task.recipe.clip)
        self._optimizer.step()
        return value, outputs[0].detach()


def _copy_state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


Tensors = tuple[Tensor, ...] | list[Tensor]


def _moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of the network's weights and statistics."""

    def average(averaged: Tensors, current: Tensors, steps: Tensor | int) -> None:
        # A shorter memory at first, so that the initial weights are forgotten quickly.
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - kept)
        else:
            torch._foreach_copy_(averaged, current)  # counters of batches

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)
