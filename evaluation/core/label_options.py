"""What a user says about the classes of a data set and the values in its masks.

Values are those that masks store; the ignored class is named by its name or its class index, which
is the position among the classes.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluation.core.classes import NUM_VALUES, UNLABELLED, Classes
from evaluation.core.errors import BadLabels, BadSpec, shorten
from evaluation.core.text_files import read_lines

NONE = "none"
BINARY_NAMES = ("background", "foreground")
MAX_SHOWN = 8
TWO_READINGS = (
    "masks hold {}255; pass --foreground 255 if 255 is a class, or --unlabelled 255 if it marks"
    " missing labels"
)
TWO_CODINGS = (
    "255 without 1 is in {} of {} masks, 1 without 255 in {}, both in none; pass"
    " --unlabelled 255 if 255 marks missing labels; if it is the foreground there, write the masks"
    " with one value for it"
)
FILE_KEYS = ("names", "ignore", "colours", "values", "unlabelled", "foreground")


@dataclass(frozen=True)
class LabelOptions:
    """Options about classes; what is None or empty is left to the data.

    Args:
        names: class names, or the number of classes.
        ignore: name or index of the class that is labelled but not scored; `none` if there is
            none, like 255.
        unlabelled: value of pixels without label, besides 255.
        foreground: value of the foreground in masks of two values.
        colours: one `#rrggbb` per class.
        values: value of each class; by default 0, 1, 2, ... without that of `unlabelled`.

    Examples:
        >>> LabelOptions(unlabelled=3).resolve({0, 1, 2, 3}).values
        (0, 1, 2)
        >>> LabelOptions(foreground=255).resolve({0, 255}).names
        ('background', 'foreground')
    """

    names: tuple[str, ...] | int | None = None
    ignore: str | int | None = None
    unlabelled: int | None = None
    foreground: int | None = None
    colours: tuple[str, ...] = ()
    values: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the options by themselves."""
        if isinstance(self.ignore, bool) or not isinstance(self.ignore, str | int | None):
            raise BadSpec(f"ignored class {self.ignore!r}; expected a name, an index or {NONE}")
        for option in ("unlabelled", "foreground"):
            value = getattr(self, option)
            if value is not None and (type(value) is not int or not 0 <= value < NUM_VALUES):
                raise BadSpec(f"{option} {shorten(value)}; expected a value of masks, 0 to 255")
        if self.unlabelled is not None and self.unlabelled == self.foreground:
            raise BadSpec(f"value {self.foreground} cannot be both foreground and unlabelled")
        if isinstance(self.names, int) and not 2 <= self.names <= UNLABELLED:
            raise BadSpec(f"{self.names} classes; expected 2 to {UNLABELLED}")
        if self.foreground is not None and (self.num_classes or 2) != len(BINARY_NAMES):
            raise BadSpec(f"a foreground goes with 2 classes; {self.num_classes} are named")

    @property
    def num_classes(self) -> int | None:
        """The number of classes; None where it is left to the data."""
        if self.names is None:
            return len(BINARY_NAMES) if self.foreground is not None else None
        return self.names if isinstance(self.names, int) else len(self.names)

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return self != LabelOptions()

    @property
    def keeps_classes(self) -> bool:
        """Whether nothing is said about number, names and values of classes."""
        return replace(self, ignore=None, colours=()) == LabelOptions()

    @property
    def needs_values(self) -> bool:
        """Whether what the options mean depends on the values that occur."""
        return self.foreground is not None or self.unlabelled is not None

    def check_coding(self, present: Sequence[Collection[int]], classes: Classes) -> None:
        """Refuse masks of two classes, stored as 0 and 1, in which 255 may be the foreground.

        Then nothing of it would be scored or learnt. In all masks or in some: a folder may hold
        masks of two programs, one of which writes 1 and the other 255.

        Args:
            present: the values that occur in each mask of one set.
            classes: that they are about to be read as.

        Raises:
            BadLabels: the masks could mean two things.
        """
        said = UNLABELLED in (self.unlabelled, self.foreground)
        if said or len(classes) != 2 or not classes.stored_as_indices:
            return
        with_255 = sum(UNLABELLED in values for values in present)
        with_1 = sum(1 in values for values in present)
        if with_255 and not with_1:
            zero = any(0 in values for values in present)
            raise BadLabels(TWO_READINGS.format("0 and " if zero else "only "))
        if with_255 and not any(1 in values and UNLABELLED in values for values in present):
            raise BadLabels(TWO_CODINGS.format(with_255, len(present), with_1))

    def resolve(self, present: Collection[int], known: Classes | None = None) -> Classes:
        """Return the classes of masks.

        Args:
            present: the values that occur in the masks.
            known: what the data set says of itself, where it does.

        Raises:
            BadLabels: values that could mean several things, or that stand for no class.
            BadSpec: options that do not fit the data.
        """
        if known is not None and self.keeps_classes:
            colours, ignore = self.colours or known.colours, self.ignored_index(known, known)
            return replace(known, colours=colours, ignore=ignore)
        classes = self._foreground(present) if self.foreground is not None else None
        if classes is None:
            classes = self._numbered(present, known)
        return replace(classes, ignore=self.ignored_index(classes, known))

    def updated(self, newer: "LabelOptions") -> "LabelOptions":
        """Return these options with what is said by newer ones replaced."""
        said = {key: getattr(newer, key) for key in FILE_KEYS}
        return replace(self, **{k: value for k, value in said.items() if value not in (None, ())})

    def without_data(self) -> Classes | None:
        """Return the classes where the options alone tell them, else None."""
        if self.num_classes is None or self.needs_values:
            return None
        return self.resolve(())

    def check_against(self, contract: Classes) -> None:
        """Check that the options say what is known already, for a set that joins a run.

        Raises:
            BadSpec: they contradict it.
        """
        if not self:
            return
        count = self.num_classes
        names = self.names if isinstance(self.names, tuple) else None
        conflicts = {
            f"{count} classes": count is not None and count != len(contract),
            f"classes {names}": names is not None and names != contract.names,
            f"unlabelled {self.unlabelled}": self.unlabelled is not None
            and self.unlabelled not in contract.unlabelled,
            f"foreground {self.foreground}": self.foreground is not None
            and contract.values[-1:] != (self.foreground,),
            f"ignored class {self.ignore}": self.ignore is not None
            and self.ignored_index(contract, None) != contract.ignore,
        }
        for what, conflict in conflicts.items():
            if conflict:
                ignored = NONE if contract.ignore is None else contract.names[contract.ignore]
                raise BadSpec(
                    f"{what}; the training set has {len(contract)} classes"
                    f" ({', '.join(contract.names[:MAX_SHOWN])}), stored as"
                    f" {contract.describe_values()}, ignored: {ignored}; leave the option out"
                )

    def ignored_index(self, classes: Classes, known: Classes | None) -> int | None:
        """Return the index of the ignored class, None if every class is scored.

        Raises:
            BadSpec: no such class.
        """
        if self.ignore is None:
            return known.ignore if known is not None and len(known) == len(classes) else None
        if self.ignore in (NONE, UNLABELLED):
            return None
        if isinstance(self.ignore, int) and 0 <= self.ignore < len(classes):
            if str(self.ignore) in classes.names and classes.names[self.ignore] != str(self.ignore):
                raise BadSpec(
                    f"ignored class {self.ignore} is the index of {classes.names[self.ignore]!r}"
                    " and the name of another class; name the classes by --classes"
                )
            return self.ignore
        if isinstance(self.ignore, str) and self.ignore in classes.names:
            return classes.names.index(self.ignore)
        shown = ", ".join(classes.names[:MAX_SHOWN])
        raise BadSpec(
            f"ignored class {shorten(self.ignore)}; expected none, a class index, 0 to"
            f" {len(classes) - 1}, or one of {shown}"
        )

    def _foreground(self, present: Collection[int]) -> Classes:
        foreground = self.foreground
        assert foreground is not None
        unlabelled = {self.unlabelled} if self.unlabelled is not None else {UNLABELLED}
        others = set(present) - {foreground} - unlabelled
        if not others and UNLABELLED in present and foreground != UNLABELLED:
            others = {UNLABELLED} - {self.unlabelled}
        if len(others) > 1:
            raise BadLabels(
                f"masks hold {_shown(present)}; expected two values, foreground {foreground} and"
                " background: write the masks with one value for it, or for more classes leave"
                " --foreground out and give --classes"
            )
        background = others.pop() if others else (0 if foreground else 1)
        names = self.names if isinstance(self.names, tuple) else BINARY_NAMES
        left_out = tuple(
            value
            for value in (self.unlabelled, UNLABELLED)
            if value is not None and value not in (foreground, background)
        )
        return Classes(
            names,
            colours=self.colours,
            values=(background, foreground),
            unlabelled=tuple(dict.fromkeys(left_out)),
            foreground=1,
        )

    def _numbered(self, present: Collection[int], known: Classes | None) -> Classes:
        labelled = sorted(set(present) - {self.unlabelled, UNLABELLED})
        count = self.num_classes or (len(known) if known is not None else None)
        if self.values:
            count = count or len(self.values)
        elif count is None:
            _check_unambiguous(present, labelled, self.unlabelled)
            highest = max(labelled, default=1)
            count = max(
                2, highest + 1 - (self.unlabelled is not None and self.unlabelled < highest)
            )
        values = self.values or self._first_values(count, max(labelled, default=0))
        left_out = dict.fromkeys((self.unlabelled, UNLABELLED))
        unlabelled = tuple(v for v in left_out if v is not None and v not in values)
        names, colours = self._names(count, values, known)
        classes = Classes(names, colours=colours, values=values, unlabelled=unlabelled)
        outside = sorted(set(present) - {*values, *unlabelled})
        if outside:
            raise BadLabels(
                f"masks hold {_shown(outside)}; expected {classes.describe_values()}; name more"
                f" classes (--classes), or say --unlabelled {outside[0]}"
            )
        return classes

    def _first_values(self, count: int, highest: int) -> tuple[int, ...]:
        """Return the first values that are not the unlabelled one."""
        unlabelled = self.unlabelled
        if unlabelled is not None and unlabelled < count and highest < count:
            raise BadSpec(
                f"value {unlabelled} is unlabelled and, of {count} classes, a class too; give the"
                f" {count - 1} other classes, or a file whose `values` lists each class's value"
            )
        return tuple(value for value in range(count + 1) if value != unlabelled)[:count]

    def _names(
        self, count: int, values: tuple[int, ...], known: Classes | None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if isinstance(self.names, tuple):
            return self.names, self.colours
        if known is not None and len(known) == count:
            return known.names, self.colours or known.colours
        return tuple(map(str, values)), self.colours


NOTHING_SAID = LabelOptions()


def parse_classes(text: str) -> LabelOptions:
    """Read the option `--classes`: a number, names with commas, or a file.

    A text file holds one name per line. A YAML or JSON file holds what an experiment's `classes`
    holds: names, ignore, colours, values, unlabelled, foreground.

    Raises:
        BadSpec: anything else.

    Examples:
        >>> parse_classes("5").names, parse_classes("sky, road").names
        (5, ('sky', 'road'))
    """
    if text.isdecimal():
        return LabelOptions(int(text))
    path = Path(text)
    if path.suffix.lower() in (".yaml", ".yml", ".json", ".txt") or path.is_file():
        return _read_file(path)
    names = tuple(name.strip() for name in text.split(","))
    if len(names) < 2 or not all(names):
        raise BadSpec(
            f"classes {shorten(text)}; expected a number, two or more names with commas between"
            " them, or a file"
        )
    return LabelOptions(names)


def options_from_dict(document: Any, where: str) -> LabelOptions:
    """Return the options of a mapping, as in an experiment's `classes`.

    Raises:
        BadSpec: unknown keys or values of other types.
    """
    if not isinstance(document, dict):
        raise BadSpec(f"{where} is {type(document).__name__}; expected keys such as names, ignore")
    for key in document:
        if key not in FILE_KEYS:
            raise BadSpec(f"{where}: unknown key {shorten(key)}; known: {', '.join(FILE_KEYS)}")
    try:
        given = {key: _exact(value) for key, value in document.items() if value is not None}
        for key in ("names", "colours", "values"):
            if key in given and not (key == "names" and isinstance(given[key], int)):
                given[key] = tuple(given[key])
        options = LabelOptions(**given)
    except TypeError:
        raise BadSpec(f"{where}: names, colours and values are lists") from None
    except BadSpec as error:
        raise BadSpec(f"{where}: {error}") from None
    return options


def _exact(value: Any) -> Any:
    """Return a whole number written as 1e1 or 10.0 as an integer."""
    if isinstance(value, list):
        return [_exact(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_colours(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read a colour table: class names and colours, in the order of the class indices.

    Each line holds a name and a colour, `#rrggbb` or three numbers from 0 to 255, in either order,
    separated by blanks, tabs or commas, or `name:r,g,b::` as CVAT writes it; `#` followed by a
    blank starts a comment. A first line without digits is a heading.

    Raises:
        BadSpec: the file is missing, or a line is something else.
    """
    lines = read_lines(path, "a colour table", BadSpec)
    names, colours = [], []
    for number, line in enumerate(lines, 1):
        heading = number == 1 and not any(c.isdecimal() or c == "#" for c in line)
        if not line.strip() or line.startswith("# ") or heading:
            continue
        name, colour = _colour_line(line, f"{path}, line {number}")
        names.append(name)
        colours.append(colour)
    return tuple(names), tuple(colours)


def _colour_line(line: str, where: str) -> tuple[str, str]:
    cvat = re.fullmatch(r"([^:]+):(\d+,\d+,\d+):[^:]*:[^:]*", line.strip())
    if cvat is not None:
        line = f"{cvat[1]} {cvat[2]}"
    parts = line.replace(",", " ").split()
    hexadecimal = [part for part in parts if part.startswith("#") and len(part) == 7]
    if len(hexadecimal) == 1 and len(parts) > 1:
        return " ".join(part for part in parts if part != hexadecimal[0]), hexadecimal[0]
    for numbers, words in ((parts[:3], parts[3:]), (parts[-3:], parts[:-3])):
        if words and len(numbers) == 3 and all(n.isdecimal() and int(n) < 256 for n in numbers):
            return " ".join(words), "#" + "".join(f"{int(n):02x}" for n in numbers)
    raise BadSpec(
        f"{where} holds {shorten(line)}; expected a class name and a colour, such as 'road 128 64"
        " 128' or 'road #804080'"
    )


def _read_file(path: Path) -> LabelOptions:
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        from evaluation.core.safe_yaml import read_yaml

        return options_from_dict(read_yaml(path, "a file of class names"), str(path))
    lines = read_lines(path, "one class name per line", BadSpec)
    return LabelOptions(tuple(line.strip() for line in lines if line.strip()))


def _check_unambiguous(
    present: Collection[int], labelled: Sequence[int], unlabelled: int | None
) -> None:
    """Refuse values that could be class indices or something else."""
    if len(labelled) < 2 and UNLABELLED in present and unlabelled != UNLABELLED:
        raise BadLabels(TWO_READINGS.format(f"{labelled[0]} and " if labelled else "only "))
    missing = max(labelled, default=0) + 1 - len(labelled) - (unlabelled is not None)
    if missing > 2 * len(labelled):
        two = len(labelled) == 2
        binary = (
            f"--foreground {labelled[-1]} if these are background and foreground, " if two else ""
        )
        raise BadLabels(
            f"masks hold {_shown(labelled)}; pass {binary}--classes {labelled[-1] + 1} if these are"
            " class indices, or --classes FILE.yaml whose `values` lists the value of each class"
        )


def _shown(values: Collection[int]) -> str:
    shown = ", ".join(str(value) for value in sorted(values)[:MAX_SHOWN])
    return shown if len(values) <= MAX_SHOWN else f"{shown}, ..."
