"""The Python API: what comes out, which inputs are alike, and what is refused."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from PIL import Image

import ensemble as ens
from ensemble.api.inputs import open_labels
from evaluation.confusion import confusion
from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, BadLabels, BadMaps, BadRun, BadSpec
from evaluation.core.memory import memory_limit
from evaluation.intervals import interval
from evaluation.protocols import PROTOCOLS
from tests.members.data.png_files import write_png


def random_maps(classes=3, images=6, seed=0):
    maps = np.random.default_rng(seed).random((images, classes, 4, 5), np.float32)
    return maps / maps.sum(axis=1, keepdims=True)


TARGET = np.random.default_rng(9).integers(0, 3, (6, 4, 5), dtype=np.uint8)
PRED = np.where(np.random.default_rng(8).random(TARGET.shape) < 0.7, TARGET, 1).astype(np.uint8)
TWO = [random_maps(seed=1), random_maps(seed=2)]


class TestFuse:
    def test_mean_equals_numpy_for_every_type_of_maps(self):
        expected = np.mean(TWO, axis=0)
        np.testing.assert_allclose(ens.fuse(TWO), expected, atol=1e-6)
        scaled = [np.rint(maps * 255).astype(np.uint8) for maps in TWO]
        np.testing.assert_allclose(ens.fuse(scaled), expected, atol=1 / 100)

    def test_mean_of_one_member_is_that_member(self):
        np.testing.assert_allclose(ens.fuse(TWO[:1]), TWO[0], rtol=1e-6)

    @pytest.mark.parametrize("keyword", ["fit_target", "fit_truth"])
    def test_learning_strategy_learns_from_held_out_maps(self, keyword):
        right = 0.8 * (TARGET[:, None] == np.arange(3)[:, None, None]) + 0.2 / 3
        held_out = {"fit_maps": [random_maps(seed=3), right], keyword: TARGET}
        fused = ens.fuse_maps(TWO, "weighted_mean(objective=log_loss)", **held_out)
        np.testing.assert_allclose(fused, TWO[1], atol=0.05)

    def test_block_size_of_training_does_not_change_the_result(self):
        many = [random_maps(images=90, seed=seed) for seed in (1, 2)]
        target = np.random.default_rng(3).integers(0, 3, (90, 4, 5), dtype=np.uint8)
        fused = ens.fuse(many, "stacking", fit_maps=many, fit_target=target)
        one_by_one = [m[[i]] for i in (0, 89) for m in many]
        for index, pair in zip((0, 89), (one_by_one[:2], one_by_one[2:]), strict=True):
            alone = ens.fuse(pair, "stacking", fit_maps=many, fit_target=target)
            np.testing.assert_allclose(alone[0], fused[index], atol=1e-6)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"fit_maps": ()}, BadSpec, "stacking learns; give it held-out `fit_maps` and"),
            ({"fit_target": None}, BadSpec, "stacking learns; give it held-out `fit_maps` and"),
            ({"fit_truth": TARGET}, BadSpec, "`fit_truth` is the old name of `fit_target`"),
            ({"fit_maps": TWO[:1]}, BadMaps, "1 `fit_maps` for 2 `maps`; expected one per"),
            (
                {"fit_maps": [random_maps(4)] * 2},
                BadMaps,
                r"fit_maps\[0\] has 4 classes; expected 3 as in maps\[0\]",
            ),
            (
                {"fit_maps": [random_maps(images=5)] * 2},
                BadLabels,
                r"of shape \(6, 4, 5\); expected integers, 5 images",
            ),
            ({"ignore": 3}, BadSpec, "ignored class 3; expected none, a class index, 0 to 2"),
            ({"ignore": -1}, BadSpec, "ignored class -1; expected none"),
            ({"strategy": "stackin"}, BadSpec, "unknown fusion strategy 'stackin'; known: "),
            ({"strategy": "stacking(intensity=true)"}, BadSpec, "needs images; give `images`"),
            ({"images": np.zeros((6, 9, 5), np.uint8)}, BadData, "images are uint8"),
        ],
    )
    def test_inputs_that_do_not_fit_are_refused(self, options, error, message):
        valid = {"strategy": "stacking", "fit_maps": TWO, "fit_target": TARGET}
        with pytest.raises(error, match=message):
            ens.fuse(TWO, **(valid | options))

    @pytest.mark.parametrize(
        ("maps", "message"),
        [
            ([], "`maps` is empty; expected the probability maps of one or more members"),
            ("folder", "`maps` is one item; expected a list with the maps of each member"),
            (TWO[0], r"`maps` has 4 axes; expected a list"),
            ([TWO[0][0]], r"maps\[0\] .*expected \(image, class, row, col\)"),
            ([TWO[0], TWO[1][:5]], r"maps\[1\] holds 5 images"),
            ([{"a": 1}], r"maps\[0\] is of type dict; expected an array, a list of arrays"),
            ([TWO[0] * 0.9], r"maps\[0\]: .*classes sum to"),
        ],
    )
    def test_maps_that_are_none_are_refused(self, maps, message):
        with pytest.raises(BadMaps, match=message):
            ens.fuse(maps)


def as_folder(folder, arrays, suffix):
    folder.mkdir()
    for index, array in enumerate(arrays):
        file = folder / f"n{index:02d}{suffix}"
        np.save(file, array) if suffix == ".npy" else Image.fromarray(array).save(file)
    return folder


class TestInputs:
    @pytest.fixture(params=["memory map", "list", "file", "folder", "text"])
    def given(self, request, tmp_path):
        """A function that hands over an array in one of the accepted ways."""

        def convert(array):
            file = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
            if request.param == "list":
                return list(array)
            if request.param == "folder":
                return as_folder(file.with_suffix(""), array, ".npy")
            np.save(file, array)
            return {"memory map": np.load(file, mmap_mode="r"), "text": str(file)}.get(
                request.param, file
            )

        return convert

    def test_maps_and_labels_are_taken_alike(self, given):
        fused = ens.fuse([given(maps) for maps in TWO])
        np.testing.assert_array_equal(fused, ens.fuse(TWO))
        np.testing.assert_array_equal(ens.postprocess(given(fused)), fused.argmax(axis=1))
        result = ens.score(given(TARGET), given(PRED), classes=3)
        assert result.miou == ens.score(TARGET, PRED, classes=3).miou

    def test_results_go_to_files_if_asked(self, tmp_path):
        fused = ens.fuse(TWO, out=tmp_path / "fused.npy")
        ens.postprocess(fused, out=str(tmp_path / "labels.npy"))
        np.testing.assert_array_equal(np.load(tmp_path / "fused.npy"), ens.fuse(TWO))
        np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), fused.argmax(axis=1))

    def test_images_have_channels_second_or_last_or_none(self, tmp_path):
        grey = np.random.default_rng(0).integers(0, 255, (6, 4, 5), dtype=np.uint8)
        folder = as_folder(tmp_path / "images", grey, ".png")
        chain = "crf(iterations=2)"
        expected = ens.postprocess(TWO[0], chain, images=grey)
        for images in (grey[:, None], grey[..., None], folder):
            np.testing.assert_array_equal(ens.postprocess(TWO[0], chain, images=images), expected)

    def test_masks_may_be_a_folder_of_png_files(self, tmp_path):
        folder = as_folder(tmp_path / "masks", TARGET, ".png")
        assert ens.score(folder, PRED, classes=3).miou == ens.score(TARGET, PRED, classes=3).miou

    def test_masks_of_few_bits_in_any_format_give_the_stored_values(self, tmp_path):
        for folder in ("target", "pred"):
            (tmp_path / folder).mkdir()
        for index, (target, pred) in enumerate(zip(TARGET, PRED, strict=True)):
            write_png(tmp_path / "target" / f"{index}.PNG", target, 2)
            Image.fromarray(pred).save(tmp_path / "pred" / f"{index}.tif")
        result = ens.score(tmp_path / "target", tmp_path / "pred", classes=3)
        assert result.miou == ens.score(TARGET, PRED, classes=3).miou

    @pytest.mark.parametrize("values", [(0, 1, 2), (0, 7, 9)], ids=["indices", "stored values"])
    def test_memory_does_not_grow_with_the_number_of_files(self, tmp_path, values):
        labels = np.array(values, np.uint8)[np.arange(512 * 512).reshape(512, 512) % 3]
        known, peaks = Classes(("a", "b", "c"), values=values), {}
        for images in (4, 16):
            folder = as_folder(tmp_path / str(images), [labels] * images, ".png")
            tracemalloc.start()
            with memory_limit(1):  # one block at a time
                assert ens.score(folder, folder, classes=known).miou == 1
            peaks[images] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peaks[16] < 1.2 * peaks[4]

    def test_a_file_that_changes_meanwhile_is_refused(self, tmp_path):
        folder = as_folder(tmp_path / "a", TARGET, ".png")
        opened = open_labels(folder, "target").array
        Image.fromarray(TARGET[0, :2]).save(folder / "n00.png")
        with pytest.raises(BadData, match=r"n00.png holds uint8 of shape \(2, 5\); expected"):
            opened[:]

    def test_images_of_several_sizes_score_as_their_sum(self):
        targets, preds = [TARGET[0], TARGET[1, :3]], [PRED[0], PRED[1, :3]]
        counts = [
            confusion(t[None], p[None], classes=3) for t, p in zip(targets, preds, strict=True)
        ]
        result = ens.score(targets, preds, classes=3)
        np.testing.assert_array_equal(result.counts, np.concatenate(counts))

    def test_folders_of_other_names_are_refused(self, tmp_path):
        first = as_folder(tmp_path / "a", TARGET[:3], ".png")
        second = as_folder(tmp_path / "b", TARGET[:2], ".png")
        with pytest.raises(BadData, match="files of different names \\(first: 'n02'\\)"):
            ens.score(first, second, classes=3)

    @pytest.mark.parametrize(
        ("write", "error", "message"),
        [
            (lambda folder: None, BadData, "holds no .npy, .npz, .png, .tif"),
            (
                lambda folder: [(folder / f"a{end}").touch() for end in (".png", ".npy")],
                BadData,
                "holds a.npy and a.png; remove one",
            ),
            (
                lambda folder: Image.new("RGB", (5, 4)).save(folder / "a.png"),
                BadLabels,
                "has mode RGB; expected class indices",
            ),
            (
                lambda folder: [
                    np.save(folder / "a.npy", TARGET[0]),
                    np.save(folder / "b.npy", TARGET[0].astype(int)),
                ],
                BadLabels,
                "arrays of different types or numbers of axes",
            ),
        ],
        ids=["empty", "same name", "colour", "types"],
    )
    def test_bad_folders_are_refused(self, tmp_path, write, error, message):
        write(tmp_path)
        with pytest.raises(error, match=message):
            ens.score(tmp_path, PRED, classes=3)


class TestTwoClassesStoredAs0And255:
    """Whether 255 is the foreground is asked, never guessed: no number without it is right."""

    target = np.where(np.arange(20) < 4, 255, 0).astype(np.uint8).reshape(1, 4, 5)
    everything = np.ones((1, 4, 5), np.uint8)

    @pytest.mark.parametrize("classes", [2, ["ground", "cell"]])
    @pytest.mark.parametrize("pred", [everything, 0 * everything])
    def test_they_are_not_scored_as_they_are(self, classes, pred):
        for call in (
            lambda: ens.score(self.target, pred, classes=classes),
            lambda: ens.audit(self.target, pred, pred, classes=classes),
            lambda: ens.compare(self.target, {"a": pred}, classes=classes),
            lambda: ens.compare(self.target, {"a": pred}),
        ):
            with pytest.raises(BadLabels, match="0 and 255; pass --foreground 255 if"):
                call()

    @pytest.mark.parametrize("learns", ["stacking", "weighted_mean"])
    def test_nothing_learns_from_them(self, learns):
        maps = np.random.default_rng(0).dirichlet([1, 1], (1, 4, 5)).transpose(0, 3, 1, 2)
        maps = maps.astype(np.float32)
        with pytest.raises(BadLabels, match="0 and 255"):
            ens.fuse([maps, maps[::-1]], learns, fit_maps=[maps, maps], fit_target=self.target)
        with pytest.raises(BadLabels, match="0 and 255"):
            ens.postprocess(maps, "class_bias", fit_maps=maps, fit_target=self.target)

    def test_masks_of_two_codings_are_scored_by_neither(self, tmp_path):
        mixed = np.concatenate([self.target, self.target // 255])
        folder = tmp_path / "masks"
        folder.mkdir()
        for index, mask in enumerate(mixed):
            Image.fromarray(mask).save(folder / f"{index}.png")
        pred = np.zeros_like(mixed)
        for target in (mixed, list(mixed), folder):
            with pytest.raises(BadLabels, match="255 without 1 is in 1 of 2 masks, 1 without 255"):
                ens.score(target, pred if target is not folder else list(pred), classes=2)
        assert ens.score(mixed, pred, classes=2, unlabelled=255).iou == (32 / 36, 0)

    def test_a_declared_foreground_is_scored_by_its_iou(self):
        pred = 255 * self.everything
        result = ens.score(self.target, pred, classes=2, foreground=255)
        assert (result.miou, result.iou[1]) == (0.2, 0.2)


class TestPostprocess:
    def test_chain_that_learns_is_fitted_on_held_out_maps(self):
        right = 0.4 * (TARGET[:, None] == np.arange(3)[:, None, None]) + 0.2
        labels = ens.postprocess(TWO[0], "class_bias", fit_maps=right, fit_target=TARGET)
        assert labels.shape == TARGET.shape
        with pytest.raises(BadSpec, match="chain 'class_bias' learns; give it held-out `fit_maps`"):
            ens.postprocess(TWO[0], "class_bias")

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"chain": "blurr"}, BadSpec, "unknown step 'blurr'; known: "),
            ({"chain": "crf"}, BadData, "step 'crf' .* images"),
            ({"ignore": 3}, BadSpec, "ignored class 3; expected none"),
        ],
    )
    def test_inputs_that_do_not_fit_are_refused(self, options, error, message):
        with pytest.raises(error, match=message):
            ens.postprocess(TWO[0], **options)


class TestScore:
    def test_result_equals_protocol_and_interval_of_the_counts(self):
        groups = np.array(["a", "a", "b", "b", "c", "d"])
        result = ens.score(TARGET, PRED, classes=3, ignore=0, groups=groups)
        counts, masked = confusion(TARGET, PRED, classes=3), PROTOCOLS.build("masked")
        expected = masked(counts.sum(axis=0), 0)
        assert result.miou == expected.miou
        np.testing.assert_array_equal(result.iou, expected.iou)
        assert result.interval == interval(counts, groups, masked, 0)
        assert result.under("keras").miou == PROTOCOLS.build("keras")(counts.sum(axis=0), 0).miou

    def test_document_and_frame_hold_the_same_numbers(self):
        result = ens.score(TARGET, PRED, classes=["soil", "sand", "rock"], ignore=0)
        document, frame = result.to_dict(), result.to_frame()
        assert document["miou"] == result.miou
        assert document["iou"] == {name: frame.loc[name, "iou"] for name in ("sand", "rock")}
        assert frame["target_pixels"].sum() == TARGET.size
        assert "masked mIoU" in result._repr_html_()

    def test_probability_maps_are_scored_by_their_argmax(self):
        labels = TWO[0].argmax(axis=1)
        by_labels = ens.score(TARGET, labels, classes=3)
        np.testing.assert_array_equal(ens.score(TARGET, TWO[0], classes=3).counts, by_labels.counts)

    def test_target_without_a_scored_pixel_gives_a_warning(self):
        result = ens.score(0 * TARGET, PRED, classes=3, ignore=0)
        assert np.isnan(result.miou)
        assert "no pixel can be scored" in result.to_dict()["warning"]

    @pytest.mark.parametrize(
        ("target", "pred", "options", "error", "message"),
        [
            (TARGET, PRED[:5], {}, BadLabels, "target and pred: prediction has shape"),
            (TARGET, PRED + 2, {}, BadLabels, "target and pred: .*expected 0 to 2"),
            (TARGET / 2, PRED, {}, BadLabels, "integers"),
            (TARGET, PRED[:, None], {}, BadLabels, r"expected \(image, row, col\)"),
            (TARGET, TWO[0] * 2, {}, BadMaps, "pred: "),
            (TARGET, PRED, {"ignore": 3}, BadSpec, "ignored class 3; expected none"),
            (TARGET, PRED, {"groups": [1]}, BadData, r"groups have shape \(1,\) for 6 images"),
            (TARGET, PRED, {"protocol": "mask"}, BadSpec, "unknown protocol 'mask'; known: "),
            (TARGET, "nowhere.npy", {}, BadData, "nowhere.npy is missing"),
            (TARGET, [], {}, BadLabels, "pred is empty"),
            (list(TARGET), [PRED[0], PRED[1, :2]], {}, BadLabels, r"prediction has shape \(2,"),
        ],
    )
    def test_labels_that_do_not_fit_are_refused(self, target, pred, options, error, message):
        with pytest.raises(error, match=message):
            ens.score(target, pred, **({"classes": 3} | options))


class TestCompareAndAudit:
    def test_comparison_ranks_and_tests_the_gap(self):
        preds = {"poor": 1 + 0 * TARGET, "good": PRED, "best": TARGET}
        board = ens.compare(TARGET, preds, groups=np.arange(6))
        assert board.names == ("best", "good", "poor")
        frame = board.to_frame()
        assert frame.loc["good", "score"] == ens.score(TARGET, PRED, classes=3).miou
        assert float(frame["gap_high"]["poor"]) < 0
        assert [row["name"] for row in board.to_dict()["candidates"]] == list(board.names)
        assert "best" in board._repr_html_()

    def test_comparison_takes_maps_and_names_what_is_refused(self):
        assert ens.compare(TARGET, {"a": TWO[0], "b": PRED}).rows[0].name == "b"
        with pytest.raises(BadLabels, match="target and b: prediction has shape"):
            ens.compare(TARGET, {"a": PRED, "b": PRED[:5]})
        with pytest.raises(BadData, match="`preds` is empty"):
            ens.compare(TARGET, {})

    def test_parts_of_an_audited_gain_add_up(self):
        result = ens.audit(TARGET, 1 + 0 * TARGET, PRED, classes=3, ignore=0)
        frame = result.to_frame()
        np.testing.assert_allclose(
            frame["pixels"] + frame["denominator"], frame["gain"], atol=1e-12
        )
        assert frame.loc["masked", "after"] == ens.score(TARGET, PRED, classes=3, ignore=0).miou
        assert set(result.to_dict()["protocols"]) == set(PROTOCOLS)
        assert "before to after" in result._repr_html_()


@pytest.mark.parametrize(
    "result", [ens.ScoreResult, ens.Comparison, ens.AuditResult, ens.OpenedRun]
)
def test_results_are_frozen_dataclasses(result):
    assert dataclasses.is_dataclass(result)
    assert result.__dataclass_params__.frozen


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(BadRun, match=r"is no run folder; expected one with experiment\.yaml"):
        ens.open_run(tmp_path)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'fusion_of_all'"):
        _ = ens.fusion_of_all
