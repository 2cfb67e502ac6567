"""`python -m benchmarks.morphology`: steps and libraries, results compared pixel by pixel."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.inputs import synthetic_inputs
from benchmarks.morphology import COMPARISONS
from benchmarks.morphology import __main__ as morphology
from benchmarks.morphology.__main__ import OURS, bench_morphology, format_morphology
from evaluation.core.errors import BadSpec

# MONAI calls scikit-image by an older name of an option.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]


def quiet(line):
    pass


@pytest.fixture(scope="module")
def small():
    inputs = synthetic_inputs(2)
    maps, images = inputs.maps[..., :24, :40].copy(), inputs.images[..., :24, :40].copy()
    maps[..., 4::8, 4::8] = np.roll(maps[..., 4::8, 4::8], 1, axis=1)  # specks, holes
    return replace(inputs, maps=maps, images=images)


@pytest.fixture(scope="module")
def document(small):
    return bench_morphology(small, list(COMPARISONS), 1, quiet)


def test_the_document_holds_machine_inputs_and_all_comparisons(document):
    assert document["cores"] == 1
    assert document["images"] == 2
    assert document["shape"] == [5, 24, 40]
    assert "processor" in document["machine"]
    assert set(document["parts"]) == set(COMPARISONS)
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_step_changes_these_maps_and_figures_are_relative_to_ours(document, name):
    part = document["parts"][name]
    ours = part["sides"][OURS]
    assert part["changed"] > 0
    assert ours["times_ours"] == ours["agreement"] == 1


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_library_with_the_same_definition_gives_the_same_labels(document, name):
    for tool, side in document["parts"][name]["sides"].items():
        if tool != OURS and not side["differs"]:
            assert side["agreement"] == 1, tool


@pytest.mark.parametrize("name", sorted(set(COMPARISONS) - {"superpixel_vote"}))
def test_a_library_with_another_definition_differs_at_few_pixels(document, name):
    part = document["parts"][name]
    for tool, side in part["sides"].items():
        if "no refill" not in tool and "label 0 only" not in side.get("differs", ""):
            assert 1 - side["agreement"] <= max(part["changed"] / 2, 0.01), tool


def test_agreement_is_the_share_of_equal_pixels_with_and_without_the_margin():
    ours = np.zeros((1, 20, 20), dtype=np.uint8)
    other = ours.copy()
    other[0, 0] = 1
    agreement = morphology._agreement(other, ours)
    assert agreement == {"agreement": 0.95, "agreement_inside": 1.0}


def test_the_text_has_a_line_for_every_contender(document):
    text = format_morphology(document)
    for part in document["parts"].values():
        assert part["spec"] in text
        assert all(name in text for name in part["sides"])


def test_a_missing_library_is_named_with_what_installs_it(small, monkeypatch):
    monkeypatch.setattr(morphology, "find_spec", lambda name: None if name == "monai" else object())
    with pytest.raises(BadSpec) as refusal:
        bench_morphology(small, ["close"], 1, quiet)
    assert "compared with MONAI, which is not installed" in str(refusal.value)
    assert "pip install -e '.[bench]'" in str(refusal.value)


def test_the_number_of_threads_is_restored(small):
    before = cv2.getNumThreads()
    bench_morphology(small, ["close"], 1, quiet)
    assert cv2.getNumThreads() == before


def test_the_command_measures_one_comparison_alone():
    line = "--part close --images 1 --rounds 1 --json"
    answer = CliRunner().invoke(morphology.morphology, line.split())
    assert list(json.loads(answer.stdout)["parts"]) == ["close"]
