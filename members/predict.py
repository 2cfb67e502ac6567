"""Predict the probability maps of one member for one split, with its fold models."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluation.core.types import Array, Images, Map
from members.codecs import StoreDtype
from members.data.dataset import DataSet
from members.network import NormalisedNetwork, as_tensor
from members.recipe import Member
from members.resizing import predict_resized
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds
from members.tiles import predict_by_tiles
from members.train import Fold, load_network
from members.tta import with_tta

BATCH_SIZE = 32  # images per forward pass: enough to use a GPU, few enough for a CPU's cache


def predict_split(
    member: Member,
    data: DataSet,
    models: Sequence[Path],
    *,
    seen: TrainingIds | None,
    device: str,
    folder: Path,
    dtype: StoreDtype,
    at: str | None = None,
) -> None:
    """Write the member's maps of a split; existing blocks are kept.

    Args:
        member: whose networks predict.
        data: the images to predict.
        models: folder of each fold's weights.
        seen: what each model was trained on (see `training_ids`), None if unknown. If it names a
            model per image, that one predicts the image (out-of-fold), else the mean of all models.
        device: `cpu` or `cuda:K`.
        folder: of the store.
        dtype: of the store.
        at: URL for the array of a new store; None puts it into the folder.
    """
    store = _open_existing(folder) or ProbabilityStore.create(
        folder,
        ids=data.ids,
        classes=data.classes,
        extent=data.extent,
        seen=seen,
        kind="probabilities" if member.label is None else "one_vs_rest",
        label=member.label,
        dtype=dtype,
        url=at,
    )
    channels, classes = data.channels, len(data.classes)
    networks = [
        load_network(member, model, channels=channels, classes=classes).to(device)
        for model in models
    ]
    fold_of = np.array(seen.model) if seen is not None and seen.model is not None else None
    for block in store.missing_blocks():
        images = np.array(data.images[block])
        if fold_of is None:
            maps = _mean(networks, images, device, member)
        else:
            maps = _out_of_fold(networks, images, fold_of[block], device, member)
        store.write(block, maps)
    store.save_error()


def training_ids(training: DataSet, folds: Sequence[Fold], *, out_of_fold: bool) -> TrainingIds:
    """Return which images each fold's model was trained on.

    Args:
        training: the images that the folds divide.
        folds: one per model.
        out_of_fold: whether the images to predict are the training images, each predicted by the
            one model that was not trained on it.
    """
    models = tuple(frozenset(training.ids[i] for i in fold.training) for fold in folds)
    if not out_of_fold:
        return TrainingIds(models)
    return TrainingIds(models, tuple(int(k) for k in _fold_of(len(training.ids), folds)))


def predict(network: NormalisedNetwork, images: Images, device: str, member: Member) -> Map:
    """Return the maps of images (image, channel, row, col); one class for a specialist."""
    recipe = member.recipe
    if recipe.size is None:
        return _predict_as_given(network, images, device, member)
    return predict_resized(
        lambda resized: _predict_as_given(network, resized, device, member),
        images,
        recipe.size,
        recipe.fit,
    )


def _predict_as_given(
    network: NormalisedNetwork, images: Images, device: str, member: Member
) -> Map:
    recipe = member.recipe
    whole = with_tta(
        lambda batch: network(batch).float().softmax(dim=1), recipe.tta, recipe.tta_merge
    )

    def probabilities(batch: Tensor) -> Tensor:
        if recipe.tile is None:
            return whole(batch)
        return predict_by_tiles(whole, batch, recipe.tile, recipe.overlap)

    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH_SIZE):
            batch = as_tensor(images[start : start + BATCH_SIZE]).to(device)
            maps = probabilities(batch)
            parts.append((maps if member.label is None else maps[:, 1:]).cpu().numpy())
    return np.concatenate(parts)


def _mean(
    networks: Sequence[NormalisedNetwork], images: Images, device: str, member: Member
) -> Map:
    total = predict(networks[0], images, device, member)
    for network in networks[1:]:
        total += predict(network, images, device, member)
    total /= len(networks)
    return total


def _out_of_fold(
    networks: Sequence[NormalisedNetwork],
    images: Images,
    fold_of: Array,
    device: str,
    member: Member,
) -> Map:
    predicted = {
        index: predict(networks[index], images[fold_of == index], device, member)
        for index in np.unique(fold_of)
    }
    first = next(iter(predicted.values()))
    maps: Map = np.empty((len(images), *first.shape[1:]), dtype=np.float32)
    for index, part in predicted.items():
        maps[fold_of == index] = part
    return maps


def _fold_of(images: int, folds: Sequence[Fold]) -> Array:
    """Return for each image the fold that it belongs to."""
    fold_of = np.empty(images, dtype=np.intp)
    for position, fold in enumerate(folds):
        outside = np.ones(images, dtype=bool)
        outside[fold.training] = False
        fold_of[outside] = position
    return fold_of


def _open_existing(folder: Path) -> ProbabilityStore | None:
    if not (folder / "store.json").is_file():
        return None
    store = ProbabilityStore(folder)
    store.discard_partial()
    return store
