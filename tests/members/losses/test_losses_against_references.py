"""Losses against torch, MONAI and their definitions, where every pixel counts; and by hand."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from evaluation.core.classes import UNLABELLED
from members.losses import LOSSES, build_loss
from members.losses.boundary import signed_distances, structural_similarity

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what MONAI's own imports have to say is not our matter
    from monai.losses import BoundaryLoss, DiceLoss, FocalLoss, GeneralizedDiceLoss
    from monai.metrics.regression import compute_ssim_and_cs

CLASSES = 4
FREQUENCIES = np.array([0.2, 0.4, 0.3, 0.1])
FREQUENCY_WEIGHTS = torch.tensor([1.5, 0.75, 1.0, 3.0])  # median 0.3 / frequency


def batch(rows: int = 7, cols: int = 8, low: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn((2, CLASSES, rows, cols), generator=generator)
    target = torch.randint(low, CLASSES, (2, rows, cols), generator=generator)
    return logits, target.byte()


def loss(spec: str, ignore: int | None = None) -> torch.nn.Module:
    module: torch.nn.Module = build_loss(spec, frequencies=FREQUENCIES, ignore=ignore)
    return module


def one_hot(target: torch.Tensor) -> torch.Tensor:
    return functional.one_hot(target.long(), CLASSES).movedim(-1, 1).float()


class TestAgainstTorch:
    def test_cross_entropy_without_weights_is_torchs(self):
        logits, target = batch()
        expected = functional.cross_entropy(logits, target.long(), ignore_index=0)
        torch.testing.assert_close(loss("cross_entropy", 0)(logits, target), expected)

    @pytest.mark.parametrize(
        ("spec", "weights"),
        [
            ("cross_entropy(weights=[4, 1, 2, 3])", [0, 1, 2, 3]),
            ("cross_entropy(weights=[4, 1, 2, 3], ignored_weight=0.25)", [1, 1, 2, 3]),
            ("cross_entropy(ignored_weight=0.25)", [0.25, 1, 1, 1]),
            ("cross_entropy(weights=frequency)", [0, 0.75, 1, 3]),
            ("focal(gamma=0, weights=[4, 1, 2, 3], ignored_weight=0.25)", [1, 1, 2, 3]),
        ],
    )
    def test_cross_entropy_with_weights_is_torchs(self, spec, weights):
        logits, target = batch()
        weights = torch.tensor(weights, dtype=torch.float32)
        expected = functional.cross_entropy(logits, target.long(), weight=weights)
        torch.testing.assert_close(loss(spec, 0)(logits, target), expected)

    def test_focal_is_its_formula(self):
        logits, target = batch()
        p = logits.softmax(dim=1).gather(1, target.long()[:, None])
        torch.testing.assert_close(
            loss("focal(gamma=3)")(logits, target), (-((1 - p) ** 3) * p.log()).mean()
        )


class TestAgainstMonai:
    def test_focal(self):
        logits, target = batch()
        # MONAI divides by the classes too.
        referee = FocalLoss(use_softmax=True, to_onehot_y=True, gamma=1.5)
        expected = CLASSES * referee(logits, target[:, None])
        torch.testing.assert_close(loss("focal(gamma=1.5)")(logits, target), expected)

    def test_focal_with_weights(self):
        logits, target = batch()
        referee = FocalLoss(use_softmax=True, to_onehot_y=True, weight=FREQUENCY_WEIGHTS)
        # MONAI divides by pixels and classes instead of by the weights.
        share = target.numel() * CLASSES / FREQUENCY_WEIGHTS[target.long()].sum()
        found = loss("focal(weights=frequency)")(logits, target)
        torch.testing.assert_close(found, share * referee(logits, target[:, None]))

    def test_dice(self):
        logits, target = batch()
        referee = DiceLoss(softmax=True, to_onehot_y=True, batch=True, smooth_nr=1, smooth_dr=1)
        expected = referee(logits, target[:, None])
        torch.testing.assert_close(loss("dice")(logits, target), expected)

    def test_dice_with_weights(self):
        logits, target = batch()
        referee = DiceLoss(
            softmax=True,
            to_onehot_y=True,
            batch=True,
            smooth_nr=2,
            smooth_dr=2,
            weight=FREQUENCY_WEIGHTS,
        )
        # MONAI divides by the classes instead of by the weights.
        expected = referee(logits, target[:, None]) / FREQUENCY_WEIGHTS.mean()
        found = loss("dice(weights=frequency, smooth=2)")(logits, target)
        torch.testing.assert_close(found, expected)

    def test_generalised_dice(self):
        logits, target = batch()
        target[target == 1] = 2
        target[0, 0, 0] = 1  # a class of a single pixel
        referee = GeneralizedDiceLoss(
            softmax=True, to_onehot_y=True, batch=True, smooth_nr=0, smooth_dr=0
        )
        found = loss("dice(weights=generalised, smooth=1e-9)")(logits, target)
        torch.testing.assert_close(found, referee(logits, target[:, None]))

    def test_boundary_minus_the_constant_part_of_the_target(self):
        logits, target = batch()
        target[0] = 2  # one class has the image to itself
        target[1][target[1] == 3] = 1  # one is absent
        referee = BoundaryLoss()
        expected = referee(logits.softmax(dim=1), one_hot(target)) - referee(
            one_hot(target), one_hot(target)
        )
        torch.testing.assert_close(loss("boundary")(logits, target), expected)

    def test_ssim_where_the_window_lies_inside_the_image(self):
        logits, target = batch(rows=15, cols=18)
        pred, target_maps = logits.softmax(dim=1), one_hot(target)
        expected, _ = compute_ssim_and_cs(
            pred, target_maps, spatial_dims=2, kernel_size=(11, 11), kernel_sigma=(1.5, 1.5)
        )
        found = structural_similarity(pred, target_maps, torch.ones(target.shape))
        torch.testing.assert_close(found[..., 5:-5, 5:-5], expected)


class TestAgainstTheDefinition:
    @pytest.mark.parametrize("ignored_weight", [0, 0.25, 1])
    def test_lovasz_is_the_jaccard_loss_over_all_thresholds_of_the_error(self, ignored_weight):
        logits, target = batch(rows=3, cols=3)
        found = loss(f"lovasz(ignored_weight={ignored_weight})", 0)(logits, target)
        pred, labels = logits.softmax(dim=1).movedim(1, -1).numpy(), target.numpy()
        pixel = np.where(labels == 0, ignored_weight, 1.0)
        losses, weights = [], []
        for label in np.unique(labels[pixel > 0]):
            own = labels == label
            errors = np.abs(own - pred[..., label])
            cuts = np.concatenate([[0], np.unique(errors)])
            total = 0.0
            for low, high in itertools.pairwise(cuts):
                wrong = errors >= high
                right = (pixel * (own & ~wrong)).sum() / (pixel * (own | wrong)).sum()
                total += (high - low) * (1 - right)
            losses.append(total)
            weights.append(ignored_weight if label == 0 else 1)
        assert found.item() == pytest.approx(np.average(losses, weights=weights), rel=1e-5)

    def test_lovasz_of_certain_predictions_is_one_minus_the_mean_iou(self):
        _, target = batch(low=1)
        pred = torch.where(torch.arange(8) < 5, target, target.flip(2))
        ious = [
            ((target == label) & (pred == label)).sum()
            / ((target == label) | (pred == label)).sum()
            for label in range(1, CLASSES)
        ]
        found = loss("lovasz")(100 * one_hot(pred), target)
        torch.testing.assert_close(found, 1 - torch.stack(ious).mean())

    def test_boundary_distances_are_among_labelled_pixels_only(self):
        _, target = batch()
        target[0, :3, 2:5] = UNLABELLED
        target[1][target[1] == 3] = UNLABELLED
        found = signed_distances(target.numpy(), CLASSES)
        for image, labels in enumerate(target.numpy()):
            for label in set(np.unique(labels)) - {UNLABELLED}:
                own, other = labels == label, (labels != label) & (labels != UNLABELLED)
                outside, inside = (ndimage.distance_transform_edt(~mask) for mask in (own, other))
                expected = np.where(own, 1 - inside, outside)
                np.testing.assert_allclose(found[image, label], expected, atol=1e-5)
        assert (found[1, 3] == 0).all()

    def test_ssim_windows_contain_valid_pixels_only(self):
        logits, target = batch()
        weights = torch.rand(target.shape, generator=torch.Generator().manual_seed(2))
        weights[:, 2:4, 3:6] = 0
        pred, own = logits.softmax(dim=1), one_hot(target)
        found = structural_similarity(pred, own, weights)[1, 2, 1, 4]
        rows, cols = np.mgrid[:7, :8]
        near = (abs(rows - 1) <= 5) & (abs(cols - 4) <= 5)
        window = np.exp(-((rows - 1) ** 2 + (cols - 4) ** 2) / (2 * 1.5**2)) * near
        window = window * weights[1].numpy()
        x, y = pred[1, 2].numpy().ravel(), own[1, 2].numpy().ravel()
        means = np.average([x, y], axis=1, weights=window.ravel())
        (xx, xy), (_, yy) = np.cov(x, y, ddof=0, aweights=window.ravel())
        expected = (2 * means.prod() + 1e-4) * (2 * xy + 9e-4)
        expected /= ((means**2).sum() + 1e-4) * (xx + yy + 9e-4)
        assert found.item() == pytest.approx(expected, rel=1e-4)


class TestByHand:
    def test_the_median_class_has_frequency_weight_1(self):
        module = LOSSES.build("cross_entropy(weights=frequency)", frequencies=FREQUENCIES, ignore=0)
        np.testing.assert_allclose(module.weights[1:], [0.75, 1, 3], rtol=1e-6)

    def test_dice_of_half_the_pixels_right_is_half(self):
        target = torch.tensor([[[1, 1, 1, 1]]]).byte()
        logits = torch.full((1, 2, 1, 4), -50.0)
        logits[0, 1, 0, :2] = logits[0, 0, 0, 2:] = 50.0
        found = build_loss("dice(smooth=1e-6)", frequencies=np.ones(2) / 2, ignore=None)
        assert found(logits, target).item() == pytest.approx(1 - 2 * 2 / (2 + 4), abs=1e-5)

    @pytest.mark.parametrize(
        ("weights", "expected"),
        [
            # Class 0 (weight 1/4): one of two pixels is predicted as 1; class 1: both are right.
            ("none", (0.25 * (1 - 0.5 / 0.75) + (1 - 4 / 4.25)) / 1.25),
            ("generalised", 1 - 2 * (0.25 * 0.25 + 2) / (0.25 * 0.75 + 4.25)),
        ],
    )
    def test_dice_weights_pixels_and_overlap_of_the_ignored_class(self, weights, expected):
        target = torch.tensor([[[0, 0, 1, 1]]]).byte()
        logits = 100.0 * functional.one_hot(torch.tensor([[[0, 1, 1, 1]]]), 2).movedim(-1, 1)
        spec = f"dice(smooth=1e-6, weights={weights}, ignored_weight=0.25)"
        found = build_loss(spec, frequencies=np.ones(2) / 2, ignore=0)
        assert found(logits, target).item() == pytest.approx(expected, abs=1e-5)

    def test_boundary_is_the_mean_distance_of_wrong_pixels(self):
        target = torch.tensor([[[0, 0, 0, 1, 1]]]).byte()
        logits = 100.0 * functional.one_hot(torch.tensor([[[1, 0, 0, 1, 1]]]), 2).movedim(-1, 1)
        # Pixel 0 lies 3 px outside class 1 and 2 px within class 0; 5 pixels, 2 classes.
        found = build_loss("boundary", frequencies=np.ones(2) / 2, ignore=None)
        assert found(logits, target).item() == pytest.approx((3 + 2) / 10)
