"""Train one member in one fold: data in, a folder with weights and history out.

How a network does on images that it does not learn from, while it is being trained.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from evaluation.core.blocks import BLOCK_IMAGES, blocks
from evaluation.core.errors import BadData, BadRun, EnsError
from evaluation.core.files import atomic_file
from evaluation.core.provenance import verify_outputs
from evaluation.core.types import Array, Labels
from members.augmentations import Augment
from members.augmentations.augmentation_base import TrainingContext
from members.batches import BatchLoader, class_shares, oversampled
from members.data.dataset import DataSet
from members.data.folds import hold_out
from members.devices import autocast, data_device
from members.losses import build_loss
from members.network import NormalisedNetwork, load_network_from
from members.recipe import Member
from members.specialists import one_vs_rest_target
from members.trainers import TRAINERS
from members.trainers.epoch_metrics import EpochMetrics, batch_confusion, rates
from members.trainers.loop import History, TrainingTask, Watch
from members.trainers.training_curves import write_curves


@dataclass(frozen=True)
class HoldoutValidator:
    """Loss, accuracy and masked mIoU of a network on the holdout.

    Args:
        images: uint8 (image, channel, row, col).
        target: uint8 (image, row, col), in the same place.
        loss: over logits and target.
        classes: how many logits a pixel has.
        ignore: the class whose pixels do not count, or None.
        device: where to compute.
        autocast: gives the context of a forward pass.
    """

    images: Tensor
    target: Tensor
    loss: nn.Module
    classes: int
    ignore: int | None
    device: str
    autocast: Callable[[], Any]

    def __call__(self, network: nn.Module) -> EpochMetrics:
        """Examine a network in evaluation mode."""
        total, counts = 0.0, torch.zeros(self.classes, self.classes, dtype=torch.int64)
        for block in blocks(len(self.images), BLOCK_IMAGES):
            images = self.images[block].to(self.device)
            target = self.target[block].to(self.device)
            with torch.inference_mode(), self.autocast():
                logits = network(images).float()
            with torch.inference_mode():
                total += float(self.loss(logits, target)) * len(images)
                counts += batch_confusion(logits, target, self.classes).cpu()
        return rates(total / max(1, len(self.images)), counts, self.ignore)


HOLDOUT_SHARE = 0.1
WEIGHTS = "weights.safetensors"
BINARY = 2


@dataclass(frozen=True)
class Fold:
    """Which images of the training set a model may see.

    Args:
        index: of the fold; names the folder.
        training: indices of the images outside the fold.
    """

    index: int
    training: Array


def train_fold(
    member: Member,
    data: DataSet,
    fold: Fold,
    *,
    seed: int,
    device: str,
    folder: Path,
    watch: Watch = lambda _, __: None,
) -> None:
    """Train a member on the images outside one fold.

    On one machine's CPU the weights follow from the arguments: same seed, same weights, but for the
    last digits of float32 products, which depend on where memory lies (seen in discriminators). A
    tenth of the groups is held out of these images too, to stop early by; nothing else chooses
    anything.

    Args:
        member: what to train.
        data: the training images with target.
        fold: which of them may be seen.
        seed: of weights, batches and augmentation.
        device: `cpu` or `cuda:K`.
        watch: gets the number and the monitored score of each epoch; by raising, it stops the
            training, and nothing is written.
        folder: gets `weights.safetensors`, `history.csv` and `curves.png`.

    Raises:
        EnsError: the member cannot be trained so; names member and fold.
    """
    seed = seed_of(member.name, fold, seed)
    try:
        with torch.random.fork_rng(devices=[device] if device != "cpu" else []):
            torch.manual_seed(seed)
            network, history = _trained(member, data, fold, seed=seed, device=device, watch=watch)
    except EnsError as error:
        raise type(error)(f"member {member.name!r}, fold {fold.index}: {error}") from None
    _save(network, folder / WEIGHTS)
    write_curves(folder, history)


def seed_of(name: str, fold: Fold, seed: int) -> int:
    """Return the seed of one member's training in one fold."""
    told = hashlib.sha256(f"{seed} {name} {fold.index}".encode()).digest()
    return int.from_bytes(told[:4], "little")


def load_network(member: Member, folder: Path, *, channels: int, classes: int) -> NormalisedNetwork:
    """Load the weights that `train_fold` wrote.

    Args:
        member: whose.
        folder: of the fold.
        channels: of the images.
        classes: of the data set; a specialist has two logits all the same.

    Raises:
        BadRun: they are damaged, not those that were trained, or of another network.
    """
    logits = classes if member.label is None else BINARY
    verify_outputs(folder)
    architecture = member.recipe.architecture
    return load_network_from(
        folder / WEIGHTS, architecture, channels=channels, classes=logits
    ).eval()


def _save(network: NormalisedNetwork, path: Path) -> None:
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    try:
        with atomic_file(path) as partial:
            save_file(state, partial)
    except SafetensorError as error:  # of the machine too: it knows no OSError
        raise BadRun(f"{path} cannot be written ({error}); mend that and train again") from None


def _trained(
    member: Member, data: DataSet, fold: Fold, *, seed: int, device: str, watch: Watch
) -> tuple[NormalisedNetwork, History]:
    recipe, ignore = member.recipe, data.classes.ignore
    learnt, held = _parts(data, fold, recipe.train_share, seed)
    augment = Augment(recipe.augment)
    ground = TrainingContext(len(data.classes), device, recipe.batch)
    images, target = augment.enlarge(
        *_tensors(data, learnt, device), ground, np.random.default_rng(seed)
    )
    held_images, held_target = _tensors(data, held, device)
    classes = len(data.classes)
    if member.label is not None:
        target, held_target = (
            _binary(labels, member.label, ignore=ignore) for labels in (target, held_target)
        )
        classes, ignore = BINARY, None
    labels = target.cpu().numpy()
    shares = class_shares(labels, classes)
    _check_shares(member, data, shares)
    network = NormalisedNetwork(recipe.architecture, channels=data.channels, classes=classes).to(
        device
    )
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.normalise_as(images)
    loss = build_loss(recipe.loss, frequencies=shares, ignore=ignore).to(device)
    drawn = oversampled(labels, shares, ignore=ignore, times=recipe.oversample)
    sampler = BatchLoader(
        images,
        target,
        drawn,
        batch=recipe.batch,
        augment=augment,
        seed=seed,
        device=device,
    )
    inner = autocast(device, recipe.precision)
    task = TrainingTask(
        network=network,
        loss=loss,
        batches=sampler.epoch,
        steps=sampler.steps,
        examine=HoldoutValidator(held_images, held_target, loss, classes, ignore, device, inner),
        recipe=recipe,
        autocast=inner,
        classes=classes,
        ignore=ignore,
        watch=watch,
    )
    return network, TRAINERS.build(recipe.procedure)(task)


def _parts(data: DataSet, fold: Fold, share: float, seed: int) -> tuple[Array, Array]:
    """Return the indices of the images to learn from, and of those that stop the training."""
    seen = fold.training
    held = _hold_out(data, seen, HOLDOUT_SHARE, seed)
    learnt = seen[~held]
    if share < 1:
        learnt = learnt[~_hold_out(data, learnt, 1 - share, seed)]
    return learnt, seen[held]


def _hold_out(data: DataSet, places: Array, share: float, seed: int) -> Array:
    groups = None if data.groups is None else data.groups[places]
    return hold_out(np.asarray(data.target()[places]), groups, share=share, seed=seed)


def _tensors(data: DataSet, places: Array, device: str) -> tuple[Tensor, Tensor]:
    arrays = np.asarray(data.images[places]), np.asarray(data.target()[places])
    home = data_device(sum(array.nbytes for array in arrays), device)
    images, target = (torch.from_numpy(array).to(home) for array in arrays)
    return images, target


def _binary(target: Tensor, label: int, *, ignore: int | None) -> Tensor:
    labels: Labels = target.cpu().numpy()
    return torch.from_numpy(one_vs_rest_target(labels, label, ignore=ignore)).to(target.device)


def _check_shares(member: Member, data: DataSet, shares: Array) -> None:
    """Refuse to train where a class would never be seen, which the other folds' models have."""
    names, ignore = data.classes.names, data.classes.ignore
    if member.label is not None:
        lacking = [names[member.label]] if shares[1] == 0 else []
    else:
        everywhere = class_shares(np.asarray(data.target()), len(names))
        lacking = [
            names[label]
            for label in range(len(names))
            if label != ignore and shares[label] == 0 and everywhere[label] > 0
        ]
    if lacking:
        raise BadData(
            f"no training pixel of class {lacking[0]!r};"
            " take fewer folds, another seed or more data"
        )
