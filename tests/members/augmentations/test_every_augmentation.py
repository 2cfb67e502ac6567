"""Augmentations: images and masks move together, and nothing else happens to them."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import binary_erosion

from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadSpec
from members.augmentations import AUGMENTATIONS, photometric
from members.augmentations.augment import Augment, TrainingContext
from members.augmentations.sampling import warp

OFFLINE = {"generated", "offline"}
ONLINE = sorted(set(AUGMENTATIONS) - OFFLINE)
GREY_VALUES = ["blur", "brightness_contrast", "negative", "noise"]
MOVING = sorted(set(ONLINE) - set(GREY_VALUES) - {"rand_augment"})
GROUND = TrainingContext(classes=5, device="cpu", batch=4)
ROWS, COLS = 13, 19  # 247 pixels, so that each has a label of its own
STEP = 12  # of grey from one row or column to the next


def coordinates(count):
    """Images whose grey values tell row, column and row; masks whose labels tell both.

    Every second one is mirrored, so that not all are equal.
    """
    row, col = np.mgrid[:ROWS, :COLS]
    image = torch.from_numpy(np.stack([STEP * row, STEP * col, STEP * row]) + 4).to(torch.uint8)
    mask = torch.from_numpy(row * COLS + col).to(torch.uint8)
    images, masks = image.repeat(count, 1, 1, 1), mask.repeat(count, 1, 1)
    images[1::2], masks[1::2] = images[1::2].flip(-1), masks[1::2].flip(-1)
    return images, masks


def terrain(count=16, *, channels=1, rows=13, cols=21, labels=5):
    rng = np.random.default_rng(1)
    images = rng.integers(1, 256, (count, channels, rows, cols), dtype=np.uint8)
    masks = rng.integers(0, labels, (count, rows, cols), dtype=np.uint8)
    return torch.from_numpy(images), torch.from_numpy(masks)


def augmented(spec, images, masks, *, seed=0):
    """Return the added pairs of an off-line augmentation, the changed ones of any other."""
    augment, rng = Augment([spec]), np.random.default_rng(seed)
    if augment.is_online:
        return augment(images, masks, rng)
    both = augment.extend_dataset(images, masks, GROUND, rng)
    return both[0][len(images) :], both[1][len(masks) :]


def disagreement(images, masks):
    """By how many pixels each labelled pixel's grey value and label disagree on its origin.

    Pixels beside an unlabelled one or at the border are left out: there, the image is blended
    with what is outside, and the mask is not.
    """
    labels = masks.numpy().astype(int)
    inside = binary_erosion(labels != UNLABELLED, np.ones((1, 3, 3)))
    assert inside.sum() > 100
    row, col = np.divmod(labels, COLS)
    seen = (images.numpy().astype(float) - 4) / STEP
    return np.abs(seen - np.stack([row, col, row], axis=1)).max(axis=1)[inside]


class TestImageAndMask:
    @pytest.mark.parametrize("spec", [*MOVING, "offline(augmentations=[elastic, flips])"])
    def test_move_together(self, spec):
        images, masks = coordinates(32)
        moved, labels = augmented(spec, images, masks)
        assert len(labels) != len(masks) or (labels != masks).any()
        # Half a pixel is the nearest neighbour's due, the rest rounding.
        assert disagreement(moved, labels).max() < 0.65

    @pytest.mark.parametrize("magnitude", [5, 30])
    def test_move_together_in_rand_augment(self, magnitude):
        images, masks = coordinates(200)
        spec = f"rand_augment(operations=1, magnitude={magnitude})"
        moved, labels = augmented(spec, images, masks)
        went = (labels != masks).flatten(1).any(1)
        assert 40 < went.sum() < 120
        assert disagreement(moved[went], labels[went]).max() < 0.65
        toned = (moved != images).flatten(1).any(1) & ~went
        assert 50 < toned.sum() < 140

    @pytest.mark.parametrize("spec", MOVING)
    def test_move_together_in_one_channel(self, spec):
        images, masks = coordinates(32)
        moved, labels = augmented(spec, images[:, 1:2], masks)
        together, same_labels = augmented(spec, images, masks)
        assert torch.equal(labels, same_labels)
        assert torch.equal(moved[:, 0], together[:, 1])

    @pytest.mark.parametrize("name", GREY_VALUES)
    def test_masks_stay_where_only_grey_values_change(self, name):
        images, masks = terrain()
        moved, labels = augmented(name, images, masks)
        assert torch.equal(labels, masks)
        changed = (moved != images).flatten(1).any(1)
        assert 0 < changed.sum() < len(images)

    def test_a_negative_twice_is_the_image(self):
        images, masks = coordinates(3)
        once, _ = augmented("negative(probability=1)", images, masks)
        twice, _ = augmented("negative(probability=1)", once, masks)
        assert torch.equal(once, 255 - images)
        assert torch.equal(twice, images)


@pytest.mark.parametrize("name", ONLINE)
class TestEveryOnlineAugmentation:
    """What holds for any; a new one is checked by being in the table."""

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("count", [1, 8])
    def test_keeps_shapes_and_types(self, name, channels, count):
        images, masks = terrain(count, channels=channels)
        for seed in range(3):
            moved, labels = augmented(name, images, masks, seed=seed)
            assert (moved.shape, moved.dtype) == (images.shape, torch.uint8)
            assert (labels.shape, labels.dtype) == (masks.shape, torch.uint8)

    def test_leaves_its_input_alone(self, name):
        images, masks = terrain()
        before = images.clone(), masks.clone()
        augmented(name, images, masks)
        assert torch.equal(images, before[0])
        assert torch.equal(masks, before[1])

    def test_follows_its_seed(self, name):
        images, masks = terrain()
        first, again, other = (
            torch.cat([part.flatten() for part in augmented(name, images, masks, seed=seed)])
            for seed in (3, 3, 4)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_invents_no_label(self, name):
        images, masks = terrain(32)
        masks = masks * 3 + 2
        _, labels = augmented(name, images, masks)
        assert set(labels.unique().tolist()) <= {2, 5, 8, 11, 14, UNLABELLED}


@pytest.mark.parametrize("name", sorted(set(ONLINE) - {"flips", "rand_augment"}))
def test_nothing_happens_at_probability_0(name):
    images, masks = terrain()
    moved, labels = augmented(f"{name}(probability=0)", images, masks)
    assert torch.equal(moved, images)
    assert torch.equal(labels, masks)


def test_zooming_keeps_the_proportions():
    moved, _ = augmented("scale(zoom=0.5, probability=1)", *coordinates(20))
    middle = moved[:, :, 4:9, 6:13].numpy().astype(float)
    down = np.median(np.diff(middle[:, 0], axis=1), axis=(1, 2))
    right = np.abs(np.median(np.diff(middle[:, 1], axis=2), axis=(1, 2)))
    assert down.min() < STEP / 1.2
    assert down.max() > STEP / 0.8
    np.testing.assert_allclose(down, right, atol=1)


def test_alpha_and_sigma_say_how_far_elastic_displaces():
    # A ramp of 1 grey a pixel: what changes in the middle is the displacement.
    ramp = torch.arange(200, dtype=torch.uint8).expand(8, 1, 120, 200)
    moved, _ = augmented("elastic(alpha=60, sigma=5, probability=1)", ramp, ramp[:, 0].clone())
    displaced = (moved.float() - ramp.float())[:, :, 20:-20, 20:-20]
    assert displaced.std().item() == pytest.approx(60 / (3**0.5 * 3.545 * 5), rel=0.1)


class TestCutOut:
    @pytest.mark.parametrize(("fill", "grey"), [("zero", 0), ("mean", 150)])
    def test_covers_one_rectangle_in_image_and_mask(self, fill, grey):
        images = torch.tensor([100, 200]).repeat(10 * 10).reshape(1, 1, 10, 20)
        images = images.expand(30, 1, 10, 20).to(torch.uint8)
        masks = torch.ones(30, 10, 20, dtype=torch.uint8)
        moved, labels = augmented(f"cut_out(fill={fill}, probability=1)", images, masks)
        covered = labels == UNLABELLED
        assert torch.equal(moved[:, 0] == grey, covered)
        assert torch.equal(moved[:, 0][~covered], images[:, 0][~covered])
        for hole in covered:
            rows, cols = hole.any(1).sum(), hole.any(0).sum()
            assert 1 <= rows <= 4
            assert 1 <= cols <= 8
            assert hole.sum() == rows * cols

    def test_more_rectangles_cover_more(self):
        images, masks = terrain(64)
        few, many = (
            (augmented(f"cut_out(count={n}, probability=1)", images, masks)[1] == 255).sum()
            for n in (1, 4)
        )
        assert many > 2 * few


class TestCutMix:
    def test_pastes_a_rectangle_of_another_image_with_its_labels(self):
        images, masks = terrain(8, channels=3, labels=250)
        moved, labels = augmented("cut_mix(probability=1)", images, masks)
        sources = [
            [p for p in range(8) if p != n and _is_pasted(n, p, moved, labels, images, masks)]
            for n in range(8)
        ]
        # Where nothing came in, anybody may have given it.
        assert all(sources)
        assert sum(len(source) == 1 for source in sources) >= 5

    def test_a_batch_of_one_has_no_other_image(self):
        images, masks = terrain(1)
        moved, labels = augmented("cut_mix(probability=1)", images, masks)
        assert torch.equal(moved, images)
        assert torch.equal(labels, masks)

    def test_kept_shares_are_uniform(self):
        count = 4000
        masks = (torch.arange(count) % 251).to(torch.uint8).repeat_interleave(16 * 16)
        masks = masks.reshape(count, 16, 16)
        _, labels = augmented("cut_mix(probability=1)", masks[:, None], masks)
        stays = (labels == masks).float().mean((1, 2))
        # Half would be pasted, and about a third of that lies outside.
        assert 0.55 < stays.mean() < 0.72


def _is_pasted(place, other, moved, labels, images, masks):
    """Whether an image is its old self but for a rectangle that it has from the other."""
    changed = (moved[place] != images[place]).any(0) | (labels[place] != masks[place])
    rows, cols = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
    if not len(rows):
        return True
    box = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    return torch.equal(moved[place][:, *box], images[other][:, *box]) and torch.equal(
        labels[place][box], masks[other][box]
    )


class TestMaskDropout:
    def test_erases_one_label_from_image_and_mask(self):
        images, masks = terrain(32)
        moved, labels = augmented("mask_dropout(probability=1)", images, masks)
        erased = set()
        for before, after, seen, image in zip(masks, labels, moved, images, strict=True):
            gone = set(before.unique().tolist()) - set(after.unique().tolist())
            assert len(gone) == 1
            where = before == next(iter(gone))
            assert torch.equal(after == UNLABELLED, where)
            assert torch.equal(seen[0], image[0].masked_fill(where, 0))
            erased |= gone
        assert erased == set(range(5))

    def test_never_erases_an_only_label(self):
        images, masks = terrain(8)
        masks[:4], masks[:4, :5] = 3, UNLABELLED
        moved, labels = augmented("mask_dropout(probability=1)", images, masks)
        assert torch.equal(labels[:4], masks[:4])
        assert torch.equal(moved[:4], images[:4])
        assert (labels[4:] != masks[4:]).flatten(1).any(1).all()

    def test_a_given_label_is_the_one_erased(self):
        images, masks = terrain(64, labels=3)
        masks[:8] = masks[:8] % 2
        _, labels = augmented("mask_dropout(label=2, probability=0.9)", images, masks)
        assert torch.equal(labels[:8], masks[:8])
        assert set(masks[labels == UNLABELLED].tolist()) == {2}
        assert ((labels == 2).flatten(1).any(1)).any()

    def test_erasing_a_class_from_every_image_is_refused(self):
        with pytest.raises(BadSpec, match="would leave no image with class 2"):
            Augment(["mask_dropout(label=2, probability=1)"])


class TestPhotometricOperations:
    """Pillow is the referee; its images are (row, col), ours (image, channel, row, col)."""

    STRENGTHS = (-1.0, -0.4, 0.0, 0.3, 1.0)
    GREY = np.random.default_rng(0).normal(120, 30, (40, 60)).clip(0, 255).astype(np.uint8)

    @pytest.mark.parametrize(
        ("tone", "referee"),
        [
            (photometric.autocontrast, lambda image, _: ImageOps.autocontrast(image)),
            (photometric.equalize, lambda image, _: ImageOps.equalize(image)),
            (
                photometric.brightness,
                lambda image, s: ImageEnhance.Brightness(image).enhance(1 + 0.9 * s),
            ),
            (
                photometric.contrast,
                lambda image, s: ImageEnhance.Contrast(image).enhance(1 + 0.9 * s),
            ),
            (
                photometric.sharpness,
                lambda image, s: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * s),
            ),
            (
                photometric.posterize,
                lambda image, s: ImageOps.posterize(image, 8 - round(4 * abs(s))),
            ),
            (photometric.solarize, lambda image, s: ImageOps.solarize(image, 255 * (1 - abs(s)))),
        ],
        ids=lambda one: getattr(one, "__name__", ""),
    )
    def test_are_those_of_pillow(self, tone, referee):
        strengths = torch.tensor(self.STRENGTHS)[:, None, None, None]
        images = torch.from_numpy(self.GREY).expand(len(strengths), 1, -1, -1)
        ours = tone(images, strengths)[:, 0].numpy().astype(int)
        for got, strength in zip(ours, self.STRENGTHS, strict=True):
            theirs = np.array(referee(Image.fromarray(self.GREY), strength)).astype(int)
            # Pillow cuts fractions off, and leaves the border unsharpened.
            assert np.abs(got - theirs)[1:-1, 1:-1].max() <= 2
        exact = (photometric.equalize, photometric.posterize, photometric.solarize)
        assert tone not in exact or (got == theirs).all()

    @pytest.mark.parametrize("tone", [photometric.autocontrast, photometric.equalize])
    def test_an_image_of_one_grey_stays(self, tone):
        images = torch.full((2, 1, 9, 9), 77, dtype=torch.uint8)
        assert torch.equal(tone(images, torch.ones(2, 1, 1, 1)), images)


class TestWarp:
    def test_by_nothing_changes_nothing(self):
        images, masks = terrain()
        still = torch.eye(2).expand(16, 2, 2), torch.zeros(16, 2)
        moved, labels = warp(images, masks, *still)
        assert torch.equal(moved, images)
        assert torch.equal(labels, masks)

    def test_by_whole_pixels_shows_the_outside(self):
        images, masks = terrain(1)
        moved, labels = warp(images, masks, torch.eye(2)[None], torch.tensor([[2.0, -1.0]]))
        assert torch.equal(moved[..., 1:, :-2], images[..., :-1, 2:])
        assert torch.equal(labels[..., 1:, :-2], masks[..., :-1, 2:])
        assert not moved[..., 0, :].any()
        assert (labels[..., -2:] == UNLABELLED).all()

    def test_by_a_quarter_turn(self):
        images, masks = terrain(1, rows=15, cols=15)
        turn = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
        moved, labels = warp(images, masks, turn, torch.zeros(1, 2))
        assert torch.equal(moved, images.rot90(1, (2, 3)))
        assert torch.equal(labels, masks.rot90(1, (1, 2)))


class TestOffline:
    def test_copies_that_equal_their_origin_are_dropped(self):
        images, masks = terrain(10)
        images[:4] = images[:4] // 2 + images[:4].flip(-1) // 2  # their own mirror images
        copies, labels = augmented("offline(augmentations=[flips], copies=20)", images, masks)
        mirrored = {image.numpy().tobytes(): n for n, image in enumerate(images.flip(-1))}
        origins = [mirrored[copy.numpy().tobytes()] for copy in copies]
        assert sorted(origins) == [4, 5, 6, 7, 8, 9]
        assert torch.equal(labels, masks.flip(-1)[origins])

    def test_the_set_becomes_at_most_as_many_times_as_large(self):
        images, masks = terrain(10)
        moved, _ = augmented(
            "offline(augmentations=[cut_out(probability=1)], copies=3)", images, masks
        )
        few, _ = augmented(
            "offline(augmentations=[cut_out(probability=0.2)], copies=3)", images, masks
        )
        assert 15 <= len(moved) <= 20
        assert len(few) < 12

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            (
                "offline(augmentations=[flip])",
                r"augmentations=\[flip\]\): unknown augmentation 'flip'; known: .*flips",
            ),
            (
                "offline(augmentations=[flips(up=1)])",
                "'flips' has no option 'up'; known: horizontal",
            ),
            ("offline(augmentations=[offline(augmentations=[flips])])", "is offline itself"),
            ("offline(augmentations=[generated])", "is offline itself"),
            (
                "offline(augmentations=flips)",
                "option 'augmentations' got flips; expected a valid list",
            ),
            ("offline", r"needs option 'augmentations'; write offline\(augmentations=...\)"),
            (
                "offline(augmentations=[flips], copies=1)",
                "'copies' got 1; expected greater than or equal to 2",
            ),
            (
                "offline(augmentations=[mask_dropout(label=1, probability=1)])",
                "no image with class 1",
            ),
        ],
    )
    def test_a_wrong_spec_is_refused_in_one_line(self, spec, words):
        with pytest.raises(BadSpec, match=words) as refused:
            Augment([spec])
        assert "\n" not in str(refused.value)
