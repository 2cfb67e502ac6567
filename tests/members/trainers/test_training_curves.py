"""Training curves: table, image and TensorBoard events."""

import csv
import sys
from types import ModuleType

import pytest
from PIL import Image

from members.trainers.training_curves import write_curves

pytestmark = pytest.mark.usefixtures("drawn")

HISTORY = [
    {"epoch": epoch, "training_loss": 1 / epoch, "holdout_loss": 2 / epoch}
    | {
        f"{part}_{name}": epoch / 10
        for part in ("training", "holdout")
        for name in ("accuracy", "miou")
    }
    for epoch in (1, 2, 3)
]


@pytest.fixture
def events(monkeypatch):
    """A TensorBoard that keeps what it is told."""
    told = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def __enter__(self):
            return self

        def __exit__(self, *_):
            told.append("closed")

        def add_scalar(self, name, value, step):
            told.append((self.folder, name, value, step))

    pretended = ModuleType("torch.utils.tensorboard")
    pretended.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", pretended)
    return told


def test_one_row_per_epoch_is_written_and_an_image_plotted(tmp_path):
    write_curves(tmp_path, HISTORY)
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert rows == [{key: round(value, 6) for key, value in row.items()} for row in HISTORY]
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1000, 300)


def test_tensorboard_gets_every_number_at_its_epoch(tmp_path, events):
    write_curves(tmp_path, HISTORY)
    expected = [
        (str(tmp_path), name, value, row["epoch"]) for row in HISTORY for name, value in row.items()
    ]
    assert events == [*expected, "closed"]


def test_without_tensorboard_the_rest_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    write_curves(tmp_path, HISTORY)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curves.png", "history.csv"]
