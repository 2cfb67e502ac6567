"""Images of any number of channels for kernels on colour."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from evaluation.core.errors import BadData
from postproc.chain import parse_chain
from postproc.projection import project_to_rgb


def _image_of_three_factors(channels: int, seed: int) -> Any:
    """Draw an image (1, channel, row, col) of channels that mix three factors."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(0, 12, (3, 8, 9))
    mixed = np.einsum("cf,fij->cij", rng.normal(size=(channels, 3)), factors)
    return (128 + mixed).clip(0, 255).round().astype(np.uint8)[None]


def _distances(image: Any) -> Any:
    pixels = image[0].reshape(image.shape[1], -1).T.astype(float)
    return np.linalg.norm(pixels[:, None] - pixels, axis=2)


@pytest.mark.parametrize("channels", [2, 4, 6, 12])
def test_distances_are_those_of_the_channels_scaled_to_three(channels: int) -> None:
    """Rounding to whole levels moves each of three coordinates by half a level at most."""
    image = _image_of_three_factors(channels, seed=channels)
    expected = np.sqrt(3 / channels) * _distances(image)
    assert np.abs(_distances(project_to_rgb(image)) - expected).max() < 2.5


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_equal_channels_stay_grey(channels: int) -> None:
    """The reach in grey levels is that of an image of one channel."""
    grey = np.random.default_rng(0).integers(0, 256, (2, 1, 7, 8), dtype=np.uint8)
    assert_array_equal(
        project_to_rgb(np.repeat(grey, channels, axis=1)), np.repeat(grey, 3, axis=1)
    )


def test_a_constant_image_is_constant() -> None:
    """No direction varies."""
    assert (project_to_rgb(np.full((1, 4, 5, 5), 70, np.uint8)) == 70).all()


def test_crf_of_four_channels_must_be_asked_for() -> None:
    """The line names the option; with it the result is that of the projected image."""
    maps = np.random.default_rng(0).dirichlet(np.ones(3), (1, 8, 9)).transpose(0, 3, 1, 2)
    maps = maps.astype(np.float32)
    image = _image_of_three_factors(4, seed=1)
    with pytest.raises(BadData, match=r"1 or 3 channels.*crf\(projection=pca\)"):
        parse_chain("crf", classes=3, ignore=None)(maps, image)
    asked, plain = (
        parse_chain(chain, classes=3, ignore=None) for chain in ("crf(projection=pca)", "crf")
    )
    assert_array_equal(asked(maps, image), plain(maps, project_to_rgb(image)))
    with pytest.raises(BadData, match="1 or 3 channels"):  # the second step reads them as they are
        parse_chain("crf(projection=pca)|superpixel_vote", classes=3, ignore=None)(maps, image)
