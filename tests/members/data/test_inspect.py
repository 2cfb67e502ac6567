"""Inspecting data sets: shared masks, identical images, and the description."""

import json

import numpy as np
import pytest

from ensemble.cli import run_command
from ensemble.pipeline.data.prepare import prepare
from ensemble.pipeline.run.experiment import Experiment
from evaluation.core.classes import MARS
from evaluation.core.errors import BadData, BadLabels
from evaluation.core.label_options import LabelOptions
from evaluation.core.run_folder import Run
from members.data.cleaning.rules import drop_shared_masks, identical, shared_masks
from members.data.inspect import format_inspection, inspect_dataset

OUTLINE = np.array([[0, 1], [1, 1]], np.uint8)


def masks(*numbers):
    """Twelve distinct masks, then `numbers[0]` times an outline, `numbers[1]` times all-soil."""
    distinct = [np.array([[index, 0], [0, 2]], np.uint8) for index in range(3, 15)]
    outlined, soil = numbers
    return np.stack([*distinct, *[OUTLINE] * outlined, *[np.ones_like(OUTLINE)] * soil])


class TestSharedMasks:
    def test_an_outline_that_ten_images_share_is_found(self):
        (found,) = shared_masks(masks(10, 30))
        assert found.tolist() == list(range(12, 22))

    def test_an_outline_that_nine_images_share_is_not_reported(self):
        assert shared_masks(masks(9, 30)) == []

    def test_a_constant_mask_is_clean(self):
        (found,) = shared_masks(masks(10, 30), constant=True)
        assert len(found) == 30

    def test_the_most_shared_mask_comes_first(self):
        both = np.concatenate([masks(10, 0), np.stack([OUTLINE[::-1]] * 11)])
        assert [len(places) for places in shared_masks(both)] == [11, 10]

    def test_dropping_shared_masks_drops_the_outliers_alone(self):
        assert np.flatnonzero(~drop_shared_masks(masks(10, 30))).tolist() == list(range(12, 22))


def test_identical_arrays_are_grouped():
    assert identical(np.array([[1, 2], [3, 4], [1, 2], [1, 3]])) == [[0, 2]]


def quarters(images, *, last):
    """Masks of five classes, four of them quarters that move; `last` draws where the fifth is."""
    rng = np.random.default_rng(3)
    drawn = np.zeros((images, 24, 24), np.uint8)
    for mask in drawn:
        row, col = rng.integers(8, 16, 2)
        mask[:row, col:], mask[row:, :col], mask[row:, col:] = 1, 2, 3
        last(mask, row, col)
    return drawn


def border(mask, row, col):
    mask[row], mask[:, col] = 4, 4


def spot(mask, row, col):
    mask[row + 3 : row + 5, col + 3 : col + 5] = 4


def anywhere(mask, row, col):
    mask[:] = (
        np.random.default_rng(row).permutation(np.arange(24 * 24) % 11 // 2 % 5).reshape(24, 24)
    )


@pytest.mark.parametrize(
    ("images", "last", "told"),
    [(30, border, True), (19, border, False), (30, spot, False), (30, anywhere, False)],
)
def test_a_last_class_that_lies_between_all_others_is_told(tmp_path, images, last, told):
    target = quarters(images, last=last)
    path = tmp_path / "own.npz"
    np.savez(path, images=target, masks=target)
    warnings = inspect_dataset(path)["sets"]["training"]["warnings"]
    assert [w.startswith("class '4', the last, covers") for w in warnings] == [True] * told
    said = inspect_dataset(path, labels=LabelOptions(unlabelled=4))["sets"]["training"]
    assert said["warnings"] == []
    np.savez(path, images=target, masks=(target + 1) % 5)
    warnings = inspect_dataset(path)["sets"]["training"]["warnings"]
    assert [w.startswith("class '0', the first, covers") for w in warnings] == [True] * told


def test_the_next_command_repeats_what_was_said_of_the_masks(tmp_path, capsys):
    path = tmp_path / "own.npz"
    np.savez(path, images=np.zeros((4, 2, 2), np.uint8), masks=np.stack([255 * OUTLINE] * 4))
    assert run_command(["data", "inspect", str(path), "--foreground", "255"]) == 0
    assert f"next: ens train-members --data {path} --foreground 255\n" in capsys.readouterr().out


@pytest.fixture
def document(tmp_path):
    rng = np.random.default_rng(0)
    target = masks(10, 12).repeat(4, axis=1).repeat(4, axis=2)
    target[:12] = rng.integers(0, 5, target[:12].shape)
    images = rng.integers(0, 256, target.shape, np.uint8)
    images[1] = images[0]
    path = tmp_path / "own.npz"
    groups = np.array(["a"] * 4 + ["b"] * (len(target) - 4))
    np.savez(path, images=images, masks=target, group=groups, classes=np.array(MARS.names))
    return inspect_dataset(path)


class TestInspect:
    def test_a_description_counts_images_groups_and_classes(self, document):
        one = document["sets"]["training"]
        assert (one["images"], one["sizes"], one["channels"]) == (34, "8x8", 1)
        assert one["groups"] == {"number": 2, "smallest": 4, "largest": 30}
        assert sum(entry["share"] for entry in one["classes"]) == pytest.approx(1)
        assert one["background"] == one["classes"][0]["share"]
        assert one["classes"][2]["images"] == 12

    def test_a_description_names_shared_masks_and_identical_images(self, document):
        one = document["sets"]["training"]
        outlined, *constant = one["shared_masks"]
        assert (outlined["images"], outlined["holds"]) == (10, ["background", "soil"])
        assert not outlined["constant"]
        assert [(entry["images"], entry["holds"]) for entry in constant] == [(12, ["soil"])]
        ids = ["own-00000", "own-00001"]
        assert one["identical_images"] == [{"images": 2, "ids": ids}]

    def test_a_description_is_a_json_document(self, document):
        assert json.loads(json.dumps(document, allow_nan=False)) == document

    def test_a_description_is_formatted_as_text(self, document):
        text = format_inspection(document)
        assert "training: 34 grey images of 8x8" in text
        assert "groups: 2, 4 to 30 images each" in text
        assert "one mask shared by 10 images (background, soil; first: own-00012)" in text
        assert "identical images: 2 in 1 clusters (first: own-00000 = own-00001)" in text

    def test_a_description_of_images_alone_has_no_masks(self, tmp_path):
        np.savez(tmp_path / "x.npz", images=np.zeros((3, 8, 8, 3), np.uint8))
        text = format_inspection(inspect_dataset(tmp_path / "x.npz"))
        assert "test: 3 colour images of 8x8" in text
        assert "masks: none" in text
        assert "groups: none" in text


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        ((0, 255), LabelOptions(), "masks hold 0 and 255; pass --foreground 255 if .*or --unlab"),
        ((255, 255), LabelOptions(), "masks hold only 255; pass --foreground 255"),
        ((0, 255), LabelOptions(unlabelled=255), "the masks hold 0; expected two or more"),
        ((255, 255), LabelOptions(unlabelled=255), "no pixel of the masks is scored"),
        ((0, 1), LabelOptions(ignore=0), "the masks hold 1; expected two or more"),
        ((0, 0), LabelOptions(), "the masks hold 0; expected two or more"),
    ],
)
def test_a_set_of_which_nothing_can_be_learnt_is_refused(tmp_path, values, options, words):
    masks = np.array(values, np.uint8).repeat(8).reshape(1, 4, 4).repeat(6, axis=0)
    np.savez(tmp_path / "own.npz", images=masks, masks=masks)
    with pytest.raises((BadData, BadLabels), match=words):
        inspect_dataset(tmp_path / "own.npz", labels=options)
    experiment = Experiment(data=str(tmp_path / "own.npz"), classes=options or None)
    with pytest.raises((BadData, BadLabels), match=words):
        prepare(Run(tmp_path / "run"), experiment, lambda _: None)
