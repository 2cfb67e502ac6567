"""Supervised training: of the whole network at once, or of the parts of a cascade in stages."""

from evaluation.core.errors import BadSpec
from members.trainers.loop import History, Trainer, Training, TrainingTask, fit


def supervised() -> Trainer:
    """Train all weights by every output; keep the weights with the best holdout score."""
    return lambda task: fit(task, task.network.parameters(), epochs=task.recipe.epochs)


def staged() -> Trainer:
    """Train each part of a cascade by its own output, then the whole as `supervised` does.

    For networks with `parts`, such as `double_unet` and `hierarchical_unet`; in training, output
    number `len(parts) - 1 - k` belongs to part k. Each part gets the same number of epochs, and the
    whole network the remaining ones, each at least one.
    """
    return _train_in_stages


def _train_in_stages(task: TrainingTask) -> Training:
    parts = getattr(task.network.body, "parts", None)
    if parts is None:
        raise BadSpec(
            f"trainer 'staged' trains parts one by one, but {task.recipe.architecture} has none;"
            " use double_unet or hierarchical_unet, or trainer 'supervised'"
        )
    epochs_per_part = max(1, task.recipe.epochs // (len(parts) + 1))
    history: History = []
    for index, part in enumerate(parts):
        history += yield from fit(
            task,
            part.parameters(),
            epochs=epochs_per_part,
            first_epoch=len(history),
            output=len(parts) - 1 - index,
        )
    remaining = max(1, task.recipe.epochs - len(history))
    history += yield from fit(
        task, task.network.parameters(), epochs=remaining, first_epoch=len(history)
    )
    return history
