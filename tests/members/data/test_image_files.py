"""Image and mask files: what is stored for masks, what is viewed for images, else a refusal."""

import struct
import unicodedata
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from evaluation.core.errors import BadData, BadLabels
from members.data import image_files
from members.data.image_files import (
    exif_orientation,
    image_size,
    is_in_colours,
    list_files,
    read_image,
    read_image_uint8,
    read_labels,
    read_mask,
    to_grey,
)
from tests.members.data.png_files import (
    GREY,
    PALETTE,
    orientation_chunk,
    png_chunk,
    write_png,
)

ROWS, COLS = 5, 11
COLOURS = np.random.default_rng(1).integers(0, 256, (ROWS, COLS, 3), np.uint8)
SHADES = COLOURS[..., 0]
SIXTEEN = np.random.default_rng(2).integers(0, 65536, (ROWS, COLS, 3)).astype(np.uint16)


def labels_of(depth):
    return np.random.default_rng(0).integers(0, 1 << depth, (ROWS, COLS))


class TestStoredLabels:
    @pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
    @pytest.mark.parametrize(
        ("depth", "kind"),
        [*((depth, GREY) for depth in (1, 2, 4, 8, 16)), *((d, PALETTE) for d in (1, 2, 4, 8))],
    )
    def test_a_png_of_any_bit_depth_gives_the_stored_values(
        self, tmp_path, depth, kind, interlaced
    ):
        labels = labels_of(depth)
        file = write_png(tmp_path / "a.png", labels, depth, kind, interlaced=interlaced)
        np.testing.assert_array_equal(read_labels(file), labels)

    @pytest.mark.parametrize("depth", [1, 2, 4])
    def test_a_grey_image_of_few_bits_is_spread_to_8(self, tmp_path, depth):
        labels = labels_of(depth)
        file = write_png(tmp_path / "a.png", labels, depth)
        np.testing.assert_array_equal(read_image(file), labels * (255 // ((1 << depth) - 1)))

    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.npy"])
    def test_8_bits_are_read_from_every_format(self, tmp_path, name):
        if name.endswith(".npy"):
            np.save(tmp_path / name, SHADES.astype(np.int64))
        else:
            Image.fromarray(SHADES).save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name), SHADES)

    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
    def test_a_palette_only_colours_indices(self, tmp_path, name):
        image = Image.fromarray(SHADES % 4).convert("P")
        image.putpalette([9, 8, 7, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        image.save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name), SHADES % 4)

    @pytest.mark.parametrize("bits", [2, 4])
    def test_a_tiff_of_few_bits_gives_the_stored_values(self, tmp_path, bits):
        labels = labels_of(bits)
        padded = np.pad(labels, ((0, 0), (0, -COLS % (8 // bits)))).reshape(ROWS, -1, 8 // bits)
        packed = (padded << np.arange(8 - bits, -1, -bits)).sum(axis=2).astype(np.uint8).tobytes()
        tags = {256: COLS, 257: ROWS, 258: bits, 259: 1, 262: 1, 273: 200, 277: 1, 278: ROWS}
        entries = [*tags.items(), (279, len(packed))]
        directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
        head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)
        (tmp_path / "a.tif").write_bytes(head.ljust(200, b"\0") + packed)
        np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), labels)

    def test_16_bits_with_small_labels_are_a_mask_and_others_are_refused(self, tmp_path):
        write_png(tmp_path / "a.png", labels_of(8), 16)
        np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), labels_of(8))
        write_png(tmp_path / "a.png", np.array([[0, 4, 65535]]), 16)
        with pytest.raises(BadLabels, match=r"holds \[65535\]; expected class indices from 0"):
            read_mask(tmp_path / "a.png")

    def test_a_tiff_of_signed_integers_is_read(self, tmp_path):
        Image.fromarray(SHADES.astype(np.int32)).save(tmp_path / "a.tif")
        np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), SHADES)

    @pytest.mark.parametrize(
        ("name", "options", "words"),
        [
            ("a.jpg", {}, "stored as JPEG with lossy compression"),
            ("a.webp", {"lossless": True}, "stored as WEBP"),
            ("a.tif", {"compression": "jpeg"}, "stored as TIFF with lossy compression"),
        ],
    )
    def test_masks_whose_values_changed_are_refused(self, tmp_path, name, options, words):
        Image.fromarray(SHADES).save(tmp_path / name, **options)
        with pytest.raises(BadLabels, match=words):
            read_labels(tmp_path / name)

    def test_a_mask_with_inverted_grey_levels_is_refused(self, tmp_path):
        Image.fromarray(SHADES).save(tmp_path / "a.tif")
        change_tag(tmp_path / "a.tif", 262, 0)
        with pytest.raises(BadLabels, match="stores 0 as white"):
            read_labels(tmp_path / "a.tif")

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (COLOURS, r"a.png has mode RGB; expected class indices"),
            (COLOURS[..., :2], r"a.png has mode LA; expected class indices"),
        ],
    )
    def test_masks_in_colours_are_refused(self, tmp_path, array, words):
        Image.fromarray(array).save(tmp_path / "a.png")
        with pytest.raises(BadLabels, match=words):
            read_labels(tmp_path / "a.png")

    @pytest.mark.parametrize("array", [np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3))])
    def test_other_arrays_are_refused(self, tmp_path, array):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(BadLabels, match=r"expected integers \(row, col\)"):
            read_labels(tmp_path / "a.npy")


def change_tag(file, tag, value):
    """Change a tag of one short in a little-endian TIFF."""
    content = file.read_bytes()
    entry = struct.pack("<HHI", tag, 3, 1)
    place = content.index(entry) + len(entry)
    file.write_bytes(content[:place] + struct.pack("<H", value) + content[place + 2 :])


VIEWED: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


class TestOrientation:
    @pytest.mark.parametrize("orientation", VIEWED)
    @pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
    def test_images_and_masks_are_turned_as_they_are_viewed(self, tmp_path, name, orientation):
        exif = Image.Exif()
        exif[274] = orientation
        options = {"a.jpg": {"quality": 100}, "a.webp": {"lossless": True}}.get(name, {})
        Image.fromarray(SHADES).save(tmp_path / name, exif=exif, **options)
        with Image.open(tmp_path / name) as image:
            stored = np.asarray(image.convert("L")) if name == "a.jpg" else SHADES
        expected = VIEWED[orientation](stored)
        np.testing.assert_array_equal(to_grey(read_image(tmp_path / name)), expected)
        assert image_size(tmp_path / name) == expected.shape
        if name in ("a.png", "a.tif"):
            np.testing.assert_array_equal(read_labels(tmp_path / name), expected)

    @pytest.mark.parametrize("orientation", VIEWED)
    def test_colours_of_16_bits_are_turned_too(self, tmp_path, orientation):
        cv2.imwrite(str(tmp_path / "a.png"), SIXTEEN[..., ::-1])
        content = (tmp_path / "a.png").read_bytes()
        turned = png_chunk(*orientation_chunk(orientation))
        (tmp_path / "a.png").write_bytes(content[:33] + turned + content[33:])
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), VIEWED[orientation](SIXTEEN))

    @pytest.mark.parametrize("orientation", VIEWED)
    def test_orientation_may_follow_the_pixels_of_a_png(self, tmp_path, orientation):
        Image.fromarray(SHADES).save(tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
        turned = png_chunk(*orientation_chunk(orientation))
        (tmp_path / "a.png").write_bytes(content[:-12] + turned + content[-12:])
        assert image_size(tmp_path / "a.png") == read_labels(tmp_path / "a.png").shape
        assert read_labels(tmp_path / "a.png").shape == VIEWED[orientation](SHADES).shape

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    def test_damaged_exif_turns_nothing(self, tmp_path):
        Image.fromarray(SHADES).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), SHADES)


class TestImages:
    @pytest.mark.parametrize("array", [SHADES, COLOURS], ids=["grey", "RGB"])
    @pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.tif", "a.TIFF", "a.bmp", "a.npy"])
    def test_8_bits_are_read_from_every_format(self, tmp_path, array, name):
        if name.endswith("npy"):
            np.save(tmp_path / name, array)
        else:
            Image.fromarray(array).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), array)

    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    def test_16_bits_are_read_as_stored_in_grey_and_colour(self, tmp_path, name):
        Image.fromarray(SIXTEEN[..., 0]).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), SIXTEEN[..., 0])
        cv2.imwrite(str(tmp_path / name), SIXTEEN[..., ::-1])
        np.testing.assert_array_equal(read_image(tmp_path / name), SIXTEEN)

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_damaged_16_bits_are_refused(self, tmp_path, name, share):
        cv2.imwrite(str(tmp_path / name), np.tile(SIXTEEN, (9, 9, 1)))
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        with pytest.raises(BadData, match="is no readable image"):
            read_image(tmp_path / name)

    @pytest.mark.parametrize("array", [SIXTEEN[..., 0], SIXTEEN], ids=["grey", "RGB"])
    def test_16_bits_become_8_by_the_full_range(self, tmp_path, array):
        cv2.imwrite(str(tmp_path / "a.png"), array if array.ndim == 2 else array[..., ::-1])
        image = read_image_uint8(tmp_path / "a.png")
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, array // 257)

    def test_12_bits_in_16_are_refused_where_8_are_needed(self, tmp_path):
        Image.fromarray(SIXTEEN[..., 0] >> 4).save(tmp_path / "a.png")
        with pytest.raises(BadData, match=r"holds values up to 40\d\d in 16 bits"):
            read_image_uint8(tmp_path / "a.png")

    def test_floating_point_is_read_and_refused_where_8_bits_are_needed(self, tmp_path):
        floats = SHADES.astype(np.float32) / 7
        Image.fromarray(floats).save(tmp_path / "a.tif")
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), floats)
        with pytest.raises(BadData, match="is float32; expected 8 or 16 bits"):
            read_image_uint8(tmp_path / "a.tif")

    def test_inverted_grey_of_16_bits_is_read_as_viewed(self, tmp_path):
        Image.fromarray(SIXTEEN[..., 0]).save(tmp_path / "a.tif")
        change_tag(tmp_path / "a.tif", 262, 0)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), 65535 - SIXTEEN[..., 0])

    @pytest.mark.parametrize("array", [SHADES, COLOURS], ids=["grey", "RGB"])
    def test_alpha_is_dropped_where_all_is_opaque(self, tmp_path, array):
        opaque = np.full_like(SHADES, 255)
        Image.fromarray(np.dstack([array, opaque])).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), array)
        opaque[2, 3] = 254
        Image.fromarray(np.dstack([array, opaque])).save(tmp_path / "a.png")
        with pytest.raises(BadData, match="is transparent in places"):
            read_image(tmp_path / "a.png")

    def test_alpha_of_16_bits_is_dropped_where_all_is_opaque(self, tmp_path):
        pixels = np.dstack([SIXTEEN[..., ::-1], np.full_like(SIXTEEN[..., 0], 65535)])
        cv2.imwrite(str(tmp_path / "a.png"), pixels)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), SIXTEEN)
        pixels[0, 0, 3] = 0
        cv2.imwrite(str(tmp_path / "a.png"), pixels)
        with pytest.raises(BadData, match="is transparent in places"):
            read_image(tmp_path / "a.png")

    def test_palettes_are_resolved(self, tmp_path):
        image = Image.fromarray(SHADES % 2).convert("P")
        for palette, expected in (
            ([10, 20, 30, 40, 50, 60], np.array([[10, 20, 30], [40, 50, 60]], np.uint8)),
            ([7, 7, 7, 99, 99, 99], np.array([7, 99], np.uint8)),
        ):
            image.putpalette(palette)
            image.save(tmp_path / "a.png")
            np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected[SHADES % 2])

    def test_transparency_outside_of_alpha_is_refused(self, tmp_path):
        write_png(tmp_path / "a.png", labels_of(4), 4, chunks=[(b"tRNS", b"\0\3")])
        with pytest.raises(BadData, match="marks a colour as transparent"):
            read_image(tmp_path / "a.png")
        write_png(tmp_path / "a.png", labels_of(4), 4, PALETTE, chunks=[(b"tRNS", b"\0\3")])
        with pytest.raises(BadData, match="is transparent in places"):
            read_image(tmp_path / "a.png")

    @pytest.mark.parametrize("name", ["a.tif", "a.webp", "a.png"])
    def test_a_file_of_several_images_is_refused(self, tmp_path, name):
        first, second = Image.fromarray(SHADES), Image.fromarray(SHADES[::-1])
        first.save(tmp_path / name, save_all=True, append_images=[second])
        for read in (read_image, read_labels):
            with pytest.raises(BadData, match="it holds 2 images"):
                read(tmp_path / name)

    def test_the_first_image_of_a_camera_file_is_the_image(self, tmp_path):
        first, preview = Image.fromarray(SHADES), Image.fromarray(SHADES[:2])
        first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview], quality=100)
        assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - SHADES).max() < 9

    def test_other_colour_spaces_are_refused(self, tmp_path):
        Image.fromarray(COLOURS).convert("CMYK").save(tmp_path / "a.jpg")
        with pytest.raises(BadData, match="has mode CMYK; expected grey or RGB"):
            read_image(tmp_path / "a.jpg")

    def test_a_bitmap_that_is_read_as_other_bits_than_stored_is_refused(self, tmp_path):
        image = Image.fromarray(SHADES % 2).convert("P")
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(tmp_path / "a.bmp")
        with pytest.raises(BadData, match="8 bits per pixel with a palette of grey levels"):
            read_labels(tmp_path / "a.bmp")

    @pytest.mark.parametrize("array", [np.zeros((2, 3, 33), np.uint8), np.zeros((2, 3), np.int64)])
    def test_other_arrays_are_refused(self, tmp_path, array):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(BadData, match=r"expected \(row, col\) or \(row, col, channel\)"):
            read_image(tmp_path / "a.npy")

    def test_too_many_pixels_are_refused_before_they_are_unpacked(self, tmp_path, monkeypatch):
        monkeypatch.setattr(image_files, "MAX_PIXELS", 47)
        Image.fromarray(SHADES).save(tmp_path / "a.png")
        with pytest.raises(BadData, match="11 x 5 pixels; cut it into tiles"):
            read_image(tmp_path / "a.png")

    def test_an_image_that_was_removed_is_called_missing(self, tmp_path):
        with pytest.raises(BadData, match=r"gone\.png is missing; expected an image"):
            read_image(tmp_path / "gone.png")


class TestListing:
    def test_names_are_composed_and_suffixes_of_any_case(self, tmp_path):
        for name in ("b.PNG", "a.jpeg", unicodedata.normalize("NFD", "é.TIF")):
            (tmp_path / name).touch()
        assert list(list_files(tmp_path)) == ["a", "b", "é"]

    def test_hidden_files_and_descriptions_are_passed_over(self, tmp_path):
        for name in ("a.png", "._a.png", ".DS_Store", "Thumbs.db", "notes.TXT"):
            (tmp_path / name).touch()
        (tmp_path / "__MACOSX").mkdir()
        (tmp_path / "__MACOSX" / "._a.png").touch()
        assert list(list_files(tmp_path)) == ["a"]

    @pytest.mark.parametrize("name", ["b.gif", "b", "b.png.bak", "more/b.png"])
    def test_what_would_be_left_out_is_refused(self, tmp_path, name):
        (tmp_path / "a.png").touch()
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        with pytest.raises(BadData, match=r"1 files or folders that would be left out \(first: "):
            list_files(tmp_path)

    def test_a_broken_link_is_refused(self, tmp_path):
        (tmp_path / "a.png").symlink_to("gone.png")
        with pytest.raises(BadData, match=r"a\.png is a broken link"):
            list_files(tmp_path)

    @pytest.mark.parametrize("other", ["a.jpg", "a.PNG"])
    def test_two_files_of_one_name_are_refused(self, tmp_path, other):
        for name in ("a.png", other):
            (tmp_path / name).touch()
        with pytest.raises(BadData, match="remove one"):
            list_files(tmp_path)


class TestTiffsOfManyChannels:
    BANDS = np.random.default_rng(3).integers(0, 65536, (ROWS, COLS, 6)).astype(np.uint16)

    def write(self, file, stored, channels, planar="contig"):
        tifffile.imwrite(
            file,
            stored,
            photometric="minisblack",
            planarconfig=planar,
            extrasamples=["unspecified"] * (channels - 1),
            append=file.exists(),
        )

    @pytest.mark.parametrize("planar", ["contig", "separate"])
    @pytest.mark.parametrize("channels", [2, 4, 6])
    def test_every_channel_is_read_and_none_is_taken_for_alpha(self, tmp_path, planar, channels):
        bands = self.BANDS[..., :channels]
        stored = np.moveaxis(bands, -1, 0) if planar == "separate" else bands
        self.write(tmp_path / "a.tif", np.ascontiguousarray(stored), channels, planar)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), bands)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("pages", "it holds 2 images; save channels in one"),
            ("pixels", "11 x 5 pixels; cut it into tiles"),
            ("cut", r"a\.tif is no readable image \(.*\); restore it or remove it"),
            ("channels", r"a\.tif is uint16 of shape \(5, 11, 36\); expected .* up to 32 channels"),
        ],
    )
    def test_what_is_no_image_is_refused(self, tmp_path, monkeypatch, change, words):
        file = tmp_path / "a.tif"
        stored = np.tile(self.BANDS, 6) if change == "channels" else self.BANDS
        for _ in range(2 if change == "pages" else 1):
            self.write(file, stored, stored.shape[-1])
        if change == "cut":
            file.write_bytes(file.read_bytes()[:-200])
        if change == "pixels":
            monkeypatch.setattr(image_files, "MAX_PIXELS", 47)
        with pytest.raises(BadData, match=words):
            read_image(file)


class TestArrays:
    def test_an_array_has_no_colours_no_orientation_and_the_size_of_its_axes(self, tmp_path):
        np.save(tmp_path / "a.npy", COLOURS)
        assert not is_in_colours(tmp_path / "a.npy")
        assert exif_orientation(tmp_path / "a.npy") == 1
        assert image_size(tmp_path / "a.npy") == (ROWS, COLS)

    def test_one_channel_on_an_axis_of_its_own_is_grey(self, tmp_path):
        np.save(tmp_path / "a.npy", SHADES[..., None])
        np.testing.assert_array_equal(read_image(tmp_path / "a.npy"), SHADES)


def test_exif_that_is_none_turns_nothing(tmp_path):
    Image.fromarray(SHADES).save(tmp_path / "a.png", exif=b"Exif\0\0not of a TIFF")
    assert exif_orientation(tmp_path / "a.png") == 1


def test_16_bits_that_the_decoder_gives_up_are_refused(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), SIXTEEN)

    def give_up(*_):
        raise cv2.error("too deep")

    for decode, words in ((give_up, "too deep"), (lambda *_: None, "that cannot be decoded")):
        monkeypatch.setattr(cv2, "imdecode", decode)
        with pytest.raises(BadData, match=rf"a\.png is no readable image \(.*{words}"):
            read_image(tmp_path / "a.png")
