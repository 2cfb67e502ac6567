"""Train one member in one fold: data in, a folder with weights and history out."""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evaluation.counts import confusion
from evaluation.ground.arrays import Array, Labels, Pictures, Shares
from evaluation.ground.blocks import BLOCK_PICTURES, blocks
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import BadData, BadRun, EnsError
from evaluation.ground.files import whole_file
from evaluation.protocols import PROTOCOLS
from members.augmentations import Augment
from members.binary import binary_truth
from members.data.dataset import DataSet
from members.data.folds import hold_out
from members.devices import autocast
from members.losses import build_loss
from members.network import Network
from members.procedures import PROCEDURES
from members.procedures.fitting import History, Task
from members.recipe import Member

HOLDOUT_SHARE = 0.1
RARE = 0.1  # of the share that a class would have if all had the same
WEIGHTS, HISTORY = "weights.safetensors", "history.csv"
BINARY = 2


@dataclass(frozen=True)
class Fold:
    """Which pictures of the training set a model may see.

    Args:
        index: of the fold; names the folder.
        training: indices of the pictures outside the fold.
    """

    index: int
    training: Array


def train_fold(
    member: Member, data: DataSet, fold: Fold, *, seed: int, device: str, folder: Path
) -> None:
    """Train a member on the pictures outside one fold.

    On a CPU the weights follow from the arguments alone: same seed, same weights. A tenth of the
    groups is held out of these pictures too, to stop early by; nothing else chooses anything.

    Args:
        member: what to train.
        data: the training pictures with truth.
        fold: which of them may be seen.
        seed: of weights, batches and augmentation.
        device: `cpu` or `cuda:K`.
        folder: gets `weights.safetensors` and `history.csv`.

    Raises:
        EnsError: the member cannot be trained so; names member and fold.
    """
    seed = int.from_bytes(
        hashlib.sha256(f"{seed} {member.name} {fold.index}".encode()).digest()[:4], "little"
    )
    try:
        with torch.random.fork_rng(devices=[device] if device != "cpu" else []):
            torch.manual_seed(seed)
            network, history = _trained(member, data, fold, seed=seed, device=device)
    except EnsError as error:
        raise type(error)(f"member {member.name!r}, fold {fold.index}: {error}") from None
    with whole_file(folder / WEIGHTS) as partial:
        state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
        save_file(state, partial)
    _write_history(folder, history)


def load_network(member: Member, folder: Path, *, channels: int, classes: int) -> Network:
    """Load the weights that `train_fold` wrote.

    Args:
        member: whose.
        folder: of the fold.
        channels: of the pictures.
        classes: of the data set; a specialist has two logits all the same.

    Raises:
        BadRun: they are damaged, or of another network.
    """
    logits = classes if member.label is None else BINARY
    network = Network(member.recipe.architecture, channels=channels, classes=logits)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise BadRun(
            f"{folder / WEIGHTS} cannot be used ({reason}); remove it and train again"
        ) from None
    return network.eval()


def _trained(
    member: Member, data: DataSet, fold: Fold, *, seed: int, device: str
) -> tuple[Network, History]:
    recipe, ignore = member.recipe, data.classes.ignore
    pictures = np.asarray(data.pictures[fold.training])
    truth = np.asarray(data.truth()[fold.training])
    groups = None if data.groups is None else data.groups[fold.training]
    held = hold_out(truth, groups, share=HOLDOUT_SHARE, seed=seed)
    classes = len(data.classes)
    if member.label is not None:
        truth = binary_truth(truth, member.label, ignore=ignore)
        classes, ignore = BINARY, None
    shares = class_shares(truth[~held], classes)
    if member.label is not None and shares[1] == 0:
        raise BadData(
            f"no training pixel of class {data.classes.names[member.label]!r};"
            " take fewer folds, another seed or more data"
        )
    network = Network(recipe.architecture, channels=pictures.shape[1], classes=classes).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.normalise_as(torch.from_numpy(pictures[~held]))
    loss = build_loss(recipe.loss, frequencies=shares, ignore=ignore).to(device)
    drawn = oversampled(truth[~held], shares, ignore=ignore, times=recipe.oversample)
    sampler = Sampler(
        pictures[~held], truth[~held], drawn, recipe.batch, recipe.augment, seed, device
    )
    inner = autocast(device, recipe.precision)
    task = Task(
        network=network,
        loss=loss,
        batches=sampler.epoch,
        steps=sampler.steps,
        examine=Examination(pictures[held], truth[held], loss, classes, ignore, device, inner),
        recipe=recipe,
        autocast=inner,
        classes=classes,
        ignore=ignore,
    )
    return network, PROCEDURES.build(recipe.procedure)(task)


class Sampler:
    """Shuffled, augmented batches; the draws of an epoch follow from its number and the seed."""

    def __init__(
        self,
        pictures: Pictures,
        truth: Labels,
        drawn: Array,
        batch: int,
        augment: tuple[str, ...],
        seed: int,
        device: str,
    ) -> None:
        self._pictures, self._truth, self._drawn = pictures, truth, drawn
        self._augment, self._seed, self._device = augment, seed, device
        self.steps = -(-len(drawn) // batch)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch, on the device."""
        order = np.random.default_rng((self._seed, number)).permutation(self._drawn)
        augment = Augment(self._augment, seed=self._seed + number)
        # Batches of equal size, so that no batch holds a single picture (its variance is 0).
        for chosen in np.array_split(order, self.steps):
            pictures, truth = augment(self._pictures[chosen], self._truth[chosen])
            yield (
                torch.from_numpy(np.ascontiguousarray(pictures)).to(self._device),
                torch.from_numpy(np.ascontiguousarray(truth)).to(self._device),
            )


@dataclass(frozen=True)
class Examination:
    """Loss and masked mIoU of a network on the holdout."""

    pictures: Pictures
    truth: Labels
    loss: nn.Module
    classes: int
    ignore: int | None
    device: str
    autocast: Any

    def __call__(self, network: nn.Module) -> tuple[float, float]:
        """Return (loss, score); the score is minus the loss where no pixel can be scored."""
        losses, counts = [], np.zeros((self.classes, self.classes), dtype=np.int64)
        for block in blocks(len(self.pictures), BLOCK_PICTURES):
            pictures = torch.from_numpy(self.pictures[block]).to(self.device)
            truth = torch.from_numpy(self.truth[block]).to(self.device)
            with torch.inference_mode(), self.autocast():
                logits = network(pictures).float()
            losses.append(float(self.loss(logits, truth)) * len(pictures))
            guess = logits.argmax(dim=1).to(torch.uint8).cpu().numpy()
            counts += confusion(self.truth[block], guess, classes=self.classes).sum(axis=0)
        loss = sum(losses) / max(1, len(self.pictures))
        score = float(PROTOCOLS.build("masked")(counts, self.ignore).miou)
        return loss, -loss if np.isnan(score) else score


def class_shares(truth: Labels, classes: int) -> Shares:
    """Return the share of each class in the labelled pixels."""
    counted = np.bincount(truth[truth != UNLABELLED].ravel(), minlength=classes)[:classes]
    shares: Shares = counted / max(1, counted.sum())
    return shares


def oversampled(truth: Labels, shares: Array, *, ignore: int | None, times: int) -> Array:
    """Return the indices of the pictures, those that hold a rare class `times` times.

    A class is rare below a tenth of an equal share of the pixels (2 % among 5 classes).
    """
    rare = [
        label
        for label, share in enumerate(shares)
        if label != ignore and 0 < share < RARE / len(shares)
    ]
    holds = np.isin(truth, rare).any(axis=(1, 2))
    return np.repeat(np.arange(len(truth)), np.where(holds, times, 1))


def _write_history(folder: Path, history: History) -> None:
    with whole_file(folder / HISTORY) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows({k: round(v, 6) for k, v in row.items()} for row in history)
    _write_tensorboard(folder, history)


def _write_tensorboard(folder: Path, history: History) -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra `tensorboard` is not installed
        return
    with SummaryWriter(str(folder)) as events:
        for row in history:
            for name, value in row.items():
                events.add_scalar(name, value, int(row["epoch"]))
