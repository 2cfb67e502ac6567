"""Training one member in one fold, and predicting with it."""

import csv
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from evaluation.core.classes import MARS, UNLABELLED
from evaluation.core.errors import (
    BadData,
    BadMaps,
    BadRun,
    BadSpec,
    EnsError,
)
from evaluation.core.ragged import Extent, Ragged
from evaluation.protocols import build_protocol
from members.architectures import ARCHITECTURES
from members.augmentations import offline
from members.augmentations.augment import Augment, TrainingContext
from members.batches import BatchLoader, ChosenImages, oversampled, read_from
from members.data.dataset import DataSet, class_pixels
from members.devices import Precision
from members.holdout import holdout_protocol
from members.job_progress import PredictionReport
from members.losses import build_loss
from members.losses.pixel_weights import one_hot
from members.network import NormalisedNetwork, as_tensor
from members.predict import predict, predict_split, training_ids
from members.recipe import Member, Recipe
from members.specialists import OneVsRestMember, one_vs_rest_target
from members.store import ProbabilityStore
from members.train import (
    Fold,
    _kept_on_device,
    _train_holdout_split,
    load_network,
    seed_of,
    train_fold,
)
from members.trainers.adversarial import AdversarialCritic, MaskCritic, PatchGAN
from members.trainers.epoch_metrics import EpochMetrics, batch_confusion, compute_epoch_metrics
from members.trainers.loop import MovingAverage, TrainingTask, finish, fit

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


def predicted(one, data, models, folder, *, folds=FOLDS, out_of_fold=False, **options):
    predict_split(
        one,
        data,
        models,
        seen=training_ids(data, folds, out_of_fold=out_of_fold),
        device="cpu",
        folder=folder,
        dtype="float32",
        **options,
    )


def train(one, data, folder, *, seed=0):
    """Train in fold 0; return the weights as bytes."""
    train_fold(one, data, FOLDS[0], seed=seed, device="cpu", folder=folder)
    return (folder / "weights.safetensors").read_bytes()


class TestTraining:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_weights_are_determined_by_the_seed(self, data, trained, tmp_path, seed):
        first = (trained[0] / "weights.safetensors").read_bytes()
        assert (train(member(), data, tmp_path, seed=seed) == first) == (seed == 0)

    def test_images_of_the_held_out_fold_have_no_effect(self, data, tmp_path):
        outside = np.setdiff1d(np.arange(IMAGES), FOLDS[0].training)
        images, masks = np.array(data.images), np.array(data.masks)
        images[outside], masks[outside] = 255, 1
        changed = DataSet(images, masks, data.ids, data.groups, MARS)
        one = member(augment=("flips", "offline(augmentations=[flips, noise], copies=3)"))
        assert train(one, data, tmp_path / "a") == train(one, changed, tmp_path / "b")

    def test_offline_augmentation_gets_the_training_part_alone(self, data, tmp_path, monkeypatch):
        given = []

        def add_nothing(_, images, masks, *__):
            given.append(images)
            return images, masks

        monkeypatch.setattr(Augment, "extend_dataset", add_nothing)
        train(member(augment=("offline(augmentations=[flips], copies=2)",)), data, tmp_path)
        train_indices, holdout = _train_holdout_split(
            data, FOLDS[0], 1.0, seed_of("m", FOLDS[0], 0)
        )
        np.testing.assert_array_equal(given[0], data.images[train_indices])
        assert not set(train_indices) & set(holdout)
        assert set(train_indices) | set(holdout) == set(FOLDS[0].training)

    def test_images_of_one_group_are_divided_for_early_stopping(self, data):
        alone = replace(data, groups=np.full(len(data), "drive"))
        train_indices, holdout = _train_holdout_split(alone, FOLDS[0], 1.0, 0)
        assert 0 < len(holdout) < len(train_indices)
        assert set(train_indices) | set(holdout) == set(FOLDS[0].training)

    def test_the_history_has_one_row_per_epoch(self, trained):
        with (trained[0] / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["1"]
        assert 0 < float(rows[0]["training_loss"]) < 10
        for part in ("training", "holdout"):
            assert 0 <= float(rows[0][f"{part}_miou"]) <= float(rows[0][f"{part}_accuracy"]) <= 1

    @pytest.mark.parametrize("metric", ["iou(of=sand)", "dice", "foreground(but=soil)", "masked"])
    def test_the_kept_weights_are_best_by_the_metric(self, data, tmp_path, metric):
        recipe = {"epochs": 5, "optimizer": "adamw(lr=0.05)", "patience": 9}
        one = Member("m", member().recipe.model_copy(update=recipe))
        train_fold(one, data, FOLDS[0], seed=0, device="cpu", folder=tmp_path, metric=metric)
        with (tmp_path / "history.csv").open() as file:
            scores = [float(row["holdout_miou"]) for row in csv.DictReader(file)]
        assert len(set(scores)) > 1
        holdout = _train_holdout_split(data, FOLDS[0], 1.0, seed_of("m", FOLDS[0], 0))[1]
        network = load_network(one, tmp_path, channels=1, classes=5)
        with torch.inference_mode():
            logits = network(torch.from_numpy(data.images[holdout]))
        counts = batch_confusion(logits, torch.from_numpy(data.masks[holdout]), 5).numpy()
        kept = float(build_protocol(metric, MARS)(counts, 0).miou)
        assert np.abs(np.array(scores) - kept).argmin() == np.argmax(scores)

    def test_a_holdout_without_what_is_measured_is_judged_by_the_loss(self, data, tmp_path):
        holdout = _train_holdout_split(data, FOLDS[0], 1.0, seed_of("m", FOLDS[0], 0))[1]
        masks = np.array(data.masks)
        masks[holdout] = np.where(masks[holdout] == 3, 1, masks[holdout])
        scarce = DataSet(data.images, masks, data.ids, data.groups, MARS)
        settings = {"device": "cpu", "folder": tmp_path, "metric": "iou(of=sand)"}
        train_fold(member(), scarce, FOLDS[0], seed=0, **settings)
        with (tmp_path / "history.csv").open() as file:
            (row,) = csv.DictReader(file)
        again = _train_holdout_split(scarce, FOLDS[0], 1.0, seed_of("m", FOLDS[0], 0))[1]
        assert (masks[again] == 3).any() == (row["holdout_miou"] != "nan")

    def test_a_holdout_without_a_scored_pixel_has_no_score(self):
        """A false positive would score 0 and none nothing, so that epochs could not be compared."""
        iou = build_protocol("iou(of=sand)", MARS)
        target = np.zeros((2, 4, 4), np.uint8)
        chosen = ChosenImages(target, np.arange(2))
        counts = np.zeros((5, 5), int)
        counts[0, 3] = 4
        assert np.isnan(holdout_protocol(iou, chosen, 5, 0)(counts, 0).miou)
        target[0, 0, 0] = 3
        assert holdout_protocol(iou, chosen, 5, 0) is iou

    @pytest.mark.parametrize("patience", [1, 2])
    def test_it_stops_where_the_score_no_longer_rises(self, data, patience):
        network = NormalisedNetwork("unet(width=2, depth=1)", channels=1, classes=5)
        calls = []

        def validate(network):
            calls.append(network)
            return EpochMetrics(1.0, 0.5, 0.5)

        task = replace(task_of(network, data, patience=patience), validate=validate)
        finish(fit(task, network.parameters(), epochs=9))
        assert len(calls) == 1 + patience

    def test_a_student_needs_the_maps_of_its_teacher(self, data, tmp_path):
        with pytest.raises(
            BadSpec, match="member 'm': trainer distill needs the maps of its teach"
        ):
            train(member(trainer="distill(teacher=mean)"), data, tmp_path)

    def test_images_of_several_sizes_are_not_added_to(self, data, tmp_path):
        images, masks = data.images, np.asarray(data.masks)
        mixed = DataSet(
            Ragged([images[:12], images[12:, :, :, :16]]),
            Ragged([masks[:12], masks[12:, :, :16]]),
            data.ids,
            None,
            MARS,
        )
        with pytest.raises(
            EnsError, match="augmentations generated add images of one size, and th"
        ):
            train(member(augment=["generated"]), mixed, tmp_path)

    def test_weights_that_cannot_be_written_are_reported(self, data, tmp_path, monkeypatch):
        def full(*_):
            raise SafetensorError("No space left on device")

        monkeypatch.setattr("members.train.save_file", full)
        with pytest.raises(BadRun, match=r"weights.safetensors cannot be written \(No space left"):
            train(member(), data, tmp_path)

    def test_images_are_kept_on_a_device_where_they_fit(self, data, monkeypatch):
        images, target = (ChosenImages(part, np.arange(5)) for part in (data.images, data.masks))
        assert _kept_on_device(images, target, "cpu") == (images, target)
        for fits in (False, True):
            monkeypatch.setattr("members.train.data_device", lambda _, d, f=fits: d if f else "cpu")
            kept = _kept_on_device(images, target, "meta")
            assert (kept == (images, target)) is not fits
        assert [part.device.type for part in kept] == ["meta", "meta"]
        assert [tuple(part.shape) for part in kept] == [(5, 1, 16, 24), (5, 16, 24)]

    def test_a_loss_that_becomes_nan_is_reported_with_member_and_hint(self, data, tmp_path):
        wild = member("wild", optimizer="adamw(lr=1e30)")
        with pytest.raises(EnsError, match="member 'wild', fold 0: the loss became nan; use a sma"):
            train(wild, data, tmp_path)

    def test_damaged_weights_are_named(self, trained, tmp_path):
        (tmp_path / "weights.safetensors").write_bytes(b"no weights")
        with pytest.raises(BadRun, match=r"weights.safetensors cannot be used .*; remove it and"):
            load_network(member(), tmp_path, channels=1, classes=5)


class TestStaged:
    def test_trains_the_parts_one_by_one_and_then_the_whole(self, data, tmp_path):
        recipe = Recipe(
            architecture="double_unet(width=2, depth=1)", trainer="staged", epochs=4, batch=4
        )
        one = Member("two", recipe)
        train(one, data, tmp_path)
        with (tmp_path / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
        network = load_network(one, tmp_path, channels=1, classes=5)
        assert network(torch.from_numpy(np.array(data.images[:2]))).shape == (2, 5, 16, 24)

    def test_a_part_learns_while_the_others_stay(self, data):
        network = NormalisedNetwork("double_unet(width=2, depth=1)", channels=1, classes=5)
        before = {name: value.clone() for name, value in network.named_parameters()}
        task = task_of(network, data)
        finish(fit(task, network.body.parts[0].parameters(), epochs=1, output=1))
        moved = {n for n, v in network.named_parameters() if not torch.equal(v, before[n])}
        assert moved
        assert all(name.startswith("body.first.") for name in moved)

    def test_a_network_without_parts_is_refused(self, data, tmp_path):
        with pytest.raises(BadSpec, match="'staged' trains parts one by one, but unet"):
            train(member(trainer="staged"), data, tmp_path)


class TestAdversarial:
    def test_images_smaller_than_a_patch_are_refused(self, data, tmp_path):
        small = DataSet(data.images[:, :, :8], data.masks[:, :8], data.ids, None, MARS)
        with pytest.raises(BadData, match="member 'm', fold 0: images are 8 x 24; a PatchGAN"):
            train(member(trainer="adversarial"), small, tmp_path)

    def test_the_generator_alone_is_the_member(self, data, tmp_path):
        recipe = Recipe(
            architecture="pix2pix(width=2, depth=2)", trainer="adversarial", epochs=1, batch=4
        )
        one = Member("gan", recipe)
        assert train(one, data, tmp_path / "a") == train(one, data, tmp_path / "b")
        load_network(one, tmp_path / "a", channels=1, classes=5)

    def test_the_critic_learns_and_its_loss_for_the_network_rises(self, data):
        images, target = torch.from_numpy(data.images), torch.from_numpy(data.target())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            critic = MaskCritic(AdversarialCritic(PatchGAN(6, 4)), ignore=0, weight=1.0)
            logits = torch.zeros(len(images), 5, 16, 24, requires_grad=True)
            losses = [float(critic(images, logits, target).detach()) for _ in range(60)]
        assert losses[-1] > losses[0] + 0.5

    def test_the_critic_gets_nothing_from_ignored_pixels(self, data):
        images, target = torch.from_numpy(data.images), torch.from_numpy(data.target())
        critic = MaskCritic(AdversarialCritic(PatchGAN(6, 4)), ignore=0, weight=1.0)
        logits = torch.zeros(len(images), 5, 16, 24, requires_grad=True)
        critic(images, logits, target).backward()
        gradient = logits.grad.abs().sum(dim=1)
        assert (gradient[target == 0] == 0).all()
        assert (gradient[target != 0] > 0).any()


def task_of(network, data, **recipe):
    images, target = torch.from_numpy(data.images), torch.from_numpy(data.target())
    return TrainingTask(
        network=network,
        loss=build_loss("cross_entropy", frequencies=np.ones(5) / 5, ignore=0),
        batches=lambda _: iter([(images, target)]),
        steps=1,
        validate=lambda _: EpochMetrics(0.0, 0.0, 0.0),
        recipe=member(**recipe).recipe,
        precision=Precision("cpu", "float32"),
        classes=5,
        ignore=0,
    )


class TestPrediction:
    def test_tiles_of_a_network_without_context_are_the_whole_image(self, data):
        class Pointwise(torch.nn.Module):
            def forward(self, images):
                return images.float() * torch.arange(5)[:, None, None] / 100

        network, images = Pointwise(), data.images[:3]
        whole = predict(network, images, "cpu", member())
        tiled = predict(network, images, "cpu", member(tile=(8, 8)))
        np.testing.assert_allclose(tiled, whole, atol=1e-6)

    def test_specialists_of_different_images_are_no_member(self, data, tmp_path):
        stores = []
        for label in range(len(MARS)):
            ids = data.ids[:4] if label else data.ids[1:5]
            stores.append(
                ProbabilityStore.create(
                    tmp_path / f"m-{label}" / "oof",
                    ids=ids,
                    classes=MARS,
                    extent=Extent.uniform(4, (16, 24)),
                    seen=None,
                    dtype="float16",
                    label=label,
                )
            )
        with pytest.raises(BadMaps, match="specialists 'm' hold different images; predict them ag"):
            OneVsRestMember("m", stores)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_images_that_cannot_be_written_to_become_tensors_of_the_same_values(self, dtype):
        images = np.arange(12, dtype=dtype).reshape(1, 1, 3, 4)
        images.flags.writeable = False
        tensor = as_tensor(images)
        assert tensor.dtype == (torch.uint8 if dtype == np.uint8 else torch.float32)
        np.testing.assert_array_equal(tensor.numpy(), images)

    def test_out_of_fold_images_are_predicted_by_the_model_not_trained_on_them(
        self, data, trained, tmp_path
    ):
        folds = (Fold(0, np.arange(12, 24)), Fold(1, np.arange(0, 12)))
        predicted(member(), data, trained, tmp_path, folds=folds, out_of_fold=True)
        store = ProbabilityStore(tmp_path)
        assert not store.trained_on_mask().any()
        first = load_network(member(), trained[0], channels=1, classes=5)
        expected = predict(first, np.array(data.images[:12]), "cpu", member())
        np.testing.assert_allclose(store.read(slice(0, 12)), expected, atol=1e-6)

    def test_other_images_get_the_mean_of_the_models(self, data, trained, tmp_path):
        predicted(member(), data, trained, tmp_path)
        networks = [load_network(member(), f, channels=1, classes=5) for f in trained]
        parts = [predict(network, np.array(data.images), "cpu", member()) for network in networks]
        store = ProbabilityStore(tmp_path)
        np.testing.assert_allclose(store.read(slice(None)), np.mean(parts, axis=0), atol=1e-6)
        assert store.trained_on_mask().all()

    def test_every_image_is_reported_once_and_a_resumed_prediction_counts_what_is_there(
        self, data, trained, tmp_path
    ):
        chosen = np.arange(140) % IMAGES
        many = DataSet(
            data.images[chosen], data.masks[chosen], tuple(map(str, range(140))), None, MARS
        )
        reports: list[PredictionReport] = []
        predicted(member(), many, trained, tmp_path, watch=reports.append)
        assert [report.images for report in reports] == [64, 128, 140]
        store = ProbabilityStore(tmp_path)
        before = store.read(slice(None))
        (tmp_path / "done/64").unlink()  # as if it had been interrupted there
        reports.clear()
        predicted(member(), many, trained, tmp_path, watch=reports.append)
        assert [(report.images, report.total) for report in reports] == [(140, 140)]
        np.testing.assert_array_equal(store.read(slice(None)), before)

    def test_mirrored_views_are_predicted_as_their_copies(self, data, trained):
        network = load_network(member(), trained[0], channels=1, classes=5)
        mirrored = data.images[..., ::-1]
        copied = predict(network, mirrored.copy(), "cpu", member())
        np.testing.assert_array_equal(predict(network, mirrored, "cpu", member()), copied)

    def test_mirrored_views_train_as_their_copies(self, data, tmp_path):
        mirrored = replace(data, images=data.images[..., ::-1], masks=data.masks[..., ::-1])
        copied = replace(mirrored, images=mirrored.images.copy(), masks=mirrored.masks.copy())
        views, copies = (
            train(member(), one, tmp_path / str(id(one))) for one in (mirrored, copied)
        )
        assert views == copies


class TestSpecialists:
    def test_renormalised_specialists_are_one_member(self, data, tmp_path):
        recipe = Recipe(architecture="specialists(unet(width=2, depth=1))", epochs=1, batch=4)
        stores = []
        for one in Member.expand("ovr", recipe, MARS):
            folders = [tmp_path / one.name / f"fold-{fold.index}" for fold in FOLDS]
            for fold, folder in zip(FOLDS, folders, strict=True):
                train_fold(one, data, fold, seed=0, device="cpu", folder=folder)
            predicted(one, data, folders, tmp_path / one.name / "oof")
            stores.append(ProbabilityStore(tmp_path / one.name / "oof"))
        family = OneVsRestMember("ovr", stores[::-1])
        raw = OneVsRestMember("ovr", stores, raw=True).read(slice(0, 4))
        for label, store in enumerate(stores):
            np.testing.assert_array_equal(raw[:, label], store.read(slice(0, 4))[:, 0])
        np.testing.assert_allclose(family.read(slice(0, 4)), raw / raw.sum(1, keepdims=True), 1e-5)
        assert family.trained_on_mask().all()
        with pytest.raises(
            BadMaps, match="specialists 'ovr' lack class sand, big rock; train them"
        ):
            OneVsRestMember("ovr", stores[:3])

    def test_a_class_without_a_training_pixel_is_named(self, data, tmp_path):
        masks = np.where(data.target() == 4, 1, data.target()).astype(np.uint8)
        rockless = DataSet(data.images, masks, data.ids, None, MARS)
        rock = Member("ovr-big_rock", member().recipe, label=4, family="ovr")
        with pytest.raises(
            BadData, match="'ovr-big_rock', fold 0: no training pixel of class 'big"
        ):
            train(rock, rockless, tmp_path)

    def test_unlabelled_pixels_are_positive_for_the_ignored_class_and_unlabelled_for_others(self):
        target = np.array([[[0, UNLABELLED, 1, 2]]], np.uint8)
        assert one_vs_rest_target(target, 0, ignore=0).tolist() == [[[1, 1, 0, 0]]]
        assert one_vs_rest_target(target, 1, ignore=0).tolist() == [[[255, 255, 1, 0]]]
        assert one_vs_rest_target(target, 1, ignore=None).tolist() == [[[0, 255, 1, 0]]]


class TestGenerated:
    @pytest.fixture
    def context(self):
        return TrainingContext(len(MARS), "cpu", 4)

    def test_pairs_are_generated_from_training_masks(self, data, context):
        images, masks = torch.from_numpy(data.images), torch.from_numpy(data.target())
        pairs = [
            Augment(["generated(share=0.5, epochs=1, width=2)"]).extend_dataset(
                images, masks, context, np.random.default_rng(seed)
            )
            for seed in (0, 0, 1)
        ]
        more, labels = pairs[0]
        assert more.shape == (36, 1, 16, 24)
        assert more.dtype == labels.dtype == torch.uint8
        assert torch.equal(more[:24], images)
        known = {mask.numpy().tobytes() for one in masks for mask in (one, one.flip(-1))}
        assert all(mask.numpy().tobytes() in known for mask in labels[24:])
        assert not torch.equal(labels[24:], pairs[2][1][24:])

    def test_every_batch_is_sent_to_the_device_of_the_generator(self, data, context, monkeypatch):
        sent = []

        def send(tensor, device):
            assert device == context.device
            sent.append(tensor.clone())
            return sent[-1]

        def planes(masks, classes):
            kept = [*sent, *made]
            assert any(masks is one for one in kept)
            return one_hot(masks, classes, masks != UNLABELLED)

        made = []

        def flips():
            def augment(images, masks, rng):
                made.append(masks.clone())
                return images, made[-1]

            return augment

        for name, function in {"send": send, "_planes": planes, "flips": flips}.items():
            monkeypatch.setattr(offline, name, function)
        images, masks = torch.from_numpy(data.images), torch.from_numpy(data.target())
        augment = Augment(["generated(share=0.5, epochs=1, width=2)"])
        augment.extend_dataset(images, masks, context, np.random.default_rng(0))
        assert sum(part.ndim == 4 for part in sent) == 6  # batches of four images
        assert sum(part.ndim == 3 for part in sent) == 6 + 3

    @pytest.mark.slow
    def test_the_generator_learns_the_grey_value_of_each_class(self, data, context, monkeypatch):
        monkeypatch.setattr(offline, "LEARNING_RATE", 2e-3)  # so that few epochs are enough
        images, masks = torch.from_numpy(data.images), torch.from_numpy(data.target())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            more, labels = Augment(["generated(share=1, epochs=12, width=8)"]).extend_dataset(
                images, masks, context, np.random.default_rng(0)
            )
        grey, masks = more[24:, 0].float(), labels[24:]
        # The data's grey values are 40 times the label, plus noise of mean 30.
        means = [float(grey[masks == label].mean()) for label in range(5)]
        assert means[0] < means[1] < means[2] < min(means[3:])
        assert max(means) - means[0] > 40

    def test_training_with_generated_pairs_is_determined_by_the_seed(self, data, tmp_path):
        one = member(augment=("flips", "generated(share=0.5, epochs=1, width=2)"))
        weights = train(one, data, tmp_path / "a")
        assert weights == train(one, data, tmp_path / "b")
        assert weights != train(member(), data, tmp_path / "c")

    def test_one_hot_is_0_for_unlabelled_pixels(self):
        masks = torch.tensor([[[0, 2, UNLABELLED]]], dtype=torch.uint8)
        planes = one_hot(masks, 3, masks != UNLABELLED)
        assert planes[0, :, 0].T.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


class TestLoop:
    def test_weights_of_losses_are_trained_with_the_network(self, data):
        network = NormalisedNetwork("unet(width=2, depth=1)", channels=1, classes=5)
        loss = build_loss(
            "learned_weights(cross_entropy, dice)", frequencies=np.ones(5) / 5, ignore=0
        )
        finish(fit(replace(task_of(network, data), loss=loss), network.parameters(), epochs=1))
        [weights] = loss.parameters()
        assert (weights != 0).all()

    @pytest.mark.parametrize("monitor", ["miou", "loss"])
    @pytest.mark.parametrize(
        ("scores", "best"),
        [
            ([np.nan, 0.3, 0.2], 1),
            ([np.nan, np.nan, 0.1], 2),
            ([0.5, np.nan, 0.4], 0),
            ([0.1, np.nan, 0.4], 2),
            ([-np.inf, 0.1, np.nan], 1),
        ],
    )
    def test_a_score_that_is_nan_is_never_the_best(self, data, monitor, scores, best):
        network = NormalisedNetwork("unet(width=2, depth=1)", channels=1, classes=5)
        states = [network.state_dict()["body.head.weight"].clone()]

        def validate(network):
            states.append(network.state_dict()["body.head.weight"].clone())
            score = scores[len(states) - 2]
            if monitor == "loss":
                return EpochMetrics(-score, 0.0, np.nan)
            return EpochMetrics(
                score if np.isnan(score) else 1.0, 0.0, np.nan_to_num(score, nan=0.9)
            )

        task = task_of(
            network, data, monitor=monitor, optimizer="adamw(lr=0.1)", schedule="constant"
        )
        finish(fit(replace(task, validate=validate), network.parameters(), epochs=3))
        assert torch.equal(network.state_dict()["body.head.weight"], states[1 + best])
        assert not torch.equal(states[0], states[1])

    def test_a_score_that_is_always_nan_is_reported(self, data):
        network = NormalisedNetwork("unet(width=2, depth=1)", channels=1, classes=5)
        task = replace(task_of(network, data), validate=lambda _: EpochMetrics(*[np.nan] * 3))
        with pytest.raises(EnsError, match="the holdout score is nan after every epoch; use a sma"):
            finish(fit(task, network.parameters(), epochs=2))

    def test_an_average_of_weights_differs_from_the_weights(self, data, tmp_path):
        parameters = []
        for ema in (0.0, 0.9, 0.999):
            one = member(ema=ema, monitor="loss", optimizer="adamw(lr=1e-3)")
            train(one, data, tmp_path / str(ema))
            network = load_network(one, tmp_path / str(ema), channels=1, classes=5)
            parameters.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
        assert not torch.equal(parameters[0], parameters[1])
        assert torch.isfinite(parameters[1]).all()

    def test_the_memory_of_the_average_grows_to_its_decay(self):
        network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(network.weight)
        averaged: Any = MovingAverage(network, 0.5)
        seen = []
        for value in (1.0, 2.0, 3.0, 4.0):
            network.weight.data.fill_(value)
            averaged.update(network)
            seen.append(float(averaged.network.weight.detach()))
        # The first call copies; then weights of the past are 2/11, 3/12, 4/13.
        expected = [1.0]
        for value, kept in zip((2.0, 3.0, 4.0), (2 / 11, 3 / 12, 4 / 13), strict=True):
            expected.append(kept * expected[-1] + (1 - kept) * value)
        np.testing.assert_allclose(seen, expected, rtol=1e-6)

    def test_epoch_metrics_of_three_pixels(self):
        logits = torch.tensor([[[[9.0, 0, 0, 0]], [[0, 9.0, 0, 0]], [[0, 0, 9.0, 9.0]]]])
        target = torch.tensor([[[1, 1, 2, UNLABELLED]]], dtype=torch.uint8)
        metrics = compute_epoch_metrics(0.5, batch_confusion(logits, target, 3), 0)
        assert metrics.accuracy == pytest.approx(2 / 3)
        assert metrics.miou == pytest.approx((1 / 2 + 1) / 2)
        assert metrics.monitored("miou") == metrics.miou
        assert metrics.monitored("loss") == -0.5

    def test_the_loss_is_monitored_if_no_pixel_is_scored(self):
        empty = compute_epoch_metrics(0.5, torch.zeros(3, 3, dtype=torch.int64), 0)
        assert np.isnan([empty.accuracy, empty.miou]).all()
        assert empty.monitored("miou") == -0.5

    def test_a_share_of_the_groups_is_trained_on(self, data):
        groups = np.repeat([f"g{k}" for k in range(12)], 2)
        grouped = DataSet(data.images, data.masks, data.ids, groups, MARS)
        fold = Fold(0, np.arange(20))
        whole, held = _train_holdout_split(grouped, fold, 1.0, 0)
        half, held_again = _train_holdout_split(grouped, fold, 0.5, 0)
        np.testing.assert_array_equal(held, held_again)
        assert set(half) < set(whole)
        assert len(half) == pytest.approx(len(whole) / 2, abs=2)
        assert not set(groups[half]) & set(groups[np.setdiff1d(whole, half)])

    def test_a_class_absent_from_one_fold_is_named(self, data, tmp_path):
        masks = np.where(data.target() == 4, 1, data.target()).astype(np.uint8)
        masks[20] = 4  # outside fold 0
        rare = DataSet(data.images, masks, data.ids, None, MARS)
        with pytest.raises(BadData, match="member 'm', fold 0: no training pixel of class 'big"):
            train(member(), rare, tmp_path)


def test_an_image_with_a_rare_class_is_used_more_often():
    target = np.ones((3, 10, 10), np.uint8)
    target[1, 0, 0] = 2
    indices = oversampled(class_pixels(target, 3), ignore=0, times=4)
    assert indices.tolist() == [0, 1, 1, 1, 1, 2]


class PlainNormalisation(torch.nn.Module):
    """A network from elsewhere, with torch's own batch normalisation on one value per channel."""

    stride = 1

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.head = torch.nn.Conv2d(channels, classes, 1)
        self.norm = torch.nn.BatchNorm2d(classes)

    def forward(self, images):
        logits = self.head(images)
        return logits + self.norm(logits.mean((2, 3), keepdim=True))


@pytest.mark.parametrize(
    ("count", "batch", "smallest", "sizes"),
    [
        (5, 2, 1, [2, 2, 1]),
        (5, 2, 2, [3, 2]),
        (13, 2, 2, [3, 2, 2, 2, 2, 2]),
        (12, 2, 2, [2] * 6),
        (13, 4, 1, [4, 3, 3, 3]),
        (13, 4, 2, [4, 3, 3, 3]),
        (3, 1, 2, [3]),
        (1, 2, 2, [1]),
    ],
)
def test_a_batch_of_one_is_merged_only_where_the_network_needs_more(count, batch, smallest, sizes):
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    loader = BatchLoader(
        read_from(images, images[:, 0]),
        np.arange(count),
        batch=batch,
        augment=Augment(()),
        seed=0,
        device="cpu",
        smallest=smallest,
    )
    assert [len(one) for one, _ in loader.epoch(0)] == sizes
    assert loader.steps == len(sizes)


@pytest.mark.parametrize("architecture", ["pan(width=2)", "elsewhere"])
def test_an_odd_number_of_images_trains_with_batch_2(data, tmp_path, monkeypatch, architecture):
    monkeypatch.setitem(ARCHITECTURES._entries, "elsewhere", f"{__name__}:PlainNormalisation")
    odd = replace(data, images=data.images[:14], masks=data.masks[:14], ids=data.ids[:14])
    one = Member("m", Recipe(architecture=architecture, epochs=1, batch=2))
    fold = Fold(0, np.arange(14))
    indices, _ = _train_holdout_split(odd, fold, 1.0, seed_of("m", fold, 0))
    assert len(indices) % 2 == 1
    train_fold(one, odd, fold, seed=0, device="cpu", folder=tmp_path)


def test_training_leaves_the_global_seed_alone(data, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(member(), data, tmp_path)
    assert torch.equal(torch.rand(1), expected)
