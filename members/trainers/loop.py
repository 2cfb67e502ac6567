"""The loop that all procedures share: minimise the loss over batches, look at the holdout."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from evaluation.core.errors import EnsError
from members.network import NormalisedNetwork
from members.optimizers import OPTIMIZERS, SCHEDULES
from members.recipe import Recipe
from members.trainers.epoch_metrics import EpochMetrics, batch_confusion, rates

Batches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""From an epoch's number to its batches: images and target, on the device."""

Examine = Callable[[nn.Module], EpochMetrics]
"""From a network to how it does on the holdout."""

Judged = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From images, main logits and target to a loss."""


Watch = Callable[[int, float], None]
"""From the number of an epoch, from 1, and its score to nothing."""


@dataclass(frozen=True)
class TrainingTask:
    """What a procedure trains with.

    Args:
        network: trained in place.
        loss: over logits and target; its own parameters are learnt too.
        batches: of one epoch.
        steps: batches an epoch.
        examine: how a network does on the holdout.
        recipe: epochs, optimiser, schedule, patience.
        autocast: gives the context in which the forward pass runs.
        classes: how many logits a pixel has.
        ignore: the class whose pixels do not count, or None.
        watch: gets the number of each epoch and what the recipe monitors, higher being better; by
            raising, it stops the training.
    """

    network: NormalisedNetwork
    loss: nn.Module
    batches: Batches
    steps: int
    examine: Examine
    recipe: Recipe
    autocast: Callable[[], Any]
    classes: int
    ignore: int | None
    watch: Watch = lambda _, __: None


History = list[dict[str, int | float]]
Tensors = tuple[Tensor, ...] | list[Tensor]


def fit(
    task: TrainingTask,
    parameters: Iterable[nn.Parameter],
    *,
    epochs: int,
    first_epoch: int = 0,
    output: int | None = None,
    judge: Judged | None = None,
) -> History:
    """Train until epochs or patience are used up; the network ends with its best weights.

    Args:
        task: what to train with.
        parameters: what is learnt; the rest of the network stays as it is.
        epochs: at most so many.
        first_epoch: its number, which decides the draws.
        output: the one output of several that is trained. The holdout is scored by the main output,
            so a network trained by another keeps its last weights and all its epochs.
        judge: gives a loss besides the recipe's, of images, main logits and target.

    Returns:
        A row an epoch.

    Raises:
        EnsError: the loss became NaN or infinite.
    """
    recipe = task.recipe
    learner = _Learner(task, [*parameters, *task.loss.parameters()], epochs, output, judge)
    history: History = []
    scores: list[float] = []
    best, best_epoch = _copied(learner.shown), 0
    for epoch in range(epochs):
        started = time.perf_counter()
        training = learner.learn(task.batches(first_epoch + epoch), epoch, scores)
        holdout = task.examine(learner.shown.eval())
        history.append(
            {
                "epoch": first_epoch + epoch + 1,
                "learning_rate": learner.learning_rate,
                **{f"training_{name}": value for name, value in training.row().items()},
                **{f"holdout_{name}": value for name, value in holdout.row().items()},
                "seconds": time.perf_counter() - started,
            }
        )
        scores.append(holdout.watched(recipe.monitor))
        task.watch(first_epoch + epoch + 1, scores[-1])
        if scores[-1] > max(scores[:-1], default=-math.inf) or output is not None:
            best, best_epoch = _copied(learner.shown), epoch
        if epoch - best_epoch >= recipe.patience:
            break
    task.network.load_state_dict(best)
    return history


class _Learner:
    """A network with its optimiser, schedule and average, which learns epoch by epoch."""

    def __init__(
        self,
        task: TrainingTask,
        learnt: list[nn.Parameter],
        epochs: int,
        output: int | None,
        judge: Judged | None,
    ) -> None:
        recipe = task.recipe
        self._task, self._learnt, self._output, self._judge = task, learnt, output, judge
        self._optimizer = OPTIMIZERS.build(recipe.optimizer, parameters=learnt)
        self._schedule = SCHEDULES.build(recipe.schedule, epochs=epochs)
        self._full_rates = [group["lr"] for group in self._optimizer.param_groups]
        self._averaged = _moving_average(task.network, recipe.ema) if recipe.ema else None
        self.shown: nn.Module = task.network if not self._averaged else self._averaged.module

    @property
    def learning_rate(self) -> float:
        """Of the latest step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def learn(
        self, batches: Iterator[tuple[Tensor, Tensor]], epochs_done: int, scores: list[float]
    ) -> EpochMetrics:
        """Go through one epoch; return how the batches went while they were learnt from."""
        task = self._task
        task.network.train()
        total = 0.0
        counts = torch.zeros(task.classes, task.classes, dtype=torch.int64)
        for step, (images, target) in enumerate(batches):
            share = self._schedule(epochs_done + step / task.steps, scores)
            for group, rate in zip(self._optimizer.param_groups, self._full_rates, strict=True):
                group["lr"] = rate * share
            value, logits = self._step(images, target)
            total += value
            counts += batch_confusion(logits, target, task.classes).cpu()
            if self._averaged is not None:
                self._averaged.update_parameters(task.network)
        return rates(total / task.steps, counts, task.ignore)

    def _step(self, images: Tensor, target: Tensor) -> tuple[float, Tensor]:
        """Learn from one batch; return its loss and its main logits."""
        task = self._task
        with task.autocast():
            outputs = task.network(images)
        # Deep supervision: every output answers for itself.
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        number = self._output
        chosen = outputs if number is None else outputs[number : number + 1]
        losses = [task.loss(logits.float(), target) for logits in chosen]
        loss: Tensor = torch.stack(losses).mean()
        if self._judge is not None:
            loss = loss + self._judge(images, outputs[0].float(), target)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise EnsError(
                f"the loss became {value};"
                f" take a smaller learning rate than {task.recipe.optimizer}"
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._learnt, task.recipe.clip)
        self._optimizer.step()
        return value, outputs[0].detach()


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Follow the network with an exponential moving average of its weights and statistics."""

    def average(averaged: Tensors, current: Tensors, steps: Tensor | int) -> None:
        # Short at first, so that the start is forgotten as soon as there is something better.
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - kept)
        else:
            torch._foreach_copy_(averaged, current)  # counters of batches

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)
