"""The ways in which pixels may be given to a network: their range, mean, deviation, and colours."""

from dataclasses import dataclass, replace

from evaluation.core.errors import BadSpec
from members.external_networks.description import NetworkDescription
from members.external_networks.network import NetworkReading

LARGEST = {"uint8": 255, "uint16": 65535}
COLOURS = 3
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of torchvision's, timm's and most others' weights."""


@dataclass(frozen=True)
class InputReading:
    """A way to give pixels to a network.

    Args:
        words: the keys that say it.
        divisor: of pixels.
        mean: per channel.
        std: per channel.
        order: of the channels.
    """

    words: str
    divisor: float
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    order: tuple[int, ...]

    def apply(self, reading: NetworkReading) -> NetworkReading:
        """Return how a network is run, with its pixels given so."""
        return reading.model_copy(
            update={
                "divisor": self.divisor,
                "mean": self.mean,
                "std": self.std,
                "channel_order": self.order,
            }
        )


def possible_inputs(
    said: NetworkDescription, kind: str, channels: int, *, takes_bytes: bool
) -> list[InputReading]:
    """Return the ways to give pixels that are possible; one where it is said.

    Args:
        said: of the network.
        kind: type of the images' values.
        channels: that the network takes.
        takes_bytes: whether its input is of 8 bits.

    Raises:
        BadSpec: what is said does not fit the images.
    """
    order = said.channel_order or tuple(range(channels))
    mean, std = said.values("mean", channels), said.values("std", channels)
    if std is not None and min(std) <= 0:
        raise BadSpec(f"std holds {min(std)}; expected numbers above 0")
    if takes_bytes:
        _check_bytes(said, kind)
    if said.input_range is not None:
        divisor = _divisor(said.input_range, kind)
        return [InputReading(f"input_range: {said.input_range}", divisor, mean, std, order)]
    if mean is None and std is None and (said.architecture or takes_bytes):
        return [InputReading("input_range: stored", 1.0, None, None, order)]
    possible = ["0..255", "0..1"] if kind == "uint8" else ["stored"]
    if kind == "uint16":
        possible += ["0..255", "0..1"]
    inputs = [
        InputReading(f"input_range: {r}", _divisor(r, kind), mean, std, order) for r in possible
    ]
    if mean is not None or std is not None or kind not in LARGEST:
        return inputs
    usual = [((0.5,) * channels, (0.5,) * channels)]
    if channels == COLOURS:
        usual.append(IMAGENET)
    return inputs + [
        InputReading(
            f"input_range: 0..1, mean: {list(m)}, std: {list(s)}",
            _divisor("0..1", kind),
            m,
            s,
            order,
        )
        for m, s in usual
    ]


def _check_bytes(said: NetworkDescription, kind: str) -> None:
    """Refuse what would be cut or wrapped when it becomes 8 bits.

    Raises:
        BadSpec: mean, std or a range of fractions, or images of another type.
    """
    scaled = [key for key in ("mean", "std") if getattr(said, key) is not None]
    scaled += ["input_range 0..1"] if said.input_range == "0..1" else []
    if scaled:
        raise BadSpec(
            f"{scaled[0]} is said, but the network takes integers of 8 bits: leave it out"
        )
    if kind != "uint8":
        raise BadSpec(f"the network takes 8 bits, and the images are {kind}: convert them")


def _divisor(input_range: str, kind: str) -> float:
    if input_range == "stored":
        return 1.0
    if kind not in LARGEST:
        raise BadSpec(
            f"input_range {input_range} needs images of 8 or 16 bits; they are {kind}: say"
            " 'stored', and mean and std"
        )
    return LARGEST[kind] / (255 if input_range == "0..255" else 1)


def swapped(one: InputReading) -> InputReading:
    """Return the same with the colours in the opposite order."""
    return replace(one, words=f"{one.words}, channel_order: bgr", order=one.order[::-1])
