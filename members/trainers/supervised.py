"""Supervised training of the whole network at once."""

from collections.abc import Callable

from members.trainers.loop import History, TrainingTask, fit


def supervised() -> Callable[[TrainingTask], History]:
    """Train every weight by every output, and keep the weights that score best on the holdout."""
    return lambda task: fit(task, task.network.parameters(), epochs=task.recipe.epochs)
