"""The protocols against torchmetrics, Keras, scikit-learn and MONAI themselves (slow to import)."""

import os
import warnings

import numpy as np
import pytest

from evaluation.confusion import confusion
from evaluation.protocols import PROTOCOLS, score_images

pytestmark = pytest.mark.slow

CLASSES, IGNORE = 5, 0


def sampled(seed):
    """Label maps in which classes go missing from target, from predictions, or from both."""
    rng = np.random.default_rng(seed)
    for _ in range(40):
        true = rng.choice(CLASSES, size=rng.integers(1, CLASSES + 1), replace=False)
        predicted = rng.choice(CLASSES, size=rng.integers(1, CLASSES + 1), replace=False)
        yield rng.choice(true, (2, 4, 4)), rng.choice(predicted, (2, 4, 4))


def scored(spec, target, pred):
    counts = confusion(target, pred, classes=CLASSES)
    return score_images(PROTOCOLS.build(spec), counts, IGNORE)


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

    def score(target, pred, ignore=IGNORE):
        metric = MeanIoU(num_classes=CLASSES, ignore_class=ignore)
        metric.update_state(target, pred)
        return float(metric.result())

    return score


def test_masked_is_the_macro_jaccard_index_of_torchmetrics(torch, jaccard):
    for target, pred in sampled(0):
        ours = scored("masked", target, pred).miou
        theirs = jaccard(
            torch.tensor(pred), torch.tensor(target), CLASSES, average="macro", ignore_index=IGNORE
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-6, equal_nan=True)


def test_torchmetrics_gives_0_for_a_class_that_is_absent_here(torch, jaccard):
    target, pred = np.array([[[1, 1, 2]]]), np.array([[[1, 2, 2]]])
    theirs = jaccard(
        torch.tensor(pred), torch.tensor(target), CLASSES, average="none", ignore_index=IGNORE
    )
    np.testing.assert_allclose(theirs, [0, 0.5, 0.5, 0, 0])
    np.testing.assert_allclose(
        scored("masked", target, pred).iou, [np.nan, 0.5, 0.5, np.nan, np.nan]
    )


def test_keras_is_mean_iou_of_keras(mean_iou):
    for target, pred in sampled(1):
        ours = scored("keras", target, pred).miou
        # Where nothing is left to count, Keras says 0 and we say that there is no score.
        expected = 0 if np.isnan(ours) else ours
        np.testing.assert_allclose(mean_iou(target, pred), expected, atol=1e-6)


def test_keras_drops_unlabelled_pixels_too(mean_iou):
    target, pred = np.array([[[1, 255, 2]]]), np.array([[[1, 3, 2]]])
    assert scored("keras", target, pred).miou == 1
    assert mean_iou(target, pred) == pytest.approx(1)


def test_sklearn_is_the_macro_jaccard_score_over_the_kept_pixels():
    from sklearn.metrics import jaccard_score

    for target, pred in sampled(2):
        kept = target != IGNORE
        if not kept.any():
            assert np.isnan(scored("sklearn", target, pred).miou)
            continue
        theirs = jaccard_score(target[kept], pred[kept], average="macro")
        np.testing.assert_allclose(scored("sklearn", target, pred).miou, theirs)
        theirs = jaccard_score(
            target[kept], pred[kept], average="macro", labels=range(CLASSES), zero_division=0
        )
        np.testing.assert_allclose(scored("sklearn(absent=zero)", target, pred).miou, theirs)


def test_micro_is_the_micro_jaccard_index_of_torchmetrics(torch, jaccard):
    for target, pred in sampled(3):
        theirs = jaccard(
            torch.tensor(pred), torch.tensor(target), CLASSES, average="micro", ignore_index=IGNORE
        )
        ours = scored("micro", target, pred).miou
        np.testing.assert_allclose(0 if np.isnan(ours) else ours, theirs, atol=1e-6)


def test_per_image_is_the_mean_of_the_images_jaccard_indices(torch, jaccard):
    for target, pred in sampled(4):
        each = [
            float(jaccard(torch.tensor(g), torch.tensor(t), CLASSES, ignore_index=IGNORE))
            for t, g in zip(target, pred, strict=True)
            if (t != IGNORE).any()
        ]
        expected = np.mean(each) if each else np.nan
        np.testing.assert_allclose(
            scored("per_image", target, pred).miou, expected, atol=1e-6, equal_nan=True
        )


@pytest.mark.parametrize(("absent", "ignore_empty"), [("skip", True), ("one", False)])
def test_monai_is_mean_iou_of_monai_without_background(torch, absent, ignore_empty):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.metrics import MeanIoU

    def hot(labels):
        return torch.nn.functional.one_hot(torch.tensor(labels), CLASSES).permute(0, 3, 1, 2)

    for target, pred in sampled(5):
        metric = MeanIoU(include_background=False, ignore_empty=ignore_empty)
        metric(hot(pred), hot(target))
        ours = scored(f"monai(absent={absent})", target, pred).miou
        np.testing.assert_allclose(0 if np.isnan(ours) else ours, metric.aggregate(), atol=1e-6)


def histograms(target, pred, classes):
    """What Hugging Face's and MMSegmentation's scorers add up for an image."""
    kept = target != IGNORE
    label, pred_kept = target[kept], pred[kept]
    hits, preds, labels = (
        np.histogram(a, bins=classes, range=(0, classes - 1))[0]
        for a in (pred_kept[pred_kept == label], pred_kept, label)
    )
    return hits, preds + labels - hits


@pytest.mark.parametrize("name", ["huggingface", "mmseg"])
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_mmseg_and_huggingface_are_nanmeans_of_summed_histograms(name):
    """By the formula: neither library is installed here."""
    for target, pred in sampled(6):
        hits, union = np.sum(
            [histograms(*pair, CLASSES) for pair in zip(target, pred, strict=True)], axis=0
        )
        with np.errstate(invalid="ignore"):
            iou = hits / union
        np.testing.assert_allclose(scored(name, target, pred).miou, np.nanmean(iou))
        if union.any():
            filled = np.nan_to_num(iou, nan=0)  # as MMSegmentation's nan_to_num=0, before the mean
            ours = scored(f"{name}(absent=zero)", target, pred).miou
            np.testing.assert_allclose(ours, filled.mean())


def test_smp_is_its_macro_iou_with_labels_shifted_until_the_ignored_is_minus_one():
    """By the formula: segmentation_models_pytorch is not installed here."""
    for target, pred in sampled(7):
        label, pred_kept = target - 1, np.where(target == IGNORE, -1, pred - 1)
        inside = range(CLASSES - 1)
        tp = np.array([((pred_kept == c) & (label == c)).sum() for c in inside])
        fp = np.array([(pred_kept == c).sum() for c in inside]) - tp
        fn = np.array([(label == c).sum() for c in inside]) - tp
        with np.errstate(invalid="ignore"):
            iou = np.nan_to_num(tp / (tp + fp + fn), nan=1.0)
        if (target != IGNORE).any():
            np.testing.assert_allclose(scored("smp", target, pred).miou, iou.mean())


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_nnunet_is_its_foreground_mean():
    """By the formula: nnU-Net is not installed here."""
    for target, pred in sampled(8):
        means = []
        for label in range(1, CLASSES):
            used = target != IGNORE
            ref, pred_kept = target == label, pred == label
            tp, fp, fn = (
                (mask & used).sum(axis=(1, 2))
                for mask in (ref & pred_kept, ~ref & pred_kept, ref & ~pred_kept)
            )
            with np.errstate(invalid="ignore"):
                means.append(np.nanmean(tp / (tp + fp + fn)))
        np.testing.assert_allclose(scored("nnunet", target, pred).miou, np.mean(means))
