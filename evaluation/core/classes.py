"""Class names, colours and the ignored class of a data set."""

import re
from dataclasses import dataclass, field
from typing import Any

from evaluation.core.errors import BadData, shorten

COLOUR = re.compile("#[0-9a-fA-F]{6}")

UNLABELLED = 255
"""The label of a pixel that annotators left out, in every mask we read; never a class."""

# Okabe and Ito's palette, told apart by colour-blind readers too; black is the ignored class.
PALETTE = ("#000000", "#E69F00", "#56B4E9", "#F0E442", "#D55E00", "#009E73", "#0072B2", "#CC79A7")


@dataclass(frozen=True)
class Classes:
    """What the labels 0, 1, 2, ... mean.

    Args:
        names: one name a class, in the order of the labels; 2 to 255 of them.
        ignore: the class that is not scored, or None where every class is.
        colours: one `#rrggbb` a class; by default a palette for colour-blind readers, repeated.
    """

    names: tuple[str, ...]
    ignore: int | None = None
    colours: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check the numbers; fill in colours."""
        count = len(self.names)
        if not 2 <= count <= UNLABELLED:
            raise BadData(f"{count} classes named; expected 2 to {UNLABELLED}")
        odd = [name for name in self.names if not isinstance(name, str) or not name.isprintable()]
        if odd:
            raise BadData(f"class name {shorten(odd[0])}; expected a word")
        if len(set(self.names)) < count:
            raise BadData(f"class names {', '.join(self.names)} repeat; expected distinct names")
        if self.ignore is not None and not 0 <= self.ignore < count:
            raise BadData(f"ignored class {self.ignore}; expected 0 to {count - 1}")
        if not self.colours:
            colours = tuple(PALETTE[index % len(PALETTE)] for index in range(count))
            object.__setattr__(self, "colours", colours)
        if len(self.colours) != count:
            raise BadData(f"{len(self.colours)} colours for {count} classes; expected one a class")
        strange = [c for c in self.colours if not (isinstance(c, str) and COLOUR.fullmatch(c))]
        if strange:
            raise BadData(f"colour {shorten(strange[0])}; expected #rrggbb")

    def __len__(self) -> int:
        """Return how many classes there are, the ignored one included."""
        return len(self.names)

    def document(self) -> dict[str, Any]:
        """Return them as a JSON document, which `from_document` reads."""
        return {"names": list(self.names), "ignore": self.ignore, "colours": list(self.colours)}

    @classmethod
    def from_document(cls, document: Any) -> "Classes":
        """Read a JSON document.

        Raises:
            BadData: something else.
        """
        try:
            names, colours = tuple(document["names"]), tuple(document["colours"])
            return cls(names, document["ignore"], colours)
        except (KeyError, TypeError):
            raise BadData("classes lack names, ignore or colours") from None

    @property
    def scored(self) -> tuple[int, ...]:
        """The labels that are scored."""
        return tuple(label for label in range(len(self)) if label != self.ignore)


MARS = Classes(("background", "soil", "bedrock", "sand", "big rock"), ignore=0)


def numbered(count: int, *, ignore: int | None) -> Classes:
    """Name classes by their index, for data that comes without names."""
    return Classes(tuple(str(index) for index in range(count)), ignore=ignore)
