"""Folders in nnU-Net's own format: a raw data set, and what training with `--npz` leaves.

As `nnunetv2` writes them: `probabilities` (class, slice, row, col), the axes of SimpleITK, float16
or float32, zeros outside of the box that was predicted; properties pickled beside; labels in the
source's format.
"""

import json
import pickle

import numpy as np
from PIL import Image

LABELS = {"background": 0, "organ": 1, "tumour": 2}


class Trap:
    """Says so if it is ever unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def volumes(cases, slices, seed=0):
    """Masks (slice, row, col) of each case; sizes differ from case to case."""
    rng = np.random.default_rng(seed)
    found = {}
    for number, case in enumerate(cases):
        rows, cols = 12 + 4 * (number % 3), 20
        coarse = rng.integers(0, 3, (slices, rows // 4, cols // 4)).astype(np.uint8)
        found[case] = coarse.repeat(4, axis=1).repeat(4, axis=2)
    return found


def write_png_set(root, masks):
    """A raw data set of 2-D images: CASE_0000.png and CASE.png."""
    for case, volume in masks.items():
        for folder, name, values in (
            ("imagesTr", f"{case}_0000", volume[0] * 100),
            ("labelsTr", case, volume[0]),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(root / folder / f"{name}.png")
    _write_dataset(root, ".png")


def write_nifti_set(root, masks, affine):
    """A raw data set of volumes: files count x first, the masks here z."""
    import nibabel

    for case, volume in masks.items():
        for folder, name, values in (
            ("imagesTr", f"{case}_0000", volume.astype(np.float32) * 100),
            ("labelsTr", case, volume),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(values.transpose(2, 1, 0), affine)
            image.header.set_xyzt_units("mm")
            nibabel.save(image, root / folder / f"{name}.nii.gz")
    _write_dataset(root, ".nii.gz")


def _write_dataset(root, ending):
    document = {"channel_names": {"0": "CT"}, "labels": LABELS, "file_ending": ending}
    document["numTraining"] = len(list((root / "labelsTr").iterdir()))
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(document))


def write_results(folder, raw, masks, *, folds=3, accuracy=0.8, seed=1, dtype=np.float16):
    """What training leaves: `fold_K/validation/CASE.npz` of every K-th case."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text((raw / "dataset.json").read_text())
    ending = json.loads((raw / "dataset.json").read_text())["file_ending"]
    reader = "SimpleITKIO" if ending != ".png" else "NaturalImage2DIO"
    (folder / "plans.json").write_text(json.dumps({"image_reader_writer": reader}))
    for number, (case, volume) in enumerate(masks.items()):
        place = folder / f"fold_{number % folds}" / "validation"
        place.mkdir(parents=True, exist_ok=True)
        kept = rng.random(volume.shape) < accuracy
        pred = np.where(kept, volume, rng.integers(0, 3, volume.shape))
        logits = 3 * np.eye(3)[pred] + rng.random((*volume.shape, 3))
        shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        probabilities = np.moveaxis(shares, -1, 0).astype(dtype)
        if number == 0:  # outside of the box
            probabilities[:, :, :, -4:] = 0
        np.savez_compressed(place / f"{case}.npz", probabilities=probabilities)
        (place / f"{case}.pkl").write_bytes(pickle.dumps({"spacing": (3.0, 1, 1), "x": Trap()}))
        (place / f"{case}{ending}").write_bytes(b"labels, which are not read")
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(pickle.dumps(Trap()))
    return folder
