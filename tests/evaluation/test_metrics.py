"""Metrics: laws of any of them, scikit-learn and MONAI as referees, cases by hand."""

import dataclasses
import warnings
from functools import partial

import numpy as np
import pytest

from evaluation.confusion import confusion
from evaluation.core.classes import Classes
from evaluation.core.errors import BadSpec
from evaluation.metrics import METRICS
from evaluation.metrics.compute_metrics import evaluate_metrics
from evaluation.metrics.metric_base import MetricInput

CLASSES, IGNORE = 4, 0
NAMES = Classes(("sky", "sand", "rock", "soil"), ignore=IGNORE)
SHAPE = (6, 12, 17)
DISTANCES = ("hausdorff", "hausdorff_95", "assd")


def sampled(seed=0, classes=CLASSES):
    """Blobs with wrong pixels, gaps in the target, and maps that are right more often than not."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (SHAPE[0], 3, 5)).repeat(4, axis=1).repeat(4, axis=2)
    target = coarse[:, :, : SHAPE[2]].astype(np.uint8)
    target[rng.random(SHAPE) < 0.05] = 255
    hot = target[:, None] == np.arange(classes)[:, None, None]
    maps = rng.random((SHAPE[0], classes, *SHAPE[1:])) + 0.8 * hot
    maps /= maps.sum(axis=1, keepdims=True)
    pred = maps.argmax(axis=1).astype(np.uint8)
    return seen(target, pred, maps)


def seen(target, pred, maps=None, ignore=IGNORE):
    counts = confusion(target, pred, classes=CLASSES)
    return MetricInput(target, pred, counts, ignore, maps)


def part(block, images):
    maps = None if block.maps is None else block.maps[images]
    return seen(block.target[images], block.pred[images], maps, block.ignore)


def one_against_the_rest(rival):
    """Return a score of each label by a score of two classes, 1 and 0."""

    def each(target, pred, *, labels, average=None):
        return np.array([rival(target == label, pred == label) for label in labels])

    return each


def result(spec, block):
    metric = METRICS.build(spec, classes=CLASSES)
    return metric.compute(metric.accumulate(block).sum(axis=0, keepdims=True))


@pytest.fixture(scope="module")
def block():
    return sampled()


@pytest.fixture(scope="module")
def kept(block):
    """Labels, predictions and probabilities of the scored pixels, as if class 0 did not exist."""
    inside = (block.target != 255) & (block.target != IGNORE)
    message = np.moveaxis(block.maps, 1, -1)[inside][:, 1:]
    return block.target[inside], block.pred[inside], message / message.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", sorted(METRICS))
class TestEveryMetric:
    """What holds for any metric; a new one is checked by being in the table."""

    def test_predictions_on_unscored_pixels_have_no_effect(self, name, block):
        dropped = (block.target == 255) | (block.target == IGNORE)
        pred = np.where(dropped, 3, block.pred).astype(np.uint8)
        maps = np.where(dropped[:, None], 1 / CLASSES, block.maps)
        other = result(name, seen(block.target, pred, maps))
        np.testing.assert_allclose(other.overall, result(name, block).overall)

    def test_arrays_are_measured_as_one_set(self, name, block):
        metric = METRICS.build(name, classes=CLASSES)
        maps = block.maps if metric.requires == "maps" else None
        value = metric.measure(block.target, block.pred, classes=CLASSES, ignore=IGNORE, maps=maps)
        np.testing.assert_array_equal(value.overall, result(name, block).overall)

    def test_images_alone_have_the_values_they_have_in_a_block(self, name, block):
        metric = METRICS.build(name, classes=CLASSES)
        together = metric.compute(metric.accumulate(block))
        for index in range(SHAPE[0]):
            alone = metric.compute(metric.accumulate(part(block, slice(index, index + 1))))
            np.testing.assert_allclose(together.overall[index], alone.overall[0])
            if together.per_class is not None:
                np.testing.assert_allclose(together.per_class[index], alone.per_class[0])

    def test_a_metric_uses_no_more_than_it_requires(self, name, block):
        blank = {"target": np.zeros_like(block.target), "pred": np.zeros_like(block.pred)}
        left_out = {"counts": {**blank, "maps": None}, "labels": {"maps": None}, "maps": {}}
        metric = METRICS.build(name, classes=CLASSES)
        less = dataclasses.replace(block, **left_out[metric.requires])
        np.testing.assert_array_equal(metric.accumulate(less), metric.accumulate(block))

    def test_the_ignored_class_has_no_value(self, name, block):
        per_class = result(name, block).per_class
        if per_class is not None:
            assert np.isnan(per_class[0, IGNORE])

    def test_without_a_scored_pixel_there_is_no_value(self, name, block):
        blank = seen(np.full_like(block.target, 255), block.pred, block.maps)
        assert np.isnan(result(name, blank).overall[0])


class TestCounts:
    def test_per_class_values_are_those_of_scikit_learn(self, block, kept):
        from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

        target, pred, _ = kept
        rivals = {
            "iou": jaccard_score,
            "dice": f1_score,
            "precision": precision_score,
            "recall": recall_score,
            "specificity": one_against_the_rest(partial(recall_score, pos_label=0)),
        }
        for name, rival in rivals.items():
            theirs = rival(target, pred, labels=[1, 2, 3], average=None)
            np.testing.assert_allclose(result(name, block).per_class[0, 1:], theirs)
            np.testing.assert_allclose(result(name, block).overall[0], theirs.mean())

    def test_overall_values_are_those_of_scikit_learn(self, block, kept):
        from sklearn.metrics import (
            accuracy_score,
            cohen_kappa_score,
            jaccard_score,
            matthews_corrcoef,
            recall_score,
        )

        target, pred, _ = kept
        theirs = {
            "pixel_accuracy": accuracy_score(target, pred),
            "mean_accuracy": recall_score(target, pred, labels=[1, 2, 3], average="macro"),
            "cohens_kappa": cohen_kappa_score(target, pred),
            "mcc": matthews_corrcoef(target, pred),
            "frequency_weighted_iou": jaccard_score(target, pred, average="weighted"),
        }
        for name, value in theirs.items():
            np.testing.assert_allclose(result(name, block).overall[0], value)
        each = one_against_the_rest(matthews_corrcoef)(target, pred, labels=[1, 2, 3])
        np.testing.assert_allclose(result("mcc", block).per_class[0, 1:], each)

    @pytest.mark.parametrize(
        ("target", "pred", "precision", "recall", "specificity", "mcc"),
        [
            pytest.param([1, 1, 2, 2], [1, 1, 1, 1], 0.25, 0.5, 0.5, 0, id="one never predicted"),
            pytest.param([1, 1, 1, 1], [1, 1, 2, 2], 0.5, 0.25, 0.5, 0, id="one not in the target"),
            pytest.param([1, 1, 1, 1], [2, 2, 2, 2], 0, 0, 0, 0, id="each in one of the two"),
            pytest.param([1, 1], [1, 1], 1, 1, np.nan, np.nan, id="one class alone"),
            pytest.param([1, 1, 2], [1, 0, 2], 1, 0.75, 1, 3 / 24**0.5, id="ignored"),
        ],
    )
    def test_undefined_values(self, target, pred, precision, recall, specificity, mcc):
        block = seen(*(np.array([[labels]], np.uint8) for labels in (target, pred)))
        expected = {
            "precision": precision,
            "recall": recall,
            "specificity": specificity,
            "mcc": mcc,
        }
        for name, value in expected.items():
            np.testing.assert_allclose(result(name, block).overall[0], value, err_msg=name)

    def test_by_hand(self):
        target = np.array([[[1, 1, 1, 2]]], np.uint8)
        pred = np.array([[[1, 1, 0, 2]]], np.uint8)
        block = seen(target, pred)
        assert result("dice", block).per_class[0, 1] == 4 / 5
        assert result("frequency_weighted_iou", block).overall[0] == (3 * 2 / 3 + 1) / 4
        assert result("cohens_kappa", block).overall[0] == (3 / 4 - 7 / 16) / (1 - 7 / 16)
        assert np.isnan(result("dice", block).per_class[0, 3])


class TestMaps:
    def test_scoring_rules_are_those_of_scikit_learn(self, block, kept):
        from sklearn.metrics import brier_score_loss, log_loss

        target, _, message = kept
        np.testing.assert_allclose(
            result("log_loss", block).overall[0], log_loss(target, message, labels=[1, 2, 3])
        )
        brier = brier_score_loss(target, message, labels=[1, 2, 3], scale_by_half=False)
        np.testing.assert_allclose(result("brier", block).overall[0], brier)
        one = brier_score_loss(target == 2, message[:, 1])
        np.testing.assert_allclose(result("brier", block).per_class[0, 2], one)

    @pytest.mark.slow
    def test_calibration_errors_are_those_of_torchmetrics(self, block, kept):
        torch = pytest.importorskip("torch")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torchmetrics.functional.classification import (
                binary_calibration_error,
                multiclass_calibration_error,
            )

        target, _, message = kept
        maps, labels = torch.tensor(message), torch.tensor(target.astype(int) - 1)
        theirs = multiclass_calibration_error(maps, labels, 3, n_bins=15)
        np.testing.assert_allclose(result("ece", block).overall[0], theirs, atol=1e-6)
        worst = multiclass_calibration_error(maps, labels, 3, n_bins=15, norm="max")
        ours = result("max_calibration_error", block).overall[0]
        np.testing.assert_allclose(ours, worst, atol=1e-6)

        # torchmetrics' binary error is of the probability of class 1, as class-wise ECE is.
        each = [
            binary_calibration_error(maps[:, c].contiguous(), (labels == c).int(), 15)
            for c in range(3)
        ]
        np.testing.assert_allclose(result("classwise_ece", block).per_class[0, 1:], each, atol=1e-6)

    @pytest.mark.parametrize("bins", [1, 4, 15])
    def test_adaptive_bins_hold_equal_numbers_of_the_sorted_pixels(self, block, kept, bins):
        target, _, message = kept
        order = np.argsort(message.max(axis=1), kind="stable")
        correct = (message.argmax(axis=1) + 1 == target)[order].astype(float)
        gaps = message.max(axis=1)[order] - correct
        # Every pixel is cut into as many parts as there are bins, so that bins hold whole parts.
        theirs = np.abs(np.repeat(gaps, bins).reshape(bins, -1).mean(axis=1)).mean()
        ours = result(f"adaptive_ece(bins={bins})", block).overall[0]
        assert ours == pytest.approx(theirs, abs=2e-3)

    def test_adaptive_bins_of_confidences_far_apart_are_exact(self):
        target = np.array([[[1, 1, 2, 2, 1, 1]]], np.uint8)
        maps = np.zeros((1, CLASSES, 1, 6))
        maps[0, 1, 0] = [0.9, 0.6, 0.7, 0.55, 0.8, 0.95]
        maps[0, 2] = 1 - maps[0, 1]
        block = seen(target, np.ones_like(target), maps)
        # In pairs, by confidence: .55 wrong, .6; .7 wrong, .8; .9, .95.
        expected = (0.15 / 2 + 0.5 / 2 + 0.15 / 2) / 3
        assert result("adaptive_ece(bins=3)", block).overall[0] == pytest.approx(expected)

    def test_risk_coverage_is_the_mean_risk_over_coverages(self, block, kept):
        target, _, message = kept
        order = np.argsort(-message.max(axis=1))
        wrong = (message.argmax(axis=1) + 1 != target)[order]
        risks = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
        np.testing.assert_allclose(
            result("risk_coverage", block).overall[0], risks.mean(), atol=2e-3
        )

    def test_confident_and_correct_predictions_have_zero_risk(self, block):
        target = np.where(block.target == 255, 1, block.target)
        hot = (target[:, None] == np.arange(CLASSES)[:, None, None]).astype(float)
        sure = seen(block.target, target.astype(np.uint8), hot)
        for name in (
            "log_loss",
            "brier",
            "ece",
            "adaptive_ece",
            "max_calibration_error",
            "classwise_ece",
            "risk_coverage",
        ):
            assert result(name, sure).overall[0] == pytest.approx(0, abs=1e-12)

    def test_tied_pixels_have_their_average_risk(self):
        target = np.array([[[1, 1, 1, 2]]], np.uint8)
        maps = np.zeros((1, CLASSES, 1, 4))
        maps[:, 1], maps[:, 2] = 0.6, 0.4
        block = seen(target, np.ones_like(target), maps)
        assert result("risk_coverage", block).overall[0] == pytest.approx(1 / 4)


def square(shape, top, left, size):
    labels = np.ones(shape, np.uint8)
    labels[:, top : top + size, left : left + size] = 2
    return labels


class TestLabels:
    def test_a_square_that_moved_by_hand(self):
        shape = (1, 24, 24)
        block = seen(square(shape, 5, 5, 8), square(shape, 5, 8, 8))
        assert result("hausdorff_95", block).per_class[0, 2] == 3
        assert result("hausdorff", block).per_class[0, 2] == 3
        # Of top and bottom 3 pixels stick out; of the sides one does, by 3, and one lies inside.
        out, side, inside = 2 * (1 + 2 + 3), 6 * 3, 2 * (1 + 2 + 3)
        assert result("assd", block).per_class[0, 2] == 2 * (out + side + inside) / (28 + 28)
        assert result("surface_dice(tolerance_px=3)", block).per_class[0, 2] == 1
        # Bands of one pixel: 28 each; the top and bottom sides share 5 pixels each, and no others.
        assert result("boundary_iou(width=0.01)", block).per_class[0, 2] == 10 / (28 + 28 - 10)

    def test_the_same_labels_are_perfect(self, block):
        target = np.where(block.target == 255, 1, block.target).astype(np.uint8)
        same = seen(target, target)
        assert result("boundary_iou", same).overall[0] == 1
        assert result("surface_dice", same).overall[0] == 1
        for name in DISTANCES:
            assert result(name, same).overall[0] == 0

    def test_a_class_that_only_one_has_gets_the_worst_value(self):
        target = np.ones((1, 3, 4), np.uint8)
        pred = target.copy()
        pred[0, 0, 0] = 3
        block = seen(target, pred)
        assert result("surface_dice", block).per_class[0, 3] == 0
        assert result("boundary_iou", block).per_class[0, 3] == 0
        for name in DISTANCES:
            assert result(name, block).per_class[0, 3] == 5
        for name in ("surface_dice", "boundary_iou", *DISTANCES):
            assert np.isnan(result(name, block).per_class[0, 2])

    @pytest.mark.slow
    def test_distances_are_those_of_monai(self, block):
        torch = pytest.importorskip("torch")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from monai.metrics import (
                compute_average_surface_distance,
                compute_hausdorff_distance,
                compute_surface_dice,
            )

        target = np.where(block.target == 255, 1, block.target)
        whole = seen(target.astype(np.uint8), block.pred, ignore=None)
        pred, true = [
            torch.tensor(a[:, None] == np.arange(CLASSES)[:, None, None]).float()
            for a in (whole.pred, whole.target)
        ]
        both = pred.flatten(2).any(dim=2) & true.flatten(2).any(dim=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            known = {"include_background": True}
            theirs = {
                "hausdorff_95": compute_hausdorff_distance(pred, true, percentile=95, **known),
                "hausdorff": compute_hausdorff_distance(pred, true, **known),
                "assd": compute_average_surface_distance(pred, true, symmetric=True, **known),
                "surface_dice": compute_surface_dice(pred, true, [1.0] * CLASSES, **known),
                "surface_dice(tolerance_px=[0, 2.5, 1, 4])": compute_surface_dice(
                    pred, true, [0, 2.5, 1, 4], **known
                ),
            }
        for spec, rival in theirs.items():
            metric = METRICS.build(spec, classes=CLASSES)
            ours = metric.compute(metric.accumulate(whole)).per_class
            np.testing.assert_allclose(ours[both], rival[both], atol=1e-5, err_msg=spec)

    def test_the_hausdorff_distance_is_that_of_scipy(self, block):
        from scipy import ndimage
        from scipy.spatial.distance import directed_hausdorff

        one = part(block, slice(0, 1))
        edges = []
        for labels in (one.target[0], np.where(one.target[0] == 255, 255, one.pred[0])):
            mask = (labels == 2) & (one.target[0] != IGNORE)
            edges.append(np.argwhere(mask & ~ndimage.binary_erosion(mask)))
        theirs = max(directed_hausdorff(*edges)[0], directed_hausdorff(*edges[::-1])[0])
        assert result("hausdorff", one).per_class[0, 2] == pytest.approx(theirs)

    def test_boundary_bands_are_repeated_erosions(self, block):
        from skimage.morphology import erosion

        width = 0.1
        pixels = round(width * np.hypot(*SHAPE[1:]))
        target = np.where(block.target == 255, 1, block.target).astype(np.uint8)
        for label in (1, 2, 3):
            bands = []
            for labels in (target, np.where(target == IGNORE, 255, block.pred)):
                masks = np.pad(labels == label, ((0, 0), (1, 1), (1, 1)))
                inner = masks.copy()
                for index in range(len(inner)):
                    for _ in range(pixels):
                        inner[index] = erosion(inner[index], np.ones((3, 3)), mode="min")
                        inner[index, [0, -1]] = inner[index][:, [0, -1]] = False
                bands.append(masks & ~inner)
            theirs = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
            ours = result(f"boundary_iou(width={width})", seen(target, block.pred)).per_class
            np.testing.assert_allclose(ours[0, label], theirs)


class TestSets:
    def blocks(self, block, keys):
        return [(part(block, s), keys[s]) for s in (slice(0, 4), slice(4, 6))]

    def test_groups_across_blocks_have_the_values_of_their_images(self, block):
        keys = np.array(["a", "b", "a", "a", "b", "a"])
        metrics = {name: METRICS.build(name, classes=CLASSES) for name in METRICS}
        document = evaluate_metrics(metrics, self.blocks(block, keys), NAMES, per="group")
        for name in METRICS:
            for key in ("a", "b"):
                alone = result(name, part(block, np.flatnonzero(keys == key)))
                np.testing.assert_allclose(document[name]["each"][key]["overall"], alone.overall[0])
            whole = result(name, block).overall[0]
            np.testing.assert_allclose(document[name]["overall"], whole)

    def test_a_reliability_diagram_comes_with_the_calibration_error(self, block):
        keys = np.zeros(6, int)
        metrics = {"ece": METRICS.build("ece(bins=10)")}
        document = evaluate_metrics(metrics, self.blocks(block, keys), NAMES)["ece"]
        pixels, confidence, right = (np.array(row) for row in document["reliability"].values())
        inside = (block.target != 255) & (block.target != IGNORE)
        assert pixels.sum() == inside.sum()
        expected = np.abs(confidence - right).sum() / pixels.sum()
        assert document["overall"] == pytest.approx(expected)

    def test_images_have_values_by_class_name(self, block):
        keys = np.arange(6)
        metrics = {"dice": METRICS.build("dice")}
        document = evaluate_metrics(metrics, self.blocks(block, keys), NAMES, per="image")["dice"]
        assert list(document["each"]) == ["0", "1", "2", "3", "4", "5"]
        assert list(document["each"]["5"]["classes"]) == ["sand", "rock", "soil"]
        assert document["each"]["5"]["overall"] == pytest.approx(
            result("dice", part(block, slice(5, 6))).overall[0]
        )


def test_an_unknown_metric_is_refused():
    with pytest.raises(BadSpec, match="unknown metric 'f1'; known: adaptive_ece, assd, boun"):
        METRICS.build("f1")


def test_a_negative_tolerance_is_refused():
    with pytest.raises(BadSpec, match="'tolerance_px' got -1; expected greater than or equal to 0"):
        METRICS.build("surface_dice(tolerance_px=-1)", classes=CLASSES)


@pytest.mark.parametrize("count", [0, 3, 5])
def test_tolerances_must_be_one_per_class(count):
    with pytest.raises(BadSpec, match=f"tolerance_px has {count} numbers; expected 4, one per cl"):
        METRICS.build(f"surface_dice(tolerance_px={[1.0] * count})", classes=CLASSES)
