from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation.core.classes import MARS
from evaluation.core.errors import BadData, BadLabels
from members.data.ai4mars import cut_tiles, group_of, import_ai4mars
from members.data.cleaning.rules import write_kept
from members.data.load_dataset import load_dataset
from tests.members.data.png_files import write_png

NAME = "NLB_471625303EDR_F0442336NCAM00353M1"
OTHER = "NLA_397681339EDR_F0020000AUT_04096M1"


def add(root, name, label, *, rover=None, far=None, image=None):
    """Add a 16x16 image with a label, and masks where given."""
    shades = np.tile(np.arange(16, dtype=np.uint8) * 8, (16, 1)) if image is None else image
    put(root / "images/edr" / f"{name}.JPG", shades, quality=100)
    put(root / "labels/train" / f"{name}.png", label)
    for folder, product, mask in (("mxy", "MXY", rover), ("rng-30m", "RNG", far)):
        if mask is not None:
            put(root / "images" / folder / f"{name.replace('EDR', product)}.png", mask)


def put(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path, **options)


def quarters(*values):
    return np.block([[np.full((8, 8), v) for v in pair] for pair in (values[:2], values[2:])])


def tiles(tmp_path, **options):
    given: dict[str, Any] = {"scale": Fraction(1, 2), "tile": (4, 4), "max_null": 1.0} | options
    import_ai4mars(tmp_path / "tree", tmp_path / "out.npz", **given)
    return np.load(tmp_path / "out.npz")


def test_labels_go_up_by_one_and_nothing_becomes_background(tmp_path):
    add(tmp_path / "tree/msl", NAME, quarters(0, 1, 3, 255))
    out = tiles(tmp_path)
    assert [np.unique(mask).tolist() for mask in out["masks"]] == [[1], [2], [4], [0]]
    assert out["images"].shape == out["masks"].shape == (4, 4, 4)
    assert set(out["source"]) == {NAME}
    assert set(out["group"]) == {"F0442336"}


def test_rover_and_far_pixels_become_background_unless_told_not_to(tmp_path):
    rover, far = quarters(1, 0, 0, 0), quarters(0, 1, 0, 0)
    add(tmp_path / "tree/msl", NAME, quarters(2, 2, 2, 2), rover=rover, far=far)

    def kept(**options):
        return [int(mask.max()) for mask in tiles(tmp_path, **options)["masks"]]

    assert kept() == [0, 0, 3, 3]
    assert kept(rover_mask=False) == [3, 0, 3, 3]
    assert kept(range_mask=False) == [0, 3, 3, 3]


def test_tiles_that_are_mostly_unlabelled_are_dropped(tmp_path):
    label = quarters(0, 255, 1, 1)
    label[8:14, :8] = 255  # three quarters of the lower left tile
    add(tmp_path / "tree/msl", NAME, label)
    assert len(tiles(tmp_path, max_null=0.75)["masks"]) == 3
    assert len(tiles(tmp_path, max_null=0.74)["masks"]) == 2


def test_images_are_reduced_by_area(tmp_path):
    add(tmp_path / "tree/msl", NAME, quarters(0, 0, 0, 0))
    mean = (np.arange(16) * 8).reshape(8, 2).mean(axis=1)
    first = tiles(tmp_path)["images"][0]
    assert np.abs(first - mean[None, :4]).max() <= 2  # JPEG's own error


def test_the_tree_loads_as_a_labelled_set(tmp_path):
    shape = (256, 512)
    for name in (NAME, OTHER):
        add(tmp_path / "msl", name, np.ones(shape), image=np.full(shape, 99))
    data = load_dataset(tmp_path)["training"]
    assert data.ids == (OTHER, NAME)
    assert np.asarray(data.groups).tolist() == ["F0020000", "F0442336"]
    assert data.extent.one_size == (64, 128)
    assert data.classes == MARS


def test_the_file_written_loads_as_the_tree_does(tmp_path):
    shape = (512, 512)
    label = np.random.default_rng(0).integers(0, 4, shape)
    add(tmp_path / "tree/msl", NAME, label, image=np.full(shape, 99))
    import_ai4mars(tmp_path / "tree", tmp_path / "out.npz")
    tree, file = (load_dataset(tmp_path / name)["training"] for name in ("tree", "out.npz"))
    np.testing.assert_array_equal(tree.target(), file.target())
    np.testing.assert_array_equal(tree.images, file.images)
    assert tree.ids == file.ids


def test_cutting_keeps_every_pixel_in_its_place():
    image = np.arange(8 * 9).reshape(8, 9)
    cut = cut_tiles(image, (4, 3))
    assert cut.shape == (6, 4, 3)
    np.testing.assert_array_equal(cut[4], image[4:, 3:6])


def test_what_is_left_over_at_the_edges_is_dropped():
    assert cut_tiles(np.zeros((9, 11)), (4, 5)).shape == (4, 4, 5)


def test_the_group_is_site_and_drive():
    assert group_of(NAME) == "F0442336"
    assert group_of(OTHER) == "F0020000"


class TestRefusals:
    def test_a_name_without_site_and_drive_is_refused(self):
        with pytest.raises(BadData, match="'holiday' has no site and drive"):
            group_of("holiday")

    def test_a_folder_that_is_no_tree_is_refused(self, tmp_path):
        with pytest.raises(BadData, match="expected an AI4Mars tree"):
            import_ai4mars(tmp_path, tmp_path / "out.npz")

    def test_a_label_without_its_image_is_refused(self, tmp_path):
        add(tmp_path / "tree", NAME, quarters(0, 0, 0, 0))
        (tmp_path / "tree/images/edr" / f"{NAME}.JPG").unlink()
        with pytest.raises(BadData, match=f"1 labels .* have no image .*{NAME}"):
            tiles(tmp_path)

    def test_a_label_outside_the_terrains_is_refused(self, tmp_path):
        add(tmp_path / "tree", NAME, quarters(0, 4, 7, 0))
        with pytest.raises(BadLabels, match=r"holds \[4, 7\]; expected 0 to 3, or 255"):
            tiles(tmp_path)

    def test_a_label_of_another_size_is_refused(self, tmp_path):
        add(tmp_path / "tree", NAME, np.zeros((8, 8)))
        with pytest.raises(BadData, match=r"is \(8, 8\), its image \(16, 16\)"):
            tiles(tmp_path)

    def test_a_tree_without_labelled_pixels_is_refused(self, tmp_path):
        add(tmp_path / "tree", NAME, quarters(255, 255, 255, 255))
        with pytest.raises(BadData, match="gave no tile with at most 75% unlabelled"):
            tiles(tmp_path, max_null=0.75)
        assert not (tmp_path / "out.npz").exists()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"scale": 0.0}, "scale 0; expected over 0"),
            ({"tile": (0, 4)}, "tile 0x4"),
            ({"max_null": 2.0}, "expected 0 to 1"),
        ],
    )
    def test_options_out_of_range_are_refused(self, tmp_path, options, words):
        with pytest.raises(BadData, match=words):
            tiles(tmp_path, **options)

    def test_another_suffix_is_refused(self, tmp_path):
        with pytest.raises(BadData, match=r"ends in \.npz"):
            import_ai4mars(tmp_path, tmp_path / "out.zip")


def test_a_label_stored_in_colours_is_read_by_its_first_channel(tmp_path):
    label = quarters(0, 1, 3, 255)
    add(tmp_path / "tree/msl", NAME, np.stack([label, 0 * label, 0 * label], axis=-1))
    assert [np.unique(mask).tolist() for mask in tiles(tmp_path)["masks"]] == [[1], [2], [4], [0]]


def test_a_tree_that_is_cleaned_keeps_its_groups(tmp_path):
    for name in (NAME, OTHER):
        add(tmp_path / "msl", name, np.ones((256, 512)), image=np.full((256, 512), 99))
    data = load_dataset(tmp_path)["training"]
    write_kept(tmp_path, data, np.array([False, True]), tmp_path / "kept.npz")
    kept = np.load(tmp_path / "kept.npz")
    assert kept["group"].tolist() == ["F0442336"]
    assert kept["source"].tolist() == [NAME]
    assert kept["masks"].shape == (1, 64, 128)


def test_an_image_of_16_bits_becomes_8_by_the_full_range(tmp_path):
    shades = np.tile(np.linspace(0, 65535, 16).astype(np.uint16), (16, 1))
    add(tmp_path / "tree", NAME, quarters(0, 1, 2, 3))
    (tmp_path / "tree/images/edr" / f"{NAME}.JPG").unlink()
    Image.fromarray(shades).save(tmp_path / "tree/images/edr" / f"{NAME}.png")
    images = tiles(tmp_path, scale=Fraction(1), tile=(16, 16))["images"]
    np.testing.assert_array_equal(images[0], shades // 257)


def test_images_labels_and_masks_are_turned_as_they_are_viewed(tmp_path):
    add(tmp_path / "tree", NAME, quarters(0, 0, 0, 0), image=quarters(200, 200, 10, 10))
    upside_down = Image.Exif()
    upside_down[274] = 3
    for folder, name, values in (
        ("images/edr", f"{NAME}.JPG", (200, 200, 10, 10)),
        ("labels/train", f"{NAME}.png", (1, 1, 2, 2)),
        ("images/mxy", f"{NAME.replace('EDR', 'MXY')}.PNG", (1, 0, 0, 0)),
    ):
        put(tmp_path / "tree" / folder / name, quarters(*values), exif=upside_down)
    out = tiles(tmp_path, scale=Fraction(1), tile=(8, 8))
    assert [int(tile.mean()) // 100 for tile in out["images"]] == [0, 0, 2, 2]
    assert [int(mask[0, 0]) for mask in out["masks"]] == [3, 3, 2, 0]


def test_labels_of_2_bits_are_the_stored_values(tmp_path):
    add(tmp_path / "tree", NAME, quarters(0, 1, 2, 3))
    write_png(tmp_path / "tree/labels/train" / f"{NAME}.png", quarters(0, 1, 2, 3), 2)
    assert [int(mask[0, 0]) for mask in tiles(tmp_path)["masks"]] == [1, 2, 3, 4]


def test_other_products_beside_an_image_are_not_taken_for_it(tmp_path):
    add(tmp_path / "tree", NAME, quarters(0, 1, 2, 3))
    (tmp_path / "tree/images/edr" / f"{NAME}.LBL").write_text("PDS_VERSION_ID = PDS3")
    (tmp_path / "tree/images/edr" / f"{NAME}.VIC").write_bytes(b"x")
    assert len(tiles(tmp_path)["masks"]) == 4
