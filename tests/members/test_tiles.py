"""Prediction by tiles: against MONAI, and laws of blending."""

import pytest
import torch

from members.tiles import predict_by_tiles


def network():
    torch.manual_seed(0)
    first, second = torch.nn.Conv2d(2, 4, 5, padding=2), torch.nn.Conv2d(4, 3, 3, padding=1)
    return torch.nn.Sequential(first, torch.nn.ReLU(), second).eval()


@pytest.mark.parametrize("size", [(16, 16), (16, 40), (37, 53), (64, 17)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_tiles_are_blended_as_monai_blends_them(size, overlap):
    from monai.inferers import sliding_window_inference

    images, predictor = torch.rand(2, 2, *size), network()
    with torch.inference_mode():
        ours = predict_by_tiles(predictor, images, (16, 16), overlap)
        theirs = sliding_window_inference(
            images, (16, 16), 1, predictor, overlap=overlap, mode="gaussian"
        )
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("size", [(5, 7), (16, 9), (30, 41)])
def test_a_predictor_of_single_pixels_gives_the_same_by_tiles(size):
    images = torch.rand(1, 2, *size)
    tiled = predict_by_tiles(
        lambda x: torch.stack([x[:, 0], 1 - x[:, 0]], 1), images, (12, 16), 0.25
    )
    torch.testing.assert_close(tiled[:, 0], images[:, 0])
    assert tiled.shape == (1, 2, *size)


def test_images_that_fit_in_a_tile_are_predicted_whole():
    seen = []

    def predictor(images):
        seen.append(images.shape[2:])
        return images

    predict_by_tiles(predictor, torch.rand(1, 1, 8, 9), (8, 9), 0.5)
    assert seen == [(8, 9)]
