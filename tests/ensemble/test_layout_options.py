"""Runs of data as they lie on disk: splits, id lists, groups, and what the experiment keeps."""

import json

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ensemble.cli import ens
from ensemble.cli.options import LABEL_OPTIONS, LAYOUT_OPTIONS
from ensemble.pipeline.data.prepare import is_prepared, prepare, read_folds
from ensemble.pipeline.run.experiment import Experiment, read_experiment
from ensemble.pipeline.search.held_out import searched_experiment
from evaluation.core.errors import BadData, BadSpec
from evaluation.core.label_options import LabelOptions
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.data.layouts import LayoutOptions


def write(root, folder, *ids, masks=True, seeds=None):
    """Write pairs; images of one seed resemble each other."""
    for index, name in enumerate(ids):
        rng = np.random.default_rng(ord(seeds[index]) if seeds else None)
        image = rng.integers(0, 256, (16, 16), np.uint8)
        parts = {"images": image, "masks": np.tile(np.uint8([0, 1]), (16, 8))}
        for part, pixels in parts.items():
            if part == "images" or masks:
                file = root / folder / part / f"{name}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(file)
    return root


def run(*arguments):
    result = CliRunner().invoke(ens, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    write(root, "train", *"abcdef")
    write(root, "val", "a", "v")  # another image called a
    return write(root, "test", "t", masks=False)


def ids_of(at, split):
    return DataSet.load(at.data(split)).ids


def test_a_divided_tree_gives_the_splits_of_a_run(tree, tmp_path):
    told: list[str] = []
    at = Run(tmp_path / "run")
    prepare(at, Experiment(data=str(tree), folds=2), told.append)
    assert ids_of(at, "oof") == tuple("abcdef")
    assert ids_of(at, "validation") == ("validation-a", "validation-v")
    assert ids_of(at, "test") == ("t",)
    assert told == [f"validation, test: from {tree}, as it is divided"]


def test_another_validation_set_replaces_that_of_the_tree(tree, tmp_path):
    other = write(tmp_path / "other", ".", "x", "y")
    at = Run(tmp_path / "run")
    prepare(at, Experiment(data=str(tree), validation=str(other), folds=2), print)
    assert ids_of(at, "validation") == ("x", "y")
    with pytest.raises(BadData, match="holds labelled sets training, validation; expected one"):
        prepare(Run(tmp_path / "b"), Experiment(data=str(other), validation=str(tree)), print)


def test_lists_divide_one_folder(tmp_path):
    root = write(tmp_path / "d", ".", *"abcdef")
    (tmp_path / "val.txt").write_text("e\nf\n")
    (tmp_path / "train.txt").write_text("a\nb\nc\ne\n")
    experiment = Experiment(data=str(root), validation=str(tmp_path / "val.txt"), folds=2)
    at = Run(tmp_path / "run")
    prepare(at, experiment, print)
    assert (ids_of(at, "oof"), ids_of(at, "validation")) == (tuple("abcd"), tuple("ef"))
    listed = LayoutOptions(ids=str(tmp_path / "train.txt"))
    both = experiment.model_copy(update={"layout": listed})
    with pytest.raises(BadData, match=r"'e' is both in .*train\.txt and in .*val\.txt"):
        prepare(Run(tmp_path / "b"), both, print)
    (tmp_path / "train.txt").write_text("a\nb\nc\nd\n")
    prepare(Run(tmp_path / "b"), both, print)
    assert is_prepared(Run(tmp_path / "b"), both)
    (tmp_path / "train.txt").write_text("a\nb\nc\n")
    assert not is_prepared(Run(tmp_path / "b"), both)


def test_the_experiment_keeps_the_layout_with_whole_paths(tmp_path):
    (tmp_path / "e.yaml").write_text(
        "data: d\nlayout: {ids: train.txt, group_by: 't.csv:p', images: 'x/{id}.png'}\n"
    )
    experiment = read_experiment(tmp_path / "e.yaml")
    assert experiment.layout == LayoutOptions(
        ids=f"{tmp_path}/train.txt", group_by=f"{tmp_path}/t.csv:p", images="x/{id}.png"
    )
    experiment.write(tmp_path / "again.yaml")
    assert read_experiment(tmp_path / "again.yaml") == experiment
    for text, words in (("{id: a}", "unknown key 'id'"), ("{ids: 3}", "ids is 3; expected text")):
        (tmp_path / "e.yaml").write_text(f"layout: {text}\n")
        with pytest.raises(BadSpec, match=words):
            read_experiment(tmp_path / "e.yaml")


def test_near_duplicates_in_two_folds_are_told_with_the_option_that_groups_them(tmp_path):
    names = [f"{clip}_{frame}" for clip in "abcd" for frame in range(3)]
    root = write(tmp_path / "d", ".", *names, seeds=[name[0] for name in names])
    told: list[str] = []
    prepare(Run(tmp_path / "run"), Experiment(data=str(root), folds=2), told.append)
    (warning,) = [line for line in told if line.startswith("warning")]
    assert "near-duplicates of one in another fold or in validation" in warning
    assert "--group-by '^([^_]+)_'" in warning
    told.clear()
    grouped = Experiment(data=str(root), folds=2, layout=LayoutOptions(group_by="^([^_]+)_"))
    at = Run(tmp_path / "grouped")
    prepare(at, grouped, told.append)
    assert not [line for line in told if line.startswith("warning")]
    groups = DataSet.load(at.data("oof")).groups
    for fold in read_folds(at):
        held = np.setdiff1d(np.arange(len(groups)), fold.training)
        assert not {*groups[held]} & {*groups[fold.training]}


def test_inspect_names_the_layout_and_why(tree):
    text = run("data", "inspect", tree)
    assert "layout pairs: images such as 'test/images/{id}.png' pair with masks such as" in text
    document = json.loads(run("data", "inspect", tree, "--json"))
    assert document["layout"]["name"] == "pairs"
    assert list(document["sets"]) == ["training", "validation", "test"]


def test_globs_and_groups_are_options_of_commands(tmp_path):
    root = write(tmp_path / "d", "odd", "p1_a", "p1_b", "p2_c", "p2_d", "p3_e", "p3_f")
    options = ("--images", "odd/images/{id}.png", "--masks", "odd/masks/{id}.png")
    text = run("data", "inspect", root, *options, "--group-by", "^(p.)_")
    assert "layout globs: 6 images by --images odd/images/{id}.png" in text
    assert "groups: 3, 2 to 2 images each" in text
    out = tmp_path / "clean.npz"
    run("data", "clean", root, *options, "--group-by", "^(p.)_", "--page", tmp_path / "page",
        "--apply", "--out", out)  # fmt: skip
    with np.load(out) as arrays:
        assert arrays["group"].tolist() == ["p1", "p1", "p2", "p2", "p3", "p3"]


@pytest.mark.parametrize(
    "words",
    [
        ("data", "inspect"),
        ("data", "clean"),
        ("data", "refine-masks"),
        ("train-members",),
        ("search",),
        ("search-loss",),
        ("predict",),
        ("import",),
        ("apply",),
    ],
    ids=" ".join,
)
def test_every_command_that_reads_a_data_set_takes_all_options_about_it(words):
    command: click.Command | None = ens
    for word in words:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(ens), word)
    assert command is not None
    assert {*LABEL_OPTIONS, *LAYOUT_OPTIONS} <= {option.name for option in command.params}


def test_a_search_keeps_what_is_said_about_its_data(tmp_path):
    labels, layout = LabelOptions(ignore=1), LayoutOptions(group_by="^(.)")
    empty = dict.fromkeys(("data", "validation", "experiment", "folds", "seed"))
    experiment = searched_experiment(Run(tmp_path), **empty, labels=labels, layout=layout)
    assert (experiment.classes, experiment.layout) == (labels, layout)
