"""End to end: what a user types, on small images."""

import csv
import json

import numpy as np
import pytest

from ensemble.cli import run
from members.data.sample import draw_sample

TINY = "unet(width=2, depth=1)"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    return draw_sample(images=80, test=9, validation=40, size=(16, 24)).save(folder)


@pytest.fixture(scope="module")
def trained(sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    data, validation = map(str, sample)
    code = run(
        [
            "train-members",
            "--data",
            data,
            "--validation",
            validation,
            "--run",
            str(folder),
            "--folds",
            "2",
            "--workers",
            "1",
            "--epochs",
            "1",
            "--member",
            f"one={TINY}",
            "--member",
            f"two={{architecture: '{TINY}', loss: dice}}",
            "--specialists",
            TINY,
        ]
    )
    assert code == 0
    return folder


def answer(capsys, *arguments, code=0):
    """Run a verb and return what it wrote to stdout."""
    capsys.readouterr()
    assert run([str(argument) for argument in arguments]) == code
    return capsys.readouterr().out


def refusal(capsys, *arguments, after_work=False):
    """Run a verb that must refuse, and return its one line; only work that was done precedes it."""
    capsys.readouterr()
    assert run([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert [line.startswith("ens: ") for line in lines].count(True) == 1
    assert len(lines) == 1 or after_work, said.err
    return lines[-1]


class TestARun:
    def test_goes_from_members_to_the_leaderboard(self, trained, capsys):
        for strategy in ("mean", "stacking(l2=0.1)", "per_class_vote"):
            answer(capsys, "fuse", "--run", trained, "--strategy", strategy)
        chain = "suppress_background|mode_filter(size=3)"
        answer(capsys, "postprocess", "--run", trained, "--fusion", "mean", "--chain", chain)
        board = json.loads(answer(capsys, "score", "--run", trained, "--json"))
        names = {row["name"] for row in board["candidates"]}
        assert names == {
            "one_argmax",
            "two_argmax",
            "five_argmax",
            "mean_argmax",
            "stacking_argmax",
            "per_class_vote_argmax",
            "mean_suppress_background.mode_filter",
        }
        assert board["chosen"] in names
        assert board["reference"] in {"one_argmax", "two_argmax", "five_argmax"}

    def test_a_second_time_nothing_is_done_again(self, trained, capsys):
        answer(capsys, "fuse", "--run", trained, "--strategy", "mean")
        stamps = {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()}
        answer(capsys, "train-members", "--run", trained, "--workers", "1")
        answer(capsys, "fuse", "--run", trained, "--strategy", "mean")
        again = {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()}
        changed = {p.name for p in stamps if stamps[p] != again[p]}
        assert changed <= {"experiment.yaml", ".lock"}

    def test_weights_that_change_make_all_that_follows_stale(self, trained, capsys, tmp_path):
        import shutil

        copy = tmp_path / "copy"
        shutil.copytree(trained, copy)
        answer(capsys, "fuse", "--run", copy, "--strategy", "mean")
        answer(capsys, "score", "--run", copy, "--candidate", "mean")
        record = copy / "members" / "one" / "fold-0" / "provenance.json"
        document = json.loads(record.read_text())
        document["outputs"]["weights.safetensors"] = "0" * 64
        record.write_text(json.dumps(document))
        parts = json.loads(answer(capsys, "status", "--run", copy, "--json"))["parts"]
        stale = {(p["stage"], p["name"]) for p in parts if p["state"] == "stale"}
        assert ("maps", "one") in stale
        assert ("maps", "two") not in stale

    def test_status_counts_what_is_there(self, trained, capsys):
        parts = json.loads(answer(capsys, "status", "--run", trained, "--json"))["parts"]
        assert {p["state"] for p in parts if p["stage"] in ("member", "maps")} == {"current"}
        assert len({p["name"] for p in parts if p["stage"] == "member"}) == 7

    def test_predict_adds_a_split(self, trained, sample, capsys):
        answer(
            capsys,
            "predict",
            "--run",
            trained,
            "--data",
            sample[1],
            "--split",
            "more",
            "--workers",
            "1",
        )
        assert (trained / "probabilities" / "one" / "more" / "store.json").is_file()

    def test_submit_writes_a_row_an_image_and_a_column_a_pixel(self, trained, capsys, tmp_path):
        answer(capsys, "fuse", "--run", trained, "--strategy", "mean")
        answer(capsys, "score", "--run", trained, "--candidate", "mean")
        out = tmp_path / "pred.csv"
        answer(capsys, "submit", "--run", trained, "--candidate", "mean_argmax", "--out", out)
        with out.open() as file:
            header, *rows = list(csv.reader(file))
        assert header == ["id", *map(str, range(16 * 24))]
        assert len(rows) == 9
        labels = np.load(trained / "labels" / "mean_argmax" / "test" / "labels.npy")
        np.testing.assert_array_equal(np.array(rows[3][1:], int).reshape(16, 24), labels[3])

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["fuse", "--strategy", "stackin"], "unknown fusion strategy 'stackin'; known: evi"),
            (
                ["fuse", "--strategy", "mean", "--members", "uno"],
                "no member or fusion 'uno'; known",
            ),
            (["fuse", "--strategy", "mean", "--name", "one"], "has the name of a member"),
            (["fuse", "--strategy", "mean", "--members", ","], "--members names no member"),
            (["postprocess", "--fusion", "one", "--chain", "blurr"], "unknown step 'blurr'"),
            (["postprocess", "--fusion", "six", "--chain", ""], "no member or fusion 'six'"),
            (["postprocess", "--chain", "blur"], "give --fusion NAME"),
            (["score", "--candidate", "nobody"], "no candidate 'nobody'; known:"),
            (["score", "--split", "exam"], "no split 'exam' in"),
            (["score", "--split", "test"], "split 'test' has no target to score by"),
            (
                ["score", "--protocol", "mask"],
                "unknown protocol 'mask'; known: huggingface, keras, masked",
            ),
            (["train-members", "--folds", "3"], "take another --run"),
            (["train-members", "--only", "nobody"], "no member 'nobody'; known: five, five-"),
            (["train-members", "--member", "x={epochs: -1}"], "'epochs' got -1; expected"),
            (["train-members", "--member", "unet(width=0)"], "option 'width' got 0"),
            (["train-members", "--member", "unet(depth=6)"], "needs at least 64 x 64"),
            (["train-members", "--device", "cuda:9"], "device 'cuda:9'; here: auto, cpu"),
            (["submit", "--candidate", "nobody", "--out", "x.csv"], "nobody"),
        ],
    )
    def test_refusals_take_one_line_and_lose_nothing(self, trained, capsys, arguments, words):
        before = {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.name != ".lock"}
        assert words in refusal(capsys, *arguments, "--run", trained)
        assert {p for p in before if not p.exists()} == set()
        assert not list(trained.rglob("*.partial"))


class TestDataThatCannotBeTrainedOn:
    def test_specialists_of_an_absent_class_are_refused_before_any_work(self, tmp_path, capsys):
        rng = np.random.default_rng(0)
        masks = rng.integers(0, 2, (30, 16, 24)).astype(np.uint8) * 3
        np.savez(tmp_path / "data.npz", images=masks * 60, masks=masks)
        run_folder = tmp_path / "run"
        said = refusal(
            capsys,
            "train-members",
            "--data",
            tmp_path / "data.npz",
            "--run",
            run_folder,
            "--specialists",
            TINY,
            "--folds",
            "2",
        )
        assert "member 'five-1': no training image holds class '1'" in said
        assert not (run_folder / "members").exists()

    def test_a_member_that_fails_does_not_stop_the_others(self, sample, tmp_path, capsys):
        said = refusal(
            capsys,
            "train-members",
            "--data",
            sample[0],
            "--run",
            tmp_path,
            "--folds",
            "2",
            "--epochs",
            "1",
            "--workers",
            "1",
            "--member",
            f"good={TINY}",
            "--member",
            f"wild={{architecture: '{TINY}', optimizer: adamw(lr=1e30)}}",
            after_work=True,
        )
        assert said.startswith("ens: member 'wild', fold 0: the loss became nan")
        assert said.endswith("the others are done; retry with --only wild")
        assert (tmp_path / "probabilities" / "good" / "oof" / "provenance.json").is_file()
        assert not (tmp_path / "members" / "wild" / "fold-0").exists()


class TestAnExperimentFile:
    def test_is_done_once_and_only_what_is_missing_after(self, sample, tmp_path, capsys):
        file = tmp_path / "experiment.yaml"
        file.write_text(
            f"data: {sample[0]}\nvalidation: {sample[1]}\nfolds: 2\n"
            f"defaults: {{epochs: 1}}\nmembers: {{a: {{architecture: '{TINY}'}}}}\n"
            "fusions: {mean: mean}\n"
            "chains: {plain: '', dark: suppress_background, rocks: 'close(only=[4])'}\n"
        )
        arguments = ["run", file, "--run", tmp_path / "run", "--workers", "1", "--json"]
        first = json.loads(answer(capsys, *arguments))
        assert {r["name"] for r in first["candidates"]} >= {"mean_plain", "mean_dark", "a_argmax"}
        weights = tmp_path / "run" / "members" / "a" / "fold-0" / "weights.safetensors"
        made = weights.stat().st_mtime_ns
        assert json.loads(answer(capsys, *arguments)) == first
        assert weights.stat().st_mtime_ns == made

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("members: [", "cannot be read as YAML"),
            ("- a", "holds list; expected keys such as data, members"),
            ("member: {}", "unknown key 'member'; known: data"),
            ("folds: 1", "'folds' got 1; expected greater than or equal to 2"),
            ("seed: -1", "'seed' got -1; expected greater than or equal to 0"),
            ("fusions: {m: stackin}", "unknown fusion strategy 'stackin'"),
            ("chains: {c: 'mode_filter|crf'}", "step 'crf' needs maps"),
            ("members: {a: {architecture: unet(width=-1)}}", "option 'width' got -1"),
            ("chains: {c: 'close(only=[9])'}", "only=[9]; expected classes from 0 to 4"),
            ("fusions: {m: mean}\nchains: {argmax: open}", "that name is the empty chain's"),
            (
                "fusions: {a: mean, a_b: max}\nchains: {b_c: '', c: open}",
                "fusion 'a' and fusion 'a_b' both have a candidate 'a_b_c'",
            ),
            ("data: nowhere.npz", "nowhere.npz is missing"),
        ],
    )
    def test_mistakes_are_told_before_any_work(self, tmp_path, capsys, text, words):
        file = tmp_path / "experiment.yaml"
        file.write_text(text)
        assert words in refusal(capsys, "run", file, "--run", tmp_path / "run")
        assert not (tmp_path / "run" / "members").exists()


class TestPlainFiles:
    @pytest.fixture
    def files(self, tmp_path):
        rng = np.random.default_rng(0)
        target = rng.integers(0, 3, (70, 8, 10)).astype(np.uint8)
        certain = np.eye(3, dtype=np.float32)[target].transpose(0, 3, 1, 2)
        for name, noise in (("a", 1.0), ("b", 2.0)):
            maps = certain + noise * rng.random(certain.shape, dtype=np.float32)
            maps /= maps.sum(axis=1, keepdims=True)
            np.save(tmp_path / f"{name}.npy", maps)
            np.savez_compressed(tmp_path / f"{name}.npz", maps)
        np.save(tmp_path / "target.npy", target)
        np.save(tmp_path / "images.npy", rng.integers(0, 255, (70, 8, 10)).astype(np.uint8))
        return tmp_path

    def test_go_from_maps_to_a_score(self, files, capsys):
        fused, labels = files / "fused.npy", files / "labels.npy"
        answer(
            capsys,
            "fuse",
            "--maps",
            files / "a.npy",
            "--maps",
            files / "b.npz",
            "--strategy",
            "mean",
            "--out",
            fused,
        )
        expected = (np.load(files / "a.npy") + np.load(files / "b.npy")) / 2
        np.testing.assert_allclose(np.load(fused), expected, atol=1e-6)
        assert np.load(fused).dtype == np.float32
        answer(
            capsys,
            "postprocess",
            "--maps",
            fused,
            "--images",
            files / "images.npy",
            "--chain",
            "suppress_background|crf(iterations=2)",
            "--out",
            labels,
        )
        assert np.load(labels).dtype == np.uint8
        assert (np.load(labels) != 0).all()
        document = json.loads(
            answer(
                capsys,
                "score",
                "--target",
                files / "target.npy",
                "--pred",
                labels,
                "--classes",
                3,
                "--ignore",
                0,
                "--json",
            )
        )
        assert document["images"] == 70
        assert {"masked", "keras"} < set(document["protocols"])
        assert set(document["protocols"]["masked"]["iou"]) == {"1", "2"}
        assert np.array(document["confusion"]).sum() == 70 * 80

    def test_a_strategy_that_learns_takes_held_out_maps(self, files, capsys):
        out = files / "fused.npy"
        answer(
            capsys,
            "fuse",
            "--maps",
            files / "a.npy",
            "--maps",
            files / "b.npy",
            "--strategy",
            "stacking(l2=0.1)",
            "--fit-maps",
            files / "a.npy",
            "--fit-maps",
            files / "b.npy",
            "--fit-target",
            files / "target.npy",
            "--out",
            out,
        )
        np.testing.assert_allclose(np.load(out).sum(axis=1), 1, atol=1e-4)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--maps", "a.npy", "--strategy", "mean"], "name the file to write"),
            (
                ["--maps", "a.npy", "--strategy", "stacking", "--out", "o.npy"],
                "learns; give it held",
            ),
            (["--maps", "no.npy", "--strategy", "mean", "--out", "o.npy"], "no.npy is missing"),
            (["--maps", "cut.npy", "--strategy", "mean", "--out", "o.npy"], "no readable .npy"),
            (["--maps", "pickle.npy", "--strategy", "mean", "--out", "o.npy"], "Python objects"),
            (["--maps", "nan.npy", "--strategy", "mean", "--out", "o.npy"], "NaN or infinite"),
            (["--maps", "sums.npy", "--strategy", "mean", "--out", "o.npy"], "classes sum to"),
            (["--maps", "target.npy", "--strategy", "mean", "--out", "o.npy"], "expected (image"),
            (
                ["--maps", "a.npy", "--maps", "less.npy", "--strategy", "mean", "--out", "o.npy"],
                "holds 69 images",
            ),
            (
                ["--maps", "a.npy", "--strategy", "mean", "--out", "o.npy", "--ignore", "3"],
                "--ignore 3 with 3 classes; expected 0 to 2",
            ),
            (["--maps", "a.npy", "--strategy", "mean(x=1)", "--out", "o.npy"], "no option 'x'"),
        ],
    )
    def test_bad_maps_are_refused_and_nothing_is_written(
        self, files, capsys, monkeypatch, arguments, words
    ):
        good = np.load(files / "a.npy")
        (files / "cut.npy").write_bytes((files / "a.npy").read_bytes()[:-100])
        np.save(files / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
        np.save(files / "nan.npy", np.where(good == good.max(), np.nan, good))
        np.save(files / "sums.npy", good * 0.9)
        np.save(files / "less.npy", good[:69])
        monkeypatch.chdir(files)
        (files / "o.npy").write_bytes(b"old")
        assert words in refusal(capsys, "fuse", *arguments)
        assert (files / "o.npy").read_bytes() == b"old"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda y: y[:5], "shape"),
            (lambda y: y + 7, "expected 0 to 2"),
            (lambda y: y / 2, "integers"),
        ],
        ids=["shape", "classes", "fractions"],
    )
    def test_bad_labels_are_refused(self, files, capsys, change, words):
        np.save(files / "pred.npy", change(np.load(files / "target.npy")))
        said = refusal(
            capsys,
            "score",
            "--target",
            files / "target.npy",
            "--pred",
            files / "pred.npy",
            "--classes",
            3,
        )
        assert words in said

    def test_half_of_a_call_is_refused(self, files, capsys):
        assert "belong together" in refusal(capsys, "score", "--target", files / "target.npy")


class TestTheCommand:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["frobnicate"], "No such command 'frobnicate'"),
            (["fuse", "--strategies"], "No such option '--strategies'"),
            (["train-members", "--folds", "many"], "'many' is not a valid integer"),
            (["status", "--run", "nowhere"], "nowhere"),
        ],
    )
    def test_wrong_words_take_one_line(self, capsys, arguments, words):
        assert words in refusal(capsys, *arguments)

    def test_without_a_run_it_says_how_to_start(self, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert "start with `ens train-members`" in refusal(capsys, "score")

    def test_inspect_tells_what_is_in_a_file(self, sample, capsys):
        document = json.loads(answer(capsys, "data", "inspect", sample[0], "--json"))
        assert document
