"""Members that have maps of a part of the images: refused, skipped, or renormalised."""

import json
from dataclasses import replace

import numpy as np
import pytest

import ensemble as ens
from ensemble.cli import run_command
from ensemble.coverage import PlacedMaps, align, check_missing, fuse_covered, place
from ensemble.fusion import RenormalisableFusion, TrainingBlock
from ensemble.pipeline.candidates.probabilities import open_probabilities
from ensemble.pipeline.members.importing import init_run
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.strategies import RENORMALISES, STRATEGIES
from evaluation.core.classes import numbered
from evaluation.core.errors import BadMaps, BadSpec
from evaluation.core.ragged import Extent
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.data.sample import draw_sample
from members.maps import ArrayMaps
from members.store import ProbabilityStore

SIZES = ((4, 6), (4, 6), (8, 5), (4, 6))
OWN = {"a": (0, 1, 2, 3), "b": (1, 2), "c": (0, 1, 3)}
"""The images of which each member has maps."""

RNG = np.random.default_rng(3)
MAPS = {
    member: [RNG.dirichlet(np.ones(3), size).transpose(2, 0, 1).astype("f4") for size in SIZES]
    for member in OWN
}
TARGET = [RNG.integers(0, 3, size).astype(np.uint8) for size in SIZES]
CONTEXT = {"classes": 3, "ignore": None, "seed": 0}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for member, images in OWN.items():
        (tmp_path / member).mkdir()
        for image in images:
            np.save(f"{member}/n{image}.npy", MAPS[member][image])
    (tmp_path / "target").mkdir()
    for image, labels in enumerate(TARGET):
        np.save(f"target/n{image}.npy", labels)
    return list(OWN)


def called(capsys, *arguments, code=0):
    capsys.readouterr()
    assert run_command([str(argument) for argument in arguments]) == code
    return capsys.readouterr()


def fuse(*options):
    maps = [word for member in OWN for word in ("--maps", member)]
    return ["fuse", *maps, "--out", "fused", *options]


def test_missing_images_are_refused_with_the_member_and_the_options(folders, capsys, tmp_path):
    said = called(capsys, *fuse("--strategy", "mean"), code=2).err
    assert said == (
        "ens: b lacks 2 of the 4 images that members have (first: 'n0'); expected maps of all, or"
        " --missing skip (fuse the 1 that all have) or renormalise (fuse each from the members that"
        " have it)\n"
    )
    assert not (tmp_path / "fused").exists()


def test_skipped_images_are_not_fused_and_are_counted(folders, capsys, tmp_path):
    result = called(capsys, *fuse("--strategy", "mean", "--missing", "skip", "--json"))
    assert [file.name for file in (tmp_path / "fused").iterdir()] == ["n1.npy"]
    expected = np.mean([MAPS[member][1] for member in OWN], axis=0)
    np.testing.assert_allclose(np.load("fused/n1.npy"), expected, atol=1e-6)
    note = "of 4 images 1 are fused, which all members have: b lacks 2, c lacks 1"
    assert json.loads(result.out)["missing"] == {
        "rule": "skip",
        "lacking": {"b": 2, "c": 1},
        "note": note,
    }
    assert note in result.err


LEARNED = ("weighted_mean", "greedy", "simple", "per_class_vote")


@pytest.mark.parametrize("name", sorted(RENORMALISES - set(LEARNED)))
def test_renormalised_images_are_fused_as_by_their_own_members(name, folders):
    fused = ens.fuse(folders, name, missing="renormalise")
    for image in range(len(SIZES)):
        own = [MAPS[member][image][None] for member in OWN if image in OWN[member]]
        np.testing.assert_allclose(fused[image], ens.fuse(own, name)[0], atol=1e-6)


@pytest.mark.parametrize("name", LEARNED)
def test_learnt_weights_are_divided_by_the_sum_of_those_that_are_left(name):
    spec = "weighted_mean(objective=log_loss)" if name == "weighted_mean" else name
    whole = STRATEGIES.build(spec, **CONTEXT, kinds=("probabilities",) * 3)
    maps = np.stack([np.stack(MAPS[member][:2]) for member in OWN])
    fusion = whole.fit([TrainingBlock(maps, np.stack(TARGET[:2]))])
    weights = np.array([0.2, 0.3, 0.5], np.float32)
    if name == "per_class_vote":
        weights = weights[:, None] * np.ones(3, np.float32)
    fusion = replace(fusion, weights=weights)
    left = fusion.weights[[0, 2]]
    np.testing.assert_allclose(
        fusion.of_members((0, 2)).weights, left / left.sum(axis=0), rtol=1e-6
    )


def test_a_strategy_learns_where_all_members_have_maps(folders):
    spec = "weighted_mean(objective=log_loss)"
    fused = ens.fuse(folders, spec, fit_maps=folders, fit_target="target", missing="renormalise")
    own = [[MAPS[member][1]] for member in OWN]
    whole = ens.fuse(own, spec, fit_maps=own, fit_target=[TARGET[1]])
    np.testing.assert_allclose(fused[1], whole[0], atol=1e-6)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_the_table_says_which_fusions_take_some_members(name, folders):
    if name in RENORMALISES:
        built = STRATEGIES.build(name, **CONTEXT, kinds=("probabilities",) * 3)
        maps = np.stack([np.stack(MAPS[member][:2]) for member in OWN])
        target = np.stack(TARGET[:2])
        fusion = built.fit([TrainingBlock(maps, target)]) if hasattr(built, "fit") else built
        assert isinstance(fusion, RenormalisableFusion)
    else:
        with pytest.raises(BadSpec, match="defined for all of its members only"):
            ens.fuse(folders, name, missing="renormalise")


def test_an_image_of_members_without_weight_is_refused():
    fusion = STRATEGIES.build(
        "weighted_mean(weights=[0, 1])", **CONTEXT, kinds=("probabilities",) * 2
    )
    covered = np.array([[True, True], [True, False]])
    with pytest.raises(BadMaps, match=r"1 image have maps of a alone, and all of these have weigh"):
        fuse_covered(fusion, covered, ["a", "b"])


def test_what_is_not_skipped_refused_or_renormalised_is_refused():
    with pytest.raises(
        BadSpec, match="unknown value of `missing` 'drop'; known: refuse, renormalise"
    ):
        check_missing("drop", "mean")


def test_members_without_a_common_image_leave_nothing_to_skip_to(folders, tmp_path):
    for image in (1, 3):
        (tmp_path / "c" / f"n{image}.npy").unlink()
    with pytest.raises(BadMaps, match="no image has maps of all members; expected files of equal"):
        ens.fuse(["b", "c"], "mean", missing="skip")


def test_placed_maps_stream_what_they_read():
    maps = ArrayMaps("a", np.stack(MAPS["a"][:2]), ids=("y", "x"))
    placed = place(maps, ("x", "w", "y", "v"), Extent.uniform(4, (4, 6)))
    read = placed.read(slice(0, 4))
    np.testing.assert_array_equal(read[[0, 2]], np.stack([MAPS["a"][1], MAPS["a"][0]]))
    np.testing.assert_array_equal(read[[1, 3]], np.float32(1 / 3))
    outs = [np.empty_like(read[:1]), np.empty_like(read[1:])]
    np.testing.assert_array_equal(np.concatenate(list(placed.stream(slice(0, 4), outs))), read)
    with pytest.raises(BadMaps, match="the map of 'y' has 4x6 pixels; expected 9x9"):
        PlacedMaps(maps, np.array([0]), Extent.uniform(1, (9, 9)), ("y",))


def test_placed_maps_of_a_store_read_each_chunk_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    maps = rng.dirichlet([1, 1, 1], (100, 4, 6)).transpose(0, 3, 1, 2)
    ids, extent = tuple(map(str, range(100))), Extent.uniform(100, (4, 6))
    classes = numbered(3, ignore=None)
    store = ProbabilityStore.create(
        tmp_path / "a", ids=ids, classes=classes, extent=extent, seen=None
    )
    for block in store.missing_blocks():
        store.write(block, maps[block])
    opened, real = [], store._open_chunk
    monkeypatch.setattr(store, "_open_chunk", lambda *args: opened.append(args) or real(*args))
    placed = place(store, ids, extent)
    outs = list(np.empty((8, 8, 3, 4, 6), np.float32))
    sums = iter(np.ones((8, 8, 3, 4, 6), np.float32))
    streamed = [part.copy() for part in placed.stream(slice(0, 64), outs, accumulate_into=sums)]
    np.testing.assert_allclose(np.concatenate(streamed), 1 + maps[:64], atol=1e-3)
    assert len(opened) == 1


def test_images_without_names_cannot_be_skipped():
    with pytest.raises(BadSpec, match="needs the images' names"):
        align([ArrayMaps("a", np.stack(MAPS["a"][:2]))], "skip")


@pytest.fixture(scope="module")
def run_of_parts(tmp_path_factory):
    """A run with a whole member and one that lacks three images of `oof`."""
    folder = tmp_path_factory.mktemp("parts")
    data, validation = draw_sample(images=90, test=4, validation=64, size=(16, 24)).save(folder)
    run, whole, part = folder / "run", folder / "whole.npz", folder / "part.npz"
    init_run(Run(run), str(data), str(validation), None, print)
    common = ["import", str(whole), "--split", "oof", "--run", str(run), "--name", "whole"]
    images = DataSet.load(Run(run).data("oof"))
    for file, kept, seed in ((whole, slice(None), 0), (part, slice(3, None), 1)):
        rng = np.random.default_rng(seed)
        target = np.asarray(images.masks)[kept]
        maps = 2 * np.eye(5)[target].transpose(0, 3, 1, 2) + rng.random(
            (*target.shape[:1], 5, 16, 24)
        )
        np.savez(file, maps=maps / maps.sum(axis=1, keepdims=True), ids=np.array(images.ids[kept]))
    assert run_command([*common, "--trained-on", str(_empty(folder))]) == 0
    return folder


def _empty(folder):
    (folder / "empty.txt").touch()
    return folder / "empty.txt"


def test_a_member_of_a_part_takes_part_where_weights_are_renormalised(run_of_parts, capsys):
    where = ["--run", run_of_parts / "run"]
    part = ["import", run_of_parts / "part.npz", "--split", "oof", "--name", "part", *where]
    part += ["--trained-on", _empty(run_of_parts)]
    said = called(capsys, *part, code=2).err
    assert "lacks 3 of" in said
    assert "--missing skip" in said
    said = called(capsys, *part, "--missing", "skip").err
    assert "3 images of oof without maps" in said
    fuse = ["fuse", "--strategy", "mean", *where]
    said = called(capsys, *fuse, code=2).err
    assert "member 'part' lacks maps of 3 images of oof" in said
    assert "--missing renormalise" in said
    assert "candidates of a run" in called(capsys, *fuse, "--missing", "skip", code=2).err
    said = called(capsys, *fuse, "--missing", "renormalise").err
    assert "3 are fused from the members that have them: part lacks 3" in said
    run = Run(run_of_parts / "run")
    stores = [
        ProbabilityStore(folder)
        for folder in (
            run.fused("mean", "oof"),
            run.probabilities("whole", "oof"),
            run.probabilities("part", "oof"),
        )
    ]
    fused, whole, some = (store.read(slice(0, len(store))) for store in stores)
    np.testing.assert_allclose(fused[:3], whole[:3], atol=1e-3)
    np.testing.assert_allclose(fused[3:], (whole[3:] + some) / 2, atol=1e-3)
    assert json.loads((run.fused("mean", "oof") / "provenance.json").read_text())["noted"] == {
        "lacking": {"part": 3}
    }
    learned = [*fuse, "--missing", "renormalise", "--name", "weighted"]
    called(capsys, *["weighted_mean" if word == "mean" else word for word in learned])
    probabilities = open_probabilities(RunMembers.of(run), "weighted", "oof")
    read = probabilities.read(slice(0, 6), np.empty((6, 5, 16, 24), np.float32))
    np.testing.assert_allclose(read[:3], whole[:3], atol=1e-3)
    np.testing.assert_allclose(read.sum(axis=1), 1, atol=1e-3)
    assert (probabilities.num_classes, probabilities.trained_on_mask().any()) == (5, False)
    parts = json.loads(called(capsys, "status", "--json", *where).out)["parts"]
    states = {(p["stage"], p["name"], p["part"]): p["state"] for p in parts}
    assert states["fusion", "weighted", "oof"] == states["maps", "part", "oof"] == "current"
    third = [*part[:1], run_of_parts / "part.npz", "--missing", "skip", "--name", "third"]
    called(capsys, *third, *part[2:4], *part[6:])
    alone = [*fuse, "--missing", "renormalise", "--name", "parts", "--members", "part,third"]
    said = called(capsys, *alone, code=2).err
    assert "3 images of oof have no map of any member; import them" in said
    board = called(capsys, "score", "--split", "oof", *where).out
    assert "mean_argmax" in board
    assert "part_argmax" not in board
    assert (
        "'part' lacks maps of 3 images of oof"
        in called(capsys, "score", "--split", "oof", "--candidate", "part", *where, code=2).err
    )
