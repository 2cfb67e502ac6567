"""Train one member in one fold: training images in, a folder with weights and history out."""

import hashlib
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from evaluation.core.blocks import blocks
from evaluation.core.errors import BadData, BadRun, BadSpec, EnsError
from evaluation.core.files import atomic_file
from evaluation.core.provenance import verify_outputs
from evaluation.core.ragged import Size
from evaluation.core.types import Array
from evaluation.protocols import build_protocol
from evaluation.run_metric import MASKED, metric_label, summed_form
from members.augmentations.augment import Augment, TrainingContext
from members.batches import (
    BatchLoader,
    ChosenImages,
    Images,
    Reader,
    class_shares,
    oversampled,
    read_from,
    shares_of,
)
from members.crops import RandomCrops
from members.data.dataset import DataSet, class_pixels
from members.data.folds import hold_out
from members.devices import Precision, data_device
from members.holdout import HoldoutValidator, holdout_protocol
from members.losses import build_loss
from members.network import NormalisedNetwork, as_tensor, load_network_from
from members.recipe import Member, Recipe
from members.resizing import resized_set
from members.specialists import one_vs_rest_target
from members.trainers import TRAINERS
from members.trainers.loop import EpochCallback, History, TrainingTask
from members.trainers.training_curves import write_curves

HOLDOUT_SHARE = 0.1
WEIGHTS = "weights.safetensors"
BINARY = 2


@dataclass(frozen=True)
class Fold:
    """Which training images a model may use.

    Args:
        index: number of the fold.
        training: indices of the images outside the fold.
    """

    index: int
    training: Array

    def held_out(self, images: int) -> Array:
        """Return the indices of the fold's own images, of so many in all."""
        return np.setdiff1d(np.arange(images), self.training)


def train_fold(
    member: Member,
    data: DataSet,
    fold: Fold,
    *,
    seed: int,
    device: str,
    folder: Path,
    metric: str = MASKED,
    watch: EpochCallback = lambda _: None,
) -> None:
    """Train a member on the images outside one fold; see `training_of_fold`."""
    for _ in training_of_fold(
        member,
        data,
        fold,
        seed=seed,
        device=device,
        folder=folder,
        metric=metric,
        watch=watch,
    ):
        pass


def training_of_fold(
    member: Member,
    data: DataSet,
    fold: Fold,
    *,
    seed: int,
    device: str,
    folder: Path,
    metric: str = MASKED,
    watch: EpochCallback = lambda _: None,
) -> Generator[None, None, None]:
    """Train a member on the images outside one fold, a step with each `next`.

    On one machine's CPU the weights are determined by the arguments, except that the last digits of
    float32 products may depend on memory alignment (seen in discriminators). A tenth of the groups
    is held out of the training images for early stopping (of the images, where they are one
    group); nothing else is chosen by score. Images are read batch by batch, so memory does not grow
    with their number, except for augmentations that add images.

    Args:
        member: what to train.
        data: the training images with target.
        fold: which of them may be used.
        seed: of weights, batches and augmentation.
        device: `cpu` or `cuda:K`.
        folder: gets `weights.safetensors`, `history.csv` and `curves.png`.
        metric: the protocol that decides when to stop and which weights are best, on the summed
            pixels of the holdout (`summed_form`). Where that lacks what it measures, the loss
            decides. A specialist takes the mean IoU of its class and the rest.
        watch: called after each epoch; if it raises, the training stops and nothing is written.

    Raises:
        EnsError: the training fails; names member and fold.
    """
    seed = seed_of(member.name, fold, seed)
    metric = MASKED if member.label is not None else summed_form(metric, data.classes)
    try:
        with torch.random.fork_rng(devices=[device] if device != "cpu" else []):
            torch.manual_seed(seed)
            network, history = yield from _train(
                member, data, fold, seed=seed, device=device, metric=metric, watch=watch
            )
    except EnsError as error:
        raise type(error)(f"member {member.name!r}, fold {fold.index}: {error}") from None
    _save(network, folder / WEIGHTS)
    write_curves(folder, history, metric_label(metric))


def seed_of(name: str, fold: Fold, seed: int) -> int:
    """Return the seed of one member's training in one fold."""
    hashed = hashlib.sha256(f"{seed} {name} {fold.index}".encode()).digest()
    return int.from_bytes(hashed[:4], "little")


def load_network(member: Member, folder: Path, *, channels: int, classes: int) -> NormalisedNetwork:
    """Load the weights that `train_fold` wrote.

    Args:
        member: whose weights.
        folder: of the fold.
        channels: of the images.
        classes: of the data set; a specialist has two logits regardless.

    Raises:
        BadRun: they are damaged, modified, or of another network.
    """
    verify_outputs(folder)
    network = load_network_from(
        folder / WEIGHTS,
        member.recipe.architecture,
        channels=channels,
        classes=classes if member.label is None else BINARY,
    )
    return network.eval()


@dataclass(frozen=True)
class _Learned:
    """What a member learns from in a fold, with its own classes in the target.

    Args:
        images: to train on.
        target: of them.
        holdout_images: to stop and to choose weights by.
        holdout_target: of them.
        classes: number of logits per pixel.
        ignore: the ignored class, or None.
        smallest: fewest rows and columns of all images of the set.
    """

    images: ChosenImages
    target: ChosenImages
    holdout_images: ChosenImages
    holdout_target: ChosenImages
    classes: int
    ignore: int | None
    smallest: Size


def _learned(member: Member, data: DataSet, fold: Fold, seed: int, device: str) -> _Learned:
    recipe, ignore = member.recipe, data.classes.ignore
    if recipe.size is not None:
        data = resized_set(data, recipe.size, recipe.fit)
    train_indices, holdout_indices = _train_holdout_split(data, fold, recipe.train_share, seed)
    classes, relabel = len(data.classes), None
    if member.label is not None:
        relabel = partial(one_vs_rest_target, label=member.label, ignore=ignore)
        classes, ignore = BINARY, None
    images, target = (ChosenImages(stack, train_indices) for stack in (data.images, data.target()))
    augment = Augment(recipe.augment)
    if not augment.is_online:
        images, target = _with_added_images(augment, images, target, data, recipe, device, seed)
    return _Learned(
        images,
        ChosenImages(target, np.arange(len(target)), relabel),
        ChosenImages(data.images, holdout_indices),
        ChosenImages(data.target(), holdout_indices, relabel),
        classes,
        ignore,
        data.extent.smallest,
    )


def _train(
    member: Member,
    data: DataSet,
    fold: Fold,
    *,
    seed: int,
    device: str,
    metric: str,
    watch: EpochCallback,
) -> Generator[None, None, tuple[NormalisedNetwork, History]]:
    recipe = member.recipe
    learned = _learned(member, data, fold, seed, device)
    classes, ignore = learned.classes, learned.ignore
    pixels = class_pixels(learned.target, classes)
    shares = shares_of(pixels)
    _check_classes_occur(member, data, shares)
    network = NormalisedNetwork(recipe.architecture, channels=data.channels, classes=classes)
    network = network.to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = learned.images
    network.fit_normalisation(as_tensor(images[block]) for block in blocks(images.extent))
    loss = build_loss(recipe.loss, frequencies=shares, ignore=ignore).to(device)
    loader = BatchLoader(
        _reader(learned, recipe.crop, pixels, device),
        oversampled(pixels, ignore=ignore, times=recipe.oversample),
        batch=recipe.batch,
        augment=Augment(recipe.augment),
        seed=seed,
        device=device,
        smallest=network.smallest_batch,
    )
    precision, protocol = Precision(device, recipe.precision), build_protocol(metric, data.classes)
    task = TrainingTask(
        network=network,
        loss=loss,
        batches=loader.epoch,
        steps=loader.steps,
        validate=HoldoutValidator(
            *_kept_on_device(learned.holdout_images, learned.holdout_target, device),
            loss,
            classes,
            ignore,
            holdout_protocol(protocol, learned.holdout_target, classes, ignore),
            precision,
        ),
        recipe=recipe,
        precision=precision,
        classes=classes,
        ignore=ignore,
        protocol=protocol,
        watch=watch,
    )
    history = yield from TRAINERS.build(recipe.trainer)(task)
    return network, history


def _reader(learned: _Learned, crop: Size | None, pixels: Array, device: str) -> Reader:
    """Return what reads batches: crops, or whole images where they have one size."""
    images, target = learned.images, learned.target
    if images.extent.one_size is None:
        crop = crop or learned.smallest
    if crop is None:
        return read_from(*_kept_on_device(images, target, device))
    crops = RandomCrops.create(images, target, crop, pixels=pixels, ignore=learned.ignore)

    def read(indices: Array, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        cut, labels = crops(indices.tolist(), rng)
        return as_tensor(cut), as_tensor(labels)

    return read


def _kept_on_device(
    images: ChosenImages, target: ChosenImages, device: str
) -> tuple[Images, Images]:
    """Return images of one size on a GPU if they fit, else as they are, in a memory map."""
    if device == "cpu" or images.extent.one_size is None:
        return images, target
    if data_device(images.nbytes + target.nbytes, device) == "cpu":
        return images, target
    return images.on_device(device), target.on_device(device)


def _train_holdout_split(data: DataSet, fold: Fold, share: float, seed: int) -> tuple[Array, Array]:
    """Return the indices of the images to train on and of those held out for early stopping."""
    is_holdout = _hold_out(data, fold.training, HOLDOUT_SHARE, seed)
    train = fold.training[~is_holdout]
    if share < 1:
        train = train[~_hold_out(data, train, 1 - share, seed)]
    return train, fold.training[is_holdout]


def _hold_out(data: DataSet, indices: Array, share: float, seed: int) -> Array:
    groups = None if data.groups is None else data.groups[indices]
    if groups is not None and len(np.unique(groups)) == 1:
        groups = None  # a single drive, say: only its own images can tell when to stop
    return hold_out(ChosenImages(data.target(), indices), groups, share=share, seed=seed)


def _with_added_images(
    augment: Augment,
    images: ChosenImages,
    target: ChosenImages,
    data: DataSet,
    recipe: Recipe,
    device: str,
    seed: int,
) -> tuple[ChosenImages, ChosenImages]:
    """Add what augmentations make once, before training; all of it is in memory then.

    Raises:
        BadSpec: the images have several sizes.
    """
    if images.extent.one_size is None:
        raise BadSpec(
            f"augmentations {', '.join(recipe.augment)} add images of one size, and the training"
            " images have several; leave those out that add images, or give --size"
        )
    context = TrainingContext(len(data.classes), device, recipe.batch)
    everything = slice(None)
    pair = augment.extend_dataset(
        as_tensor(images[everything]),
        as_tensor(target[everything]),
        context,
        np.random.default_rng(seed),
    )
    all_images, all_target = (ChosenImages(part.numpy(), np.arange(len(part))) for part in pair)
    return all_images, all_target


def _check_classes_occur(member: Member, data: DataSet, shares: Array) -> None:
    """Check that no class is absent here alone: the models of other folds would predict it."""
    names, ignore = data.classes.names, data.classes.ignore
    if member.label is not None:
        absent = [names[member.label]] if shares[1] == 0 else []
    else:
        shares_of_all = class_shares(data.target(), len(names))
        absent = [
            names[label]
            for label in range(len(names))
            if label != ignore and shares[label] == 0 and shares_of_all[label] > 0
        ]
    if absent:
        raise BadData(
            f"no training pixel of class {absent[0]!r}; use fewer folds, another seed or more data"
        )


def _save(network: NormalisedNetwork, path: Path) -> None:
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    try:
        with atomic_file(path) as partial:
            save_file(state, partial)
    except SafetensorError as error:  # raised for a full disk too, in place of an OSError
        raise BadRun(f"{path} cannot be written ({error}); fix that and train again") from None
