"""Test-time augmentation: views of an image, predicted and merged."""

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
@pytest.mark.parametrize("spec", [None, "flips", "flips(vertical=True)"])
def test_flips_do_not_change_a_predictor_without_position(spec, merge):
    images = drawn()
    found = with_tta(by_brightness, spec, merge)(images)
    torch.testing.assert_close(found, by_brightness(images), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("spec", ["flips", "scales", "flips+scales", "scales(factors=[0.5, 2])"])
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
        ("flip", "unknown test-time augmentation 'flip'; known: flips, scales"),
        ("0.5*flips + scales", "expected names joined by +, no weights"),
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
