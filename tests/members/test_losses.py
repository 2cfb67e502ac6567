"""Every loss: what is left out, what it is worth, and what the sum of several is."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import BadSpec
from members.losses import LOSSES, build_loss, check_loss

CLASSES = 4
FREQUENCIES = np.array([0.2, 0.4, 0.3, 0.1])
SPECS = [
    *sorted(LOSSES),
    "cross_entropy(weights=frequency, power=0.5)",
    "0.5*dice + 0.5*focal(gamma=3)",
]


def batch(seed: int = 0, low: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, CLASSES, 5, 6), generator=generator)
    return logits, torch.randint(low, CLASSES, (2, 5, 6), generator=generator).byte()


def loss(spec: str, ignore: int | None = 0) -> torch.nn.Module:
    return build_loss(spec, frequencies=FREQUENCIES, ignore=ignore)


@pytest.mark.parametrize("spec", SPECS)
class TestEveryLoss:
    @pytest.mark.parametrize("label", [0, UNLABELLED], ids=["ignored class", "unlabelled"])
    def test_pixels_that_do_not_count_change_nothing(self, spec, label):
        logits, truth = batch()
        truth[:, :2] = label
        other = logits.clone()
        other[:, :, :2] = 7 * torch.rand_like(other[:, :, :2])
        torch.testing.assert_close(loss(spec)(logits, truth), loss(spec)(other, truth))

    def test_is_smaller_for_the_truth_than_for_a_guess(self, spec):
        logits, truth = batch()
        right = 20.0 * functional.one_hot(truth.long(), CLASSES).movedim(-1, 1)
        assert loss(spec)(right, truth) < 0.05 < loss(spec)(logits, truth)

    def test_has_a_finite_gradient_even_where_nothing_counts(self, spec):
        logits, truth = batch()
        for labels in (truth, torch.full_like(truth, UNLABELLED)):
            leaf = logits.clone().requires_grad_()
            loss(spec)(leaf, labels).backward()
            assert leaf.grad is not None
            assert leaf.grad.isfinite().all()

    def test_its_slope_is_that_of_finite_differences(self, spec):
        logits, truth = batch()
        module = loss(spec).double()
        leaf = logits[:1, :, :2, :2].double().requires_grad_()
        labels = truth[:1, :2, :2]
        module(leaf, labels).backward()
        assert leaf.grad is not None
        step = torch.zeros_like(leaf)
        step[0, 1, 0, 0] = 1e-2
        with torch.no_grad():
            slope = (module(leaf + step, labels) - module(leaf - step, labels)) / 2e-2
        assert slope.item() == pytest.approx(leaf.grad[0, 1, 0, 0].item(), rel=0.02, abs=1e-4)


class TestAgainstTorch:
    def test_cross_entropy_without_weights_is_torchs(self):
        logits, truth = batch(low=0)
        expected = functional.cross_entropy(logits, truth.long(), ignore_index=0)
        torch.testing.assert_close(loss("cross_entropy")(logits, truth), expected)

    def test_cross_entropy_with_weights_is_torchs(self):
        logits, truth = batch(low=0)
        weights = [0.0, 1.0, 2.0, 3.0]
        expected = functional.cross_entropy(logits, truth.long(), weight=torch.tensor(weights))
        found = loss(f"cross_entropy(weights={weights})")(logits, truth)
        torch.testing.assert_close(found, expected)

    def test_focal_with_gamma_0_is_cross_entropy(self):
        logits, truth = batch()
        expected = functional.cross_entropy(logits, truth.long())
        torch.testing.assert_close(loss("focal(gamma=0)")(logits, truth), expected)


class TestByHand:
    def test_frequency_weights_make_the_class_in_the_middle_weigh_1(self):
        module = LOSSES.build("cross_entropy(weights=frequency)", frequencies=FREQUENCIES, ignore=0)
        np.testing.assert_allclose(module.weights, [0, 0.75, 1, 3], rtol=1e-6)

    def test_the_ignored_class_can_be_learnt_with_its_own_weight(self):
        module = LOSSES.build(
            "cross_entropy(ignored_weight=0.5)", frequencies=FREQUENCIES, ignore=0
        )
        np.testing.assert_allclose(module.weights, [0.5, 1, 1, 1])

    def test_dice_of_half_the_pixels_right_is_half(self):
        truth = torch.tensor([[[1, 1, 1, 1]]]).byte()
        logits = torch.full((1, 2, 1, 4), -50.0)
        logits[0, 1, 0, :2] = logits[0, 0, 0, 2:] = 50.0
        found = build_loss("dice(smooth=1e-6)", frequencies=np.ones(2) / 2, ignore=None)
        assert found(logits, truth).item() == pytest.approx(1 - 2 * 2 / (2 + 4), abs=1e-5)

    def test_a_sum_adds_weighted_terms(self):
        logits, truth = batch()
        parts = 0.25 * loss("dice")(logits, truth) + 2 * loss("focal")(logits, truth)
        torch.testing.assert_close(loss("0.25*dice + 2*focal")(logits, truth), parts)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("dise", "unknown loss 'dise'; known: cross_entropy, dice, focal"),
        ("-1*dice", "weight -1 in '-1*dice'; expected a number above 0"),
        ("dice - focal", "cannot read 'dice - focal'"),
        ("0*dice + focal", "weight 0 in '0*dice + focal'; expected a number above 0"),
        ("focal(gamma=-1)", "option 'gamma' got -1; expected greater than or equal to 0"),
        ("cross_entropy(weights=often)", "option 'weights' got often; expected"),
    ],
)
def test_a_loss_that_cannot_be_built_is_refused_before_any_work(spec, words):
    with pytest.raises(BadSpec) as refusal:
        check_loss(spec)
    assert words in str(refusal.value)


def test_weights_for_another_number_of_classes_are_refused():
    with pytest.raises(BadSpec, match=r"'weights' got \[1.0, 2.0\]; expected 4 numbers from 0"):
        loss("cross_entropy(weights=[1.0, 2.0])")
