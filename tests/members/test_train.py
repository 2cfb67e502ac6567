"""Training one member in one fold, and predicting with it."""

import contextlib
import csv
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.core.classes import MARS, UNLABELLED
from evaluation.core.errors import (
    BadData,
    BadMaps,
    BadRun,
    BadSpec,
    EnsError,
)
from members.augmentations import Augment
from members.augmentations.augmentation_base import TrainingContext
from members.augmentations.offline import one_hot
from members.batches import oversampled
from members.data.dataset import DataSet
from members.devices import data_device, devices
from members.losses import build_loss
from members.network import NormalisedNetwork
from members.optimizers import SCHEDULES
from members.predict import predict, predict_split, training_ids
from members.recipe import Member, Recipe
from members.specialists import OneVsRestMember, one_vs_rest_target
from members.store import ProbabilityStore
from members.train import (
    Fold,
    _parts,
    load_network,
    seed_of,
    train_fold,
)
from members.trainers.adversarial import AdversarialCritic, MaskCritic, PatchGAN
from members.trainers.epoch_metrics import EpochMetrics, batch_confusion, rates
from members.trainers.loop import TrainingTask, _moving_average, fit

IMAGES = 24
FOLDS = (Fold(0, np.arange(0, 16)), Fold(1, np.arange(8, 24)))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, len(MARS), (IMAGES, 4, 6), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    images = (masks * 40 + rng.integers(0, 60, masks.shape)).astype(np.uint8)[:, None]
    ids = tuple(f"p{k:02}" for k in range(IMAGES))
    return DataSet(images, masks, ids, None, MARS)


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
        seen=training_ids(data, folds, out_of_fold=out_of_fold),
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

    def test_no_image_of_the_held_out_fold_is_looked_at(self, data, tmp_path):
        outside = np.setdiff1d(np.arange(IMAGES), FOLDS[0].training)
        images, masks = np.array(data.images), np.array(data.masks)
        images[outside], masks[outside] = 255, 1
        changed = DataSet(images, masks, data.ids, data.groups, MARS)
        one = member(augment=("flips", "offline(by=[flips, noise], times=3)"))
        for name, seen in (("as it is", data), ("changed", changed)):
            train_fold(one, seen, FOLDS[0], seed=0, device="cpu", folder=tmp_path / name)
        first, again = (
            (tmp_path / name / "weights.safetensors").read_bytes()
            for name in ("as it is", "changed")
        )
        assert again == first

    def test_pairs_are_added_from_what_is_learnt_from_alone(self, data, tmp_path, monkeypatch):
        given = []

        def add_nothing(_, images, masks, *__):
            given.append(images)
            return images, masks

        monkeypatch.setattr(Augment, "enlarge", add_nothing)
        train_fold(member(), data, FOLDS[0], seed=0, device="cpu", folder=tmp_path)
        learnt, held = _parts(data, FOLDS[0], 1.0, seed_of("m", FOLDS[0], 0))
        np.testing.assert_array_equal(given[0], data.images[learnt])
        assert not set(learnt) & set(held)
        assert set(learnt) | set(held) == set(FOLDS[0].training)

    def test_the_history_has_a_row_an_epoch(self, trained):
        with (trained[0] / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["1"]
        assert 0 < float(rows[0]["training_loss"]) < 10
        for part in ("training", "holdout"):
            assert 0 <= float(rows[0][f"{part}_miou"]) <= float(rows[0][f"{part}_accuracy"]) <= 1

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
        assert network(torch.from_numpy(np.array(data.images[:2]))).shape == (2, 5, 16, 24)

    def test_a_part_learns_while_the_others_stay(self, data):
        network = NormalisedNetwork("double_unet(width=2, depth=1)", channels=1, classes=5)
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
    def test_images_smaller_than_a_patch_are_refused(self, data, tmp_path):
        small = DataSet(data.images[:, :, :8], data.masks[:, :8], data.ids, None, MARS)
        with pytest.raises(BadData, match="member 'm', fold 0: images are 8 x 24; a PatchGAN"):
            train_fold(
                member(procedure="adversarial"),
                small,
                FOLDS[0],
                seed=0,
                device="cpu",
                folder=tmp_path,
            )

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
        images, target = torch.from_numpy(data.images), torch.from_numpy(data.target())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            judge = MaskCritic(AdversarialCritic(PatchGAN(6, 4)), ignore=0, weight=1.0)
            blind = torch.zeros(len(images), 5, 16, 24, requires_grad=True)
            blames = [float(judge(images, blind, target).detach()) for _ in range(60)]
        assert blames[-1] > blames[0] + 0.5

    def test_pixels_that_do_not_count_give_no_hint(self, data):
        images, target = torch.from_numpy(data.images), torch.from_numpy(data.target())
        judge = MaskCritic(AdversarialCritic(PatchGAN(6, 4)), ignore=0, weight=1.0)
        logits = torch.zeros(len(images), 5, 16, 24, requires_grad=True)
        judge(images, logits, target).backward()
        pushed = logits.grad.abs().sum(dim=1)
        assert (pushed[target == 0] == 0).all()
        assert (pushed[target != 0] > 0).any()


def task_of(network, data):
    images, target = torch.from_numpy(data.images), torch.from_numpy(data.target())
    return TrainingTask(
        network=network,
        loss=build_loss("cross_entropy", frequencies=np.ones(5) / 5, ignore=0),
        batches=lambda _: iter([(images, target)]),
        steps=1,
        examine=lambda _: EpochMetrics(0.0, 0.0, 0.0),
        recipe=member().recipe,
        autocast=contextlib.nullcontext,
        classes=5,
        ignore=0,
    )


class TestPredicting:
    def test_an_image_is_predicted_by_the_model_that_did_not_see_it(self, data, trained, tmp_path):
        folds = (Fold(0, np.arange(12, 24)), Fold(1, np.arange(0, 12)))
        predicted(member(), data, trained, tmp_path, folds=folds, out_of_fold=True)
        store = ProbabilityStore(tmp_path)
        assert not store.saw().any()
        first = load_network(member(), trained[0], channels=1, classes=5)
        expected = predict(first, np.array(data.images[:12]), "cpu", member())
        np.testing.assert_allclose(store.read(slice(0, 12)), expected, atol=1e-6)

    def test_other_images_get_the_mean_of_the_models(self, data, trained, tmp_path):
        predicted(member(), data, trained, tmp_path)
        networks = [load_network(member(), f, channels=1, classes=5) for f in trained]
        parts = [predict(network, np.array(data.images), "cpu", member()) for network in networks]
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
        family = OneVsRestMember("five", stores[::-1])
        raw = OneVsRestMember("five", stores, raw=True).read(slice(0, 4))
        for label, store in enumerate(stores):
            np.testing.assert_array_equal(raw[:, label], store.read(slice(0, 4))[:, 0])
        np.testing.assert_allclose(family.read(slice(0, 4)), raw / raw.sum(1, keepdims=True), 1e-5)
        assert family.saw().all()
        with pytest.raises(
            BadMaps, match="specialists 'five' lack class sand, big rock; train them"
        ):
            OneVsRestMember("five", stores[:3])

    def test_a_class_without_a_training_pixel_is_named(self, data, tmp_path):
        masks = np.where(data.target() == 4, 1, data.target()).astype(np.uint8)
        rockless = DataSet(data.images, masks, data.ids, None, MARS)
        rock = Member("five-big_rock", member().recipe, label=4, family="five")
        with pytest.raises(
            BadData, match="'five-big_rock', fold 0: no training pixel of class 'big"
        ):
            train_fold(rock, rockless, FOLDS[0], seed=0, device="cpu", folder=tmp_path)

    def test_unlabelled_pixels_are_background_for_one_and_nothing_for_the_others(self):
        target = np.array([[[0, UNLABELLED, 1, 2]]], np.uint8)
        assert one_vs_rest_target(target, 0, ignore=0).tolist() == [[[1, 1, 0, 0]]]
        assert one_vs_rest_target(target, 1, ignore=0).tolist() == [[[255, 255, 1, 0]]]
        assert one_vs_rest_target(target, 1, ignore=None).tolist() == [[[0, 255, 1, 0]]]


class TestGenerated:
    @pytest.fixture
    def ground(self):
        return TrainingContext(len(MARS), "cpu", 4)

    def test_pairs_are_painted_from_training_masks(self, data, ground):
        images, masks = torch.from_numpy(data.images), torch.from_numpy(data.target())
        drawn = [
            Augment(["generated(share=0.5, epochs=1, width=2)"]).enlarge(
                images, masks, ground, np.random.default_rng(seed)
            )
            for seed in (0, 0, 1)
        ]
        more, labels = drawn[0]
        assert more.shape == (36, 1, 16, 24)
        assert more.dtype == labels.dtype == torch.uint8
        assert torch.equal(more[:24], images)
        known = {mask.numpy().tobytes() for one in masks for mask in (one, one.flip(-1))}
        assert all(mask.numpy().tobytes() in known for mask in labels[24:])
        assert not torch.equal(labels[24:], drawn[2][1][24:])

    @pytest.mark.slow
    def test_the_generator_learns_what_a_mask_looks_like(self, data, ground):
        images, masks = torch.from_numpy(data.images), torch.from_numpy(data.target())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            more, labels = Augment(["generated(share=1, epochs=50, width=8)"]).enlarge(
                images, masks, ground, np.random.default_rng(0)
            )
        painted, wanted = more[24:, 0].float(), labels[24:]
        # The data's grey values are 40 times the label, plus noise of mean 30.
        means = [float(painted[wanted == label].mean()) for label in range(5)]
        assert means[0] < means[1] < means[2] < min(means[3:])
        assert max(means) - means[0] > 40

    def test_the_same_seed_trains_the_same_member_on_them(self, data, tmp_path):
        one = member(augment=("flips", "generated(share=0.5, epochs=1, width=2)"))
        for name in "ab":
            train_fold(one, data, FOLDS[0], seed=0, device="cpu", folder=tmp_path / name)
        train_fold(member(), data, FOLDS[0], seed=0, device="cpu", folder=tmp_path / "c")
        first, second, without = (
            (tmp_path / name / "weights.safetensors").read_bytes() for name in "abc"
        )
        assert first == second
        assert first != without

    def test_unlabelled_pixels_are_in_no_plane(self):
        planes = one_hot(torch.tensor([[[0, 2, UNLABELLED]]], dtype=torch.uint8), 3)
        assert planes[0, :, 0].T.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


class TestWeightsAndRates:
    def test_the_weights_of_losses_are_learnt_with_the_network(self, data):
        network = NormalisedNetwork("unet(width=2, depth=1)", channels=1, classes=5)
        loss = build_loss(
            "learned_weights(cross_entropy, dice)", frequencies=np.ones(5) / 5, ignore=0
        )
        fit(replace(task_of(network, data), loss=loss), network.parameters(), epochs=1)
        [weights] = loss.parameters()
        assert (weights != 0).all()

    def test_an_average_of_weights_moves_less_than_the_weights(self, data, tmp_path):
        ends = []
        for ema in (0.0, 0.9, 0.999):
            one = member(ema=ema, monitor="loss", optimizer="adamw(lr=1e-3)")
            train_fold(one, data, FOLDS[0], seed=0, device="cpu", folder=tmp_path / str(ema))
            network = load_network(one, tmp_path / str(ema), channels=1, classes=5)
            ends.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
        assert not torch.equal(ends[0], ends[1])
        assert torch.isfinite(ends[1]).all()

    def test_the_average_starts_short_and_grows_to_its_decay(self):
        network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(network.weight)
        averaged: Any = _moving_average(network, 0.5)
        seen = []
        for value in (1.0, 2.0, 3.0, 4.0):
            network.weight.data.fill_(value)
            averaged.update_parameters(network)
            seen.append(float(averaged.module.weight.detach()))
        # The first call copies; then weights of the past are 2/11, 3/12, 4/13.
        expected = [1.0]
        for value, kept in zip((2.0, 3.0, 4.0), (2 / 11, 3 / 12, 4 / 13), strict=True):
            expected.append(kept * expected[-1] + (1 - kept) * value)
        np.testing.assert_allclose(seen, expected, rtol=1e-6)

    def test_rates_of_three_pixels(self):
        logits = torch.tensor([[[[9.0, 0, 0, 0]], [[0, 9.0, 0, 0]], [[0, 0, 9.0, 9.0]]]])
        target = torch.tensor([[[1, 1, 2, UNLABELLED]]], dtype=torch.uint8)
        found = rates(0.5, batch_confusion(logits, target, 3), 0)
        assert found.accuracy == pytest.approx(2 / 3)
        assert found.miou == pytest.approx((1 / 2 + 1) / 2)
        assert found.watched("miou") == found.miou
        assert found.watched("loss") == -0.5

    def test_without_a_scored_pixel_the_loss_is_watched(self):
        empty = rates(0.5, torch.zeros(3, 3, dtype=torch.int64), 0)
        assert np.isnan([empty.accuracy, empty.miou]).all()
        assert empty.watched("miou") == -0.5

    def test_a_share_of_the_groups_is_learnt_from(self, data):
        groups = np.repeat([f"g{k}" for k in range(12)], 2)
        grouped = DataSet(data.images, data.masks, data.ids, groups, MARS)
        fold = Fold(0, np.arange(20))
        whole, held = _parts(grouped, fold, 1.0, 0)
        half, held_again = _parts(grouped, fold, 0.5, 0)
        np.testing.assert_array_equal(held, held_again)
        assert set(half) < set(whole)
        assert len(half) == pytest.approx(len(whole) / 2, abs=2)
        assert not set(groups[half]) & set(groups[np.setdiff1d(whole, half)])

    def test_a_class_that_the_fold_loses_is_named(self, data, tmp_path):
        masks = np.where(data.target() == 4, 1, data.target()).astype(np.uint8)
        masks[20] = 4  # outside fold 0
        rare = DataSet(data.images, masks, data.ids, None, MARS)
        with pytest.raises(BadData, match="member 'm', fold 0: no training pixel of class 'big"):
            train_fold(member(), rare, FOLDS[0], seed=0, device="cpu", folder=tmp_path)


def test_the_curves_are_drawn(trained):
    from PIL import Image

    with Image.open(trained[0] / "curves.png") as image:
        assert image.size == (1000, 300)


def test_images_that_would_crowd_a_gpu_stay_beside_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 2000))
    assert data_device(99, "cuda:0") == "cuda:0"
    assert data_device(101, "cuda:0") == "cpu"
    assert data_device(10**15, "cpu") == "cpu"


def test_an_image_with_a_rare_class_is_drawn_more_often():
    target = np.ones((3, 10, 10), np.uint8)
    target[1, 0, 0] = 2
    drawn = oversampled(target, np.array([0, 0.997, 0.003]), ignore=0, times=4)
    assert drawn.tolist() == [0, 1, 1, 1, 1, 2]


def test_cosine_rises_then_falls_to_its_end():
    share = SCHEDULES.build("cosine(warmup=1, end=0.1)", epochs=11)
    assert [round(share(e, []), 3) for e in (0.5, 1.0, 6.0, 11.0)] == [0.5, 1, 0.55, 0.1]


def test_plateau_reduces_as_torch_does():
    scores = np.random.default_rng(0).normal(np.minimum(np.arange(40), 12), 2).tolist()
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    referee = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=2, threshold=0, min_lr=0.01
    )
    share = SCHEDULES.build("plateau(factor=0.5, wait=2, warmup=0)", epochs=40)
    for epoch, score in enumerate(scores):
        assert share(float(epoch), scores[:epoch]) == pytest.approx(optimizer.param_groups[0]["lr"])
        referee.step(score)
    assert optimizer.param_groups[0]["lr"] < 0.1


@pytest.mark.parametrize("schedule", ["constant(warmup=2)", "plateau(warmup=2)"])
def test_a_warm_up_rises_linearly(schedule):
    share = SCHEDULES.build(schedule, epochs=9)
    assert [share(done, []) for done in (0.0, 1.0, 2.0, 3.0)] == [0.01, 0.5, 1, 1]


def test_an_absent_device_is_refused_with_those_that_are_there():
    with pytest.raises(EnsError, match="device 'cuda:99'; here: auto, cpu"):
        devices("cuda:99")


def test_training_leaves_the_global_seed_alone(data, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train_fold(member(), data, FOLDS[0], seed=0, device="cpu", folder=tmp_path)
    assert torch.equal(torch.rand(1), expected)
