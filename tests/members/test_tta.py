"""Test-time augmentation: views of an image, predicted and merged."""

import warnings

import numpy as np
import pytest
import torch

from evaluation.core.errors import BadSpec
from members.recipe import Member, Recipe
from members.tta import VIEWS, check_tta, with_tta

MERGES = ["mean", "geometric_mean", "max"]


def drawn(rows=6, cols=10):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (3, 1, rows, cols), dtype=np.uint8))


def by_brightness(images):
    """Tell two classes by grey value alone, wherever a pixel lies."""
    bright = images.float() / 255
    return torch.cat([1 - bright, bright], dim=1)


def by_side(images):
    """Tell two classes by the column alone, whatever the image shows."""
    cols = torch.linspace(0.1, 0.9, images.shape[3]).expand(images[:, 0].shape)
    return torch.stack([1 - cols, cols], dim=1)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize(
    "spec", [None, "flips", "flips(vertical=True)", "turns", "flips+turns", "crops", "crops+turns"]
)
def test_flips_turns_and_crops_do_not_change_a_predictor_without_position(spec, merge):
    images = drawn()
    found = with_tta(by_brightness, spec, merge)(images)
    torch.testing.assert_close(found, by_brightness(images), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "spec",
    [
        "flips",
        "scales",
        "flips+scales",
        "scales(factors=[0.5, 2])",
        "turns+scales",
        "scales+turns",
        "crops(share=0.3)+scales",
        "scales+crops(share=0.9)",
        "turns+crops",
    ],
)
@pytest.mark.parametrize("merge", MERGES)
def test_maps_stay_probabilities_of_the_same_size(spec, merge):
    found = with_tta(by_brightness, spec, merge)(drawn(7, 11))
    assert found.shape == (3, 2, 7, 11)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3, 7, 11))
    assert (found >= 0).all()


def test_flips_average_out_what_depends_on_the_side():
    found = with_tta(by_side, "flips", "mean")(drawn())
    torch.testing.assert_close(found, torch.full_like(found, 0.5))


def test_every_scale_is_predicted_in_every_flip():
    seen = []

    def spy(images):
        seen.append(tuple(images.shape[2:]))
        return by_brightness(images)

    with_tta(spy, "flips(vertical=True)+scales(factors=[0.5])", "mean")(drawn(8, 12))
    assert sorted(seen) == [(4, 6)] * 4 + [(8, 12)] * 4


def by_place(images):
    """Tell two classes by row and column, within what is shown."""
    rows, cols = (torch.linspace(0.1, 0.4, side) for side in images.shape[2:])
    first = (rows[:, None] + cols**2).expand(images[:, 0].shape) * (1 + images[:, 0] / 255) / 2
    return torch.stack([first, 1 - first], dim=1)


def test_turned_images_that_are_not_square_are_predicted_and_turned_back():
    images = drawn(5, 8)
    expected = [np.rot90(by_place(turned(images, k)).numpy(), -k, axes=(2, 3)) for k in range(4)]
    found = with_tta(by_place, "turns", "mean")(images)
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-6)


def turned(images, quarters):
    return torch.from_numpy(np.rot90(images.numpy(), quarters, axes=(2, 3)).copy())


def test_flips_and_turns_are_all_eight_orientations():
    image, seen = torch.arange(6.0).reshape(1, 1, 2, 3), []

    def spy(images):
        seen.append(images.flatten().tolist() + list(images.shape[2:]))
        return by_brightness(images)

    with_tta(spy, "flips+turns", "mean")(image)
    assert len({tuple(each) for each in seen}) == len(seen) == 8


@pytest.mark.parametrize(("spec", "sizes"), [("turns+scales(factors=[0.5])", (8, 12))])
def test_a_turned_image_is_resized_in_its_own_proportions(spec, sizes):
    seen = []

    def spy(images):
        seen.append(tuple(images.shape[2:]))
        return by_brightness(images)

    with_tta(spy, spec, "mean")(drawn(*sizes))
    assert sorted(seen) == sorted(2 * [(8, 12), (12, 8), (4, 6), (6, 4)])


@pytest.mark.parametrize("share", [0.3, 0.75])
@pytest.mark.parametrize("merge", MERGES)
def test_crops_are_merged_over_the_views_that_show_a_pixel(share, merge):
    rows, cols = 7, 12
    images = drawn(rows, cols)
    height, width = round(share * rows), round(share * cols)
    corners = [(0, 0), (0, cols - width), (rows - height, 0), (rows - height, cols - width)]
    starts = [*corners, ((rows - height) // 2, (cols - width) // 2)]
    maps = [by_place(images).numpy()]
    for top, left in starts:
        window = (..., slice(top, top + height), slice(left, left + width))
        maps.append(np.full_like(maps[0], np.nan))
        maps[-1][window] = by_place(images[window]).numpy()
    if merge == "mean":
        expected = np.nanmean(maps, axis=0)
    elif merge == "max":
        expected = np.nanmax(maps, axis=0)
    else:
        expected = np.exp(np.nanmean(np.log(maps), axis=0))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        with_tta(by_place, "crops(share=" + str(share) + ")", merge)(images), expected, rtol=1e-5
    )


def test_the_corners_are_the_windows_of_monai():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.inferers import sliding_window_inference

    images = drawn(8, 12).float()
    corners = sliding_window_inference(images, (6, 9), 4, by_place, overlap=2 / 3)
    views = VIEWS.build("crops(share=0.75)")(images)[1:5]
    maps = sum(view.invert(by_place(view.apply(images))) for view in views)
    shown = sum(view.invert(torch.ones_like(view.apply(images))) for view in views)
    torch.testing.assert_close(maps / shown, corners)


def test_merging_two_views_by_hand():
    def told(images):
        first = torch.tensor([0.5, 0.9])[None, None, None].expand(1, 1, 1, 2)
        return torch.cat([first, 1 - first], dim=1)

    # Mirrored, the two pixels say .9 and .5.
    images = torch.zeros(1, 1, 1, 2, dtype=torch.uint8)
    expected = {
        "mean": 0.7,
        "max": 0.9 / 1.4,
        "geometric_mean": 0.45**0.5 / (0.45**0.5 + 0.05**0.5),
    }
    for merge, value in expected.items():
        found = with_tta(told, "flips", merge)(images)[0, 0, 0]
        np.testing.assert_allclose(found, [value, value], rtol=1e-6)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("flip", "unknown test-time augmentation 'flip'; known: crops, flips, scales, turns"),
        ("0.5*flips + scales", "expected names joined by +, no weights"),
        ("crops(share=1)", "option 'share' got 1; expected less than 1"),
        ("scales(factors=[0])", "option 'factors' got [0]; expected greater than 0"),
    ],
)
def test_a_bad_spec_is_refused(spec, words):
    with pytest.raises(BadSpec) as refusal:
        check_tta(spec)
    assert words in str(refusal.value)
    with pytest.raises(BadSpec, match="member 'm'"):
        Member("m", Recipe(tta=spec))


def test_weights_do_not_depend_on_the_views_but_maps_do():
    plain, mirrored = (Member("m", Recipe(tta=spec)) for spec in (None, "flips"))
    assert plain.training_config() == mirrored.training_config()
    assert plain.prediction_config() != mirrored.prediction_config()


def test_every_kind_of_view_begins_with_the_image_itself():
    for name in VIEWS:
        first = VIEWS.build(name)(drawn())[0]
        assert torch.equal(first.apply(drawn()), drawn())
