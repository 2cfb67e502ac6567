"""Soft targets belong to their pixels, and the loss by them is that of the literature."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from evaluation.core.classes import UNLABELLED, numbered
from evaluation.core.errors import BadData, BadSpec
from evaluation.core.ragged import Extent, Ragged
from members.augmentations.augment import Augment
from members.data.dataset import DataSet
from members.devices import Precision
from members.maps import ArrayMaps
from members.network import NormalisedNetwork
from members.recipe import Member, Recipe
from members.soft_targets import SoftTargets, WithChannels, tempered, write_soft_targets
from members.trainers.distill import AUGMENTATIONS, SoftTargetLoss, distill
from members.trainers.epoch_metrics import EpochMetrics
from members.trainers.loop import TrainingTask

CLASSES = 3
INTERPOLATING = ("rotation", "scale", "shift_scale_rotate", "elastic")
RNG = np.random.default_rng(0)


def maps(images, rows=4, cols=6):
    values = RNG.random((images, CLASSES, rows, cols), dtype=np.float32)
    return values / values.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_tempered_maps_are_the_softmax_of_logits_over_the_temperature(temperature):
    logits = torch.from_numpy(RNG.normal(size=(2, CLASSES, 4, 6)).astype(np.float32))
    expected = functional.softmax(logits / temperature, dim=1)
    result = tempered(functional.softmax(logits, dim=1).numpy(), temperature)
    np.testing.assert_allclose(result, expected, atol=1e-6)


class TestWhatIsWritten:
    @pytest.fixture
    def opened(self, tmp_path):
        classes = numbered(CLASSES, ignore=None)
        sets = [
            DataSet(
                np.full((n, 1, 4, 6), value, np.uint8),
                np.ones((n, 4, 6), np.uint8),
                tuple(f"{value}-{k}" for k in range(n)),
                None,
                classes,
            )
            for n, value in ((3, 10), (2, 20))
        ]
        given = [maps(3), maps(2)]
        write_soft_targets(
            tmp_path,
            *[(ArrayMaps("t", m), s.extent) for m, s in zip(given, sets, strict=True)],
            temperature=1.0,
            confidence=0.5,
        )
        return SoftTargets.open(tmp_path, *sets), sets, given

    def test_a_pixel_below_the_confidence_has_none(self, opened):
        soft, _, (own, _) = opened
        sure = own.max(axis=1) >= 0.5
        assert 0 < sure.mean() < 1
        values = np.asarray(soft.of_training)[:, :CLASSES]
        np.testing.assert_array_equal(values.any(axis=1), sure)
        np.testing.assert_allclose(
            (values / 255.0).transpose(0, 2, 3, 1)[sure],
            own.transpose(0, 2, 3, 1)[sure],
            atol=0.5 / 255,
        )

    def test_images_without_labels_follow_those_with_labels_and_are_marked(self, opened):
        soft, (training, _), _ = opened
        images, target = soft.with_unlabelled(training.images, training.masks)
        assert len(images) == len(target) == 5
        read = images[np.array([4, 0])]
        assert read.shape == (2, 1 + CLASSES + 1, 4, 6)
        assert (read[0, 0] == 20).all()
        assert (read[1, 0] == 10).all()
        assert (read[0, -1] == 255).all()
        assert (read[1, -1] == 0).all()
        assert (target[np.array([3, 4])] == UNLABELLED).all()
        assert (target[np.array([0, 2])] == 1).all()


def test_soft_targets_of_other_sizes_are_refused():
    images, added = np.zeros((2, 1, 4, 6), np.uint8), np.zeros((2, 4, 6, 4), np.uint8)
    assert len(WithChannels(images, added.swapaxes(2, 3))) == 2
    with pytest.raises(
        BadData, match="images of 4x6 and soft targets of 6x4; expected the same si"
    ):
        WithChannels(images, added)


def test_images_of_several_sizes_keep_their_channels():
    sizes = Extent(((2, (4, 6)), (1, (8, 8))))
    images, added = (
        Ragged([np.full((n, c, *size), c, np.float32) for n, size in sizes.runs]) for c in (1, 4)
    )
    both = WithChannels(images, added)
    assert both.extent == sizes
    assert both[2].shape == (5, 8, 8)
    assert both[0:2].dtype == np.float32


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_moves_soft_targets_as_it_moves_labels(name):
    labels = RNG.integers(0, CLASSES, (4, 4, 8)).repeat(4, axis=1).repeat(4, axis=2)
    target = torch.from_numpy(labels.astype(np.uint8))
    soft = functional.one_hot(target.long(), CLASSES).movedim(-1, 1).byte() * 255
    images = torch.cat([target[:, None] * 40, soft, torch.zeros_like(target[:, None])], dim=1)
    changed, moved = Augment([name], channels=1)(images, target, np.random.default_rng(3))
    values = changed[:, 1 : 1 + CLASSES]
    both = (values.sum(dim=1) > 0) & (moved != UNLABELLED)
    agree = (values.argmax(dim=1) == moved)[both].float().mean()
    assert both.float().mean() > 0.6
    # Soft targets are interpolated, labels are not: they may differ along edges.
    assert agree >= (0.85 if name in INTERPOLATING else 1)
    assert not changed[:, -1].any()


@pytest.mark.parametrize("name", ["cut_out", "mask_dropout", "rand_augment", "generated"])
def test_an_augmentation_that_knows_no_soft_targets_is_refused(name):
    recipe = Recipe(trainer="distill(teacher=mean)", augment=("flips", name))
    with pytest.raises(BadSpec, match=f"distill cannot use augmentation {name}"):
        recipe.check()


class TestLoss:
    @pytest.fixture
    def task(self):
        return TrainingTask(
            network=NormalisedNetwork("unet(width=2, depth=1)", channels=1, classes=CLASSES),
            loss=nn.Identity(),
            batches=lambda _: iter(()),
            steps=0,
            validate=lambda _: EpochMetrics(0.0, 0.0, 0.0),
            recipe=Recipe(trainer="distill(teacher=t)"),
            precision=Precision("cpu", "float32"),
            classes=CLASSES,
            ignore=0,
        )

    def batch(self):
        logits = torch.from_numpy(RNG.normal(size=(2, CLASSES, 4, 6)).astype(np.float32))
        soft = torch.from_numpy(np.rint(255 * maps(2)))
        images = torch.cat([torch.zeros(2, 1, 4, 6), soft, torch.zeros(2, 1, 4, 6)], dim=1)
        target = torch.ones(2, 4, 6).byte()
        return images, logits, target

    def test_it_is_the_divergence_of_the_literature_up_to_the_targets_entropy(self, task):
        images, logits, target = self.batch()
        soft = images[:, 1:-1] / images[:, 1:-1].sum(dim=1, keepdim=True)
        options = distill(teacher="t", temperature=3.0, label_share=0.25)
        divergence = functional.kl_div((logits / 3).log_softmax(dim=1), soft, reduction="none").sum(
            dim=1
        )
        entropy = -(soft * soft.clamp_min(1e-9).log()).sum(dim=1)
        expected = 0.75 * 9 * (divergence + entropy).mean()
        assert SoftTargetLoss(options, task)(images, logits, target) == pytest.approx(
            float(expected), rel=1e-4
        )

    def test_pixels_of_the_ignored_class_and_without_a_soft_target_have_no_effect(self, task):
        images, logits, target = self.batch()
        target[0, :2] = 0
        images[1, 1:-1, 2:] = 0
        loss = SoftTargetLoss(distill(teacher="t"), task)
        other = logits.clone()
        other[0, :, :2] += RNG.normal()
        other[1, 0, 2:] += 5
        assert loss(images, logits, target) == loss(images, other, target)
        images[:, 1:-1] = 0
        assert loss(images, logits, target) == 0

    def test_earlier_students_teach_images_without_labels_alone(self, task):
        images, logits, target = self.batch()
        options = distill(teacher="t", rounds=2, temperature=1.0)

        class Certain(nn.Module):
            def forward(self, own):
                values = torch.zeros(len(own), CLASSES, 4, 6)
                values[:, 2] = 50
                return values

        certain = Certain()

        plain = SoftTargetLoss(options, task)
        joined = SoftTargetLoss(options, task, (certain,))
        assert plain(images, logits, target) == joined(images, logits, target)
        images[1, -1] = 255
        target[1] = UNLABELLED
        soft = images[:, 1:-1] / images[:, 1:-1].sum(dim=1, keepdim=True)
        soft[1] = (soft[1] + certain(images)[1].softmax(dim=0)) / 2
        expected = 0.7 * -(soft * logits.log_softmax(dim=1)).sum(dim=1).mean()
        assert float(joined(images, logits, target)) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "specialists(unet)"}, "networks of all classes"),
        ({"size": (32, 32)}, "leave out size"),
        ({"trainer": "distill"}, "teacher"),
        ({"trainer": "distill(teacher=mean, temperature=0.5)"}, "temperature"),
    ],
)
def test_a_student_that_cannot_be_taught_is_refused(changes, words):
    recipe = Recipe(trainer="distill(teacher=mean)").model_copy(update=changes)
    with pytest.raises(BadSpec, match=words):
        recipe.check()


def test_weights_of_older_recipes_stay_current():
    member = Member("m", Recipe())
    assert "single" not in member.training_config()["recipe"]
    single = replace(member, recipe=Recipe(single=True))
    assert single.training_config()["recipe"]["single"] is True
