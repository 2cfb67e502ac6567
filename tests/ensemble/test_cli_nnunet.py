"""nnU-Net's trained folders as members: folds, leaks, scores per case, and labels as NIfTI."""

import json

import numpy as np
import pytest

from ensemble.cli import run_command
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.store import ProbabilityStore
from tests.members.external.nnunet import volumes, write_nifti_set, write_png_set, write_results

CASES = tuple(f"case{n:02d}" for n in range(12))
AFFINE = np.array([[-0.7, 0, 0, 30], [0, 0.8, 0.1, -12], [0, -0.1, 3, 7], [0, 0, 0, 1.0]])


def ens(*words):
    assert run_command([str(word) for word in words]) == 0


@pytest.fixture(scope="module", params=["2-D", "3-D"])
def place(request, tmp_path_factory):
    """A raw data set, two trained folders, and the run that took them."""
    root = tmp_path_factory.mktemp("nnunet")
    flat = request.param == "2-D"
    masks = volumes(CASES, 1 if flat else 3)
    if flat:
        write_png_set(root / "raw", masks)
    else:
        pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
        write_nifti_set(root / "raw", masks, AFFINE)
    for number, configuration in enumerate(("2d", "3d_fullres")):
        trained = root / "results" / f"nnUNetTrainer__nnUNetPlans__{configuration}"
        dtype = np.float16 if number else np.float32
        write_results(trained, root / "raw", masks, seed=number, dtype=dtype)
    folders = sorted((root / "results").iterdir())
    ens("import", "--nnunet", *folders, "--data", root / "raw", "--run", root / "run")
    return root, masks, flat


def data_of(root):
    return DataSet.load(Run(root / "run").data("oof"))


def test_every_image_has_the_map_of_the_fold_that_did_not_see_it(place):
    root, _, flat = place
    data = data_of(root)
    assert len(data) == len(CASES) * (1 if flat else 3)
    assert sorted(set(data.group_names())) == list(CASES)
    folds = json.loads((root / "run/data/folds.json").read_text())
    expected = [CASES.index(case) % 3 for case in data.group_names()]
    assert folds == {"folds": 3, "fold": expected}
    for name in ("2d", "3d_fullres"):
        store = ProbabilityStore(Run(root / "run").probabilities(name, "oof"))
        assert not store.trained_on_mask().any()
        seen = store.seen.models[0]
        assert seen == {i for i, fold in zip(data.ids, expected, strict=True) if fold != 0}


def test_maps_lie_as_the_images_and_masks_do(place):
    root, masks, flat = place
    data = data_of(root)
    store = ProbabilityStore(Run(root / "run").probabilities("3d_fullres", "oof"))
    trained = root / "results/nnUNetTrainer__nnUNetPlans__3d_fullres"
    for index, name in enumerate(data.ids):
        case, position = (name, 0) if flat else (name[:-5], int(name[-4:]))
        fold = CASES.index(case) % 3
        given = np.load(trained / f"fold_{fold}/validation/{case}.npz")["probabilities"]
        expected = given[:, position].astype(np.float32)
        if case == CASES[0]:
            assert (expected[..., -4:] == 0).all()
            expected[0, :, -4:] = 1
        expected = expected if flat else expected.swapaxes(1, 2)
        (found,) = store.read(slice(index, index + 1))
        np.testing.assert_allclose(found, expected / expected.sum(axis=0), atol=2e-3)
        mask = masks[case][position]
        np.testing.assert_array_equal(data.target()[index], mask if flat else mask.T)


def test_scores_per_case_are_those_of_nnunet(place, answer):
    """The mean over the foreground classes of the mean over cases of each case's IoU."""
    root, masks, _ = place
    words = ["score", "--run", root / "run", "--split", "oof", "--protocol", "nnunet", "--json"]
    board = json.loads(answer(*words, "--per", "group"))
    (row,) = [row for row in board["candidates"] if row["name"] == "2d_argmax"]
    trained = root / "results/nnUNetTrainer__nnUNetPlans__2d"
    values = []
    for case, mask in masks.items():
        fold = CASES.index(case) % 3
        given = np.load(trained / f"fold_{fold}/validation/{case}.npz")["probabilities"]
        pred = given.astype(np.float32).argmax(axis=0)
        both = [
            ((pred == c) & (mask == c)).sum() / ((pred == c) | (mask == c)).sum() for c in (1, 2)
        ]
        values.append(both)
    assert row["examined"] == pytest.approx(np.mean(values), abs=1e-3)


@pytest.mark.slow
def test_labels_come_back_as_volumes_with_the_geometry_of_the_source(place, answer, refusal):
    root, _, flat = place
    run = ["--run", root / "run"]
    answer("fuse", "--strategy", "weighted_mean", *run)
    answer("postprocess", "--fusion", "weighted_mean", "--chain", "", *run)
    words = ["submit", "--candidate", "weighted_mean_argmax", "--split", "oof", *run]
    words += ["--format", "nifti", "--out", root / "labels"]
    if flat:
        assert "holds .png images; expected NIfTI" in refusal(*words)
        return
    import nibabel

    answer(*words)
    for case in CASES:
        written = nibabel.load(root / f"labels/{case}.nii.gz")
        source = nibabel.load(root / f"raw/imagesTr/{case}_0000.nii.gz")
        np.testing.assert_array_equal(written.affine, source.affine)
        assert written.shape == source.shape
        assert written.header.get_zooms() == source.header.get_zooms()
        assert written.header.get_xyzt_units() == source.header.get_xyzt_units()
        assert written.get_data_dtype() == np.uint8
        target = np.asarray(nibabel.load(root / f"raw/labelsTr/{case}.nii.gz").dataobj)
        assert (np.asarray(written.dataobj) == target).mean() > 0.7
    said = json.loads((root / "labels/fused.json").read_text())
    assert said["strategy"].startswith("weighted_mean")
    assert set(said["members"]) == {"2d", "3d_fullres"}
    assert said["members"]["2d"]["nnunet"].endswith("nnUNetPlans__2d")
    assert any(np.size(values) >= 2 for values in said["fitted"]["arrays"].values())


class TestRefusals:
    @pytest.fixture
    def trained(self, tmp_path):
        masks = volumes(CASES[:6], 1)
        write_png_set(tmp_path / "raw", masks)
        return write_results(tmp_path / "nnUNetTrainer__nnUNetPlans__2d", tmp_path / "raw", masks)

    def spoil(self, kind, trained):
        first = trained / "fold_0/validation/case00.npz"
        if kind == "plans":
            (trained / "plans.json").unlink()
        elif kind == "reoriented":
            document = {"image_reader_writer": "NibabelIOWithReorient"}
            (trained / "plans.json").write_text(json.dumps(document))
        elif kind == "no npz":
            for file in trained.rglob("*.npz"):
                file.unlink()
        elif kind == "twice":
            (trained / "fold_1/validation/case00.npz").write_bytes(first.read_bytes())
        elif kind == "classes":
            np.savez(first, probabilities=np.full((4, 1, 12, 20), 0.25))
        elif kind == "nan":
            np.savez(first, probabilities=np.full((3, 1, 12, 20), np.nan, np.float16))
        elif kind == "regions":
            document = json.loads((trained / "dataset.json").read_text())
            document["labels"]["tumour"] = [1, 2]
            (trained / "dataset.json").write_text(json.dumps(document))

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("plans", "lacks plans.json; expected a folder that nnU-Net trained"),
            ("reoriented", "was read by NibabelIOWithReorient, which turns volumes"),
            ("no npz", "has maps of 0 folds; expected two or more"),
            ("twice", "are both of case 'case00'; expected each case"),
            ("classes", "is of shape (4, 1, 12, 20); expected (3, slice, row, col)"),
            ("nan", "holds NaN or infinite values (first in 'case00')"),
            ("regions", "labels are regions that overlap"),
        ],
    )
    def test_folders_that_cannot_be_read(self, trained, tmp_path, refusal, kind, words):
        self.spoil(kind, trained)
        run = ["--data", tmp_path / "raw", "--run", tmp_path / "run"]
        line = refusal("import", "--nnunet", trained, *run, after_work=kind in ("classes", "nan"))
        assert words in line
        assert not (tmp_path / "run/probabilities").exists()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--split", "oof"], "--split is said by nnU-Net's folders"),
            (["--trained-on", "x"], "--trained-on is said by nnU-Net's folders"),
            (["--ignore", "none"], "dataset.json says classes and layout"),
        ],
    )
    def test_options_that_the_folders_answer(self, trained, tmp_path, refusal, options, words):
        run = ["--data", tmp_path / "raw", "--run", tmp_path / "run"]
        assert words in refusal("import", "--nnunet", trained, *run, *options)

    def test_names_folders_and_runs_that_do_not_go_together(self, trained, tmp_path, refusal):
        two = ["import", "--nnunet", trained, trained, "--name", "mine", "--run", tmp_path / "run"]
        assert "--name mine is for one trained folder; 2 are given" in refusal(*two)
        alone = ["import", "--nnunet", trained, "--run", tmp_path / "run"]
        assert "holds no images; create it with --data, nnU-Net's raw set" in refusal(*alone)

    def test_a_run_that_was_made_of_the_same_data_takes_another_folder(self, trained, tmp_path):
        here = ["--data", tmp_path / "raw", "--run", tmp_path / "run"]
        ens("import", "--nnunet", trained, *here)
        folds = (tmp_path / "run/data/folds.json").stat().st_mtime_ns
        ens("import", "--nnunet", trained, "--name", "again", *here)
        assert (tmp_path / "run/data/folds.json").stat().st_mtime_ns == folds
        first, again = (
            ProbabilityStore(Run(tmp_path / "run").probabilities(name, "oof"))
            for name in ("2d", "again")
        )
        for image in range(len(first)):
            one = slice(image, image + 1)
            np.testing.assert_array_equal(first.read(one), again.read(one))

    def test_a_run_of_other_cases(self, trained, trained_run, tmp_path, refusal):
        line = refusal("import", "--nnunet", trained, "--run", trained_run, after_work=True)
        assert "has maps of none of the run's images" in line
