"""Prediction as on a GPU: padded passes over several blocks; here computed on the CPU."""

import numpy as np
import pytest
import torch

from evaluation.core.classes import numbered
from evaluation.core.ragged import Extent, Ragged
from members import predict
from members.data.dataset import DataSet
from members.network import NormalisedNetwork
from members.recipe import Member, Recipe
from members.store import ProbabilityStore
from members.train import Fold

FOLDS = (Fold(0, np.arange(0, 60)), Fold(1, np.arange(60, 150)))


@pytest.fixture
def as_on_gpu(monkeypatch):
    monkeypatch.setattr(predict, "_is_gpu", lambda _: True)
    monkeypatch.setattr(predict, "GPU_BATCH_SIZE", 64)


class Counted(NormalisedNetwork):
    """A network that keeps the sizes of its passes."""

    def __init__(self, sizes, factor):
        torch.nn.Module.__init__(self)
        self.sizes, self.factor = sizes, factor

    def forward(self, images):
        self.sizes.append(len(images))
        values = images.float() * self.factor
        return torch.cat([values, -values], dim=1)


def data_of(images):
    if isinstance(images, int):
        images = np.random.default_rng(0).integers(0, 3, (images, 1, 4, 6), dtype=np.uint8)
    ids = tuple(f"p{k:03}" for k in range(len(images)))
    return DataSet(images, None, ids, None, numbered(2, ignore=None))


def predicted(data, folder, monkeypatch, *, seen=None, dtype="float32"):
    sizes = []
    networks = iter([Counted(sizes, 1.0), Counted(sizes, -0.5)])
    monkeypatch.setattr(predict, "load_network", lambda *_, **__: next(networks))
    member = Member("m", Recipe())
    models = [folder / "a", folder / "b"]
    settings = {"seen": seen, "device": "cpu", "folder": folder / "store", "dtype": dtype}
    predict.predict_split(member, data, models, **settings)
    return ProbabilityStore(folder / "store").read(slice(None)), sizes


@pytest.mark.parametrize("out_of_fold", [False, True])
def test_maps_are_those_of_the_cpu(out_of_fold, tmp_path, monkeypatch):
    data = data_of(150)
    seen = predict.training_ids(data, FOLDS, out_of_fold=out_of_fold)
    (tmp_path / "cpu").mkdir()
    expected, _ = predicted(data, tmp_path / "cpu", monkeypatch, seen=seen)
    monkeypatch.setattr(predict, "_is_gpu", lambda _: True)
    monkeypatch.setattr(predict, "GPU_BATCH_SIZE", 64)
    found, sizes = predicted(data, tmp_path / "gpu", monkeypatch, seen=seen)
    np.testing.assert_array_equal(found, expected)
    assert all(size.bit_count() == 1 for size in sizes)
    assert len(sizes) < 2 * 150 / 20


@pytest.mark.usefixtures("as_on_gpu")
def test_blocks_are_joined_while_they_are_neighbours_of_one_size():
    extent = Extent(((100, (4, 4)), (30, (8, 4)), (500, (4, 4))))
    blocks = [slice(0, 64), slice(64, 100), slice(100, 130), slice(130, 194), slice(258, 322)]
    groups = list(predict._groups(blocks, extent, "cuda:0", 2))
    assert groups == [blocks[:2], blocks[2:3], blocks[3:4], blocks[4:]]


@pytest.mark.usefixtures("as_on_gpu")
def test_images_of_several_sizes_are_predicted(tmp_path, monkeypatch):
    parts = [np.full((70, 1, 4, 6), 1, np.uint8), np.full((3, 1, 8, 6), 2, np.uint8)]
    sizes = []
    monkeypatch.setattr(predict, "load_network", lambda *_, **__: Counted(sizes, 1.0))
    predict.predict_split(
        Member("m", Recipe()),
        data_of(Ragged(parts)),
        [tmp_path],
        seen=None,
        device="cpu",
        folder=tmp_path / "store",
        dtype="float16",
    )
    assert sizes == [64, 8, 4]
    last = ProbabilityStore(tmp_path / "store").read(slice(70, 73))
    np.testing.assert_allclose(last[:, 0], 1 / (1 + np.exp(-4)), atol=1e-3)


@pytest.mark.parametrize(("choice", "expected"), [("float32", "ieee"), ("auto", "tf32")])
def test_the_precision_of_the_recipe_holds(choice, expected):
    seen, network = [], Counted([], 1.0)
    network.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.conv.fp32_precision))
    images = np.zeros((2, 1, 4, 6), np.uint8)
    predict.predict(network, images, "cpu", Member("m", Recipe(precision=choice)))
    assert seen == [expected]
