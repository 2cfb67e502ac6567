"""Options keep their kind in experiments, members, spaces and specs: no word becomes a number."""

import pytest

from ensemble.pipeline.run.experiment import read_experiment
from ensemble.pipeline.search.space import read_space as read_recipe_space
from ensemble.pipeline.tuning.space import read_space as read_chain_space
from evaluation.core.errors import BadSpec
from members.recipe import read_member
from postproc.chain import StepContext, parse_chain
from postproc.steps import STEPS

CONTEXT = StepContext(classes=3, ignore=0, floor=1e-3)


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "file.yaml"
        file.write_text(text)
        return file

    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: yes", "'seed' got 'yes'; expected a valid integer"),
        ("seed: true", "'seed' got True; expected a valid integer"),
        ("seed: 010", "'seed' got '010'; expected a valid integer"),
        ("seed: '10'", "'seed' got '10'; expected a valid integer"),
        ("folds: 1:30", "'folds' got '1:30'; expected a valid integer"),
        ("folds: 2.5", "'folds' got 2.5; expected a valid integer"),
        ("drop_outliers: 1", "'drop_outliers' got 1; expected a valid boolean"),
        ("drop_outliers: yes", "'drop_outliers' got 'yes'; expected a valid boolean"),
        (
            "classes: {names: [a, b], ignore: no}",
            "ignored class 'no'; expected none, a class index",
        ),
        ("classes: {names: [a, b], ignore: false}", "'classes': ignored class False; expected"),
        ("classes: {names: [a, b], ignore: '1'}", "ignored class '1'; expected none"),
        ("seed: 1\nseed: 2", "the key 'seed' is given twice"),
        ("members: {a: {batch: 1}, a: {batch: 2}}", "the key 'a' is given twice"),
        ("members: {a: {batch: 1, batch: 2}}", "the key 'batch' is given twice"),
    ],
)
def test_an_experiment_refuses_values_of_another_kind(written, text, message):
    with pytest.raises(BadSpec) as error:
        read_experiment(written(text))
    assert message in str(error.value)


def test_a_class_may_be_called_no(written):
    read = read_experiment(written("classes: {names: [no, yes, 010], ignore: 1e0}"))
    assert (read.classes.names, read.classes.ignore) == (("no", "yes", "010"), 1)


@pytest.mark.parametrize(
    "recipe",
    [
        "{epochs: 010}",
        "{epochs: yes}",
        "{epochs: true}",
        "{batch: '8'}",
        "{ema: '0.9'}",
        "{epochs: 1.5}",
        "{batch: 4, batch: 8}",
        "{clip: no}",
        "{size: 64x64x3}",
        "{size: 64xwide}",
        "{tile: [0, 64]}",
    ],
)
def test_a_member_refuses_values_of_another_kind(recipe):
    with pytest.raises(BadSpec, match=r"expected (a valid|rows and columns)|given twice"):
        read_member(f"m={recipe}", {})


@pytest.mark.parametrize("text", ["1e1", "10", "10.0", "+10"])
def test_an_integer_may_be_written_in_any_exact_way(text):
    assert read_member(f"m={{epochs: {text}}}", {})[1].epochs == 10


@pytest.mark.parametrize(
    "space",
    [
        "batch: [010, 16]",
        "batch: [yes, 16]",
        "batch: [true, 16]",
        "batch: ['8']",
        "ema: ['0.5']",
        "batch: {low: 010, high: 16}",
        "batch: {low: 1, high: true}",
        "batch: {low: '1', high: 2}",
        "batch: {low: 1, high: 8, log: yes}",
        "batch: [8]\n  batch: [4]",
        "architecture.width: ['4']",
        "architecture.width: [true]",
    ],
)
def test_a_recipe_space_refuses_values_of_another_kind(written, space):
    with pytest.raises(BadSpec, match=r"expected|given twice"):
        read_recipe_space(written(f"space:\n  {space}\n"), {})


@pytest.mark.parametrize(
    "space",
    [
        "blur: {sigma: ['1.5']}",
        "blur: {sigma: [true]}",
        "mode_filter: {size: ['3']}",
        "mode_filter: {size: [no, 3]}",
        "mode_filter: {size: [3], size: [5]}",
        "open: {}\nopen: {}",
        "blur: {sigma: {low: 010, high: 20}}",
    ],
)
def test_a_chain_space_refuses_values_of_another_kind(written, space):
    with pytest.raises(BadSpec, match=r"expected|given twice"):
        read_chain_space(written(space), CONTEXT)


@pytest.mark.parametrize("size", ["3e0", "3.0", "3"])
def test_an_integer_of_a_spec_may_be_written_in_any_exact_way(written, size):
    assert STEPS.check(f"mode_filter(size={size})")
    space = read_chain_space(written(f"mode_filter: {{size: [{size}]}}"), CONTEXT)
    assert space.steps["mode_filter"]["size"] == [3]


@pytest.mark.parametrize(
    "chain",
    [
        "mode_filter(size='3')",
        "mode_filter(size=True)",
        "blur(sigma=True)",
        "blur(sigma='2')",
        "close(only=[True])",
        "close(only=['1'])",
        "open(size=3, size=5)",
    ],
)
def test_a_spec_refuses_values_of_another_kind(chain):
    with pytest.raises(BadSpec, match=r"expected a valid|given twice"):
        parse_chain(chain, classes=3, ignore=0)
