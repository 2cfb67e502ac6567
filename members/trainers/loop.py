"""The training loop that all trainers share: minimise the loss, validate on the holdout."""

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from evaluation.core.errors import EnsError
from evaluation.iou import Protocol
from members.devices import Precision
from members.job_progress import EpochReport
from members.network import NormalisedNetwork
from members.optimizers import OPTIMIZERS, SCHEDULES
from members.recipe import Recipe
from members.trainers.epoch_metrics import (
    MASKED,
    EpochMetrics,
    EpochSums,
    compute_epoch_metrics,
)
from members.trainers.step_graphs import StepGraphs, is_recordable, make_recordable, record_graph

Batches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""From an epoch's number to its batches: images and target, on the device."""

Validate = Callable[[nn.Module], EpochMetrics]
"""From a network to its metrics on the holdout."""

AuxLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From images, main logits and target to a loss that is added to the recipe's."""

EpochCallback = Callable[[EpochReport], None]
"""Called after each epoch; by raising, it stops the training."""

History = list[dict[str, int | float]]
"""One row per epoch."""

Training = Generator[None, None, History]
"""A training that goes on by a step with each `next`, so that several can share a GPU."""


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
        precision: of the network's device.
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
    precision: Precision
    classes: int
    ignore: int | None
    protocol: Protocol = MASKED
    watch: EpochCallback = lambda _: None


Trainer = Callable[[TrainingTask], Training]


def fit(
    task: TrainingTask,
    parameters: Iterable[nn.Parameter],
    *,
    epochs: int,
    first_epoch: int = 0,
    output: int | None = None,
    aux_loss: AuxLoss | None = None,
) -> Training:
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
    step = TrainStep(task, [*parameters, *task.loss.parameters()], output, aux_loss)
    rate_at = SCHEDULES.build(recipe.schedule, epochs=epochs)
    history: History = []
    scores: list[float] = []
    best, best_epoch, best_score = _copy_state(step.validated), 0, -math.inf
    for epoch in range(epochs):
        started, num_images = time.perf_counter(), 0
        task.network.train()
        for number, (images, target) in enumerate(task.batches(first_epoch + epoch)):
            num_images += len(images)
            step(images, target, rate=rate_at(epoch + number / task.steps, scores))
            yield
        training = step.read_metrics()
        holdout = task.validate(step.validated.eval())
        history.append(
            {
                "epoch": first_epoch + epoch + 1,
                "learning_rate": step.learning_rate,
                **{f"training_{name}": value for name, value in asdict(training).items()},
                **{f"holdout_{name}": value for name, value in asdict(holdout).items()},
                "seconds": time.perf_counter() - started,
            }
        )
        scores.append(holdout.monitored(recipe.monitor))
        task.watch(
            EpochReport(
                epoch=first_epoch + epoch + 1,
                epochs=first_epoch + epochs,
                score=scores[-1],
                loss=training.loss,
                images=num_images,
                seconds=time.perf_counter() - started,
            )
        )
        # A first score that is NaN beats the untrained weights all the same.
        if epoch == 0 or scores[-1] > best_score or output is not None:
            best, best_epoch = _copy_state(step.validated), epoch
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


class TrainStep:
    """Trains a network batch by batch; the host waits for the device once per epoch.

    Weights, moments, average and sums stay where the network is. On a GPU the step is recorded and
    repeated by `graphs`, which is None where it is not. `validated` is the network to validate and
    save: the average of the weights if the recipe asks for one.

    Args:
        task: what to train.
        parameters: what the optimiser changes.
        output: index of the only output that is trained; None for all of them.
        aux_loss: added to the recipe's loss.
    """

    def __init__(
        self,
        task: TrainingTask,
        parameters: list[nn.Parameter],
        output: int | None = None,
        aux_loss: AuxLoss | None = None,
    ) -> None:
        recipe, device = task.recipe, task.network.mean.device
        self._task, self._parameters = task, parameters
        self._output, self._aux_loss = output, aux_loss
        self._optimizer = OPTIMIZERS.build(recipe.optimizer, parameters=parameters)
        self._full_rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        self._average = MovingAverage(task.network, recipe.ema) if recipe.ema else None
        self.validated: nn.Module = task.network if not self._average else self._average.network
        self.learning_rate = self._full_rates[0]
        self._sums, self._num_steps = EpochSums(task.classes, device), 0
        self.graphs: StepGraphs | None = None
        if device.type == "cuda" and is_recordable(task.loss, self._optimizer):
            make_recordable(self._optimizer, device)
            self.graphs = StepGraphs(record_graph)

    def __call__(self, images: Tensor, target: Tensor, *, rate: float) -> None:
        """Train on one batch.

        Args:
            images: (image, channel, row, col), on the network's device.
            target: uint8 (image, row, col), there too.
            rate: fraction of the full learning rate.
        """
        self.learning_rate = self._full_rates[0] * rate
        for group, full in zip(self._optimizer.param_groups, self._full_rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(full * rate)
            else:
                group["lr"] = full * rate
        if self.graphs is None:
            self._step(images, target)
        else:
            self.graphs.run(self._step, images, target)
        self._num_steps += 1
        if self._average is not None:
            self._average.update(self._task.network)

    def read_metrics(self) -> EpochMetrics:
        """Return the metrics of the batches since the last call, as they were in training.

        Raises:
            EnsError: the loss became NaN or infinite.
        """
        task = self._task
        loss, counts = self._sums.read()
        if not math.isfinite(loss):
            raise EnsError(
                f"the loss became {loss}; use a smaller learning rate than {task.recipe.optimizer}"
            )
        steps, self._num_steps = self._num_steps, 0
        return compute_epoch_metrics(loss / max(1, steps), counts, task.ignore, task.protocol)

    def _step(self, images: Tensor, target: Tensor) -> None:
        task = self._task
        with task.precision.kernels():
            with task.precision.autocast():
                # Soft targets are channels behind the image's own.
                outputs = task.network(images[:, : len(task.network.mean)])
            # Deep supervision: each output has a loss of its own.
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            trained = outputs if self._output is None else [outputs[self._output]]
            losses = [task.loss(logits.float(), target) for logits in trained]
            loss: Tensor = torch.stack(losses).mean()
            if self._aux_loss is not None:
                loss = loss + self._aux_loss(images, outputs[0].float(), target)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._parameters, task.recipe.clip)
            self._optimizer.step()
        self._sums.add(loss, outputs[0].float(), target)


class MovingAverage:
    """An exponential moving average of a network's weights and statistics; counters are copied.

    Its first update copies the network. Its memory is shorter at first, so that the initial weights
    are forgotten quickly.

    Args:
        network: the average is one of the same kind.
        decay: of the weights of the past, from 0 to 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = deepcopy(network)
        self._decay, self._updates = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards a network."""
        kept = min(self._decay, (1 + self._updates) / (10 + self._updates))
        own, others = ([*net.parameters(), *net.buffers()] for net in (self.network, network))
        pairs = list(zip(own, others, strict=True))
        averaged = [pair for pair in pairs if self._updates and pair[0].is_floating_point()]
        copied = [pair for pair in pairs if not self._updates or not pair[0].is_floating_point()]
        if averaged:
            torch._foreach_lerp_([a for a, _ in averaged], [b for _, b in averaged], 1 - kept)
        if copied:
            torch._foreach_copy_([a for a, _ in copied], [b for _, b in copied])
        self._updates += 1


def finish(training: Training) -> History:
    """Train to the end; return the history."""
    while True:
        try:
            next(training)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def _copy_state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
