"""The protocols against torchmetrics, Keras, scikit-learn and MONAI themselves (slow to import)."""

import os
import warnings

import numpy as np
import pytest

from evaluation.confusion import confusion
from evaluation.protocols import PROTOCOLS, score_images

pytestmark = pytest.mark.slow

CLASSES, IGNORE, UNLABELLED = 5, 0, 255

# The label that the peer ignores: a class, as where background is not scored, or, as most of them
# are used, a value beside the classes.
settings = pytest.mark.parametrize("ignore", [IGNORE, UNLABELLED])


def sampled(seed, ignore=IGNORE):
    """Label maps in which classes go missing from target, from predictions, or from both."""
    rng = np.random.default_rng(seed)
    for _ in range(40):
        true = rng.choice(CLASSES, size=rng.integers(1, CLASSES + 1), replace=False)
        predicted = rng.choice(CLASSES, size=rng.integers(1, CLASSES + 1), replace=False)
        target, pred = rng.choice(true, (2, 4, 4)), rng.choice(predicted, (2, 4, 4))
        if ignore == UNLABELLED:
            target[rng.random(target.shape) < rng.choice([0.0, 0.2, 0.9])] = UNLABELLED
        yield target, pred


def scored(spec, target, pred, ignore=IGNORE):
    counts = confusion(target, pred, classes=CLASSES)
    return score_images(PROTOCOLS.build(spec), counts, ignore if ignore < CLASSES else None)


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


@settings
def test_masked_is_the_macro_jaccard_index_of_torchmetrics(torch, jaccard, ignore):
    for target, pred in sampled(0, ignore):
        ours = scored("masked", target, pred, ignore).miou
        theirs = jaccard(
            torch.tensor(pred), torch.tensor(target), CLASSES, average="macro", ignore_index=ignore
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


@settings
def test_keras_is_mean_iou_of_keras(mean_iou, ignore):
    for target, pred in sampled(1, ignore):
        ours = scored("keras", target, pred, ignore).miou
        # Where nothing is left to count, Keras says 0 and we say that there is no score.
        expected = 0 if np.isnan(ours) else ours
        np.testing.assert_allclose(mean_iou(target, pred, ignore), expected, atol=1e-6)


@settings
def test_sklearn_is_the_macro_jaccard_score_over_the_kept_pixels(ignore):
    from sklearn.metrics import jaccard_score

    for target, pred in sampled(2, ignore):
        kept = target != ignore
        if not kept.any():
            assert np.isnan(scored("sklearn", target, pred, ignore).miou)
            continue
        theirs = jaccard_score(target[kept], pred[kept], average="macro")
        np.testing.assert_allclose(scored("sklearn", target, pred, ignore).miou, theirs)
        theirs = jaccard_score(
            target[kept], pred[kept], average="macro", labels=range(CLASSES), zero_division=0
        )
        np.testing.assert_allclose(
            scored("sklearn(absent=zero)", target, pred, ignore).miou, theirs
        )


@settings
def test_micro_is_the_micro_jaccard_index_of_torchmetrics(torch, jaccard, ignore):
    for target, pred in sampled(3, ignore):
        theirs = jaccard(
            torch.tensor(pred), torch.tensor(target), CLASSES, average="micro", ignore_index=ignore
        )
        ours = scored("micro", target, pred, ignore).miou
        np.testing.assert_allclose(0 if np.isnan(ours) else ours, theirs, atol=1e-6)


@settings
def test_per_image_is_the_mean_of_the_images_jaccard_indices(torch, jaccard, ignore):
    for target, pred in sampled(4, ignore):
        each = [
            float(jaccard(torch.tensor(g), torch.tensor(t), CLASSES, ignore_index=ignore))
            for t, g in zip(target, pred, strict=True)
            if (t != ignore).any()
        ]
        expected = np.mean(each) if each else np.nan
        np.testing.assert_allclose(
            scored("per_image", target, pred, ignore).miou, expected, atol=1e-6, equal_nan=True
        )


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize(("absent", "ignore_empty"), [("skip", True), ("one", False)])
def test_monai_is_mean_iou_of_monai(torch, absent, ignore_empty, background):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.metrics import MeanIoU

    def hot(labels):
        return torch.nn.functional.one_hot(torch.tensor(labels), CLASSES).permute(0, 3, 1, 2)

    ignore = UNLABELLED if background else IGNORE  # none of its pixels here
    for target, pred in sampled(5):
        metric = MeanIoU(include_background=background, ignore_empty=ignore_empty)
        metric(hot(pred), hot(target))
        ours = scored(f"monai(absent={absent})", target, pred, ignore).miou
        np.testing.assert_allclose(0 if np.isnan(ours) else ours, metric.aggregate(), atol=1e-6)


def histograms(target, pred, classes, ignore):
    """What Hugging Face's and MMSegmentation's scorers add up for an image."""
    kept = target != ignore
    label, pred_kept = target[kept], pred[kept]
    hits, preds, labels = (
        np.histogram(a, bins=classes, range=(0, classes - 1))[0]
        for a in (pred_kept[pred_kept == label], pred_kept, label)
    )
    return hits, preds + labels - hits


@settings
@pytest.mark.parametrize("name", ["huggingface", "mmseg"])
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_mmseg_and_huggingface_are_nanmeans_of_summed_histograms(name, ignore):
    """By the formula: neither library is installed here."""
    for target, pred in sampled(6, ignore):
        hits, union = np.sum(
            [histograms(*pair, CLASSES, ignore) for pair in zip(target, pred, strict=True)], axis=0
        )
        with np.errstate(invalid="ignore"):
            iou = hits / union
        np.testing.assert_allclose(scored(name, target, pred, ignore).miou, np.nanmean(iou))
        if union.any():
            filled = np.nan_to_num(iou, nan=0)  # as MMSegmentation's nan_to_num=0, before the mean
            ours = scored(f"{name}(absent=zero)", target, pred, ignore).miou
            np.testing.assert_allclose(ours, filled.mean())


@settings
def test_smp_is_its_macro_iou_with_an_ignored_label_beside_the_classes(ignore):
    """By the formula: segmentation_models_pytorch is not installed here."""
    first = 1 if ignore == IGNORE else 0  # labels are shifted until the ignored class is -1
    for target, pred in sampled(7, ignore):
        label, pred_kept = (np.where(target == ignore, -1, x - first) for x in (target, pred))
        inside = range(CLASSES - first)
        tp = np.array([((pred_kept == c) & (label == c)).sum() for c in inside])
        fp = np.array([(pred_kept == c).sum() for c in inside]) - tp
        fn = np.array([(label == c).sum() for c in inside]) - tp
        with np.errstate(invalid="ignore"):
            iou = np.nan_to_num(tp / (tp + fp + fn), nan=1.0)
        if (target != ignore).any():
            np.testing.assert_allclose(scored("smp", target, pred, ignore).miou, iou.mean())


def nnunet(target, pred, classes, ignore_label):
    """What nnU-Net's `summary.json` has as the IoU of `foreground_mean`; background is class 0."""
    means = []
    for label in range(1, classes):
        if label == ignore_label:
            continue
        cases = []
        for ref, seg in zip(target, pred, strict=True):
            used = np.ones(ref.shape, bool) if ignore_label is None else ref != ignore_label
            tp = ((ref == label) & (seg == label) & used).sum()
            fp = ((ref != label) & (seg == label) & used).sum()
            fn = ((ref == label) & (seg != label) & used).sum()
            cases.append(tp / (tp + fp + fn))
        means.append(np.nanmean(cases))
    return np.mean(means)


@pytest.mark.parametrize(
    ("ignore", "ignore_label", "spoil"),
    [
        pytest.param(0, None, None, id="background is the ignored class"),
        pytest.param(None, None, None, id="no ignored class: background is class 0"),
        pytest.param(CLASSES - 1, CLASSES - 1, None, id="the ignore label is the ignored class"),
        pytest.param(0, 255, 255, id="the ignore label is unlabelled"),
    ],
)
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
def test_nnunet_is_its_foreground_mean(ignore, ignore_label, spoil):
    """By the formula: nnU-Net is not installed here. Its networks do not predict ignore labels."""
    rng = np.random.default_rng(8)
    protocol = PROTOCOLS.build("nnunet")
    for target, pred in sampled(8):
        if spoil is not None:
            target = np.where(rng.random(target.shape) < 0.2, spoil, target)
        if ignore_label == CLASSES - 1:
            pred = pred % ignore_label
        ours = score_images(protocol, confusion(target, pred, classes=CLASSES), ignore).miou
        np.testing.assert_allclose(ours, nnunet(target, pred, CLASSES, ignore_label))


def test_background_between_the_other_classes_scores_as_if_it_were_class_0():
    for target, pred in sampled(9):
        order = np.array([1, 2, 0, 3, 4])  # class 2 becomes 0
        counts = confusion(target, pred, classes=CLASSES)
        moved = confusion(order[target], order[pred], classes=CLASSES)
        protocol = PROTOCOLS.build("nnunet(absent=skip)")
        np.testing.assert_allclose(
            score_images(protocol, counts, 2).miou, score_images(protocol, moved, 0).miou
        )
