"""The score of a recipe on pictures that its network did not see: what all searches go by."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from evaluation.counts import confusion
from evaluation.ground.blocks import blocks
from evaluation.ground.highest import highest
from evaluation.iou import Tables
from evaluation.protocols import PROTOCOLS
from members.data.dataset import DataSet
from members.predict import predict
from members.procedures.fitting import Watch
from members.recipe import Member
from members.train import Fold, load_network, train_fold


def held_out_counts(
    member: Member,
    data: DataSet,
    fold: Fold,
    *,
    seed: int,
    device: str,
    watch: Watch = lambda _, __: None,
) -> Tables:
    """Train in one fold and count on the pictures that were left out of it.

    Nothing is kept but the counts. The weights are those of `train-members` for the same member,
    fold and seed.

    Args:
        member: what to train; no specialist.
        data: the training pictures with truth.
        fold: which of them may be seen.
        seed: of the training.
        device: `cpu` or `cuda:K`.
        watch: see `members.train.train_fold`.

    Returns:
        Pixels, (true class, guessed class), summed over the held-out pictures.

    Raises:
        EnsError: the member cannot be trained so.
    """
    with TemporaryDirectory(prefix="ens-search-") as name:
        folder = Path(name)
        train_fold(member, data, fold, seed=seed, device=device, folder=folder, watch=watch)
        network = load_network(member, folder, channels=data.channels, classes=len(data.classes))
    network = network.to(device)
    held = np.setdiff1d(np.arange(len(data)), fold.training)
    total: Tables = np.zeros((len(data.classes),) * 2, np.int64)
    for block in blocks(len(held)):
        maps = predict(network, np.asarray(data.pictures[held[block]]), device, member)
        truth = np.asarray(data.truth()[held[block]])
        guess = highest(maps)
        total += confusion(truth, guess, classes=len(data.classes)).sum(axis=0)
    return total


def masked_miou(counts: Tables, ignore: int | None) -> float:
    """Return the masked mIoU of counts (true class, guessed class); NaN where nothing counts."""
    return float(PROTOCOLS.build("masked")(counts, ignore).miou)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Count what one recipe does in one fold; a picklable job for a device."""

    member: Member
    data: Path
    fold: Fold
    seed: int

    def __call__(self, device: str) -> Tables:
        """Train and count; see `held_out_counts`."""
        data = DataSet.load(self.data)
        return held_out_counts(self.member, data, self.fold, seed=self.seed, device=device)
