"""Files of images and masks: the only place where they are opened.

Images come as they are viewed: turned by their EXIF orientation, 2 and 4 bits spread over the 8-bit
range, palettes resolved. Masks come as they are stored: class indices, whatever their colours, but
turned like images. What would change in silence is refused: transparency, lossy masks, and all but
the first image of a file.
"""

import struct
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath

import numpy as np
from PIL import ExifTags, Image, ImageFile

from evaluation.core.errors import BadData, BadLabels
from evaluation.core.files import open_array
from evaluation.core.ragged import Size
from evaluation.core.types import Array

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".npy")
IMAGE_SUFFIXES = (*MASK_SUFFIXES, ".jpg", ".jpeg", ".webp")
SIDECARS = (
    *(".txt", ".md", ".csv", ".json", ".xml", ".yaml", ".yml", ".html", ".log", ".ini", ".db"),
    *(".lbl", ".pgw", ".jgw", ".tfw", ".wld"),
)
"""Suffixes of files that describe images and are expected beside them."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""Pillow recognises dozens more by content, some of which start other programs."""

MPO = "MPO"
"""JPEG of a camera or phone: the image, then previews or other views of it."""

MAX_PIXELS = 1 << 26
"""8192 x 8192: a file of a few kB may unpack to any number."""

MAX_BYTE = 255
RGBA, MAX_CHANNELS = 4, 32
SAMPLES_PER_PIXEL, EXTRA_SAMPLES = 277, 338
"""Tags of TIFF: the number of channels, and what those beyond grey or RGB are."""

SIXTEEN_TO_EIGHT = 257
"""65535 / 255."""

MAX_TWELVE_BITS = 4095
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
"""A tag of TIFF, and its value for inverted grey levels."""

SIXTEEN_BITS = ("RGB;16", "RGBA;16", "RGBX;16", "RGBa;16", "LA;16")
"""Decoders of Pillow's that drop the lower 8 bits."""

LOSSY = ("JPEG", MPO, "WEBP")
LOSSY_COMPRESSIONS = ("jpeg", "tiff_jpeg", "webp")
SPREAD = {"L;2": 85, "L;2R": 85, "L;4": 17, "L;4R": 17}
"""What Pillow multiplies grey levels of 2 and 4 bits by, by the name of its decoder."""

TURNS: dict[int, Callable[[Array], Array]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""From stored to viewed pixels, by EXIF orientation (Exif 2.32, tag 274)."""

SWAPPING = (5, 6, 7, 8)
"""Orientations that swap rows and columns; of a TIFF, Pillow gives the size as viewed."""

PNG_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
"""What a PNG that has an orientation holds, before or after its pixels."""

MAX_SHOWN = 3
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
UNREADABLE = (OSError, ValueError, SyntaxError, struct.error, *BOMBS)
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is the lower one

ONE_IMAGE = "images; save channels in one (as rasterio does) or as .npy, images as own files"


def list_files(
    folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES, *, check_rest: bool = True
) -> dict[str, Path]:
    """List a folder's files by their names without suffix, which are the ids, sorted.

    Capitals in suffixes do not matter.

    Args:
        folder: to list; what lies in its folders is not listed.
        suffixes: of the files wanted.
        check_rest: refuse a folder that also holds something that would be left out, other than
            hidden files and descriptions (`.txt`, `.json`, ...).

    Returns:
        Empty where no file has one of the suffixes.

    Raises:
        BadData: two files of one name, a broken link or a pipe, or something left out.
    """
    entries = sorted((id_of(file), file) for file in folder.iterdir())
    files: dict[str, Path] = {}
    rest = []
    for name, file in entries:
        if file.suffix.lower() not in suffixes or file.is_dir() or name.startswith("."):
            rest.append(file)
            continue
        if not file.is_file():
            raise BadData(f"{file} is a broken link or no regular file; replace it or remove it")
        if name in files:
            raise BadData(f"{folder} holds {files[name].name} and {file.name}; remove one")
        files[name] = file
    if check_rest and files:
        _check_rest(folder, rest, suffixes)
    return files


def id_of(file: PurePath) -> str:
    """Return a file's name without suffix, in Unicode's composed form (NFC).

    Some systems write an accent as a character of its own: the names of an image and its mask
    that were saved on two systems differ, though they look the same.
    """
    return unicodedata.normalize("NFC", file.stem)


def read_image(file: Path) -> Array:
    """Read an image as it is viewed.

    Returns:
        (row, col), or (row, col, channel) for RGB and for TIFF and `.npy` of up to 32 channels;
        uint8, uint16 or float32, as stored.

    Raises:
        BadData: missing, damaged, transparent, several images, too many pixels, or anything but
            grey, RGB or channels of one of these types.
    """
    if file.suffix.lower() == ".npy":
        return _read_image_array(file)
    if file.suffix.lower() in (".tif", ".tiff") and _has_bands(file):
        return _read_tiff(file)
    with _opened(file) as image:
        decoder = _decoder(image)
        if decoder.startswith(SIXTEEN_BITS):
            pixels = _turned(_decode_16_bits(file), _orientation(image))
            image.load()  # finds damage, over which OpenCV passes
            return _without_alpha(file, pixels[..., [0, 3]] if "LA" in decoder else pixels)
        if "transparency" in image.info and image.mode != "P":
            raise BadData(f"{file} marks a colour as transparent; save it without transparency")
        image.load()
        return _without_alpha(file, _turned(_viewed(file, image), _orientation(image)))


def read_image_uint8(file: Path) -> Array:
    """Read an image with 8 bits per channel: 16 bits are divided by 257, so 65535 becomes 255.

    The range of the type counts, never that of one image: images stay comparable, none is clipped.

    Raises:
        BadData: see `read_image`; also floating point, and 16 bits of which 12 or fewer are used,
            which would come out nearly black.
    """
    image = read_image(file)
    if image.dtype == np.uint8:
        return image
    if image.dtype != np.uint16:
        raise BadData(f"{file} is {image.dtype}; expected 8 or 16 bits, grey or RGB")
    highest = int(image.max(initial=0))
    if 0 < highest <= MAX_TWELVE_BITS:
        raise BadData(
            f"{file} holds values up to {highest} in 16 bits; expected the range up to 65535, or"
            " 8 bits, grey or RGB: scale all images by one factor and save them again"
        )
    return (image // SIXTEEN_TO_EIGHT).astype(np.uint8)


def to_grey(image: Array) -> Array:
    """Return a uint8 image (row, col) or (row, col, 3) as grey levels (ITU-R 601 luma)."""
    return image if image.ndim == 2 else np.asarray(Image.fromarray(image).convert("L"))


def read_labels(file: Path, *, first_channel: bool = False) -> Array:
    """Read class indices as they are stored.

    1, 2, 4, 8 and 16 bits and palettes: the numbers in the file, not the colours shown.

    Args:
        file: PNG, TIFF, BMP or `.npy`.
        first_channel: take the red channel of a mask in colours, which is refused otherwise.

    Returns:
        Integers (row, col); uint8 for at most 8 bits.

    Raises:
        BadData: missing, damaged, several images or too many pixels.
        BadLabels: lossy compression, colours, floating point, or inverted grey levels.
    """
    if file.suffix.lower() == ".npy":
        return _read_label_array(file)
    with _opened(file) as image:
        if image.format in LOSSY or image.info.get("compression") in LOSSY_COMPRESSIONS:
            raise BadLabels(
                f"{file} is stored as {image.format} with lossy compression, which changes class"
                " indices; expected PNG, TIFF, BMP or .npy"
            )
        if _is_inverted(image):
            raise BadLabels(f"{file} stores 0 as white; expected class indices with 0 as black")
        divisor = SPREAD.get(_decoder(image), 1)
        image.load()
        labels = _turned(np.asarray(image), _orientation(image))
        if first_channel and labels.ndim == 3 and not _decoder(image).startswith(SIXTEEN_BITS):
            labels = labels[..., 0]
    if labels.ndim != 2 or labels.dtype.kind not in "uib":
        raise BadLabels(f"{file} has mode {image.mode}; expected class indices, one per pixel")
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    labels = labels.astype(labels.dtype.newbyteorder("="), copy=False)
    return np.asarray(labels // labels.dtype.type(divisor))


def read_mask(file: Path, *, first_channel: bool = False) -> Array:
    """Read class indices as uint8, (row, col); see `read_labels`.

    Raises:
        BadLabels: also an index below 0 or above 255.
    """
    labels = read_labels(file, first_channel=first_channel)
    outside = labels[(labels < 0) | (labels > MAX_BYTE)]
    if len(outside):
        raise BadLabels(
            f"{file} holds {np.unique(outside)[:MAX_SHOWN].tolist()}; expected class indices from 0"
            f" to {MAX_BYTE}"
        )
    return labels.astype(np.uint8, copy=False)


def is_in_colours(file: Path) -> bool:
    """Tell whether a mask stores red, green and blue, from its header alone.

    Raises:
        BadData: missing or damaged.
    """
    if file.suffix.lower() == ".npy":
        return False
    with _opened(file) as image:
        return image.format not in LOSSY and image.mode in ("RGB", "RGBA")


def exif_orientation(file: Path) -> int:
    """Return the EXIF orientation of an image file, 1 to 8; 1 where it has none.

    Raises:
        BadData: missing or damaged.
    """
    if file.suffix.lower() == ".npy":
        return 1
    with _opened(file) as image:
        return _orientation(image)


def image_size(file: Path) -> Size:
    """Return rows and columns of an image or mask as it is viewed, from its header.

    Raises:
        BadData: missing or damaged.
    """
    if file.suffix.lower() == ".npy":
        rows, cols = open_array(file).shape[:2]
        return rows, cols
    with _opened(file) as image:
        rows, cols = image.height, image.width
        if image.format == "PNG" and not any(mark in file.read_bytes() for mark in PNG_EXIF):
            return rows, cols  # Pillow would decode all pixels to look behind them
        turned = image.format != "TIFF" and _orientation(image) in SWAPPING
        return (cols, rows) if turned else (rows, cols)


@contextmanager
def _opened(file: Path) -> Iterator[ImageFile.ImageFile]:
    try:
        # Not by its name: Pillow would map a turned TIFF into memory with rows and columns swapped.
        with file.open("rb") as content, Image.open(content, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels; cut it into tiles")
            if image.format == "BMP":
                _check_bmp(file, image)
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != MPO:
                raise ValueError(f"it holds {frames} {ONE_IMAGE}")
            yield image
    except FileNotFoundError:
        raise BadData(f"{file} is missing; expected an image") from None
    except UNREADABLE as error:
        raise BadData(f"{file} is no readable image ({error}); restore it or remove it") from None


def _check_rest(folder: Path, rest: Sequence[Path], suffixes: Sequence[str]) -> None:
    """Refuse what would be left out: other files, and folders that hold files like the listed."""
    left_out = [
        file.name
        for file in rest
        if not file.name.startswith(".")
        and (
            any(i.suffix.lower() in suffixes and i.name[0] != "." for i in file.iterdir())
            if file.is_dir()
            else file.suffix.lower() not in SIDECARS
        )
    ]
    if left_out:
        raise BadData(
            f"{folder} holds {len(left_out)} files or folders that would be left out (first:"
            f" {', '.join(left_out[:MAX_SHOWN])}); expected {', '.join(suffixes)}: convert them, or"
            " move them elsewhere"
        )


def _check_bmp(file: Path, image: ImageFile.ImageFile) -> None:
    """Refuse what Pillow reads as other bits than stored: few colours that are levels of grey."""
    with file.open("rb") as opened:
        head = opened.read(30)
    bits = struct.unpack_from("<H", head, 24 if head[14] == 12 else 28)[0]
    if bits != {"1": 1, "L": 8}.get(image.mode, bits):
        raise ValueError(f"{bits} bits per pixel with a palette of grey levels; save it as PNG")


def _decoder(image: ImageFile.ImageFile) -> str:
    """Name Pillow's decoder, which knows the bits stored; "" where the format has one only."""
    if not image.tile:
        return ""
    args = image.tile[0][3]
    return str(args[0] if isinstance(args, tuple) else args)


def _orientation(image: ImageFile.ImageFile) -> int:
    """Return the EXIF orientation; 1 for a TIFF once it is loaded, since Pillow then turns it."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (*UNREADABLE, TypeError, LookupError):  # damaged EXIF turns no image in any viewer
        return 1
    return orientation if orientation in TURNS else 1


def _turned(pixels: Array, orientation: int) -> Array:
    turn = TURNS.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _is_inverted(image: ImageFile.ImageFile) -> bool:
    return getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO


def _viewed(file: Path, image: ImageFile.ImageFile) -> Array:
    mode = image.mode
    if mode == "1":
        return np.asarray(image.convert("L"))
    if mode == "P":
        colours = np.asarray(image.convert("RGBA"))
        is_grey = (colours[..., :1] == colours[..., 1:3]).all()
        return colours[..., [0, 3]] if is_grey else colours
    if mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint16)
        return np.iinfo(np.uint16).max - grey if _is_inverted(image) else grey
    if mode in ("L", "LA", "RGB", "RGBA", "F"):
        return np.asarray(image)
    raise BadData(f"{file} has mode {mode}; expected grey or RGB")


def _without_alpha(file: Path, pixels: Array) -> Array:
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return pixels
    opaque = np.iinfo(pixels.dtype).max
    if (pixels[..., -1] != opaque).any():
        raise BadData(
            f"{file} is transparent in places; expected opaque grey or RGB: save it without alpha"
        )
    colours = pixels[..., :-1]
    return np.ascontiguousarray(colours[..., 0] if colours.shape[2] == 1 else colours)


def _decode_16_bits(file: Path) -> Array:
    """Return (row, col, 3 or 4), uint16: Pillow reads colours of 16 bits as 8."""
    import cv2

    content = np.frombuffer(file.read_bytes(), np.uint8)
    try:
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(str(error)) from None
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise ValueError("16 bits per channel that cannot be decoded")
    return np.asarray(pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]])


def _has_bands(file: Path) -> bool:
    """Tell whether a TIFF holds channels that Pillow would drop, take for alpha, or not read.

    False for what is damaged: Pillow says what is wrong.
    """
    import tifffile

    try:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            samples, extra = page.tags.get(SAMPLES_PER_PIXEL), page.tags.get(EXTRA_SAMPLES)
            channels = 1 if samples is None else int(samples.value)
            alpha = extra is not None and any(extra.value)
            floating = channels > 1 and page.dtype is not None and page.dtype.kind == "f"
            return floating or channels > RGBA or (channels in (2, RGBA) and not alpha)
    except (*UNREADABLE, tifffile.TiffFileError, LookupError, TypeError, AttributeError):
        return False


def _read_tiff(file: Path) -> Array:
    import tifffile

    try:
        with tifffile.TiffFile(file) as tiff:
            if len(tiff.pages) > 1:
                raise ValueError(f"it holds {len(tiff.pages)} {ONE_IMAGE}")
            page = tiff.pages.first
            if page.imagelength * page.imagewidth > MAX_PIXELS:
                raise ValueError(
                    f"{page.imagewidth} x {page.imagelength} pixels; cut it into tiles"
                )
            pixels = page.asarray()
            if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                pixels = np.moveaxis(pixels, 0, -1)
    except (*UNREADABLE, tifffile.TiffFileError, LookupError, TypeError, RuntimeError) as error:
        raise BadData(f"{file} is no readable image ({error}); restore it or remove it") from None
    return _checked_array(file, pixels.astype(pixels.dtype.newbyteorder("="), copy=False))


def _read_image_array(file: Path) -> Array:
    return _checked_array(file, open_array(file))


def _checked_array(file: Path, array: Array) -> Array:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    channels = 1 if array.ndim == 2 else array.shape[-1]
    if (
        array.dtype not in (np.uint8, np.uint16, np.float32)
        or array.ndim not in (2, 3)
        or channels > MAX_CHANNELS
    ):
        raise BadData(
            f"{file} is {array.dtype} of shape {array.shape}; expected (row, col) or (row, col,"
            f" channel) of uint8, uint16 or float32, with up to {MAX_CHANNELS} channels"
        )
    return np.array(array)


def _read_label_array(file: Path) -> Array:
    array = open_array(file)
    if array.ndim != 2 or array.dtype.kind not in "uib":
        raise BadLabels(
            f"{file} is {array.dtype} of shape {array.shape}; expected integers (row, col)"
        )
    return np.array(array, np.uint8 if array.dtype == bool else None)
