"""End to end: what a user types, on small images."""

import csv
import json
import re
import shutil

import numpy as np
import pytest

import ensemble as ens
from evaluation.core.errors import BadRun

TINY = "unet(width=2, depth=1)"


class TestARun:
    def test_goes_from_members_to_the_leaderboard(self, trained_run, answer):
        for strategy in ("mean", "stacking(l2=0.1)", "per_class_vote"):
            answer("fuse", "--run", trained_run, "--strategy", strategy)
        chain = "suppress_background|mode_filter(size=3)"
        answer("postprocess", "--run", trained_run, "--fusion", "mean", "--chain", chain)
        board = json.loads(answer("score", "--run", trained_run, "--json"))
        names = {row["name"] for row in board["candidates"]}
        members = {"one_argmax", "two_argmax", "specialists_argmax"}
        assert names == members | {
            "mean_argmax",
            "stacking_argmax",
            "per_class_vote_argmax",
            "mean_suppress_background.mode_filter",
        }
        assert board["chosen"] in names
        assert board["reference"] in members
        opened = ens.open_run(trained_run)
        frame = opened.leaderboard().to_frame()
        assert set(frame.index) == names
        for row in board["candidates"]:
            assert frame.loc[row["name"], "validation"] == row["examined"]
            assert frame.loc[row["name"], "chosen"] == row["chosen"]

    def test_is_read_from_python(self, trained_run, answer):
        answer("fuse", "--run", trained_run, "--strategy", "mean")
        answer("score", "--run", trained_run, "--candidate", "mean")
        run = ens.open_run(trained_run)
        assert run.members == ("one", "two", "specialists")
        assert {"oof", "validation", "test"} <= set(run.splits)
        assert "mean" in run.fusions
        assert "mean_argmax" in run.candidates
        fused = run.maps("mean", "validation")
        np.testing.assert_array_equal(run.maps("mean", "validation", slice(3, 5)), fused[3:5])
        np.testing.assert_array_equal(
            ens.postprocess(fused), run.labels("mean_argmax", "validation")
        )
        members = [run.reader(name, "validation") for name in run.members]
        np.testing.assert_allclose(ens.fuse(members), fused, atol=1e-3)
        target, groups = run.target("validation"), run.groups("validation")
        assert len(run.images("validation")) == len(target) == len(groups)
        score = ens.score(target, fused, classes=run.classes, groups=groups)
        row = next(row for row in run.leaderboard().rows if row.name == "mean_argmax")
        assert (score.miou, score.interval) == (row.examined, row.interval)
        with pytest.raises(BadRun, match="no split 'exam'; known: "):
            run.leaderboard("exam")

    def test_repeated_commands_do_nothing(self, trained_run, answer):
        answer("fuse", "--run", trained_run, "--strategy", "mean")
        before = {p: p.stat().st_mtime_ns for p in trained_run.rglob("*") if p.is_file()}
        answer("train-members", "--run", trained_run, "--workers", "1")
        answer("fuse", "--run", trained_run, "--strategy", "mean")
        after = {p: p.stat().st_mtime_ns for p in trained_run.rglob("*") if p.is_file()}
        changed = {p.name for p in before if before[p] != after[p]}
        assert changed <= {"experiment.yaml", ".lock"}

    def test_changed_weights_make_what_follows_stale(self, trained_run, answer, tmp_path):
        copy = tmp_path / "copy"
        shutil.copytree(trained_run, copy)
        answer("fuse", "--run", copy, "--strategy", "mean")
        answer("score", "--run", copy, "--candidate", "mean")
        record = copy / "members" / "one" / "fold-0" / "provenance.json"
        document = json.loads(record.read_text())
        document["outputs"]["weights.safetensors"] = "0" * 64
        record.write_text(json.dumps(document))
        parts = json.loads(answer("status", "--run", copy, "--json"))["parts"]
        stale = {(p["stage"], p["name"]) for p in parts if p["state"] == "stale"}
        assert ("maps", "one") in stale
        assert ("maps", "two") not in stale

    def test_status_counts_existing_parts(self, trained_run, answer):
        parts = json.loads(answer("status", "--run", trained_run, "--json"))["parts"]
        assert {p["state"] for p in parts if p["stage"] in ("member", "maps")} == {"current"}
        assert len({p["name"] for p in parts if p["stage"] == "member"}) == 7

    def test_predict_adds_a_split(self, trained_run, sample_files, answer, tmp_path):
        copy = tmp_path / "copy"
        shutil.copytree(trained_run, copy)
        data = ("--data", sample_files[1], "--split", "more")
        answer("predict", "--run", copy, *data, "--workers", "1")
        assert (copy / "probabilities" / "one" / "more" / "store.json").is_file()

    def test_submit_writes_a_row_per_image_and_a_column_per_pixel(
        self, trained_run, answer, tmp_path
    ):
        answer("fuse", "--run", trained_run, "--strategy", "mean")
        answer("score", "--run", trained_run, "--candidate", "mean")
        out = tmp_path / "pred.csv"
        answer("submit", "--run", trained_run, "--candidate", "mean_argmax", "--out", out)
        with out.open() as file:
            header, *rows = list(csv.reader(file))
        assert header == ["id", *map(str, range(16 * 24))]
        assert len(rows) == 9
        labels = np.load(trained_run / "labels" / "mean_argmax" / "test" / "labels.npy")
        np.testing.assert_array_equal(np.array(rows[3][1:], int).reshape(16, 24), labels[3])

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("fuse --strategy stackin", "unknown fusion strategy 'stackin'; known: evi"),
            ("fuse --strategy mean --members uno", "no member or fusion 'uno'; known"),
            ("fuse --strategy mean --name one", "has the name of a member"),
            ("fuse --strategy mean --members ,", "--members names no member"),
            ("postprocess --fusion one --chain blurr", "unknown step 'blurr'"),
            ("postprocess --fusion six --chain=", "no member or fusion 'six'"),
            ("postprocess --chain blur", "give --fusion NAME"),
            ("score --candidate nobody", "no candidate 'nobody'; known:"),
            ("score --split exam", "no split 'exam' in"),
            ("score --split test", "split 'test' has no target to score by"),
            ("score --protocol mask", "unknown protocol 'mask'; known: dice, foreground, hugging"),
            ("audit one", "1 candidates; expected two: A and B"),
            ("train-members --folds 3", "take another --run"),
            (
                "train-members --only nobody",
                "no member 'nobody'; known: one, specialists, specialists-",
            ),
            ("train-members --member x={epos:1}", "no key 'epos:1' (YAML wants a blank after"),
            ("train-members --member unet(width=0)", "option 'width' got 0"),
            ("train-members --member unet(depth=6)", "needs at least 64 x 64"),
            ("train-members --device cuda:9", "device 'cuda:9'; here: auto, cpu"),
            ("submit --candidate nobody --out x.csv", "nobody"),
            ("import maps.npy --split oof", "give --name and --split, or --nnunet"),
            (
                "import maps.npy --name x --split oof --classes 3",
                "3 classes; the training set has 5 classes",
            ),
        ],
    )
    def test_refusals_take_one_line_and_lose_nothing(self, trained_run, refusal, words, message):
        before = {p for p in trained_run.rglob("*") if p.name != ".lock"}
        assert message in refusal(*words.split(), "--run", trained_run)
        assert {p for p in before if not p.exists()} == set()
        assert not list(trained_run.rglob("*.partial"))


class TestDataThatCannotBeTrainedOn:
    def test_specialists_of_an_absent_class_are_refused_before_any_work(self, tmp_path, refusal):
        rng = np.random.default_rng(0)
        masks = rng.integers(0, 2, (30, 16, 24)).astype(np.uint8) * 3
        np.savez(tmp_path / "data.npz", images=masks * 60, masks=masks)
        folder = tmp_path / "run"
        data = ("--data", tmp_path / "data.npz", "--run", folder, "--folds", 2)
        line = refusal("train-members", *data, "--specialists", TINY)
        assert "-1': no training image holds class '1'" in line
        assert not (folder / "members").exists()

    def test_a_member_that_fails_does_not_stop_the_others(self, sample_files, tmp_path, refusal):
        words = ["--data", sample_files[0], "--run", tmp_path, "--folds", 2, "--epochs", 1]
        wild = f"wild={{architecture: '{TINY}', optimizer: adamw(lr=1e30)}}"
        members = ["--workers", 1, "--member", f"good={TINY}", "--member", wild]
        line = refusal("train-members", *words, *members, after_work=True)
        assert line.startswith("ens: member 'wild', fold 0: the loss became nan")
        assert line.endswith("the others are done; retry with --only wild")
        assert (tmp_path / "probabilities" / "good" / "oof" / "provenance.json").is_file()
        assert not (tmp_path / "members" / "wild" / "fold-0").exists()


class TestAnExperimentFile:
    def test_second_run_redoes_nothing(self, sample_files, tmp_path, answer):
        file = tmp_path / "experiment.yaml"
        file.write_text(
            f"data: {sample_files[0]}\nvalidation: {sample_files[1]}\nfolds: 2\n"
            f"defaults: {{epochs: 1}}\nmembers: {{a: {{architecture: '{TINY}'}}}}\n"
            "fusions: {mean: mean}\n"
            "chains: {plain: '', dark: suppress_background, rocks: 'close(only=[4])'}\n"
        )
        words = ["run", file, "--run", tmp_path / "run", "--workers", "1", "--json"]
        first = json.loads(answer(*words))
        assert {r["name"] for r in first["candidates"]} >= {"mean_plain", "mean_dark", "a_argmax"}
        weights = tmp_path / "run" / "members" / "a" / "fold-0" / "weights.safetensors"
        written = weights.stat().st_mtime_ns
        assert json.loads(answer(*words)) == first
        assert weights.stat().st_mtime_ns == written
        # `ens run` imported the module ensemble.cli.run, which must not hide the entry point.
        assert json.loads(answer("status", "--run", tmp_path / "run", "--json"))["parts"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("members: [", "cannot be read as YAML"),
            ("- a", "holds list; expected keys such as data, members"),
            ("member: {}", "unknown key 'member'; known: data"),
            ("folds: 1", "'folds' got 1; expected greater than or equal to 2"),
            ("seed: -1", "'seed' got -1; expected greater than or equal to 0"),
            ("fusions: {m: stackin}", "unknown fusion strategy 'stackin'"),
            ("chains: {c: 'mode_filter|crf'}", "step 'crf' needs maps"),
            ("members: {a: {architecture: unet(width=-1)}}", "option 'width' got -1"),
            ("members: {a: {epochs: -1}}", "'epochs' got -1; expected"),
            ("chains: {c: 'close(only=[9])'}", "only=[9]; expected classes from 0 to 4"),
            ("fusions: {m: mean}\nchains: {argmax: open}", "that name is the empty chain's"),
            (
                "fusions: {a: mean, a_b: max}\nchains: {b_c: '', c: open}",
                "fusion 'a' and fusion 'a_b' both have a candidate 'a_b_c'",
            ),
            ("data: nowhere.npz", "nowhere.npz is missing"),
        ],
    )
    def test_mistakes_are_reported_before_any_work(self, tmp_path, refusal, text, message):
        file = tmp_path / "experiment.yaml"
        file.write_text(text)
        assert message in refusal("run", file, "--run", tmp_path / "run")
        assert not (tmp_path / "run" / "members").exists()


class TestPlainFiles:
    @pytest.fixture
    def files(self, tmp_path, monkeypatch):
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
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def test_go_from_maps_to_a_score(self, files, answer):
        words = "fuse --maps a.npy --maps b.npz --strategy mean --out fused.npy"
        answer(*words.split())
        expected = (np.load("a.npy") + np.load("b.npy")) / 2
        np.testing.assert_allclose(np.load("fused.npy"), expected, atol=1e-6)
        assert np.load("fused.npy").dtype == np.float32
        chain = "suppress_background|crf(iterations=2)"
        words = "postprocess --maps fused.npy --images images.npy --out labels.npy --ignore 0"
        answer(*words.split(), "--chain", chain)
        assert np.load("labels.npy").dtype == np.uint8
        assert (np.load("labels.npy") != 0).all()
        words = "score --target target.npy --pred labels.npy --classes 3 --ignore 0 --json"
        document = json.loads(answer(*words.split()))
        assert document["images"] == 70
        assert {"masked", "keras"} < set(document["protocols"])
        assert set(document["protocols"]["masked"]["iou"]) == {"1", "2"}
        assert np.array(document["confusion"]).sum() == 70 * 80

    def test_a_table_of_colours_names_the_classes(self, files, answer, refusal):
        (files / "colours.txt").write_text("sky 0 0 255\nroad #804080\ntree 0 128 0\n")
        words = ["score", "--target", "target.npy", "--pred", "target.npy"]
        words += ["--colours", "colours.txt"]
        document = json.loads(answer(*words, "--json"))
        assert list(document["protocols"]["masked"]["iou"]) == ["sky", "road", "tree"]
        assert answer(*words, "--classes", "3") == answer(*words)
        said = refusal(*words, "--classes", "a,b,c")
        assert "--classes and colours.txt name different classes" in said

    def test_scores_of_classes_are_written_as_a_table(self, files, answer):
        words = "score --target target.npy --pred target.npy --classes 3 --csv all.csv"
        answer(*words.split())
        with (files / "all.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["class"] for row in rows] == ["mean", "0", "1", "2"]
        assert {float(row["masked"]) for row in rows} == {1.0}

    def test_give_what_the_python_api_gives(self, files, answer):
        strategy, chain = "stacking(l2=0.1)", "class_bias|mode_filter(size=3)"
        fit = "--fit-maps a.npy --fit-maps b.npy --fit-target target.npy --ignore 0"
        answer(*f"fuse --maps a.npy --maps b.npy --out f.npy {fit} --strategy {strategy}".split())
        learned = {"fit_maps": ["a.npy", "b.npy"], "fit_target": "target.npy", "ignore": 0}
        fused = ens.fuse(["a.npy", "b.npy"], strategy, **learned)
        np.testing.assert_array_equal(np.load("f.npy"), fused)
        fit = "--fit-maps a.npy --fit-target target.npy"
        answer(*f"postprocess --maps f.npy --out l.npy {fit} --chain {chain} --ignore 0".split())
        learned["fit_maps"] = "a.npy"
        np.testing.assert_array_equal(np.load("l.npy"), ens.postprocess(fused, chain, **learned))
        words = "--target target.npy --pred l.npy --classes 3 --ignore 0 --json"
        document = json.loads(answer("score", *words.split()))
        result = ens.score("target.npy", "l.npy", classes=3, ignore=0)
        assert document["protocols"]["masked"]["miou"] == result.miou
        audited = json.loads(answer("audit", "--pred", "target.npy", *words.split()))
        expected = ens.audit("target.npy", "target.npy", "l.npy", classes=3, ignore=0)
        assert audited == expected.to_dict()

    def test_former_option_names_are_accepted_and_not_shown(self, files, answer):
        words = "--maps a.npy --fit-maps a.npy --out f.npy --strategy weighted_mean"
        answer("fuse", *words.split(), "--fit-truth", "target.npy")
        labels = "score --target target.npy --pred target.npy --classes 3"
        former = labels.replace("--target", "--truth").replace("--pred", "--guess")
        assert answer(*former.split()) == answer(*labels.split())
        words = "--target target.npy --pred target.npy --classes 3 --metric iou --json --per"
        old, new = (
            json.loads(answer("score", *words.split(), per)) for per in ("picture", "image")
        )
        assert old == new
        for command in ("fuse", "score", "audit", "overlay", "submit", "import"):
            shown = answer(command, "--help")
            for name in ("--fit-truth", "--truth", "--guess", "--picture", "--form ", "--as-is"):
                assert name not in shown

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("--maps a.npy --strategy mean", "name the file to write"),
            ("--maps a.npy --strategy stacking --out o.npy", "learns; give it held"),
            ("--maps no.npy --strategy mean --out o.npy", "no.npy is missing"),
            ("--maps cut.npy --strategy mean --out o.npy", "no readable .npy"),
            ("--maps pickle.npy --strategy mean --out o.npy", "Python objects"),
            ("--maps nan.npy --strategy mean --out o.npy", "NaN or infinite"),
            ("--maps sums.npy --strategy mean --out o.npy", "classes sum to"),
            ("--maps target.npy --strategy mean --out o.npy", "expected (image"),
            ("--maps a.npy --maps less.npy --strategy mean --out o.npy", "holds 69 images"),
            (
                "--maps a.npy --strategy mean --out o.npy --ignore 3",
                "ignored class 3; expected none, a class index, 0 to 2",
            ),
            ("--maps a.npy --strategy mean(x=1) --out o.npy", "no option 'x'"),
        ],
    )
    def test_bad_maps_are_refused_and_nothing_is_written(self, files, refusal, words, message):
        good = np.load("a.npy")
        (files / "cut.npy").write_bytes((files / "a.npy").read_bytes()[:-100])
        np.save("pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
        np.save("nan.npy", np.where(good == good.max(), np.nan, good))
        np.save("sums.npy", good * 0.9)
        np.save("less.npy", good[:69])
        (files / "o.npy").write_bytes(b"old")
        assert message in refusal("fuse", *words.split())
        assert (files / "o.npy").read_bytes() == b"old"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda y: y[:5], "target.npy and pred.npy: .*shape"),
            (lambda y: y + 7, "target.npy and pred.npy: .*expected 0 to 2"),
            (lambda y: y / 2, "pred.npy holds one channel of float64; .*label maps hold integers"),
        ],
        ids=["shape", "classes", "fractions"],
    )
    def test_bad_labels_are_refused(self, files, refusal, change, message):
        np.save("pred.npy", change(np.load("target.npy")))
        words = "score --target target.npy --pred pred.npy --classes 3"
        assert re.search(message, refusal(*words.split()))


class TestTheCommand:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("frobnicate", "No such command 'frobnicate'"),
            ("fuse --strategies", "No such option '--strategies'"),
            ("train-members --folds many", "'many' is not a valid integer"),
            ("status --run nowhere", "nowhere"),
            ("members --split oof list", "give options after 'list'"),
            ("members frobnicate", "No such command 'frobnicate'"),
        ],
    )
    def test_wrong_words_take_one_line(self, refusal, words, message):
        assert message in refusal(*words.split())

    def test_without_a_run_it_says_how_to_start(self, refusal, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert "start with `ens train-members`" in refusal("score")

    def test_members_without_a_subcommand_means_worth(self, answer, refusal, tmp_path):
        assert "worth" in answer("members", "--help")
        missing = ("--run", tmp_path / "nowhere", "--split", "oof")
        assert refusal("members", *missing) == refusal("members", "worth", *missing)

    def test_data_lists_its_subcommands(self, answer):
        names = {line.split()[0] for line in answer("data", "--help").splitlines() if line.strip()}
        assert {"clean", "refine-masks", "disagreements", "inspect", "import-ai4mars"} <= names

    def test_inspect_describes_a_file(self, sample_files, answer):
        assert json.loads(answer("data", "inspect", sample_files[0], "--json"))
