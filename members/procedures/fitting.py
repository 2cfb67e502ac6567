"""The loop that all procedures share: minimise the loss over batches, look at the holdout."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evaluation.ground.errors import EnsError
from members.network import Network
from members.optimizers import OPTIMIZERS, SCHEDULES
from members.recipe import Recipe

Batches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""From an epoch's number to its batches: pictures and truth, on the device."""

Examine = Callable[[nn.Module], tuple[float, float]]
"""From a network to its loss and its score on the holdout."""

Judged = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From pictures, main logits and truth to a loss."""

GRADIENT_NORM = 5.0  # far above the usual norm (about 1): it only tames the rare step that is not


@dataclass(frozen=True)
class Task:
    """What a procedure trains with.

    Args:
        network: trained in place.
        loss: over logits and truth.
        batches: of one epoch.
        steps: batches an epoch.
        examine: loss and score on the holdout.
        recipe: epochs, optimiser, schedule, patience.
        autocast: gives the context in which the forward pass runs.
        classes: how many logits a pixel has.
        ignore: the class whose pixels do not count, or None.
    """

    network: Network
    loss: nn.Module
    batches: Batches
    steps: int
    examine: Examine
    recipe: Recipe
    autocast: Callable[[], Any]
    classes: int
    ignore: int | None


History = list[dict[str, int | float]]


def fit(
    task: Task,
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
        judge: gives a loss besides the recipe's, of pictures, main logits and truth.

    Returns:
        A row an epoch.

    Raises:
        EnsError: the loss became NaN or infinite.
    """
    network = task.network
    optimizer = OPTIMIZERS.build(task.recipe.optimizer, parameters=list(parameters))
    schedule = SCHEDULES.build(task.recipe.schedule, epochs=epochs)
    full_rates = [group["lr"] for group in optimizer.param_groups]
    history: History = []
    best, best_score, since_best = _copied(network), -math.inf, 0
    for epoch in range(epochs):
        started = time.perf_counter()
        network.train()
        total = 0.0
        for step, (pictures, truth) in enumerate(task.batches(first_epoch + epoch)):
            share = schedule(epoch + step / task.steps)
            for group, rate in zip(optimizer.param_groups, full_rates, strict=True):
                group["lr"] = rate * share
            total += _step(task, optimizer, pictures, truth, output, judge)
        network.eval()
        holdout_loss, score = task.examine(network)
        history.append(
            {
                "epoch": first_epoch + epoch + 1,
                "learning_rate": optimizer.param_groups[0]["lr"],
                "training_loss": total / task.steps,
                "holdout_loss": holdout_loss,
                "holdout_miou": score,
                "seconds": time.perf_counter() - started,
            }
        )
        since_best += 1
        if score > best_score or output is not None:
            best, best_score, since_best = _copied(network), score, 0
        if since_best >= task.recipe.patience:
            break
    network.load_state_dict(best)
    return history


def _step(
    task: Task,
    optimizer: Any,
    pictures: Tensor,
    truth: Tensor,
    output: int | None,
    judge: Judged | None,
) -> float:
    with task.autocast():
        outputs = task.network(pictures)
    # Deep supervision: every output answers for itself.
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    chosen = outputs if output is None else outputs[output : output + 1]
    losses = [task.loss(logits.float(), truth) for logits in chosen]
    loss: Tensor = torch.stack(losses).mean()
    if judge is not None:
        loss = loss + judge(pictures, outputs[0].float(), truth)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise EnsError(
            f"the loss became {value}; take a smaller learning rate than {task.recipe.optimizer}"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(task.network.parameters(), GRADIENT_NORM)
    optimizer.step()
    return value


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
