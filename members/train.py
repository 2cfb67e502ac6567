"""Train one member in one fold: training images in, a folder with weights and history out."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from evaluation.core.blocks import blocks
from evaluation.core.errors import BadData, BadRun, BadSpec, EnsError
from evaluation.core.files import atomic_file
from evaluation.core.provenance import verify_outputs
from evaluation.core.ragged import Ragged, Size, Stack, block_images, join
from evaluation.core.types import Array
from evaluation.iou import Protocol, Score, Tables
from evaluation.protocols import build_protocol
from evaluation.run_metric import MASKED, is_defined, metric_label, summed_form
from members.augmentations.augment import Augment, TrainingContext
from members.batches import BatchLoader, Reader, class_shares, oversampled, read_from
from members.crops import RandomCrops
from members.data.dataset import DataSet, class_pixels
from members.data.folds import hold_out
from members.devices import autocast, data_device
from members.losses import build_loss
from members.network import NormalisedNetwork, as_tensor, load_network_from
from members.recipe import Member, Recipe
from members.resizing import resized_set
from members.specialists import one_vs_rest_target
from members.trainers import TRAINERS
from members.trainers.epoch_metrics import EpochMetrics, batch_confusion, compute_epoch_metrics
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
    watch: EpochCallback = lambda _, __: None,
) -> None:
    """Train a member on the images outside one fold.

    On one machine's CPU the weights are determined by the arguments, except that the last digits of
    float32 products may depend on memory alignment (seen in discriminators). A tenth of the groups
    is held out of the training images for early stopping (of the images, where they are one
    group); nothing else is chosen by score.

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
        watch: called with number and monitored score of each epoch; if it raises, the training
            stops and nothing is written.

    Raises:
        EnsError: the training fails; names member and fold.
    """
    seed = seed_of(member.name, fold, seed)
    metric = MASKED if member.label is not None else summed_form(metric, data.classes)
    try:
        with torch.random.fork_rng(devices=[device] if device != "cpu" else []):
            torch.manual_seed(seed)
            network, history = _train(
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
class HoldoutValidator:
    """Computes loss, accuracy and the run's metric of a network on the holdout.

    Args:
        images: (image, channel, row, col) of each size.
        target: uint8 (image, row, col) of each size, on the same device.
        loss: of logits and target.
        classes: number of logits per pixel.
        ignore: the ignored class, or None.
        protocol: the metric.
        device: where to compute.
        autocast: returns the context of a forward pass.
    """

    images: Sequence[Tensor]
    target: Sequence[Tensor]
    loss: nn.Module
    classes: int
    ignore: int | None
    protocol: Protocol
    device: str
    autocast: Callable[[], Any]

    def __call__(self, network: nn.Module) -> EpochMetrics:
        """Validate a network that is in evaluation mode."""
        total_loss, counts = 0.0, torch.zeros(self.classes, self.classes, dtype=torch.int64)
        for all_images, all_target in zip(self.images, self.target, strict=True):
            rows, cols = all_target.shape[1:]
            for block in blocks(len(all_target), block_images((rows, cols))):
                images = all_images[block].to(self.device)
                target = all_target[block].to(self.device)
                with torch.inference_mode(), self.autocast():
                    logits = network(images).float()
                with torch.inference_mode():
                    total_loss += float(self.loss(logits, target)) * len(images)
                    counts += batch_confusion(logits, target, self.classes).cpu()
        loss = total_loss / max(1, sum(map(len, self.images)))
        return compute_epoch_metrics(loss, counts, self.ignore, self.protocol)


def _train(
    member: Member,
    data: DataSet,
    fold: Fold,
    *,
    seed: int,
    device: str,
    metric: str,
    watch: EpochCallback,
) -> tuple[NormalisedNetwork, History]:
    recipe, classes, ignore = member.recipe, len(data.classes), data.classes.ignore
    if recipe.size is not None:
        data = resized_set(data, recipe.size, recipe.fit)
    train_indices, holdout_indices = _train_holdout_split(data, fold, recipe.train_share, seed)
    augment = Augment(recipe.augment)
    images, target = _load_tensors(data, train_indices, device)
    crop = recipe.crop
    if len(images) > 1:
        crop = crop or data.extent.smallest
    if not augment.is_online:
        images, target = _with_added_images(augment, images, target, recipe, classes, device, seed)
    holdout_images, holdout_target = _load_tensors(data, holdout_indices, device)
    if member.label is not None:
        target, holdout_target = (
            [_one_vs_rest(labels, member.label, ignore) for labels in parts]
            for parts in (target, holdout_target)
        )
        classes, ignore = BINARY, None
    labels, holdout_labels = _joined(target), _joined(holdout_target)
    shares = class_shares(labels, classes)
    _check_classes_occur(member, data, shares)
    network = NormalisedNetwork(recipe.architecture, channels=data.channels, classes=classes)
    network = network.to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.fit_normalisation(images)
    loss = build_loss(recipe.loss, frequencies=shares, ignore=ignore).to(device)
    read = read_from(images[0], target[0])
    if crop is not None:
        read = _crop_reader(images, target, crop, shares, ignore)
    loader = BatchLoader(
        read,
        oversampled(labels, shares, ignore=ignore, times=recipe.oversample),
        batch=recipe.batch,
        augment=augment,
        seed=seed,
        device=device,
        smallest=network.smallest_batch,
    )
    context = autocast(device, recipe.precision)
    protocol = build_protocol(metric, data.classes)
    task = TrainingTask(
        network=network,
        loss=loss,
        batches=loader.epoch,
        steps=loader.steps,
        validate=HoldoutValidator(
            holdout_images,
            holdout_target,
            loss,
            classes,
            ignore,
            _holdout_protocol(protocol, holdout_labels, classes, ignore),
            device,
            context,
        ),
        recipe=recipe,
        autocast=context,
        classes=classes,
        ignore=ignore,
        protocol=protocol,
        watch=watch,
    )
    return network, TRAINERS.build(recipe.trainer)(task)


def _holdout_protocol(
    protocol: Protocol, target: Stack, classes: int, ignore: int | None
) -> Protocol:
    """Return a protocol without a number where the holdout lacks what it measures.

    There a false positive would score 0 and none nothing, so that epochs could not be compared.
    """
    pixels = class_pixels(target, classes).sum(axis=0)
    if is_defined(protocol, pixels, ignore):
        return protocol

    def undefined(counts: Tables, ignore: int | None) -> Score:
        score = protocol(counts, ignore)
        return replace(score, miou=np.full_like(score.miou, np.nan))

    return undefined


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
    return hold_out(data.target()[indices], groups, share=share, seed=seed)


def _load_tensors(data: DataSet, indices: Array, device: str) -> tuple[list[Tensor], list[Tensor]]:
    """Return images and target of each size; images of 16 bits become float32."""
    images, target = data.images[indices], data.target()[indices]
    kept_on = data_device(images.nbytes + target.nbytes, device)

    def tensors(stack: Stack) -> list[Tensor]:
        parts = stack.parts if isinstance(stack, Ragged) else [stack]
        return [as_tensor(np.asarray(part)).to(kept_on) for part in parts]

    return tensors(images), tensors(target)


def _joined(parts: Sequence[Tensor]) -> Stack:
    return join([part.cpu().numpy() for part in parts])


def _crop_reader(
    images: Sequence[Tensor],
    target: Sequence[Tensor],
    crop: Size,
    shares: Array,
    ignore: int | None,
) -> Reader:
    each_image = [image for part in images for image in part]
    each_target = [labels for part in target for labels in part]
    crops = RandomCrops.create(each_image, each_target, crop, shares=shares.tolist(), ignore=ignore)
    return lambda indices, rng: crops(indices.tolist(), rng)


def _with_added_images(
    augment: Augment,
    images: list[Tensor],
    target: list[Tensor],
    recipe: Recipe,
    classes: int,
    device: str,
    seed: int,
) -> tuple[list[Tensor], list[Tensor]]:
    """Add what augmentations make once, before training.

    Raises:
        BadSpec: the images have several sizes.
    """
    if len(images) > 1:
        raise BadSpec(
            f"augmentations {', '.join(recipe.augment)} add images of one size, and the training"
            " images have several; leave those out that add images, or give --size"
        )
    context = TrainingContext(classes, device, recipe.batch)
    rng = np.random.default_rng(seed)
    extended = augment.extend_dataset(images[0], target[0], context, rng)
    return [extended[0]], [extended[1]]


def _one_vs_rest(target: Tensor, label: int, ignore: int | None) -> Tensor:
    labels = one_vs_rest_target(target.cpu().numpy(), label, ignore=ignore)
    return torch.from_numpy(labels).to(target.device)


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
