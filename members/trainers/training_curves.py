"""Training curves: as a table, as an image, and for TensorBoard."""

import csv
from pathlib import Path

from evaluation.core.files import atomic_file
from members.trainers.loop import History

TABLE, IMAGE = "history.csv", "curves.png"
CURVES = ("loss", "accuracy", "miou")


def write_curves(folder: Path, history: History, metric: str = "masked mIoU") -> None:
    """Write `history.csv`, `curves.png` and, where TensorBoard is installed, its events.

    Args:
        folder: where.
        history: of the training.
        metric: words for what the columns `miou` hold.
    """
    with (
        atomic_file(folder / TABLE) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows({k: round(v, 6) for k, v in row.items()} for row in history)
    from evaluation.core.literal_text import literal_text

    with literal_text():
        _plot(folder / IMAGE, history, metric)
    _write_tensorboard(folder, history)


def _plot(path: Path, history: History, metric: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, name in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        for part in ("training", "holdout"):
            values = [row[f"{part}_{name}"] for row in history]
            axes.plot(epochs, values, marker=".", label=part)
        axes.set(xlabel="epoch", title={"miou": metric}.get(name, name))
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png", dpi=100)


def _write_tensorboard(folder: Path, history: History) -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra `tensorboard` is not installed
        return
    with SummaryWriter(str(folder)) as events:
        for row in history:
            for name, value in row.items():
                events.add_scalar(name, value, int(row["epoch"]))
