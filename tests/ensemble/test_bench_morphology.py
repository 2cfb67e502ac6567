"""`ens bench morphology`: steps beside libraries, answers compared pixel by pixel."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.inputs import Cases, drawn_cases
from benchmarks.morphology import PARTS, suite
from benchmarks.morphology.suite import OURS, as_text, bench_morphology
from ensemble.cli.bench import command
from evaluation.core.errors import BadRun, BadSpec

# MONAI calls scikit-image by an older name of an option.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]


def quiet(line):
    pass


@pytest.fixture(scope="module")
def small():
    cases = drawn_cases(2)
    maps, images = cases.maps[..., :24, :40].copy(), cases.images[..., :24, :40].copy()
    maps[..., 4::8, 4::8] = np.roll(maps[..., 4::8, 4::8], 1, axis=1)  # specks, holes
    return Cases(maps, images, cases.ids, cases.floor, cases.about)


@pytest.fixture(scope="module")
def document(small):
    return bench_morphology(small, list(PARTS), 1, quiet)


def test_says_what_was_measured_and_where(document):
    assert document["cores"] == 1
    assert document["images"] == 2
    assert document["shape"] == [5, 24, 40]
    assert "processor" in document["machine"]
    assert set(document["parts"]) == set(PARTS)
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("part", PARTS)
def test_ours_is_measured_against_itself(document, part):
    ours = document["parts"][part]["sides"][OURS]
    assert ours["times_ours"] == ours["agreement"] == 1


@pytest.mark.parametrize("part", PARTS)
def test_every_step_does_something_to_these_maps(document, part):
    assert document["parts"][part]["changed"] > 0


@pytest.mark.parametrize("part", PARTS)
def test_a_library_of_the_same_definition_gives_the_same_labels(document, part):
    sides = document["parts"][part]["sides"]
    for name, side in sides.items():
        if name != OURS and not side["differs"]:
            assert side["agreement"] == 1, name


@pytest.mark.parametrize("part", sorted(set(PARTS) - {"superpixel_vote"}))
def test_a_library_that_differs_does_so_at_few_pixels(document, part):
    found = document["parts"][part]
    for name, side in found["sides"].items():
        if "no refill" not in name and "label 0 only" not in side.get("differs", ""):
            assert 1 - side["agreement"] <= max(found["changed"] / 2, 0.01), name


def test_agreement_is_the_share_of_pixels_without_and_with_the_margin():
    ours = np.zeros((1, 20, 20), dtype=np.uint8)
    other = ours.copy()
    other[0, 0] = 1
    found = suite._agreement(other, ours)
    assert found == {"agreement": 0.95, "agreement_inside": 1.0}


def test_the_text_has_a_line_for_every_side(document):
    text = as_text(document)
    for part in document["parts"].values():
        assert part["spec"] in text
        assert all(name in text for name in part["sides"])


def test_a_missing_library_is_named_with_what_installs_it(small, monkeypatch):
    monkeypatch.setattr(suite, "find_spec", lambda name: None if name == "monai" else object())
    with pytest.raises(BadSpec) as refusal:
        bench_morphology(small, ["close"], 1, quiet)
    assert "compared with MONAI, which is not installed" in str(refusal.value)
    assert "pip install -e '.[bench]'" in str(refusal.value)


def test_threads_are_given_back(small):
    before = cv2.getNumThreads()
    bench_morphology(small, ["close"], 1, quiet)
    assert cv2.getNumThreads() == before


def test_an_unknown_run_is_refused(tmp_path):
    answer = CliRunner().invoke(command, ["morphology", "--run", str(tmp_path / "none")])
    assert isinstance(answer.exception, BadRun)


def test_one_part_is_measured_alone():
    answer = CliRunner().invoke(
        command, ["morphology", "--part", "close", "--images", "1", "--rounds", "1", "--json"]
    )
    assert list(json.loads(answer.stdout)["parts"]) == ["close"]
