"""The metric of a run, and the protocols for given classes, Dice, precision and recall."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchmetrics.segmentation import DiceScore

from evaluation.audit import audit
from evaluation.confusion import confusion
from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, BadSpec
from evaluation.intervals import paired_interval
from evaluation.leaderboard import Candidate, compare
from evaluation.protocols import build_protocol, score_images
from evaluation.run_metric import (
    SetMetric,
    check_defined,
    default_metric,
    metric_config,
    metric_label,
    named_metric,
    reported_protocols,
    set_metric,
    summed_form,
)
from evaluation.scores import ScoredImages, score

NAMES = ("sky", "sand", "big rock")
CLASSES = Classes(NAMES)
IGNORING = Classes(NAMES, ignore=1)
BINARY = Classes(("background", "nucleus"), values=(0, 255), unlabelled=(), foreground=1)
PARTS = ("precision", "precision(per=image)", "recall", "recall(per=image)")
SPECS = ("dice", "dice(per=image)", "iou(of='big rock')", "foreground(but=sky)", *PARTS)
SUMMED = ("masked", *(s for s in SPECS if "image" not in s and s not in PARTS))

law = settings(max_examples=30, deadline=None, database=None)
maps = hnp.arrays(np.uint8, (4, 3, 5), elements=st.integers(0, 2))
contracts = st.sampled_from([CLASSES, IGNORING])


def by_hand(spec, target, pred, ignore):
    """Score label maps in ten lines, from sets of pixels."""

    def ratio(t, p, label):
        hit, size = ((t == label) & (p == label)).sum(), (t == label).sum() + (p == label).sum()
        if spec in PARTS:
            own = (p == label).sum() if "precision" in spec else (t == label).sum()
            return hit / max(own, 1) if size else np.nan
        whole = size if "dice" in spec else size - hit
        return (2 if "dice" in spec else 1) * hit / whole if whole else np.nan

    def mean(t, p):
        t, p = t[t != ignore], p[t != ignore]
        labels = {"iou": [2], "foreground": [1, 2]}.get(spec.split("(")[0], [0, 1, 2])
        values = np.array([ratio(t, p, label) for label in labels if label != ignore])
        known = values[~np.isnan(values)]
        return known.mean() if known.size and t.size else np.nan

    if "image" not in spec:
        return mean(target, pred)
    each = np.array([mean(t, p) for t, p in zip(target, pred, strict=True)])
    return each[~np.isnan(each)].mean() if not np.isnan(each).all() else np.nan


@pytest.mark.parametrize("spec", [*SPECS, "masked"])
@law
@given(target=maps, pred=maps, classes=contracts)
def test_scores_are_those_of_ten_lines(spec, target, pred, classes):
    counts = confusion(target, pred, classes=3)
    actual = score_images(build_protocol(spec, classes), counts, classes.ignore).miou
    np.testing.assert_allclose(actual, by_hand(spec, target, pred, classes.ignore), rtol=1e-12)


@pytest.mark.parametrize(("per", "level"), [("set", "global"), ("image", "samplewise")])
@law
@given(target=maps, pred=maps)
def test_dice_is_that_of_torchmetrics_where_every_class_occurs(per, level, target, pred):
    target[:, 0, :3] = [0, 1, 2]
    metric = DiceScore(3, average="macro", aggregation_level=level, input_format="index")
    expected = float(metric(torch.tensor(pred).long(), torch.tensor(target).long()))
    protocol = build_protocol(f"dice(per={per})", CLASSES)
    actual = float(score_images(protocol, confusion(target, pred, classes=3), None).miou)
    assert actual == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["precision", "recall"])
@settings(max_examples=15, deadline=None, database=None)
@given(target=maps, pred=maps, classes=contracts, absent=st.sampled_from(["skip", "zero", "one"]))
def test_precision_and_recall_are_those_of_scikit_learn(name, absent, target, pred, classes):
    from sklearn.metrics import precision_score, recall_score

    rival = {"precision": precision_score, "recall": recall_score}[name]
    t, p = (labels[target != classes.ignore] for labels in (target, pred))
    occur, value = np.union1d(t, p), {"skip": None, "zero": 0.0, "one": 1.0}[absent]
    values = [
        rival(t, p, labels=[label], average=None, zero_division=0)[0] if label in occur else value
        for label in classes.scored
    ]
    known = [v for v in values if v is not None]
    expected = np.mean(known) if len(t) and known else np.nan
    counts = confusion(target, pred, classes=3)
    protocol = build_protocol(f"{name}(absent={absent})", classes)
    np.testing.assert_allclose(score_images(protocol, counts, classes.ignore).miou, expected)


@pytest.mark.parametrize("name", ["Precision", "Recall"])
@settings(max_examples=10, deadline=None, database=None)
@given(target=maps, pred=maps)
def test_precision_and_recall_are_those_of_torchmetrics(name, target, pred):
    import torchmetrics

    rival = getattr(torchmetrics, name)("multiclass", num_classes=3, average="macro")
    expected = float(rival(torch.tensor(pred).long(), torch.tensor(target).long()))
    actual = build_protocol(name.lower(), CLASSES)(confusion(target, pred, classes=3).sum(0), None)
    assert float(actual.miou) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", SUMMED)
@law
@given(target=maps, pred=maps, classes=contracts)
def test_the_form_for_sums_of_pixels_scores_the_same(metric, target, pred, classes):
    counts = confusion(target, pred, classes=3).sum(axis=0)
    form, kept = set_metric(metric, classes), counts.copy()
    if classes.ignore is not None:
        kept[classes.ignore] = 0
    hits = kept.diagonal()
    values = form.per_class(hits, kept.sum(axis=0) + kept.sum(axis=1) - hits)[list(form.over)]
    expected = build_protocol(metric, classes)(counts, classes.ignore).miou
    actual = values[~np.isnan(values)].mean() if not np.isnan(values).all() else np.nan
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_everywhere_on_binary_masks_scores_the_iou_of_the_foreground(label):
    target = np.zeros((2, 5, 10), np.uint8)
    target[:, :, :2] = 1
    document = score(
        confusion(target, np.full_like(target, label), classes=2),
        reported_protocols(default_metric(BINARY)),
        BINARY,
    )
    assert document["protocols"]["iou(of=nucleus)"]["miou"] == 0.2 * label
    assert next(iter(document["protocols"])) == "iou(of=nucleus)"
    assert "warning" not in document


@pytest.mark.parametrize("spec", SPECS)
class TestLikeOtherProtocols:
    @law
    @given(counts=hnp.arrays(np.int64, (2, 4, 3, 3), elements=st.integers(1, 9)))
    def test_the_parts_of_a_gain_add_up(self, spec, counts):
        gain = audit(build_protocol(spec, CLASSES), *counts, None)
        assert gain.pixels + gain.denominator == pytest.approx(gain.after - gain.before)

    def test_gains_have_intervals_and_ranks(self, spec):
        rng = np.random.default_rng(0)
        good, bad = (rng.integers(1, 9, (6, 3, 3)) + k * np.eye(3, dtype=int) for k in (20, 0))
        groups = np.arange(6)
        assert paired_interval(good, bad, groups, build_protocol(spec, CLASSES), None).low > 0
        ids = tuple(map(str, groups))
        board = compare(
            [Candidate(n, ScoredImages(c, ids, groups)) for n, c in (("b", bad), ("g", good))],
            CLASSES,
            rng=rng,
            protocol=spec,
        )
        assert [row.name for row in board.rows] == ["g", "b"]
        assert set(board.rows[0].iou) == set(NAMES)


class TestNames:
    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("iou(of=rock)", "unknown class 'rock'; known: big rock, sand, sky"),
            ("iou(of=3)", "class 3; expected 0 to 2"),
            ("iou(of=1)", "class 'sand' is ignored"),
            ("iou(of=true)", "unknown class"),
            ("iou", "needs option 'of'"),
            ("foreground(but=ground)", "unknown class 'ground'"),
            ("dice(per=pixel)", "got pixel; expected 'set' or 'image'"),
            ("jaccard", "unknown protocol 'jaccard'; known: dice, foreground, huggingface, iou"),
        ],
    )
    def test_what_the_data_have_not_is_refused(self, spec, words):
        with pytest.raises(BadSpec, match=words.replace("(", r"\(")):
            named_metric(spec, IGNORING)

    @pytest.mark.parametrize(
        ("spec", "name", "label"),
        [
            (None, "masked", "masked mIoU"),
            ("masked()", "masked", "masked mIoU"),
            ("iou(of=2)", "iou(of='big rock')", "IoU of big rock"),
            ("foreground(but=0)", "foreground(but=sky)", "mIoU without sky"),
            ("dice", "dice", "Dice"),
            ("dice(per=image)", "dice(per=image)", "Dice per image"),
            ("recall(per=set)", "recall(per=set)", "Recall"),
            ("precision(absent=zero)", "precision(absent=zero)", "precision(absent=zero)"),
            ("keras", "keras", "keras mIoU"),
        ],
    )
    def test_a_metric_has_one_spec_and_one_label(self, spec, name, label):
        assert named_metric(spec, CLASSES) == name
        assert metric_label(name) == label

    @pytest.mark.parametrize(
        ("classes", "expected"),
        [
            (BINARY, "iou(of=nucleus)"),
            (Classes(BINARY.names), "masked"),
            (Classes(BINARY.names, foreground=1, ignore=1), "masked"),
            (Classes(NAMES, foreground=1), "masked"),
        ],
    )
    def test_two_classes_with_a_declared_foreground_are_scored_by_it(self, classes, expected):
        assert default_metric(classes) == expected

    def test_records_say_nothing_of_the_masked_metric(self):
        assert metric_config("masked") == {}
        assert metric_config("dice") == {"metric": "dice"}

    @pytest.mark.parametrize(
        ("metric", "form", "measured"),
        [
            ("dice(absent=zero, per=image)", "dice(absent=zero)", SetMetric("dice", (0, 2))),
            ("recall(per=image)", "recall", SetMetric("iou", (0, 2))),
            ("per_image", "masked", SetMetric("iou", (0, 2))),
            ("keras", "keras", SetMetric("iou", (0, 2))),
            ("iou(of=2)", "iou(of=2)", SetMetric("iou", (2,))),
        ],
    )
    def test_means_over_images_have_a_form_for_sums(self, metric, form, measured):
        assert summed_form(metric, IGNORING) == form
        assert set_metric(metric, IGNORING) == measured


@pytest.mark.parametrize("metric", ["iou(of='big rock')", "foreground(but=sky)"])
def test_a_metric_without_its_pixels_is_refused(metric):
    pixels = np.array([5, 4, 0])
    check_defined(metric, CLASSES, np.array([5, 4, 1]), "here")
    with pytest.raises(BadData, match=r"here has no pixel of .*big rock .*undefined"):
        check_defined(metric, IGNORING, pixels, "here")


def test_a_score_without_its_pixels_is_told():
    counts = np.array([[[5, 0], [0, 0]]])
    document = score(counts, ["iou(of=nucleus)"], BINARY)
    assert document["protocols"]["iou(of=nucleus)"]["miou"] is None
    assert "iou(of=nucleus) is undefined" in document["warning"]
