"""Properties of every loss, sums of losses, and refusals."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadSpec
from members.losses import LOSSES, build_loss, check_loss

CLASSES = 4
FREQUENCIES = np.array([0.2, 0.4, 0.3, 0.1])
VARIANTS = [
    "cross_entropy(weights=frequency, power=0.5)",
    "focal(weights=frequency, gamma=1)",
    "dice(weights=frequency)",
    "dice(weights=generalised)",
]
SPECS = [
    *sorted(LOSSES),
    *VARIANTS,
    "0.5*dice + 0.5*focal(gamma=3)",
    "learned_weights(dice, focal(gamma=2), lovasz)",
]


def batch(seed: int = 0, low: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, CLASSES, 5, 6), generator=generator)
    return logits, torch.randint(low, CLASSES, (2, 5, 6), generator=generator).byte()


def loss(spec: str, ignore: int | None = 0) -> torch.nn.Module:
    module: torch.nn.Module = build_loss(spec, frequencies=FREQUENCIES, ignore=ignore)
    return module


def value_and_gradient(module, logits, target) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = logits.clone().requires_grad_()
    value = module(leaf, target)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize("spec", SPECS)
class TestEveryLoss:
    @pytest.mark.parametrize("label", [0, UNLABELLED], ids=["ignored class", "unlabelled"])
    @pytest.mark.parametrize("fill", [7.0, -1e30, float("nan"), float("inf")])
    def test_logits_of_ignored_pixels_change_neither_value_nor_gradient(self, spec, label, fill):
        logits, target = batch()
        target[:, 1:3] = label
        other = logits.clone()
        other[:, 1:, 1:3] = fill
        value, gradient = value_and_gradient(loss(spec), logits, target)
        value_of_other, gradient_of_other = value_and_gradient(loss(spec), other, target)
        assert torch.equal(value, value_of_other)
        assert torch.equal(gradient, gradient_of_other)
        assert gradient[:, :, 1:3].count_nonzero() == 0
        assert gradient.count_nonzero() > 0

    @pytest.mark.parametrize("label", [0, UNLABELLED], ids=["ignored class", "unlabelled"])
    def test_ignored_rows_could_be_cropped(self, spec, label):
        logits, target = batch()
        target[:, :2] = label
        torch.testing.assert_close(
            loss(spec)(logits, target), loss(spec)(logits[:, :, 2:], target[:, 2:])
        )

    def test_is_smaller_for_the_target_than_for_a_prediction(self, spec):
        logits, target = batch()
        right = 20.0 * functional.one_hot(target.long(), CLASSES).movedim(-1, 1)
        assert loss(spec)(right, target) < 0.05 < loss(spec)(logits, target)

    @pytest.mark.parametrize("label", [0, UNLABELLED], ids=["ignored class", "unlabelled"])
    def test_is_0_with_a_gradient_of_0_if_all_pixels_are_ignored(self, spec, label):
        logits, target = batch()
        value, gradient = value_and_gradient(loss(spec), logits, torch.full_like(target, label))
        assert value == 0
        assert gradient.count_nonzero() == 0

    @pytest.mark.parametrize("label", range(CLASSES))
    def test_has_a_finite_gradient_if_one_class_occurs_and_is_certain(self, spec, label):
        logits, target = batch()
        logits[:, 1] += 60
        value, gradient = value_and_gradient(loss(spec), logits, torch.full_like(target, label))
        assert value.isfinite()
        assert gradient.isfinite().all()

    def test_its_gradient_is_that_of_finite_differences(self, spec):
        logits, target = batch()
        module = loss(spec)
        logits, target = logits[:1, :, :2, :2], target[:1, :2, :2]
        _, gradient = value_and_gradient(module, logits, target)
        step = torch.zeros_like(logits)
        step[0, 1, 0, 0] = 1e-2
        with torch.no_grad():
            found = (module(logits + step, target) - module(logits - step, target)) / 2e-2
        assert found.item() == pytest.approx(gradient[0, 1, 0, 0].item(), rel=0.02, abs=1e-4)

    def test_computes_bfloat16_logits_in_float32(self, spec):
        logits, target = batch()
        rough = logits.bfloat16()
        value, gradient = value_and_gradient(loss(spec), rough, target)
        expected, expected_gradient = value_and_gradient(loss(spec), rough.float(), target)
        assert value.dtype == torch.float32
        assert torch.equal(value, expected)
        torch.testing.assert_close(gradient, expected_gradient.bfloat16())

    def test_a_flip_of_the_images_and_their_order_change_nothing(self, spec):
        logits, target = batch()
        target[0, 1, 1:4] = 0
        torch.testing.assert_close(
            loss(spec)(logits.flip(0, 2, 3), target.flip(0, 1, 2)), loss(spec)(logits, target)
        )


# Alone the boundary loss does not care about rims.
@pytest.mark.parametrize(
    "spec", [*(spec for spec in SPECS if spec != "boundary"), "dice + boundary"]
)
def test_descending_a_loss_leads_to_the_target(spec):
    logits, target = batch()
    target[0, 1, 1:4] = 0
    leaf, module = logits.clone().requires_grad_(), loss(spec)
    descent = torch.optim.Adam([leaf], lr=0.3)
    for _ in range(60):
        descent.zero_grad()
        module(leaf, target).backward()
        descent.step()
    kept = target != 0
    assert torch.equal(leaf.argmax(dim=1)[kept], target[kept].long())
    assert not torch.equal(logits.argmax(dim=1)[kept], target[kept].long())


def with_ignored_weight(spec: str, weight: float) -> str:
    option = f"ignored_weight={weight})"
    return f"{spec[:-1]}, {option}" if spec.endswith(")") else f"{spec}({option}"


@pytest.mark.parametrize("spec", [*sorted(LOSSES), *VARIANTS])
class TestIgnoredWeight:
    def test_of_1_is_as_if_no_class_were_ignored(self, spec):
        logits, target = batch(low=0)
        target[1, 2] = UNLABELLED
        found = value_and_gradient(loss(with_ignored_weight(spec, 1)), logits, target)
        expected = value_and_gradient(loss(spec, ignore=None), logits, target)
        # Weights by frequency are relative to the median, which then is another.
        exact = "weights=frequency" not in spec
        torch.testing.assert_close(found, expected, **({"rtol": 0, "atol": 0} if exact else {}))

    def test_of_0_is_the_default_which_leaves_the_class_out(self, spec):
        logits, target = batch(low=0)
        found = value_and_gradient(loss(with_ignored_weight(spec, 0)), logits, target)
        unlabelled = target.masked_fill(target == 0, UNLABELLED)
        for expected in (
            value_and_gradient(loss(spec), logits, target),
            value_and_gradient(loss(spec), logits, unlabelled),
        ):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)

    def test_between_0_and_1_changes_the_loss_monotonically(self, spec):
        logits, target = batch(low=0)
        logits[:, 0] -= 4  # the ignored class is predicted badly, so that each bit of weight shows
        values = [
            loss(with_ignored_weight(spec, weight))(logits, target) for weight in (0, 0.3, 0.6, 1)
        ]
        steps = torch.stack(values).diff()
        assert (steps > 0).all() or (steps < 0).all()

    @pytest.mark.parametrize("weight", [-0.1, 1.1])
    def test_outside_0_to_1_is_refused(self, spec, weight):
        with pytest.raises(BadSpec, match=rf"option 'ignored_weight' got {weight}; expected "):
            check_loss(with_ignored_weight(spec, weight))


class TestLearnedWeights:
    SPEC = "learned_weights(dice, cross_entropy(weights=frequency))"

    def parts(self, logits, target):
        return [loss(spec)(logits, target) for spec in ("dice", "cross_entropy(weights=frequency)")]

    def test_start_as_a_plain_sum(self):
        logits, target = batch()
        torch.testing.assert_close(loss(self.SPEC)(logits, target), sum(self.parts(logits, target)))

    def test_divide_by_the_variance_and_add_the_logarithm_of_the_deviation(self):
        logits, target = batch()
        module = loss(self.SPEC)
        (log_variances,) = module.parameters()
        variances = torch.tensor([0.25, 9.0])
        log_variances.data = variances.log()
        expected = (torch.stack(self.parts(logits, target)) / variances).sum() + np.log(0.5 * 3)
        torch.testing.assert_close(module(logits, target), expected.float())

    def test_are_optimal_at_twice_the_loss(self):
        logits, target = batch()
        module = loss(self.SPEC)
        (log_variances,) = module.parameters()
        log_variances.data = (2 * torch.stack(self.parts(logits, target))).log()
        module(logits, target).backward()
        torch.testing.assert_close(log_variances.grad, torch.zeros(2))

    def test_do_not_change_if_all_pixels_are_ignored(self):
        logits, target = batch()
        module = loss(self.SPEC)
        (log_variances,) = module.parameters()
        log_variances.data += 3
        assert module(logits, torch.full_like(target, UNLABELLED)) == 0
        module(logits, torch.full_like(target, UNLABELLED)).backward()
        assert log_variances.grad.count_nonzero() == 0

    def test_can_be_a_term_of_a_sum(self):
        logits, target = batch()
        parts = 2 * loss("lovasz")(logits, target) + 0.5 * loss(self.SPEC)(logits, target)
        torch.testing.assert_close(loss(f"2*lovasz + 0.5*{self.SPEC}")(logits, target), parts)


def test_a_sum_adds_weighted_terms():
    logits, target = batch()
    parts = 0.25 * loss("dice")(logits, target) + 2 * loss("focal")(logits, target)
    torch.testing.assert_close(loss("0.25*dice + 2*focal")(logits, target), parts)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("dise", "unknown loss 'dise'; known: boundary, cross_entropy, dice, focal, lovasz, ssim"),
        ("-1*dice", "weight -1 in '-1*dice'; expected a number above 0"),
        ("dice - focal", "cannot read 'dice - focal'"),
        ("0*dice + focal", "weight 0 in '0*dice + focal'; expected a number above 0"),
        ("dice(focal)", "loss 'dice' got focal without a name; write option=value"),
        ("dice(weights=[1, 2])", "option 'weights' got [1, 2]; expected 'none', 'frequency' or"),
        ("focal(gamma=-1)", "option 'gamma' got -1; expected greater than or equal to 0"),
        ("cross_entropy(weights=often)", "option 'weights' got often; expected"),
        (
            "learned_weights",
            "too few losses (0); expected 2 or more, write learned_weights(dice, focal(gamma=2))",
        ),
        (
            "learned_weights(dice)",
            "learned_weights(dice) has too few losses (1); expected 2 or more",
        ),
        ("learned_weights(dice, 3)", "learned_weights(dice, 3) cannot contain 3; write"),
        ("learned_weights(dice, [focal])", "cannot contain ['focal']; write"),
        ("learned_weights(dice, focal, start=1)", "has no option 'start'; write"),
        ("learned_weights(dice, dise)", "unknown loss 'dise'; known: boundary"),
        ("learned_weights(dice, focal(gamma=-1))", "loss 'focal': option 'gamma' got -1"),
        ("learned_weights(0.5*dice, focal)", "cannot read '0.5*dice' in spec"),
        ("learned_weights(dice + focal, focal)", "cannot read 'dice + focal' in spec"),
        (
            "learned_weights(dice, learned_weights(dice, focal))",
            "cannot contain learned_weights(dice, focal); write",
        ),
    ],
)
def test_a_loss_that_cannot_be_built_is_refused_before_any_work(spec, words):
    for refuse in (check_loss, loss):
        with pytest.raises(BadSpec) as refusal:
            refuse(spec)
        assert words in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_weights_for_another_number_of_classes_are_refused(name):
    with pytest.raises(BadSpec, match=r"'weights' got \[1.0, 2.0\]; expected 4 numbers from 0"):
        loss(f"{name}(weights=[1.0, 2.0])")
