"""`python -m benchmarks.crf`: contenders on the same maps, and distances from the exact field."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.crf import DEFAULT, HIGH, LIBRARY, TORCH, bench_crf, build_crf, format_crf
from benchmarks.inputs import photo_inputs, synthetic_inputs


def cropped(inputs):
    return replace(inputs, maps=inputs.maps[..., :24, :32], images=inputs.images[..., :24, :32])


@pytest.fixture(scope="module")
def small():
    return cropped(synthetic_inputs(3))


@pytest.fixture(scope="module")
def document(small):
    colour = cropped(photo_inputs(2))
    return bench_crf(small, 1, colour=colour, sweep=False, torch=True, log=lambda line: None)


def test_the_document_holds_machine_inputs_and_contenders(document):
    assert document["images"] == ["0", "1", "2"]
    assert document["shape"] == [5, 24, 32]
    assert document["cores"] == 1
    assert "processor" in document["machine"]
    assert set(document["sides"]) == {LIBRARY, DEFAULT, HIGH, TORCH}
    assert set(document["colour"]["sides"]) == {LIBRARY, DEFAULT, HIGH}
    assert "photographs" in format_crf(document)
    json.dumps(document, allow_nan=False)


def test_figures_are_relative_to_those_of_pydensecrf(document):
    library = document["sides"][LIBRARY]
    assert library["times_faster"] == library["mean_error_of_library"] == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [(LIBRARY, {"backend": "pydensecrf"}), (DEFAULT, {}), (HIGH, {"quality": "high"})],
)
def test_errors_are_distances_from_the_exact_field(document, small, name, options):
    exact = build_crf(small, backend="exact").apply(small.maps, small.images)
    maps = build_crf(small, **options).apply(small.maps, small.images)
    error = np.abs(maps - exact).mean(dtype=np.float64)
    assert document["sides"][name]["mean_error"] == pytest.approx(error)


def test_images_in_colour_are_pieces_of_photographs():
    inputs = photo_inputs(4)
    assert inputs.images.shape == (4, 3, 64, 128)
    assert (inputs.images != inputs.images[:, :1]).mean() > 0.3
    photographs = [name.split()[0] for name in inputs.ids]
    assert photographs == ["astronaut", "coffee", "chelsea", "astronaut"]


@pytest.mark.parametrize("draw", [synthetic_inputs, photo_inputs])
def test_synthetic_maps_are_probabilities(draw):
    inputs = draw(2)
    np.testing.assert_allclose(inputs.maps.sum(axis=1), 1, atol=1e-5)
    assert "synthetic" in inputs.about
