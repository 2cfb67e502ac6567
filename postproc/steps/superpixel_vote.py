"""One opinion for each superpixel of the picture."""

from typing import Annotated

from pydantic import Field

from evaluation.ground.arrays import Map, Pictures
from postproc.step import Step
from postproc.superpixels import averaged, superpixels


def superpixel_vote(
    *,
    size_px: Annotated[int, Field(ge=2, le=255)] = 8,
    compactness: Annotated[float, Field(gt=0, le=1000)] = 20.0,
    iterations: Annotated[int, Field(ge=1, le=100)] = 5,
) -> Step:
    """Average the maps over superpixels of the picture: patches of about one size and one colour.

    So labels change where the picture does, and a patch has one label. Superpixels end with the
    picture; those at the lower and right border may be smaller. Colours count as they are, a grey
    picture as three equal channels.

    Args:
        size_px: side of a superpixel, about, in pixels.
        compactness: the difference in grey levels of 0 to 255 that counts as much as one such
            side: the higher, the more the superpixels are squares.
        iterations: how often the superpixels' centres move.

    Source: Achanta, Shaji, Smith, Lucchi, Fua and Süsstrunk, "SLIC Superpixels Compared to
        State-of-the-art Superpixel Methods", IEEE TPAMI 2012.
    """

    def apply(maps: Map, pictures: Pictures | None) -> Map:
        assert pictures is not None
        count, owners = superpixels(
            pictures, size_px=size_px, compactness=compactness, iterations=iterations
        )
        return averaged(maps, owners, count)

    return Step("maps", "maps", apply, needs_pictures=True)
