"""Class names, colours, the ignored class, and the values that masks store for classes."""

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from evaluation.core.errors import BadData, BadLabels, shorten

if TYPE_CHECKING:
    from evaluation.core.types import Array

COLOUR = re.compile("#[0-9a-fA-F]{6}")

UNLABELLED = 255
"""Label of a pixel that annotators left out, once a mask is mapped to class indices."""

NUM_VALUES = 256
MAX_SHOWN = 3

PALETTE = tuple(
    COLOUR.findall(
        "#000000 #E69F00 #56B4E9 #F0E442 #D55E00 #009E73 #0072B2 #CC79A7 "
        "#0000FF #00FF00 #FF00E1 #0F0078 #FF005A #5A5A00 #69000F #4BA500 "
        "#A578FF #00FF96 #D2F0A5 #00FFFF #FFA587 #5A0F4B #D20087 #005A5A "
        "#FF0000 #870FD2 #B4FF3C #FFE1FF #002D00 #5A3C2D #001E4B #FF87F0 "
        "#0087FF #0F690F #B4A5F0 #C3A55A #870087 #5A4BA5 #874B0F #C3F0E1"
    )
)
"""Okabe and Ito's colours, which colour-blind readers can tell apart, black for the class that is
usually ignored; then, each in turn, the colour that is farthest from all before it in CIELAB. Any
two of the 40 lie 26 or more apart."""


@cache
def distinct_colours(count: int) -> tuple[str, ...]:
    """Return so many different colours, up to 255: those of `PALETTE`, then others likewise.

    Each further one is the colour, of 5,832 evenly spaced ones, that is farthest in CIELAB from all
    before it. Any two of 150 lie 17 or more apart, of 255 13 or more; about 2 can just be seen.
    """
    if count <= len(PALETTE):
        return PALETTE[:count]
    import numpy as np

    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3, indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    known = np.array([[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in PALETTE])
    places, colours = _cielab(grid), list(PALETTE)
    nearest = np.min([np.linalg.norm(places - one, axis=1) for one in _cielab(known)], axis=0)
    while len(colours) < count:
        farthest = int(np.argmax(nearest))
        colours.append("#{:02X}{:02X}{:02X}".format(*grid[farthest]))
        nearest = np.minimum(nearest, np.linalg.norm(places - places[farthest], axis=1))
    return tuple(colours)


def _cielab(colours: "Array") -> "Array":
    """Return colours of sRGB, 0 to 255, as CIELAB under the white point D65.

    References:
        IEC 61966-2-1, sRGB; CIE 15, "Colorimetry": the uniform colour space CIELAB.
    """
    import numpy as np

    share = np.asarray(colours) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ to_xyz.T / to_xyz.sum(axis=1)
    cut = 6 / 29
    root = np.where(xyz > cut**3, np.cbrt(xyz), xyz / (3 * cut**2) + 4 / 29)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@dataclass(frozen=True)
class Classes:
    """Names and colours of the classes 0, 1, 2, ..., and the values that masks store for them.

    Args:
        names: one per class, in the order of the class indices; 2 to 255 of them.
        ignore: index of the class that is labelled but not scored; None if every class is scored.
        colours: one `#rrggbb` per class; by default those of `distinct_colours`.
        values: the value, 0 to 255, that masks store for each class; by default its index.
        unlabelled: stored values of pixels that annotators left out. A value that no class has
            and that is not named here is an error in a mask.
        foreground: index of the class that a binary segmentation is about, where it was declared.

    Examples:
        >>> import numpy as np
        >>> classes = Classes(("sky", "sand", "rock"), ignore=0)
        >>> len(classes), classes.scored
        (3, (1, 2))
        >>> nuclei = Classes(("background", "nucleus"), values=(0, 255), unlabelled=())
        >>> nuclei.indices(np.array([[0, 255]], np.uint8)).tolist()
        [[0, 1]]
        >>> nuclei.stored(np.array([[0, 1]], np.uint8)).tolist()
        [[0, 255]]
    """

    names: tuple[str, ...]
    ignore: int | None = None
    colours: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    unlabelled: tuple[int, ...] = (UNLABELLED,)
    foreground: int | None = None

    def __post_init__(self) -> None:
        """Check the fields, and fill in colours and stored values."""
        count = len(self.names)
        if not 2 <= count <= UNLABELLED:
            raise BadData(f"{count} classes named; expected 2 to {UNLABELLED}")
        bad_names = [n for n in self.names if not isinstance(n, str) or not n.isprintable()]
        if bad_names:
            raise BadData(f"class name {shorten(bad_names[0])}; expected a word")
        if len(set(self.names)) < count:
            repeated = next(name for name in self.names if self.names.count(name) > 1)
            raise BadData(f"class name {repeated!r} is given twice; expected distinct names")
        for what, index in (("ignored class", self.ignore), ("foreground", self.foreground)):
            if index is not None and not 0 <= index < count:
                raise BadData(f"{what} {index}; expected 0 to {count - 1}")
        if not self.colours:
            object.__setattr__(self, "colours", distinct_colours(count))
        if len(self.colours) != count:
            raise BadData(
                f"{len(self.colours)} colours for {count} classes; expected one per class"
            )
        bad = [c for c in self.colours if not (isinstance(c, str) and COLOUR.fullmatch(c))]
        if bad:
            raise BadData(f"colour {shorten(bad[0])}; expected #rrggbb")
        if not self.values:
            object.__setattr__(self, "values", tuple(range(count)))
        _check_values(self.values, self.unlabelled, count)

    def __len__(self) -> int:
        """Return the number of classes, the ignored one included."""
        return len(self.names)

    @property
    def scored(self) -> tuple[int, ...]:
        """The class indices that are scored."""
        return tuple(label for label in range(len(self)) if label != self.ignore)

    @property
    def stored_as_indices(self) -> bool:
        """Whether masks store the class indices themselves, and 255 where nothing is labelled."""
        return self.values == tuple(range(len(self))) and self.unlabelled in ((UNLABELLED,), ())

    def describe_values(self, *, complete: bool = False) -> str:
        """Return the values that a mask may hold, such as `0 to 10, or 255 for unlabelled`."""
        first, last = self.values[0], self.values[-1]
        contiguous = self.values == tuple(range(first, last + 1))
        text = f"{first} to {last}" if contiguous else ", ".join(map(str, self.values))
        unlabelled = "" if complete else " or ".join(map(str, self.unlabelled))
        return text + (f", or {unlabelled} for unlabelled" if unlabelled else "")

    def indices(self, stored: "Array", *, complete: bool = False) -> "Array":
        """Return the class indices, uint8, of stored values; 255 where nothing is labelled.

        Args:
            stored: values as masks store them, integers of any shape.
            complete: whether every pixel must have a class, as in predictions.

        Raises:
            BadLabels: a value that stands for no class.
        """
        import numpy as np

        table = np.full(NUM_VALUES, UNLABELLED, np.uint8)
        table[list(self.values)] = range(len(self))
        known = [*self.values, *([] if complete else self.unlabelled)]
        outside = ~np.isin(stored, known)
        if outside.any():
            values = ", ".join(map(str, np.unique(stored[outside])[:MAX_SHOWN]))
            raise BadLabels(f"holds {values}; expected {self.describe_values(complete=complete)}")
        return np.asarray(table[stored])

    def stored(self, labels: "Array") -> "Array":
        """Return the values, uint8, that masks store for class indices (0 to `len(self) - 1`)."""
        import numpy as np

        return np.asarray(np.array(self.values, np.uint8)[labels])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values that `from_dict` reads."""
        return {
            "names": list(self.names),
            "ignore": self.ignore,
            "colours": list(self.colours),
            "values": list(self.values),
            "unlabelled": list(self.unlabelled),
            "foreground": self.foreground,
        }

    @classmethod
    def from_dict(cls, document: Any) -> "Classes":
        """Read what `to_dict` returned.

        Raises:
            BadData: anything else.
        """
        try:
            return cls(
                tuple(document["names"]),
                document["ignore"],
                tuple(document["colours"]),
                tuple(document.get("values", ())),
                tuple(document.get("unlabelled", (UNLABELLED,))),
                document.get("foreground"),
            )
        except (KeyError, TypeError, AttributeError):
            raise BadData("classes lack names, ignore or colours") from None


def _check_values(values: tuple[int, ...], unlabelled: tuple[int, ...], count: int) -> None:
    if len(values) != count:
        raise BadData(f"{len(values)} stored values for {count} classes; expected one per class")
    used = [*values, *unlabelled]
    for value in used:
        if type(value) is not int or not 0 <= value < NUM_VALUES:
            raise BadData(f"stored value {shorten(value)}; expected a whole number, 0 to 255")
    if len(set(used)) < len(used):
        repeated = next(value for value in used if used.count(value) > 1)
        raise BadData(f"stored value {repeated} stands for two classes; expected distinct values")


MARS = Classes(("background", "soil", "bedrock", "sand", "big rock"), ignore=0)


def numbered(count: int, *, ignore: int | None) -> Classes:
    """Return classes that are named by their index, for data without class names."""
    return Classes(tuple(str(index) for index in range(count)), ignore=ignore)
