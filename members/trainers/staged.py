"""Staged training: the parts of a cascade one by one, then all together."""

from collections.abc import Callable

from evaluation.core.errors import BadSpec
from members.trainers.loop import History, TrainingTask, fit


def staged() -> Callable[[TrainingTask], History]:
    """Train each part of a cascade by its own output, then the whole as `supervised` does.

    For networks with `parts`, such as `double_unet` and `hierarchical_unet`, whose output number
    `len(parts) - 1 - k` in training is that of part k. Each part gets the same share of the epochs,
    and the whole what is left, at least one each.
    """
    return _train


def _train(task: TrainingTask) -> History:
    body = task.network.body
    parts = getattr(body, "parts", None)
    if parts is None:
        raise BadSpec(
            f"procedure 'staged' trains parts one by one, which {task.recipe.architecture} has not;"
            " take double_unet or hierarchical_unet, or procedure 'supervised'"
        )
    share = max(1, task.recipe.epochs // (len(parts) + 1))
    history: History = []
    for place, part in enumerate(parts):
        output = len(parts) - 1 - place
        history += fit(
            task, part.parameters(), epochs=share, first_epoch=len(history), output=output
        )
    left = max(1, task.recipe.epochs - len(history))
    return history + fit(task, task.network.parameters(), epochs=left, first_epoch=len(history))
