"""Class names, colours and the ignored class of a data set."""

import re
from dataclasses import dataclass, field
from typing import Any

from evaluation.core.errors import BadData, shorten

COLOUR = re.compile("#[0-9a-fA-F]{6}")

UNLABELLED = 255
"""The label of a pixel that annotators left out, in every mask we read; never a class."""

# Okabe and Ito's palette, which colour-blind readers can distinguish; black is the ignored class.
PALETTE = ("#000000", "#E69F00", "#56B4E9", "#F0E442", "#D55E00", "#009E73", "#0072B2", "#CC79A7")


@dataclass(frozen=True)
class Classes:
    """Names and colours of the labels 0, 1, 2, ...

    Args:
        names: one per class, in the order of the labels; 2 to 255 of them.
        ignore: the class that is not scored; None if every class is.
        colours: one `#rrggbb` per class; by default a palette for colour-blind readers, repeated.

    Examples:
        >>> classes = Classes(("sky", "sand", "rock"), ignore=0)
        >>> len(classes), classes.scored
        (3, (1, 2))
    """

    names: tuple[str, ...]
    ignore: int | None = None
    colours: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check the fields and fill in colours."""
        count = len(self.names)
        if not 2 <= count <= UNLABELLED:
            raise BadData(f"{count} classes named; expected 2 to {UNLABELLED}")
        bad_names = [n for n in self.names if not isinstance(n, str) or not n.isprintable()]
        if bad_names:
            raise BadData(f"class name {shorten(bad_names[0])}; expected a word")
        if len(set(self.names)) < count:
            raise BadData(f"class names {', '.join(self.names)} repeat; expected distinct names")
        if self.ignore is not None and not 0 <= self.ignore < count:
            raise BadData(f"ignored class {self.ignore}; expected 0 to {count - 1}")
        if not self.colours:
            colours = tuple(PALETTE[index % len(PALETTE)] for index in range(count))
            object.__setattr__(self, "colours", colours)
        if len(self.colours) != count:
            raise BadData(
                f"{len(self.colours)} colours for {count} classes; expected one per class"
            )
        bad = [c for c in self.colours if not (isinstance(c, str) and COLOUR.fullmatch(c))]
        if bad:
            raise BadData(f"colour {shorten(bad[0])}; expected #rrggbb")

    def __len__(self) -> int:
        """Return the number of classes, the ignored one included."""
        return len(self.names)

    @property
    def scored(self) -> tuple[int, ...]:
        """The labels that are scored."""
        return tuple(label for label in range(len(self)) if label != self.ignore)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values that `from_dict` reads."""
        return {"names": list(self.names), "ignore": self.ignore, "colours": list(self.colours)}

    @classmethod
    def from_dict(cls, document: Any) -> "Classes":
        """Read what `to_dict` returned.

        Raises:
            BadData: anything else.
        """
        try:
            names, colours = tuple(document["names"]), tuple(document["colours"])
            return cls(names, document["ignore"], colours)
        except (KeyError, TypeError):
            raise BadData("classes lack names, ignore or colours") from None


MARS = Classes(("background", "soil", "bedrock", "sand", "big rock"), ignore=0)


def numbered(count: int, *, ignore: int | None) -> Classes:
    """Return classes that are named by their index, for data without class names."""
    return Classes(tuple(str(index) for index in range(count)), ignore=ignore)
