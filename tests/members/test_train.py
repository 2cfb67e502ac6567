"""Training one member in one fold, and predicting with it."""

import contextlib
import csv

import numpy as np
import pytest
import torch

from evaluation.ground.classes import MARS, UNLABELLED
from evaluation.ground.errors import BadData, BadMaps, BadRun, BadSpec, EnsError
from members.augmentations import AUGMENTATIONS, Augment
from members.binary import binary_truth
from members.data.dataset import DataSet
from members.devices import devices
from members.losses import build_loss
from members.network import Network
from members.optimizers import SCHEDULES
from members.predict import predict, predict_split
from members.procedures.adversarial import Judge, PatchGAN
from members.procedures.fitting import Task, fit
from members.recipe import Member, Recipe
from members.specialists import Family
from members.store import ProbabilityStore
from members.train import Fold, load_network, oversampled, train_fold

PICTURES = 24
FOLDS = (Fold(0, np.arange(0, 16)), Fold(1, np.arange(8, 24)))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, len(MARS), (PICTURES, 4, 6), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    pictures = (masks * 40 + rng.integers(0, 60, masks.shape)).astype(np.uint8)[:, None]
    ids = tuple(f"p{k:02}" for k in range(PICTURES))
    return DataSet(pictures, masks, ids, None, MARS)


def member(name="m", **recipe):
    return Member(name, Recipe(architecture="unet(width=2, depth=1)", epochs=1, batch=4, **recipe))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    for fold in FOLDS:
        train_fold(member(), data, fold, seed=0, device="cpu", folder=folder / f"fold-{fold.index}")
    return [folder / f"fold-{fold.index}" for fold in FOLDS]


def predicted(one, data, models, folder, *, folds=FOLDS, out_of_fold=False):
    predict_split(
        one,
        data,
        models,
        data,
        folds,
        out_of_fold=out_of_fold,
        device="cpu",
        folder=folder,
        dtype="float32",
    )


class TestTraining:
    def test_the_same_seed_gives_the_same_weights(self, data, trained, tmp_path):
        train_fold(member(), data, FOLDS[0], seed=0, device="cpu", folder=tmp_path)
        again, first = (
            (folder / "weights.safetensors").read_bytes() for folder in (tmp_path, trained[0])
        )
        assert again == first

    def test_another_seed_gives_others(self, data, trained, tmp_path):
        train_fold(member(), data, FOLDS[0], seed=1, device="cpu", folder=tmp_path)
        again, first = (
            (folder / "weights.safetensors").read_bytes() for folder in (tmp_path, trained[0])
        )
        assert again != first

    def test_no_picture_of_the_held_out_fold_is_looked_at(self, data, trained, tmp_path):
        outside = np.setdiff1d(np.arange(PICTURES), FOLDS[0].training)
        pictures, masks = np.array(data.pictures), np.array(data.masks)
        pictures[outside], masks[outside] = 255, 1
        changed = DataSet(pictures, masks, data.ids, data.groups, MARS)
        train_fold(member(), changed, FOLDS[0], seed=0, device="cpu", folder=tmp_path)
        again, first = (
            (folder / "weights.safetensors").read_bytes() for folder in (tmp_path, trained[0])
        )
        assert again == first

    def test_the_history_has_a_row_an_epoch(self, trained):
        with (trained[0] / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["1"]
        assert 0 < float(rows[0]["training_loss"]) < 10

    def test_a_loss_that_turns_nan_is_reported_with_member_and_cure(self, data, tmp_path):
        wild = member("wild", optimizer="adamw(lr=1e30)")
        with pytest.raises(
            EnsError, match="member 'wild', fold 0: the loss became nan; take a sma"
        ):
            train_fold(wild, data, FOLDS[0], seed=0, device="cpu", folder=tmp_path)

    def test_damaged_weights_are_named(self, trained, tmp_path):
        (tmp_path / "weights.safetensors").write_bytes(b"no weights")
        with pytest.raises(BadRun, match=r"weights.safetensors cannot be used .*; remove it and"):
            load_network(member(), tmp_path, channels=1, classes=5)


class TestStaged:
    def test_trains_the_parts_one_by_one_and_then_the_whole(self, data, tmp_path):
        recipe = Recipe(
            architecture="double_unet(width=2, depth=1)", procedure="staged", epochs=4, batch=4
        )
        one = Member("two", recipe)
        train_fold(one, data, FOLDS[0], seed=0, device="cpu", folder=tmp_path)
        with (tmp_path / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
        network = load_network(one, tmp_path, channels=1, classes=5)
        assert network(torch.from_numpy(np.array(data.pictures[:2]))).shape == (2, 5, 16, 24)

    def test_a_part_learns_while_the_others_stay(self, data):
        network = Network("double_unet(width=2, depth=1)", channels=1, classes=5)
        before = {name: value.clone() for name, value in network.named_parameters()}
        task = task_of(network, data)
        fit(task, network.body.parts[0].parameters(), epochs=1, output=1)
        moved = {n for n, v in network.named_parameters() if not torch.equal(v, before[n])}
        assert moved
        assert all(name.startswith("body.first.") for name in moved)

    def test_a_network_without_parts_is_refused(self, data, tmp_path):
        with pytest.raises(BadSpec, match="'staged' trains parts one by one, which unet"):
            train_fold(
                member(procedure="staged"),
                data,
                FOLDS[0],
                seed=0,
                device="cpu",
                folder=tmp_path,
            )


class TestAdversarial:
    def test_the_generator_alone_is_the_member(self, data, tmp_path):
        recipe = Recipe(
            architecture="pix2pix(width=2, depth=2)", procedure="adversarial", epochs=1, batch=4
        )
        one = Member("gan", recipe)
        train_fold(one, data, FOLDS[0], seed=0, device="cpu", folder=tmp_path / "a")
        train_fold(one, data, FOLDS[0], seed=0, device="cpu", folder=tmp_path / "b")
        first, second = ((tmp_path / name / "weights.safetensors").read_bytes() for name in "ab")
        assert first == second
        load_network(one, tmp_path / "a", channels=1, classes=5)

    def test_the_judge_learns_to_tell_and_then_blames_the_network(self, data):
        pictures, truth = torch.from_numpy(data.pictures), torch.from_numpy(data.truth())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            judge = Judge(PatchGAN(6, 4), ignore=0, weight=1.0)
            blind = torch.zeros(len(pictures), 5, 16, 24, requires_grad=True)
            blames = [float(judge(pictures, blind, truth).detach()) for _ in range(60)]
        assert blames[-1] > blames[0] + 0.5

    def test_pixels_that_do_not_count_give_no_hint(self, data):
        pictures, truth = torch.from_numpy(data.pictures), torch.from_numpy(data.truth())
        judge = Judge(PatchGAN(6, 4), ignore=0, weight=1.0)
        logits = torch.zeros(len(pictures), 5, 16, 24, requires_grad=True)
        judge(pictures, logits, truth).backward()
        pushed = logits.grad.abs().sum(dim=1)
        assert (pushed[truth == 0] == 0).all()
        assert (pushed[truth != 0] > 0).any()


def task_of(network, data):
    pictures, truth = torch.from_numpy(data.pictures), torch.from_numpy(data.truth())
    return Task(
        network=network,
        loss=build_loss("cross_entropy", frequencies=np.ones(5) / 5, ignore=0),
        batches=lambda _: iter([(pictures, truth)]),
        steps=1,
        examine=lambda _: (0.0, 0.0),
        recipe=member().recipe,
        autocast=contextlib.nullcontext,
        classes=5,
        ignore=0,
    )


class TestPredicting:
    def test_a_picture_is_predicted_by_the_model_that_did_not_see_it(self, data, trained, tmp_path):
        folds = (Fold(0, np.arange(12, 24)), Fold(1, np.arange(0, 12)))
        predicted(member(), data, trained, tmp_path, folds=folds, out_of_fold=True)
        store = ProbabilityStore(tmp_path)
        assert not store.saw().any()
        first = load_network(member(), trained[0], channels=1, classes=5)
        expected = predict(first, np.array(data.pictures[:12]), "cpu")
        np.testing.assert_allclose(store.read(slice(0, 12)), expected, atol=1e-6)

    def test_other_pictures_get_the_mean_of_the_models(self, data, trained, tmp_path):
        predicted(member(), data, trained, tmp_path)
        networks = [load_network(member(), f, channels=1, classes=5) for f in trained]
        parts = [predict(network, np.array(data.pictures), "cpu") for network in networks]
        store = ProbabilityStore(tmp_path)
        np.testing.assert_allclose(store.read(slice(None)), np.mean(parts, axis=0), atol=1e-6)
        assert store.saw().all()


class TestSpecialists:
    def test_five_renormalised_are_one_member(self, data, tmp_path):
        recipe = Recipe(architecture="specialists(unet(width=2, depth=1))", epochs=1, batch=4)
        stores = []
        for one in Member.expand("five", recipe, MARS):
            folders = [tmp_path / one.name / f"fold-{fold.index}" for fold in FOLDS]
            for fold, folder in zip(FOLDS, folders, strict=True):
                train_fold(one, data, fold, seed=0, device="cpu", folder=folder)
            predicted(one, data, folders, tmp_path / one.name / "oof")
            stores.append(ProbabilityStore(tmp_path / one.name / "oof"))
        family = Family("five", stores[::-1])
        raw = Family("five", stores, raw=True).read(slice(0, 4))
        for label, store in enumerate(stores):
            np.testing.assert_array_equal(raw[:, label], store.read(slice(0, 4))[:, 0])
        np.testing.assert_allclose(family.read(slice(0, 4)), raw / raw.sum(1, keepdims=True), 1e-5)
        assert family.saw().all()
        with pytest.raises(
            BadMaps, match="specialists 'five' lack class sand, big rock; train them"
        ):
            Family("five", stores[:3])

    def test_a_class_without_a_training_pixel_is_named(self, data, tmp_path):
        masks = np.where(data.truth() == 4, 1, data.truth()).astype(np.uint8)
        rockless = DataSet(data.pictures, masks, data.ids, None, MARS)
        rock = Member("five-big_rock", member().recipe, label=4, family="five")
        with pytest.raises(
            BadData, match="'five-big_rock', fold 0: no training pixel of class 'big"
        ):
            train_fold(rock, rockless, FOLDS[0], seed=0, device="cpu", folder=tmp_path)

    def test_unlabelled_pixels_are_background_for_one_and_nothing_for_the_others(self):
        truth = np.array([[[0, UNLABELLED, 1, 2]]], np.uint8)
        assert binary_truth(truth, 0, ignore=0).tolist() == [[[1, 1, 0, 0]]]
        assert binary_truth(truth, 1, ignore=0).tolist() == [[[255, 255, 1, 0]]]
        assert binary_truth(truth, 1, ignore=None).tolist() == [[[0, 255, 1, 0]]]


class TestAugmentations:
    @pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
    def test_picture_and_mask_move_together(self, name):
        # The mask says where the picture is bright; both must say the same after the move,
        # but for pixels at the edge, which the picture blends and the mask does not.
        cols = np.mgrid[0:32, 0:48][1]
        masks = np.broadcast_to(cols >= 24, (32, 32, 48)).astype(np.uint8)
        moved, labels = Augment([name], seed=0)(masks[:, None] * 200, masks)
        inside = (labels != UNLABELLED) & np.isin(moved[:, 0], (0, 200))
        assert inside.mean() > 0.8
        agree = (moved[:, 0] == 200) == (labels == 1)
        assert agree[inside].mean() > 0.99
        assert (moved[:, 0] != masks * 200).any()

    def test_the_seed_decides(self):
        pictures = np.random.default_rng(0).integers(0, 255, (8, 1, 16, 24), dtype=np.uint8)
        first, second, other = (
            Augment(["flips", "shift_scale_rotate"], seed=seed)(pictures, pictures[:, 0] % 5)[0]
            for seed in (3, 3, 4)
        )
        np.testing.assert_array_equal(first, second)
        assert (first != other).any()


def test_a_picture_with_a_rare_class_is_drawn_more_often():
    truth = np.ones((3, 10, 10), np.uint8)
    truth[1, 0, 0] = 2
    drawn = oversampled(truth, np.array([0, 0.997, 0.003]), ignore=0, times=4)
    assert drawn.tolist() == [0, 1, 1, 1, 1, 2]


def test_cosine_rises_then_falls_to_its_end():
    share = SCHEDULES.build("cosine(warmup=1, end=0.1)", epochs=11)
    assert [round(share(e), 3) for e in (0.5, 1.0, 6.0, 11.0)] == [0.5, 1, 0.55, 0.1]


def test_an_absent_device_is_refused_with_those_that_are_there():
    with pytest.raises(EnsError, match="device 'cuda:99'; here: auto, cpu"):
        devices("cuda:99")


def test_training_leaves_the_global_seed_alone(data, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train_fold(member(), data, FOLDS[0], seed=0, device="cpu", folder=tmp_path)
    assert torch.equal(torch.rand(1), expected)
