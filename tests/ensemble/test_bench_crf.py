"""`ens bench crf`: sides by side on the same maps, and distances from the exact field."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.crf import (
    DEFAULT,
    HIGH,
    LIBRARY,
    TORCH,
    as_text,
    bench_crf,
)
from benchmarks.inputs import Cases, colour_cases, drawn_cases
from ensemble.cli.bench import command
from evaluation.core.errors import BadRun


@pytest.fixture(scope="module")
def small():
    cases = drawn_cases(3)
    maps, images = cases.maps[..., :24, :32], cases.images[..., :24, :32]
    return Cases(maps, images, cases.ids, cases.floor, cases.about)


@pytest.fixture(scope="module")
def document(small):
    colour = colour_cases(2)
    maps, images = colour.maps[..., :24, :32], colour.images[..., :24, :32]
    colour = Cases(maps, images, colour.ids, colour.floor, colour.about)
    return bench_crf(small, 1, colour=colour, sweep=False, torch=True, log=lambda line: None)


def test_says_what_was_measured_and_where(document):
    assert document["images"] == ["0", "1", "2"]
    assert document["shape"] == [5, 24, 32]
    assert document["cores"] == 1
    assert "processor" in document["machine"]
    json.dumps(document, allow_nan=False)


def test_the_library_is_measured_against_itself(document):
    library = document["sides"][LIBRARY]
    assert library["times_faster"] == 1
    assert library["mean_error_of_library"] == 1
    assert set(document["sides"]) == {LIBRARY, DEFAULT, HIGH, TORCH}


@pytest.mark.parametrize(
    ("side", "options"),
    [(LIBRARY, {"backend": "pydensecrf"}), (DEFAULT, {}), (HIGH, {"quality": "high"})],
)
def test_errors_are_distances_from_the_exact_field(document, small, side, options):
    exact = small.step(backend="exact").apply(small.maps, small.images)
    found = small.step(**options).apply(small.maps, small.images)
    error = np.abs(found - exact).mean(dtype=np.float64)
    assert document["sides"][side]["mean_error"] == pytest.approx(error)


def test_drawn_maps_are_probabilities():
    cases = drawn_cases(2)
    np.testing.assert_allclose(cases.maps.sum(axis=1), 1, atol=1e-5)
    assert "drawn" in cases.about


def test_images_in_colour_are_pieces_of_photographs(document):
    cases = colour_cases(4)
    assert cases.images.shape == (4, 3, 64, 128)
    assert (cases.images != cases.images[:, :1]).mean() > 0.3
    np.testing.assert_allclose(cases.maps.sum(axis=1), 1, atol=1e-5)
    assert [name.split()[0] for name in cases.ids] == [
        "astronaut",
        "coffee",
        "chelsea",
        "astronaut",
    ]
    assert set(document["colour"]["sides"]) == {LIBRARY, DEFAULT, HIGH}
    assert "photographs" in as_text(document)


def test_an_unknown_run_is_refused(tmp_path):
    answer = CliRunner().invoke(command, ["crf", "--run", str(tmp_path / "none")])
    assert isinstance(answer.exception, BadRun)


def test_a_fusion_without_its_run_is_refused():
    answer = CliRunner().invoke(command, ["crf", "--fusion", "mean"])
    assert answer.exit_code == 2
    assert "--fusion is of a run; give --run too" in answer.output
