"""Images that are read from a stack when they are needed."""

import numpy as np
import pytest
import torch

from evaluation.core.classes import MARS
from evaluation.core.ragged import Ragged
from members.batches import ChosenImages, read_images
from members.data.dataset import DataSet
from members.recipe import Member, Recipe
from members.train import Fold, train_fold


def stack_of(*counts):
    parts = [
        np.arange(count * 2 * (4 + k) * 6, dtype=np.uint16).reshape(count, 2, 4 + k, 6)
        for k, count in enumerate(counts)
    ]
    return parts[0] if len(parts) == 1 else Ragged(parts)


@pytest.mark.parametrize("counts", [(7,), (4, 3)])
def test_chosen_images_are_those_of_the_stack(counts):
    stack, indices = stack_of(*counts), np.array([1, 3, 4, 6])
    chosen = ChosenImages(stack, indices, change=lambda images: images + 1)
    assert len(chosen) == 4
    assert chosen.nbytes == sum(stack[int(index)].nbytes for index in indices)
    for position, index in enumerate(indices):
        np.testing.assert_array_equal(chosen[position], stack[int(index)] + 1)
    np.testing.assert_array_equal(chosen[2:4], stack[np.array([4, 6])] + 1)
    np.testing.assert_array_equal(chosen[np.array([3, 2, 3])], stack[np.array([6, 4, 6])] + 1)


def test_nothing_is_read_before_it_is_needed():
    read = []

    class Watched(np.ndarray):
        def __getitem__(self, key):
            read.append(key)
            return super().__getitem__(key)

    chosen = ChosenImages(stack_of(5).view(Watched), np.arange(5))
    assert read == []
    assert chosen[np.array([2])].shape == (1, 2, 4, 6)
    assert len(read) == 1


def test_batches_are_the_same_from_a_device_and_from_a_stack():
    stack, indices = stack_of(5).astype(np.uint8), np.array([3, 0, 3])
    chosen = ChosenImages(stack, np.arange(5))
    batch = read_images(chosen.on_device("cpu"), indices)
    assert torch.equal(batch, read_images(chosen, indices))
    assert torch.equal(
        read_images(chosen.on_device("cpu"), slice(1, 3)), batch.new_tensor(stack[1:3])
    )


@pytest.mark.parametrize(
    "recipe", [{"crop": (8, 8)}, {"size": (8, 12)}, {}], ids=["crops", "resized", "as they are"]
)
def test_a_mapped_set_of_several_sizes_trains_as_one_in_memory(recipe, tmp_path):
    rng = np.random.default_rng(0)
    masks = [
        rng.integers(0, 5, (n, *size), dtype=np.uint8) for n, size in ((9, (16, 8)), (9, (8, 24)))
    ]
    images = Ragged([(40 * part)[:, None] for part in masks])
    ids = tuple(f"p{k:02}" for k in range(18))
    data = DataSet(images, Ragged(masks), ids, None, MARS)
    data.save(tmp_path / "split")
    one = Member("m", Recipe(architecture="unet(width=2, depth=1)", epochs=1, batch=4, **recipe))
    weights = []
    for number, each in enumerate((data, DataSet.load(tmp_path / "split", MARS))):
        folder = tmp_path / str(number)
        train_fold(one, each, Fold(0, np.arange(18)), seed=0, device="cpu", folder=folder)
        weights.append((folder / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]
