"""Confusion counts: laws, scikit-learn as a referee, cases by hand, what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluation.confusion import confusion, parallel_confusion
from evaluation.core import ragged
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadLabels

law = settings(max_examples=25, deadline=None)
FEW_CLASSES = 8
"""Up to here 64 pixels are counted at a time; see count_pixels.cpp."""
DTYPES = [np.uint8, np.int16, np.int64, ">i4"]


@st.composite
def labelled(draw):
    """Target with gaps, a prediction of the same shape, and how many classes there are."""
    classes = draw(st.sampled_from([2, 3, FEW_CLASSES, FEW_CLASSES + 1, 40, 255]))
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=9))
    label = st.integers(0, classes - 1)
    target = draw(hnp.arrays(np.int64, shape, elements=label | st.just(UNLABELLED)))
    pred = draw(hnp.arrays(np.int64, shape, elements=label))
    return target, pred, classes


class TestLaws:
    @law
    @given(labelled())
    def test_counts_of_parts_add_up_to_those_of_the_whole(self, given_labels):
        target, pred, classes = given_labels
        whole = confusion(target, pred, classes=classes).sum(axis=0)
        parts = [
            confusion(target[:, rows], pred[:, rows], classes=classes).sum(axis=0)
            for rows in (slice(None, 1), slice(1, None))
        ]
        np.testing.assert_array_equal(sum(parts), whole)

    @law
    @given(labelled())
    def test_each_labelled_pixel_is_counted_once(self, given_labels):
        target, pred, classes = given_labels
        counts = confusion(target, pred, classes=classes)
        np.testing.assert_array_equal(
            counts.sum(axis=(1, 2)), (target != UNLABELLED).sum(axis=(1, 2))
        )

    @law
    @given(labelled(), st.randoms(use_true_random=False))
    def test_the_prediction_under_an_unlabelled_pixel_has_no_effect(self, given_labels, random):
        target, pred, classes = given_labels
        other = np.where(target == UNLABELLED, random.randrange(classes), pred)
        np.testing.assert_array_equal(
            confusion(target, pred, classes=classes), confusion(target, other, classes=classes)
        )

    @law
    @given(labelled())
    def test_exchanging_target_and_prediction_transposes_the_table(self, given_labels):
        target, pred, classes = given_labels
        target = np.where(target == UNLABELLED, 0, target)
        np.testing.assert_array_equal(
            confusion(target, pred, classes=classes),
            confusion(pred, target, classes=classes).swapaxes(1, 2),
        )

    @law
    @given(labelled())
    def test_classes_that_do_not_occur_change_nothing(self, given_labels):
        target, pred, classes = given_labels
        more = confusion(target, pred, classes=min(classes + FEW_CLASSES, 255))
        np.testing.assert_array_equal(
            more[:, :classes, :classes], confusion(target, pred, classes=classes)
        )

    @law
    @given(labelled(), st.integers(1, 3))
    def test_threads_count_what_one_thread_counts(self, given_labels, threads):
        target, pred, classes = given_labels
        np.testing.assert_array_equal(
            parallel_confusion(target, pred, classes=classes, threads=threads),
            confusion(target, pred, classes=classes),
        )


@law
@given(labelled())
def test_each_table_is_that_of_scikit_learn(given_labels):
    from sklearn.metrics import confusion_matrix

    target, pred, classes = given_labels
    counts = confusion(target, pred, classes=classes)
    for table, true, predicted in zip(counts, target, pred, strict=True):
        kept = true != UNLABELLED
        labels = np.arange(classes)
        # It refuses a set without any pixel.
        expected = confusion_matrix(true[kept], predicted[kept], labels=labels) if kept.any() else 0
        np.testing.assert_array_equal(table, expected)


@pytest.mark.parametrize("classes", range(2, FEW_CLASSES + 2))
class TestWordsOf64Pixels:
    SHAPE = (3, 5, 67)  # five words and fifteen pixels more

    def sampled(self, classes):
        rng = np.random.default_rng(classes)
        target, pred = rng.integers(0, classes, (2, *self.SHAPE), dtype=np.uint8)
        return np.where(rng.random(self.SHAPE) < 0.1, np.uint8(UNLABELLED), target), pred

    def test_pixels_are_counted_as_by_numpy(self, classes):
        target, pred = self.sampled(classes)
        for table, true, predicted in zip(
            confusion(target, pred, classes=classes), target, pred, strict=True
        ):
            kept = true != UNLABELLED
            cell = true[kept].astype(int) * classes + predicted[kept]
            np.testing.assert_array_equal(table.ravel(), np.bincount(cell, minlength=classes**2))

    @pytest.mark.parametrize("index", [0, 63, 64, 200, 319, 320, 334])
    def test_a_label_outside_the_classes_is_found_at_any_position(self, classes, index):
        target, pred = self.sampled(classes)
        for name, labels, strange in (
            ("target", target, classes),
            ("target", target, 254),
            ("prediction", pred, classes),
            ("prediction", pred, UNLABELLED),
        ):
            before = labels[1].flat[index]
            labels[1].flat[index] = strange
            with pytest.raises(BadLabels, match=f"{name} holds {strange}; expected 0 to"):
                confusion(target, pred, classes=classes)
            labels[1].flat[index] = before


class TestByHand:
    def test_rows_are_target_and_columns_are_predictions(self):
        target, pred = np.array([[[0, 0, 1]]]), np.array([[[0, 1, 1]]])
        np.testing.assert_array_equal(confusion(target, pred, classes=2), [[[1, 1], [0, 1]]])

    def test_a_single_class_is_counted_too(self):
        nothing = np.zeros((1, 8, 16), np.uint8)
        np.testing.assert_array_equal(confusion(nothing, nothing, classes=1), [[[128]]])

    def test_each_image_has_its_own_table(self):
        target = np.array([[[0]], [[1]]])
        counts = confusion(target, target, classes=2)
        np.testing.assert_array_equal(counts, [[[1, 0], [0, 0]], [[0, 0], [0, 1]]])
        assert counts.dtype == np.int32

    @pytest.mark.parametrize("classes", [2, FEW_CLASSES + 1])
    def test_no_image_gives_no_table(self, classes):
        none = np.zeros((0, 4, 4), np.uint8)
        assert confusion(none, none, classes=classes).shape == (0, classes, classes)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("classes", [3, FEW_CLASSES + 1])
    def test_integer_type_and_memory_layout_have_no_effect(self, dtype, classes):
        rng = np.random.default_rng(0)
        target, pred = rng.integers(0, 3, (2, 5, 12, 7))
        given_target, given_pred = (
            np.asfortranarray(a.repeat(2, axis=2).astype(dtype))[:, :, ::2] for a in (target, pred)
        )
        np.testing.assert_array_equal(
            confusion(given_target, given_pred, classes=classes),
            confusion(target, pred, classes=classes),
        )

    def test_blocks_smaller_than_the_data_join_in_order(self, monkeypatch):
        monkeypatch.setattr(ragged, "BLOCK_PIXELS", 40)
        target, pred = np.random.default_rng(1).integers(0, 4, (2, 11, 4, 5))
        each = [confusion(target[i : i + 1], pred[i : i + 1], classes=4)[0] for i in range(11)]
        np.testing.assert_array_equal(confusion(target, pred, classes=4), each)
        np.testing.assert_array_equal(parallel_confusion(target, pred, classes=4), each)

    def test_maps_on_disk_are_read_block_by_block(self, tmp_path, monkeypatch):
        monkeypatch.setattr(ragged, "BLOCK_PIXELS", 32)
        labels = np.random.default_rng(2).integers(0, 4, (9, 4, 4)).astype(np.uint8)
        np.save(tmp_path / "labels.npy", labels)
        mapped = np.load(tmp_path / "labels.npy", mmap_mode="r")

        class Watched:
            shape, dtype, read = mapped.shape, mapped.dtype, []

            def __getitem__(self, block):
                self.read.append(block.stop - block.start)
                return mapped[block]

        watched = Watched()
        counts = parallel_confusion(watched, mapped, classes=4)
        np.testing.assert_array_equal(counts, confusion(labels, labels, classes=4))
        assert sorted(watched.read) == [1, 2, 2, 2, 2]


@pytest.mark.parametrize("count", [confusion, parallel_confusion])
class TestRefuses:
    zeros = np.zeros((2, 3, 3), np.uint8)

    @pytest.mark.parametrize("dtype", [np.float32, bool])
    def test_labels_that_are_not_integers_are_refused(self, count, dtype):
        with pytest.raises(BadLabels, match=f"prediction is {np.dtype(dtype)}; expected integers"):
            count(self.zeros, self.zeros.astype(dtype), classes=2)

    def test_shapes_that_differ_are_refused(self, count):
        with pytest.raises(
            BadLabels, match=r"prediction has shape \(2, 3, 2\); expected \(2, 3, 3\) as in target"
        ):
            count(self.zeros, self.zeros[:, :, :2], classes=2)

    def test_a_single_image_without_an_image_axis_is_refused(self, count):
        with pytest.raises(BadLabels, match=r"target has shape \(3, 3\); expected \(image, row"):
            count(self.zeros[0], self.zeros[0], classes=2)

    @pytest.mark.parametrize("strange", [-1, 4, 254, 1000, -1000])
    def test_a_label_outside_the_classes_is_refused(self, count, strange):
        labels = np.full((1, 2, 2), strange, np.int64)
        good = np.zeros_like(labels)
        with pytest.raises(
            BadLabels, match=rf"target holds {strange}; expected 0 to 3 or 255 \(not labelled\)"
        ):
            count(labels, good, classes=4)
        with pytest.raises(BadLabels, match=rf"prediction holds {strange}; expected 0 to 3$"):
            count(good, labels, classes=4)

    def test_an_unlabelled_pixel_in_a_prediction_is_refused(self, count):
        with pytest.raises(BadLabels, match=r"prediction holds 255; expected 0 to 1$"):
            count(self.zeros, np.full_like(self.zeros, UNLABELLED), classes=2)

    def test_many_unknown_labels_make_one_short_message(self, count):
        labels = np.arange(100, 109).reshape(1, 3, 3)
        with pytest.raises(BadLabels, match=r"holds 100, 101, 102, 103, 104, \.\.\.; expected"):
            count(self.zeros[:1], labels, classes=2)
