"""Foreign maps as members of a run: imported, fused, scored, and refused where they would leak."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ensemble.cli import run_command
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.data.sample import draw_sample
from members.external.resize import bilinear
from members.store import ProbabilityStore


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    """A run with data and two clean foreign members, and the files they came from."""
    folder = tmp_path_factory.mktemp("import")
    data, validation = draw_sample(images=90, test=12, validation=64, size=(16, 24)).save(folder)
    for seed, name in enumerate(("good", "other")):
        for split in ("oof", "validation"):
            extra = ["--data", data, "--validation", validation] if not seed else []
            if not (folder / "run").exists():
                (folder / "none.npy").touch()
                arguments = ["import", folder / "none.npy", "--name", "x", "--split", "oof", *extra]
                assert run_command([*map(str, arguments), "--run", str(folder / "run")]) == 2
            maps(folder, split, seed)
            arguments = ["import", folder / f"{split}-{seed}.npy", "--name", name, "--split", split]
            if name == "good":
                (folder / "empty.txt").touch()
                arguments += ["--trained-on", folder / "empty.txt"]
            assert run_command([*map(str, arguments), "--run", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def place(laid_out, tmp_path):
    shutil.copytree(laid_out, tmp_path / "copy")
    return tmp_path / "copy"


def data_of(folder, split):
    return DataSet.load(Run(folder / "run").data(split))


def maps(folder, split, seed, accuracy=0.7):
    rng = np.random.default_rng(seed)
    target = np.asarray(data_of(folder, split).masks)
    pred = np.where(rng.random(target.shape) > accuracy, rng.integers(1, 5, target.shape), target)
    found = 2 * np.eye(5, dtype=np.float32)[pred].transpose(0, 3, 1, 2)
    found += rng.random(found.shape, dtype=np.float32)
    found /= found.sum(axis=1, keepdims=True)
    np.save(folder / f"{split}-{seed}.npy", found)
    return found


def called(capsys, *arguments, code=0):
    capsys.readouterr()
    assert run_command([str(argument) for argument in arguments]) == code
    return capsys.readouterr()


def imported(capsys, folder, *arguments, code=0):
    return called(capsys, "import", *arguments, "--run", folder / "run", code=code)


class TestAnImportedMember:
    @pytest.mark.slow
    def test_is_fused_scored_and_reported_like_any_other(self, place, capsys):
        where = ["--run", place / "run"]
        called(capsys, "fuse", "--strategy", "mean", *where)
        said = called(capsys, "fuse", "--strategy", "stacking", *where).err
        assert said.count("'other' does not declare what it was trained on") == 1
        assert "'good' does not declare" not in said
        board = json.loads(called(capsys, "score", "--json", *where).out)
        scores = {row["name"] for row in board["candidates"]}
        assert scores == {"good_argmax", "other_argmax", "mean_argmax", "stacking_argmax"}
        parts = json.loads(called(capsys, "status", "--run", place / "run", "--json").out)["parts"]
        assert {p["name"] for p in parts if p["stage"] == "maps"} == {"good", "other"}
        assert {p["state"] for p in parts if p["part"] != "test"} == {"current"}

    def test_is_written_as_it_was_given(self, place):
        store = ProbabilityStore(place / "run" / "probabilities" / "good" / "oof")
        np.testing.assert_allclose(store.read(slice(None)), np.load(place / "oof-0.npy"), atol=3e-4)
        assert store.ids == data_of(place, "oof").ids

    def test_may_come_as_png_label_maps_named_by_the_images(self, place, capsys):
        data = data_of(place, "validation")
        (place / "pngs").mkdir()
        for name, mask in zip(data.ids, data.masks, strict=True):
            Image.fromarray(mask).save(place / "pngs" / f"{name}.png")
        imported(capsys, place, place / "pngs", "--name", "drawn", "--split", "validation")
        store = ProbabilityStore(place / "run" / "probabilities" / "drawn" / "validation")
        np.testing.assert_array_equal(store.read(slice(None)).argmax(axis=1), data.masks)

    def test_is_compared_with_the_other_members_where_there_is_no_target(self, place, capsys):
        target = np.asarray(data_of(place, "validation").masks)[:12]
        clean = 0.9 * np.eye(5, dtype=np.float32)[target].transpose(0, 3, 1, 2) + 0.02
        np.save(place / "a.npy", clean)
        np.save(place / "b.npy", clean[:, [0, 1, 3, 2, 4], ::-1])
        arguments = [place / "a.npy", "--name", "a", "--split", "test"]
        said = imported(capsys, place, *arguments, code=2).err
        assert "no target and no other member to examine its order by" in said
        said = imported(capsys, place, *arguments, "--no-checks").err
        assert "were not examined: there are no other members and no target" in said
        arguments = [place / "b.npy", "--name", "b", "--split", "test"]
        refused = imported(capsys, place, *arguments, code=2).err
        assert "rows upside down and a permuted class order" in refused
        assert "agree with the mean of a in 1.00" in refused
        imported(capsys, place, *arguments, "--fix")
        store = ProbabilityStore(place / "run" / "probabilities" / "b" / "test")
        np.testing.assert_allclose(store.read(slice(None)), clean, atol=1e-3)

    def test_a_fusion_names_the_splits_that_a_member_lacks(self, place, capsys):
        maps(place, "oof", 2)
        imported(capsys, place, place / "oof-2.npy", "--name", "late", "--split", "oof")
        said = called(capsys, "fuse", "--strategy", "mean", "--run", place / "run").err
        assert "mean: validation is not fused, no maps of it: late;" in said

    def test_stale_images_make_it_stale(self, place, capsys):
        data = data_of(place, "validation")
        np.save(place / "run" / "data" / "validation" / "images.npy", 255 - data.images)
        parts = json.loads(called(capsys, "status", "--run", place / "run", "--json").out)["parts"]
        stale = {(p["name"], p["part"]) for p in parts if p["state"] == "stale"}
        assert {("good", "validation"), ("other", "validation")} <= stale

    def test_may_come_small_with_classes_last_under_a_key_and_by_name(self, place, capsys):
        data, found = data_of(place, "validation"), np.load(place / "validation-0.npy")
        names = ["soil", "bedrock", "sand", "big rock", "background"]
        small = found[:, [1, 2, 3, 4, 0], ::2, ::2].transpose(0, 2, 3, 1)
        (place / "small").mkdir()
        for number, (name, maps) in enumerate(zip(data.ids, small, strict=True)):
            if number == 1:  # at full size
                maps = found[number][[1, 2, 3, 4, 0]].transpose(1, 2, 0)
            np.savez(place / "small" / f"{name}_softmax.npz", p=maps, features=maps[0])
        arguments = [place / "small", "--name", "small", "--split", "validation"]
        said = imported(capsys, place, *arguments, code=2).err
        assert "holds p, features; expected one array of maps, or its name" in said
        arguments += ["--key", "p", "--class-names", ", ".join(names)]
        said = imported(capsys, place, *arguments).err
        assert "names without '_softmax'" in said
        assert "classes are ordered by their names" in said
        assert "maps of 2 sizes, 8x12 to 16x24 pixels are resized to the images' 16x24" in said
        store = ProbabilityStore(place / "run" / "probabilities" / "small" / "validation")
        expected = bilinear(found[:, :, ::2, ::2], (16, 24))
        expected[1] = found[1]
        np.testing.assert_allclose(store.read(slice(None)), expected, atol=1e-3)

    def test_a_stack_in_another_order_is_refused(self, place, capsys):
        found = np.load(place / "validation-0.npy")
        np.save(place / "shuffled.npy", np.random.default_rng(0).permutation(found))
        arguments = [place / "shuffled.npy", "--name", "x", "--split", "validation"]
        said = imported(capsys, place, *arguments, code=2).err
        assert "the target does not support its order" in said
        assert len(said.splitlines()) == 1


class TestMapsWithProblems:
    @pytest.fixture
    def odd(self, place):
        found = np.load(place / "validation-0.npy")
        ids = list(data_of(place, "validation").ids)
        np.save(place / "logits.npy", np.log(found) * 2)
        np.save(place / "order.npy", found[:, [0, 2, 1, 3, 4]])
        np.savez(place / "extra.npz", maps=found[[0, *range(64)]], ids=["stranger", *ids])
        np.savez(place / "missing.npz", maps=found[:60], ids=ids[:60])
        np.save(place / "short.npy", found[:60])
        np.save(place / "nan.npy", np.where(found == found.max(), np.nan, found))
        return place

    @pytest.mark.parametrize(
        ("file", "words"),
        [
            ("logits.npy", "logits given as probabilities: values go from"),
            ("order.npy", "a permuted class order"),
            ("extra.npz", "1 of 65 images are not in the split (first: 'stranger')"),
        ],
    )
    def test_are_refused_and_repaired_by_fix(self, odd, capsys, file, words):
        arguments = [odd / file, "--name", "odd", "--split", "validation"]
        said = imported(capsys, odd, *arguments, code=2).err
        assert said.startswith("ens: member 'odd': ")
        assert words in said
        assert "--fix" in said
        assert len(said.splitlines()) == 1
        assert not (odd / "run" / "probabilities" / "odd").exists()
        document = json.loads(imported(capsys, odd, *arguments, "--fix", "--json").out)
        assert len(document["fixed"]) == 1
        assert words in document["fixed"][0]
        store = ProbabilityStore(odd / "run" / "probabilities" / "odd" / "validation")
        expected = np.load(odd / "validation-0.npy").argmax(axis=1)
        np.testing.assert_array_equal(store.read(slice(None)).argmax(axis=1), expected)

    def test_may_be_taken_as_they_are_where_only_agreement_speaks_against_them(self, odd, capsys):
        arguments = [odd / "order.npy", "--name", "odd", "--split", "validation"]
        assert "or take the maps by --no-checks" in imported(capsys, odd, *arguments, code=2).err
        assert "taken as they are" in imported(capsys, odd, *arguments, "--as-is").err

    @pytest.mark.parametrize(
        ("file", "words"),
        [
            ("missing.npz", "lacks 4 of 64 images (first:"),
            ("short.npy", "holds 60 images without ids; expected the split's 64, in its order"),
            ("nan.npy", "nan.npy holds NaN or infinite values (first in image"),
        ],
    )
    def test_that_cannot_be_repaired_are_refused_with_the_name(self, odd, capsys, file, words):
        arguments = [odd / file, "--name", "odd", "--split", "validation", "--fix"]
        said = imported(capsys, odd, *arguments, code=2).err
        assert said.startswith("ens: member 'odd': ")
        assert words in said

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--name", "x", "--split", "exam"], "no split 'exam' in"),
            (["--name", "x/y", "--split", "oof"], "member name 'x/y'; expected letters"),
            (["--name", "x", "--split", "oof", "--trained-on", "no.txt"], "no.txt is missing"),
            (["--name", "x", "--split", "oof", "--validation", "v"], "--validation goes with"),
            (["--name", "mean", "--split", "oof"], "'mean' is a fusion of"),
        ],
    )
    def test_wrong_options_are_refused(self, odd, capsys, arguments, words):
        called(capsys, "fuse", "--strategy", "mean", "--run", odd / "run")
        assert words in imported(capsys, odd, odd / "oof-0.npy", *arguments, code=2).err

    def test_without_data_it_says_how_to_create_a_run(self, odd, capsys, tmp_path):
        arguments = ["import", odd / "oof-0.npy", "--name", "x", "--split", "oof"]
        said = called(capsys, *arguments, "--run", tmp_path / "new", code=2).err
        assert "holds no images; create it with --data" in said

    def test_the_name_of_a_trained_member_is_taken(self, odd, capsys):
        experiment = odd / "run" / "experiment.yaml"
        experiment.write_text(experiment.read_text().replace("members: {}", "members: {net: {}}"))
        said = imported(
            capsys, odd, odd / "oof-0.npy", "--name", "net", "--split", "oof", code=2
        ).err
        assert "'net' is a trained member of" in said

    def test_a_network_cannot_take_the_name_of_imported_maps(self, odd, capsys):
        arguments = ["train-members", "--run", odd / "run", "--member", "good=unet(width=2)"]
        said = called(capsys, *arguments, code=2).err
        assert "member 'good' was imported" in said
        assert (odd / "run" / "probabilities" / "good" / "oof" / "store.json").is_file()


class TestLeaks:
    @pytest.mark.parametrize(
        ("write", "encoding"),
        [
            ("{0}\n{1}\n{2} # three\n{3}\n\n{4}\n{5}\n{6}\n", "utf-8"),
            ("{0}\r\n{1}\r\n{2}\r\n{3}\r\n{4}\r\n{5}\r\n{6}", "utf-8-sig"),
            (
                "{0}.png\n{1}.JPG\n\"{2}\"\n'{3}.png'\nimages/{4}.tif\n../a\\{5}\n./{6}\n",
                "utf-8-sig",
            ),
        ],
    )
    def test_declared_ones_are_refused_with_the_count(self, place, capsys, write, encoding):
        ids = data_of(place, "oof").ids
        (place / "ids.txt").write_text(write.format(*ids), encoding=encoding)
        arguments = [place / "oof-0.npy", "--name", "good", "--split", "oof"]
        said = imported(capsys, place, *arguments, "--trained-on", place / "ids.txt").err
        assert "7 of these" in said
        refused = called(
            capsys, "fuse", "--strategy", "stacking", "--run", place / "run", code=2
        ).err
        assert "would rely on 7 images that 'good' was trained on" in refused
        called(capsys, "fuse", "--strategy", "mean", "--run", place / "run")

    def test_ids_that_the_run_lacks_are_refused(self, place, capsys):
        ids = [data_of(place, "oof").ids[0], data_of(place, "validation").ids[0], "elsewhere"]
        (place / "ids.txt").write_text("\n".join(ids))
        arguments = [place / "oof-0.npy", "--name", "good", "--split", "oof"]
        trained_on = ["--trained-on", place / "ids.txt"]
        said = imported(capsys, place, *arguments, *trained_on, code=2).err
        assert "names 1 unknown ids (first: 'elsewhere'); expected ids of the run's images" in said

    def test_a_fusion_of_undeclared_maps_is_undeclared_itself(self, place, capsys):
        where = ["--run", place / "run"]
        called(capsys, "fuse", "--strategy", "mean", *where)
        assert ProbabilityStore(place / "run" / "fused" / "mean" / "oof").seen is None
        called(capsys, "fuse", "--strategy", "mean", "--members", "good", "--name", "m", *where)
        assert ProbabilityStore(place / "run" / "fused" / "m" / "oof").seen is not None

    @pytest.mark.slow
    def test_a_member_too_good_on_oof_is_reported(self, place, capsys):
        maps(place, "oof", 5, accuracy=0.99)
        imported(capsys, place, place / "oof-5.npy", "--name", "other", "--split", "oof")
        said = called(capsys, "fuse", "--strategy", "stacking", "--run", place / "run").err
        assert "'other' is right on oof more often than on validation by +0.2" in said
        assert "'good' is right" not in said
