"""`ens data refine-masks` and `ens data disagreements`, as a user types them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ensemble.cli import run_command
from ensemble.pipeline.run.experiment import Experiment
from evaluation.core.blocks import blocks
from evaluation.core.classes import MARS
from evaluation.core.provenance import record
from evaluation.core.ragged import Extent
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet, write_classes
from members.data.load_dataset import load_dataset
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(90, 94, (6, 16, 20)).astype(np.uint8)
MASKS = np.zeros((6, 16, 20), np.uint8)
MASKS[:, 5:9, 5:9] = np.arange(6)[:, None, None] % 4 + 1
MASKS[0, 0, 0] = 4


def answer(capsys, *arguments):
    capsys.readouterr()
    code = run_command(["data", *map(str, arguments)])
    output = capsys.readouterr()
    assert code == 0, output.err
    return output.out


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert run_command(["data", *map(str, arguments)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1, output.err
    return output.err


@pytest.fixture
def competition(tmp_path):
    path = tmp_path / "students.npz"
    both = np.stack([IMAGES, MASKS], axis=1).astype(np.int32)
    np.savez(path, training_set=both, test_set=IMAGES[:2], training_group=np.arange(6))
    return path


class TestRefineMasks:
    def test_refine_masks_keeps_the_competition_layout(self, competition, tmp_path, capsys):
        before, out = competition.read_bytes(), tmp_path / "new.npz"
        output = json.loads(answer(capsys, "refine-masks", competition, "--out", out, "--json"))
        assert competition.read_bytes() == before
        with np.load(competition) as old, np.load(out) as new:
            assert sorted(new) == sorted(old)
            assert new["training_set"].dtype == np.int32
            np.testing.assert_array_equal(new["training_set"][:, 0], IMAGES)
            np.testing.assert_array_equal(new["test_set"], old["test_set"])
            np.testing.assert_array_equal(new["training_group"], old["training_group"])
            added = new["training_set"][:, 1] != MASKS
            assert added.sum() == output["newly_labelled"]["pixels"] > 0
            sand = new["training_set"][:, 1] == 3
            assert (sand & added).sum() == output["newly_labelled"]["classes"]["sand"]
            unlabelled = (new["training_set"][:, 1] == 0).mean()
        assert output["background"] == {"before": (MASKS == 0).mean(), "after": unlabelled}

    def test_refine_masks_keeps_the_general_layout(self, tmp_path, capsys):
        data, out, sheet = (tmp_path / name for name in ("own.npz", "new.npz", "sheet.png"))
        colour = np.repeat(IMAGES[..., None], 3, axis=-1)
        extra = {"source": np.array(list("uvwxyz")), "group": np.array(list("aabbcc"))}
        np.savez(data, images=colour, masks=MASKS, classes=np.array(MARS.names), **extra)
        text = answer(capsys, "refine-masks", data, "--out", out, "--preview", sheet)
        assert "pixels newly labelled in 6 of 6 images" in text
        assert text.endswith(f"next: ens train-members --data {out}\n")
        with np.load(out) as new:
            assert sorted(new) == ["classes", "group", "ignore", "images", "masks", "source"]
            np.testing.assert_array_equal(new["images"], colour)
        assert load_dataset(out)["training"].ids == tuple("uvwxyz")
        with Image.open(sheet) as image:
            assert image.format == "PNG"

    def test_a_refined_folder_becomes_a_general_file(self, tmp_path, capsys):
        for name, arrays in (("images", IMAGES), ("masks", MASKS)):
            (tmp_path / "pairs" / name).mkdir(parents=True)
            for place, array in enumerate(arrays):
                Image.fromarray(array).save(tmp_path / "pairs" / name / f"p{place}.png")
        names = ["--classes", ",".join(MARS.names), "--ignore", "background"]
        answer(capsys, "refine-masks", tmp_path / "pairs", "--out", tmp_path / "new.npz", *names)
        new = load_dataset(tmp_path / "new.npz")["training"]
        assert new.ids == tuple(f"p{place}" for place in range(6))
        assert new.classes == MARS
        np.testing.assert_array_equal(new.images[:, 0], IMAGES)

    def test_options_of_refine_masks_have_an_effect(self, competition, tmp_path, capsys):
        def pixels(name, *options):
            out = tmp_path / f"{name}.npz"
            text = answer(capsys, "refine-masks", competition, "--out", out, *options, "--json")
            return json.loads(text)["newly_labelled"]["pixels"]

        one = pixels("one", "--rounds", 1)
        assert 0 < one < pixels("default")
        assert pixels("strict", "--max-std", 0.1) == 0
        assert pixels("wide", "--radius", 5, "--rounds", 1, "--max-std", 1.2) != one

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--radius", 0], "'--radius': 0 is not in the range 1<=x<=32"),
            (["--rounds", 0], "'--rounds': 0 is not in the range x>=1"),
            (["--max-std", -1], "'--max-std': -1.0 is not in the range"),
            (["--out", "students.npz"], "is the input, which must not be overwritten"),
            (["--out", "there.npz"], "exists and is not overwritten; name a new file"),
            (["--out", "new.npy"], "expected a name that ends in .npz"),
            (["--preview", "new.txt"], "--preview"),
        ],
    )
    def test_bad_options_are_refused_in_one_line(
        self, competition, tmp_path, capsys, monkeypatch, options, words
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "there.npz").write_bytes(b"mine")
        arguments = ["--out", "new.npz", *options]
        assert words in refusal(capsys, "refine-masks", competition, *arguments)
        assert (tmp_path / "there.npz").read_bytes() == b"mine"
        assert not (tmp_path / "new.npz").exists()

    def test_an_unlabelled_set_is_refused(self, tmp_path, capsys):
        np.savez(tmp_path / "own.npz", images=IMAGES)
        output = refusal(capsys, "refine-masks", tmp_path / "own.npz", "--out", tmp_path / "n.npz")
        assert "holds no masks; expected labelled images" in output
        assert not (tmp_path / "n.npz").exists()


COUNT = 70  # one whole block and a part
IDS = tuple(f"p{place:02}" for place in range(COUNT))


def target():
    masks = np.random.default_rng(1).integers(1, 5, (COUNT, 4, 6)).astype(np.uint8)
    masks[:, 0] = 0
    masks[5], masks[66] = 2, 3  # images of one ground, whose masks are swapped below
    return masks


def write_run(path, *, seen, members=("good", "fair")):
    """Write a run whose members know the ground; the masks of p05 and p66 are swapped."""
    run_folder, masks = Run(path), target()
    given = masks.copy()
    given[[5, 66]] = masks[[66, 5]]
    images = np.full((COUNT, 1, 4, 6), 100, np.uint8)
    groups = np.array([f"g{place // 2}" for place in range(COUNT)])
    DataSet(images, given, IDS, groups, MARS).save(run_folder.data("oof"))
    write_classes(run_folder.classes, MARS)
    recipes = {name: {"architecture": "unet(width=2, depth=1)"} for name in members}
    Experiment(data="sample", members=recipes).write(run_folder.experiment)
    for place, name in enumerate(members):
        rng = np.random.default_rng(place)
        maps = np.eye(5, dtype=np.float32)[masks].transpose(0, 3, 1, 2) * (2 - place)
        maps += rng.random(maps.shape, dtype=np.float32)
        maps /= maps.sum(axis=1, keepdims=True)
        store = ProbabilityStore.create(
            run_folder.probabilities(name, "oof"),
            ids=IDS,
            classes=MARS,
            extent=Extent.uniform(len(IDS), (4, 6)),
            seen=seen,
        )
        for block in blocks(COUNT):
            store.write(block, maps[block])
        record(store.folder, config={}, inputs={})
    return path


OUT_OF_FOLD = TrainingIds((frozenset(IDS[35:]), frozenset(IDS[:35])), (0,) * 35 + (1,) * 35)


@pytest.fixture
def swapped(tmp_path):
    return write_run(tmp_path / "run", seen=OUT_OF_FOLD)


class TestDisagreements:
    @pytest.mark.parametrize(
        ("member", "by"),
        [
            ("all", "calibrated"),
            ("good", "score"),
            ("fair", "log_loss"),
            ("all", "softmin"),
            ("all", "pixels"),
        ],
    )
    def test_swapped_masks_have_the_strongest_disagreement(self, swapped, capsys, member, by):
        options = [*(() if by == "calibrated" else ("--by", by)), "--member", member, "--json"]
        result = json.loads(answer(capsys, "disagreements", "--run", swapped, *options))
        assert result["by"] == by
        first, second, third = result["top"][:3]
        assert {first["id"], second["id"]} == {"p05", "p66"}
        by_id = {entry["id"]: entry for entry in (first, second)}
        assert by_id["p05"]["confusion"] == ["sand", "bedrock"]
        assert by_id["p66"]["confusion"] == ["bedrock", "sand"]
        assert by_id["p66"]["group"] == "g33"
        assert min(first["score"], second["score"]) > third["score"] + 0.1
        assert result["members"] == (["good", "fair"] if member == "all" else [member])
        assert len(result["top"]) == 30

    def test_disagreement_with_all_is_with_the_mean_of_members(self, swapped, capsys):
        def score(member):
            text = answer(
                capsys,
                "disagreements",
                "--run",
                swapped,
                "--member",
                member,
                "--json",
                "--count",
                1,
                "--by",
                "score",
            )
            return json.loads(text)["top"][0]["score"]

        low, high = sorted((score("good"), score("fair")))
        assert low < score("all") < high

    def test_disagreements_writes_ids_and_a_sheet(self, swapped, tmp_path, capsys):
        out, sheet = tmp_path / "ids.txt", tmp_path / "sheet.png"
        text = answer(
            capsys,
            *("disagreements", "--run", swapped, "--count", 2, "--out", out, "--sheet", sheet),
        )
        assert sorted(out.read_text().splitlines()) == ["p05", "p66"]
        assert "sand -> bedrock" in text
        assert "by calibrated: " in text
        with Image.open(sheet) as image:
            assert image.format == "PNG"
        assert "is not overwritten" in refusal(
            capsys, "disagreements", "--run", swapped, "--out", out
        )

    def test_doubtful_pixels_are_written_for_each_listed_image(self, swapped, tmp_path, capsys):
        folder = tmp_path / "pixels"
        options = ("disagreements", "--run", swapped, "--count", 2, "--pixels", folder)
        top = json.loads(answer(capsys, *options, "--json"))["top"]
        assert {path.name for path in folder.iterdir()} == {"p05.png", "p66.png"}
        for entry in top:
            with Image.open(folder / f"{entry['id']}.png") as image:
                marks = np.asarray(image)
            assert set(np.unique(marks)) <= {0, 255}
            assert (marks == 255).sum() == pytest.approx(entry["doubtful"] * entry["pixels"])
            assert entry["doubtful"] > 0.2
        assert "already exists and is not overwritten" in refusal(capsys, *options)

    @pytest.mark.parametrize(
        ("seen", "words"),
        [
            (TrainingIds((frozenset(IDS[:3]),)), "was trained on 3 of these images and agrees"),
            (None, "does not declare its training images"),
        ],
        ids=["seen", "undeclared"],
    )
    def test_maps_of_training_images_are_refused(self, tmp_path, capsys, seen, words):
        folder = write_run(tmp_path / "run", seen=seen, members=("one",))
        out = tmp_path / "ids.txt"
        assert words in refusal(capsys, "disagreements", "--run", folder, "--out", out)
        assert not out.exists()

    def test_a_member_that_may_have_seen_the_images_is_left_out_of_the_mean(
        self, swapped, tmp_path, capsys
    ):
        undeclared = write_run(tmp_path / "other", seen=None) / "probabilities" / "fair"
        folder = swapped / "probabilities" / "fair"
        shutil.rmtree(folder)
        shutil.copytree(undeclared, folder)
        words = ("data", "disagreements", "--run", str(swapped), "--json")
        assert run_command([*words, "--member", "good"]) == 0
        alone = json.loads(capsys.readouterr().out)
        assert run_command(list(words)) == 0
        printed = capsys.readouterr()
        assert printed.err == "fair: left out, does not declare its training images\n"
        assert json.loads(printed.out) == alone

    def test_a_run_without_maps_and_an_unknown_member_are_refused(self, swapped, capsys):
        output = refusal(capsys, "disagreements", "--run", swapped, "--member", "nobody")
        assert "no member or fusion 'nobody'; known: good, fair" in output
        for name in ("good", "fair"):
            (swapped / "probabilities" / name / "oof" / "provenance.json").unlink()
        output = refusal(capsys, "disagreements", "--run", swapped)
        assert "has out-of-fold maps; run `ens train-members` first" in output
