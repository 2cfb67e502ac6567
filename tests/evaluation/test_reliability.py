import numpy as np
import pytest
import torch
from scipy.special import softmax
from torchmetrics.classification import MulticlassCalibrationError

from evaluation.reliability import expected_calibration_error, reliability


def sampled(seed, classes=5):
    rng = np.random.default_rng(seed)
    fused = softmax(3 * rng.normal(size=(4, classes, 8, 8)), axis=1).astype(np.float32)
    return fused, rng.integers(0, classes, (4, 8, 8))


@pytest.mark.parametrize("seed", range(3))
def test_the_calibration_error_is_that_of_torchmetrics(seed):
    fused, target = sampled(seed)
    theirs = MulticlassCalibrationError(num_classes=5, n_bins=15, norm="l1")
    expected = float(theirs(torch.from_numpy(fused), torch.from_numpy(target)))
    assert expected_calibration_error(reliability(fused, target, ignore=None)) == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize("seed", range(3))
def test_without_the_ignored_class_it_is_the_error_of_the_others(seed):
    fused, target = sampled(seed)
    kept = target != 2
    others = np.moveaxis(fused, 1, -1)[kept][:, [0, 1, 3, 4]]
    others /= others.sum(axis=1, keepdims=True)
    theirs = MulticlassCalibrationError(num_classes=4, n_bins=15, norm="l1")
    labels = np.searchsorted([0, 1, 3, 4], target[kept])
    expected = float(theirs(torch.from_numpy(others), torch.from_numpy(labels)))
    assert expected_calibration_error(reliability(fused, target, ignore=2)) == pytest.approx(
        expected, abs=1e-6
    )


def test_sums_of_images_add_up():
    fused, target = sampled(3)
    parts = [reliability(fused[p], target[p], ignore=0) for p in (slice(0, 1), slice(1, 4))]
    np.testing.assert_allclose(sum(parts), reliability(fused, target, ignore=0))


@pytest.mark.parametrize(
    ("pixels", "target", "expected"),
    [
        pytest.param([[0.9, 0.1]], [0], 0.1, id="right and too modest"),
        pytest.param([[0.9, 0.1]], [1], 0.9, id="wrong and sure"),
        pytest.param([[1.0, 0.0], [1.0, 0.0]], [0, 1], 0.5, id="certain, right every other time"),
        pytest.param([[0.7, 0.3], [0.68, 0.32]], [0, 1], 0.19, id="one bin takes the mean"),
        pytest.param([[0.9, 0.1], [0.9, 0.1]], [0, 255], 0.1, id="unlabelled is dropped"),
        pytest.param([[0.9, 0.1]], [255], np.nan, id="nothing is NaN"),
    ],
)
def test_by_hand(pixels, target, expected):
    fused = np.array(pixels).T.reshape(1, 2, 1, -1)
    result = expected_calibration_error(
        reliability(fused, np.array(target).reshape(1, 1, -1), ignore=None)
    )
    assert result == pytest.approx(expected, nan_ok=True)


def test_a_pixel_with_all_probability_on_the_ignored_class_is_uniform():
    fused = np.array([1.0, 0, 0]).reshape(1, 3, 1, 1)
    result = reliability(fused, np.full((1, 1, 1), 1), ignore=0)
    assert result[:, 7].tolist() == [1, 0.5, 1]
