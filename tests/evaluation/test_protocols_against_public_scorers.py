"""The protocols against torchmetrics and Keras themselves (slow to import)."""

import os
import warnings

import numpy as np
import pytest

from evaluation.counts import confusion
from evaluation.protocols import PROTOCOLS

pytestmark = pytest.mark.slow

CLASSES, IGNORE = 5, 0


def drawn(seed):
    """Label maps in which classes go missing from truth, from guesses, or from both."""
    rng = np.random.default_rng(seed)
    for _ in range(40):
        true = rng.choice(CLASSES, size=rng.integers(1, CLASSES + 1), replace=False)
        guessed = rng.choice(CLASSES, size=rng.integers(1, CLASSES + 1), replace=False)
        yield rng.choice(true, (2, 4, 4)), rng.choice(guessed, (2, 4, 4))


def scored(name, truth, guess):
    counts = confusion(truth, guess, classes=CLASSES).sum(axis=0)
    return PROTOCOLS.build(name)(counts, IGNORE)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def jaccard():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.functional.classification import multiclass_jaccard_index

    return multiclass_jaccard_index


@pytest.fixture(scope="module")
def mean_iou():
    os.environ["KERAS_BACKEND"] = "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from keras.metrics import MeanIoU

    def score(truth, guess, ignore=IGNORE):
        metric = MeanIoU(num_classes=CLASSES, ignore_class=ignore)
        metric.update_state(truth, guess)
        return float(metric.result())

    return score


def test_masked_is_the_macro_jaccard_index_of_torchmetrics(torch, jaccard):
    for truth, guess in drawn(0):
        ours = scored("masked", truth, guess).miou
        theirs = jaccard(
            torch.tensor(guess), torch.tensor(truth), CLASSES, average="macro", ignore_index=IGNORE
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-6, equal_nan=True)


def test_torchmetrics_gives_0_for_a_class_that_is_absent_here(torch, jaccard):
    truth, guess = np.array([[[1, 1, 2]]]), np.array([[[1, 2, 2]]])
    theirs = jaccard(
        torch.tensor(guess), torch.tensor(truth), CLASSES, average="none", ignore_index=IGNORE
    )
    np.testing.assert_allclose(theirs, [0, 0.5, 0.5, 0, 0])
    np.testing.assert_allclose(
        scored("masked", truth, guess).iou, [np.nan, 0.5, 0.5, np.nan, np.nan]
    )


def test_keras_is_mean_iou_of_keras(mean_iou):
    for truth, guess in drawn(1):
        ours = scored("keras", truth, guess).miou
        # Where nothing is left to count, Keras says 0 and we say that there is no score.
        expected = 0 if np.isnan(ours) else ours
        np.testing.assert_allclose(mean_iou(truth, guess), expected, atol=1e-6)


def test_keras_drops_unlabelled_pixels_too(mean_iou):
    truth, guess = np.array([[[1, 255, 2]]]), np.array([[[1, 3, 2]]])
    assert scored("keras", truth, guess).miou == 1
    assert mean_iou(truth, guess) == pytest.approx(1)
