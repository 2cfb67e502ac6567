"""Growing masks in homogeneous regions: laws, a slow reference, and cases by hand."""

import numpy as np
import pytest

from members.data.refine_masks import grow, is_homogeneous, refine

FOREVER = 1000


def ground(images=3, channels=1, rows=20, cols=24):
    """Return images with homogeneous and varied parts, and masks with gaps, 0 and 255."""
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.integers(-2, 3, (images, channels, rows, cols)), axis=-1) + 120
    rough = rng.integers(0, 60, (images, channels, rows, cols)) * (rng.random(cols) < 0.2)
    masks = rng.choice([0, 0, 0, 1, 2, 3, 255], (images, rows // 4, cols // 4))
    masks = masks.repeat(4, axis=1).repeat(4, axis=2)
    return (smooth + rough).clip(0, 255).astype(np.uint8), masks.astype(np.uint8)


def disc(rows, cols, row, col, radius):
    y, x = np.mgrid[:rows, :cols]
    return (y - row) ** 2 + (x - col) ** 2 <= radius**2


def slow_grow(images, masks, *, ignore, radius_px, max_std, rounds):
    """Return what the definition says, pixel by pixel."""
    result = masks.copy()
    _, rows, cols = masks.shape
    for image, labels in zip(images, result, strict=True):
        for _ in range(rounds):
            before = labels.copy()
            labelled = (before != 255) & (before != ignore)
            for row, col in np.argwhere(~labelled):
                inside = disc(rows, cols, row, col, radius_px)
                beside = disc(rows, cols, row, col, 1) & labelled
                if beside.any() and image[:, inside].astype(float).std(axis=1).max() <= max_std:
                    votes = np.bincount(before[inside & labelled])
                    labels[row, col] = votes.argmax()
    return result


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("radius", [1, 2, 4])
def test_growing_follows_its_definition_pixel_by_pixel(radius, channels):
    images, masks = ground(2, channels, 12, 16)
    options = {"ignore": 0, "radius_px": radius, "max_std": 11.3, "rounds": 3}
    grown = grow(images, masks, **options)
    np.testing.assert_array_equal(grown, slow_grow(images, masks, **options))
    assert (grown != masks).any()
    assert (grown == 0).any()


def test_homogeneity_is_the_standard_deviation_inside_the_image():
    images, _ = ground(1, 1, 9, 11)
    wanted = [
        [images[0, 0][disc(9, 11, row, col, 3)].std() <= 7.1 for col in range(11)]
        for row in range(9)
    ]
    np.testing.assert_array_equal(is_homogeneous(images, 3, 7.1)[0], wanted)


class TestLaws:
    def test_labelled_pixels_never_change(self):
        images, masks = ground()
        grown = grow(images, masks, ignore=0, max_std=20.0, rounds=FOREVER)
        labelled = (masks != 0) & (masks != 255)
        np.testing.assert_array_equal(grown[labelled], masks[labelled])
        assert (grown != masks).any()

    def test_growing_reaches_a_fixed_point(self):
        images, masks = ground()
        once = grow(images, masks, ignore=0, max_std=16.0, rounds=FOREVER)
        again = grow(images, once, ignore=0, max_std=16.0, rounds=FOREVER)
        np.testing.assert_array_equal(again, once)

    def test_more_rounds_only_add(self):
        images, masks = ground()
        few, more = (grow(images, masks, ignore=0, max_std=16.0, rounds=n) for n in (1, 3))
        np.testing.assert_array_equal(more[few != masks], few[few != masks])
        assert (more != few).any()

    def test_rounds_add_up(self):
        images, masks = ground()
        one = grow(images, masks, ignore=0, max_std=16.0, rounds=1)
        three = grow(images, one, ignore=0, max_std=16.0, rounds=2)
        np.testing.assert_array_equal(three, grow(images, masks, ignore=0, max_std=16.0, rounds=3))

    def test_an_image_does_not_depend_on_its_neighbours(self):
        images, masks = ground()
        alone = [grow(images[k : k + 1], masks[k : k + 1], ignore=0)[0] for k in range(3)]
        np.testing.assert_array_equal(grow(images, masks, ignore=0), np.stack(alone))


class TestByHand:
    FLAT = np.full((1, 1, 9, 20), 100, np.uint8)

    def masks(self, **columns):
        masks = np.zeros((1, 9, 20), np.uint8)
        for label, column in columns.items():
            masks[:, :, column] = int(label[1:])
        return masks

    def test_no_label_crosses_a_step_of_grey(self):
        halves = self.FLAT.copy()
        halves[..., 10:] = 140
        grown = grow(halves, self.masks(c2=0), ignore=0, radius_px=2, rounds=FOREVER)
        assert (grown[..., :8] == 2).all()
        assert (grown[..., 8:] == 0).all()

    def test_no_label_crosses_a_step_that_one_colour_channel_has(self):
        halves = np.repeat(self.FLAT, 3, axis=1)
        halves[:, 0, :, 10:], halves[:, 1, :, 10:] = 140, 60
        grown = grow(halves, self.masks(c2=0), ignore=0, radius_px=2, rounds=FOREVER)
        assert (grown[..., :8] == 2).all()
        assert (grown[..., 8:] == 0).all()

    def test_a_flat_image_is_filled_to_the_last_pixel(self):
        grown = grow(self.FLAT, self.masks(c3=4), ignore=0, max_std=0.0, rounds=FOREVER)
        assert (grown == 3).all()

    def test_a_round_is_one_pixel(self):
        grown = grow(self.FLAT, self.masks(c3=10), ignore=0, rounds=4)
        assert (grown[0, 4] == 3).nonzero()[0].tolist() == list(range(6, 15))

    def test_two_regions_meet_halfway_and_a_tie_goes_to_the_lowest(self):
        grown = grow(self.FLAT, self.masks(c4=2, c1=10), ignore=0, radius_px=1, rounds=FOREVER)
        assert grown[0, 4, :7].tolist() == [4, 4, 4, 4, 4, 4, 1]
        assert (grown[0, 4, 6:] == 1).all()

    def test_255_is_unlabelled_and_without_an_ignored_class_0_is_a_label(self):
        masks = np.full((1, 9, 20), 255, np.uint8)
        masks[:, :, 0] = 0
        assert (grow(self.FLAT, masks, ignore=None, rounds=FOREVER) == 0).all()
        np.testing.assert_array_equal(grow(self.FLAT, masks, ignore=0, rounds=FOREVER), masks)

    def test_a_disc_larger_than_the_image_is_cut_at_its_border(self):
        grown = grow(self.FLAT, self.masks(c3=4), ignore=0, radius_px=30, rounds=FOREVER)
        assert (grown == 3).all()


class TestRefine:
    def test_masks_shared_by_many_are_left_alone(self):
        masks = np.zeros((100, 8, 8), np.uint8)
        masks[:, 2, 2] = 1 + np.arange(100) % 2
        masks[np.arange(90), 4 + np.arange(90) % 4, np.arange(90) % 8] = 1 + np.arange(90) % 4
        masks[np.arange(90), 0, np.arange(90) % 7] = 1 + np.arange(90) // 45
        masks[90:] = masks[90]
        grown, kept = refine(np.full((100, 1, 8, 8), 9, np.uint8), masks, ignore=0)
        assert (~kept).nonzero()[0].tolist() == list(range(90, 100))
        np.testing.assert_array_equal(grown[90:], masks[90:])
        assert (grown[:90] != masks[:90]).any(axis=(1, 2)).all()

    def test_blocks_change_nothing(self, monkeypatch):
        monkeypatch.setattr("members.data.refine_masks.BLOCK_PIXELS", 20 * 24 * 4)
        images, masks = ground(30)
        grown, kept = refine(images, masks, ignore=0)
        assert kept.all()
        np.testing.assert_array_equal(grown, grow(images, masks, ignore=0))
