"""Predict the probability maps of one member for one split, with its fold models."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.core.provenance import verify_outputs
from evaluation.core.ragged import Extent
from evaluation.core.types import Array, Images, Map
from members.codecs import StoreDtype
from members.data.dataset import DataSet
from members.devices import Precision, send
from members.external_networks.network import ExternalNetwork, load_registered
from members.job_progress import PredictionReport
from members.network import as_tensor
from members.recipe import Member
from members.resizing import predict_resized
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds
from members.tiles import predict_by_tiles
from members.train import Fold, load_network
from members.tta import with_tta

BATCH_SIZE = 32  # images per forward pass on the CPU: few enough for its cache
GPU_BATCH_SIZE, GPU_BATCH_PIXELS = 256, 2**21
"""Most images per forward pass on a GPU, and most pixels if there are several images."""


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
    watch: Callable[[PredictionReport], None] = lambda report: None,
) -> None:
    """Write the member's maps of a split; existing blocks are kept.

    Args:
        member: whose networks predict.
        data: the images to predict.
        models: folder of each fold's weights, or of the one network from elsewhere.
        seen: what each model was trained on (see `training_ids`), None if unknown. If it names a
            model per image, that one predicts the image (out-of-fold), else the mean of all models.
        device: `cpu` or `cuda:K`.
        folder: of the store.
        dtype: of the store.
        at: URL for the array of a new store; None puts it into the folder.
        watch: called as maps are written.
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
        open_network(member, model, channels=channels, classes=classes).to(device)
        for model in models
    ]
    fold_of = np.array(seen.model) if seen is not None and seen.model is not None else None
    written: Callable[[], None] | None = None
    missing = store.missing_blocks()
    report = _reporter(missing, len(data), watch)
    for blocks in _groups(missing, data.extent, device, len(models)):
        chosen = slice(blocks[0].start, blocks[-1].stop)
        images = np.array(data.images[chosen])
        if fold_of is None:
            maps = _mean(networks, images, device, member)
        else:
            maps = _out_of_fold(networks, images, fold_of[chosen], device, member)
        copied = _copy_to_host(maps, dtype)
        if written is not None:
            written()
        written = partial(_write, store, blocks, copied)  # while the next images are predicted
        report(chosen.stop - chosen.start)
    if written is not None:
        written()
    store.save_error()


def _reporter(
    missing: Sequence[slice], total: int, watch: Callable[[PredictionReport], None]
) -> Callable[[int], None]:
    """Return what is told how many images were predicted, and reports them with their rate."""
    started, before = time.monotonic(), total - sum(block.stop - block.start for block in missing)
    done = 0

    def report(images: int) -> None:
        nonlocal done
        done += images
        watch(PredictionReport(before + done, total, done / (time.monotonic() - started)))

    return report


def _groups(
    missing: Sequence[slice], extent: Extent, device: str, models: int
) -> Iterator[list[slice]]:
    """Join blocks that are neighbours, so that each model has full passes on a GPU."""
    group: list[slice] = []
    for block in missing:
        size = extent.size_of(block.start)
        if group and (
            not _is_gpu(device)
            or block.start != group[-1].stop
            or size != extent.size_of(group[0].start)
            or block.stop - group[0].start > models * _pass_images(device, size)
        ):
            yield group
            group = []
        group.append(block)
    if group:
        yield group


def _copy_to_host(maps: Tensor, dtype: StoreDtype) -> Callable[[], Map]:
    """Begin a copy; return what waits for it and returns the maps in float32."""
    return _copy_from_gpu(maps, dtype) if maps.is_cuda else maps.numpy


def _copy_from_gpu(  # pragma: no cover  # needs a GPU: pinned memory and events
    maps: Tensor, dtype: StoreDtype
) -> Callable[[], Map]:
    if dtype == "float16":
        maps = maps.half()
    host = torch.empty(maps.shape, dtype=maps.dtype, pin_memory=True)
    host.copy_(maps, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def wait() -> Map:
        copied.synchronize()
        return host.numpy().astype(np.float32, copy=False)

    return wait


def _write(store: ProbabilityStore, blocks: Sequence[slice], copied: Callable[[], Map]) -> None:
    maps, first = copied(), blocks[0].start
    for block in blocks:
        store.write(block, maps[block.start - first : block.stop - first])


def open_network(member: Member, folder: Path, *, channels: int, classes: int) -> nn.Module:
    """Open a network that a member predicts with: one fold's, or the one from elsewhere.

    Args:
        member: whose network.
        folder: of the fold, or of the registered network.
        channels: of the images.
        classes: of the data set.

    Raises:
        BadRun: damaged, modified, or of another network.
        BadNetwork: the same, of a network from elsewhere.
    """
    if member.network is None:
        return load_network(member, folder, channels=channels, classes=classes)
    verify_outputs(folder)
    return load_registered(folder, name=member.name, classes=classes)


def num_parameters(network: nn.Module) -> int | None:
    """Return the number of a network's trained values; None where its file does not tell."""
    if isinstance(network, ExternalNetwork):
        return network.num_parameters
    return sum(parameter.numel() for parameter in network.parameters())


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


def predict(network: nn.Module, images: Images, device: str, member: Member) -> Map:
    """Return the maps of images (image, channel, row, col); one class for a specialist."""
    maps: Map = _predict(network, images, device, member).cpu().numpy()
    return maps


def _predict(network: nn.Module, images: Images, device: str, member: Member) -> Tensor:
    """Return the maps, on the device unless they are resized."""
    recipe = member.recipe
    if recipe.size is None:
        return _predict_as_given(network, images, device, member)
    maps = predict_resized(
        lambda resized: _predict_as_given(network, resized, device, member).cpu().numpy(),
        images,
        recipe.size,
        recipe.fit,
    )
    return torch.from_numpy(maps)


def _predict_as_given(network: nn.Module, images: Images, device: str, member: Member) -> Tensor:
    recipe = member.recipe
    whole = with_tta(
        lambda batch: network(batch).float().softmax(dim=1), recipe.tta, recipe.tta_merge
    )

    def probabilities(batch: Tensor) -> Tensor:
        if recipe.tile is None:
            return whole(batch)
        return predict_by_tiles(whole, batch, recipe.tile, recipe.overlap)

    parts = []
    step = _pass_images(device, images.shape[2:])
    with torch.inference_mode(), Precision(device, recipe.precision).kernels():
        for start in range(0, len(images), step):
            batch = send(as_tensor(images[start : start + step]), device)
            count = len(batch)
            if _is_gpu(device):
                batch = _padded(batch, step)
            maps = probabilities(batch)[:count]
            parts.append(maps if member.label is None else maps[:, 1:])
    return torch.cat(parts)


def _is_gpu(device: str) -> bool:
    return device != "cpu"


def _pass_images(device: str, size: Sequence[int]) -> int:
    """Return the most images per forward pass."""
    if not _is_gpu(device):
        return BATCH_SIZE
    return max(1, min(GPU_BATCH_SIZE, GPU_BATCH_PIXELS // (size[0] * size[1])))


def _padded(batch: Tensor, most: int) -> Tensor:
    """Repeat the last image up to a power of two: cuDNN plans each number of images once."""
    length = min(most, 1 << (len(batch) - 1).bit_length())
    return torch.cat([batch, batch[-1:].expand(length - len(batch), -1, -1, -1)])


def _mean(networks: Sequence[nn.Module], images: Images, device: str, member: Member) -> Tensor:
    total = _predict(networks[0], images, device, member)
    for network in networks[1:]:
        total += _predict(network, images, device, member)
    total /= len(networks)
    return total


def _out_of_fold(
    networks: Sequence[nn.Module],
    images: Images,
    fold_of: Array,
    device: str,
    member: Member,
) -> Tensor:
    folds = np.unique(fold_of)
    parts = [_predict(networks[k], images[fold_of == k], device, member) for k in folds]
    order = np.concatenate([np.flatnonzero(fold_of == k) for k in folds])
    maps = torch.cat(parts)
    return maps[send(torch.from_numpy(np.argsort(order)), maps.device)]


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
