"""nnU-Net's trained folders: the cross-validation maps of their folds.

A folder holds `dataset.json` and `plans.json` beside `fold_0`, `fold_1`, ...; training with `--npz`
leaves `fold_K/validation/CASE.npz` with `probabilities` (class, slice, row, col), float, in the
geometry of the source: the axes are those of SimpleITK, (z, y, x), which NIfTI counts the other way
round. The `.pkl` beside it is pickled and never opened.

Source: `export_prediction_from_logits` in `nnunetv2/inference/export_prediction.py` and
`perform_actual_validation` in `nnunetv2/training/nnUNetTrainer/nnUNetTrainer.py`, of
MIC-DKFZ/nnUNet.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluation.core.classes import Classes
from evaluation.core.errors import BadMaps, format_count
from evaluation.core.files import check_no_external_links, read_json
from evaluation.core.ragged import Extent
from evaluation.core.types import Array
from members.data.nnunet_folder import DATASET, NIFTI, classes_of
from members.external.array_files import shape_of
from members.external.formats import CLASSES_FIRST, ExternalMaps, ImageSource, Layout, MapFiles

PLANS, KEY = "plans.json", "probabilities"
FOLD = re.compile(r"fold_(\d+)")
REORIENTED = "NibabelIOWithReorient"
"""A reader whose maps do not have the axes of the files."""

MAP_AXES = 4


@dataclass(frozen=True)
class NnunetResults:
    """The maps of one trained folder.

    Args:
        folder: of the trainer, plans and configuration.
        configuration: such as `2d` or `3d_fullres`.
        classes: of the data set, in the order of the maps' channels.
        is_nifti: whether the data are NIfTI, whose axes are reversed.
        fold_of: the fold that each case was predicted in.
        files: of each case.
    """

    folder: Path
    configuration: str
    classes: Classes
    is_nifti: bool
    fold_of: Mapping[str, int]
    files: Mapping[str, Path]

    @property
    def folds(self) -> list[int]:
        """The folds that have maps, in order."""
        return sorted(set(self.fold_of.values()))

    def slices_of(self, ids: Sequence[str]) -> list[tuple[str, int] | None]:
        """Return case and slice of each image of a run; None for those without maps.

        An image is called as its case, or as its case with the number of the slice.
        """
        return [self._slice_of(name) for name in ids]

    def _slice_of(self, name: str) -> tuple[str, int] | None:
        if name in self.files:
            return name, 0
        case, _, number = name.rpartition("_")
        return (case, int(number)) if case in self.files and number.isdecimal() else None

    def maps_of(self, ids: Sequence[str]) -> ExternalMaps:
        """Open the maps of those images of a run that have some, in its order.

        Raises:
            BadMaps: none of them, damaged files, or volumes of another number of slices.
        """
        slices = self.slices_of(ids)
        found = [(name, at) for name, at in zip(ids, slices, strict=True) if at is not None]
        if not found:
            raise BadMaps(
                f"{self.folder} has maps of none of the run's images (its cases are"
                f" {min(self.files)!r}, ...; the run's images {ids[0]!r}, ...); create the run with"
                " the data set that it was trained on"
            )
        for case in dict.fromkeys(case for _, (case, _) in found):
            self._check_volume(case, max(index for _, (c, index) in found if c == case))
        sources = tuple(ImageSource(name, self.files[case], index) for name, (case, index) in found)
        maps = MapFiles(sources, str(self.folder), KEY, said=CLASSES_FIRST)
        return CaseMaps(maps, swapped=self.is_nifti)

    def _check_volume(self, case: str, last: int) -> None:
        shape = shape_of(self.files[case], KEY)
        if len(shape) != MAP_AXES or shape[0] != len(self.classes):
            raise BadMaps(
                f"{self.files[case]} is of shape {shape}; expected ({len(self.classes)}, slice,"
                " row, col)"
            )
        if last >= shape[1]:
            raise BadMaps(
                f"{self.files[case]} has {format_count(shape[1], 'slice')}; the run has {last + 1}"
                f" of case {case!r}"
            )


@dataclass(frozen=True)
class CaseMaps(ExternalMaps):
    """Maps of nnU-Net's cases, slice by slice.

    Pixels without any probability are background: earlier versions wrote zeros outside of the box
    around the patient that they predicted, where their labels are 0.

    Args:
        given: as the files hold them.
        swapped: rows and columns are exchanged.
    """

    given: ExternalMaps
    swapped: bool

    @property
    def name(self) -> str:  # type: ignore[override]
        """What errors call them."""
        return self.given.name

    @property
    def ids(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """One per image."""
        return self.given.ids

    @property
    def class_names(self) -> None:  # type: ignore[override]
        """None: the files do not name the classes."""
        return None

    @property
    def size(self) -> tuple[int, ...]:
        """Images, and the channels, rows and cols of the first."""
        *first, rows, cols = self.given.size
        return (*first, cols, rows) if self.swapped else (*first, rows, cols)

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        extent = self.given.extent
        if not self.swapped:
            return extent
        return Extent.of_sizes([(cols, rows) for rows, cols in extent.sizes])

    @property
    def dtype(self) -> str:
        """The type of the values on disk."""
        return self.given.dtype

    def read(self, indices: Array) -> Array:
        """Read images."""
        values = self.given.read(indices)
        outside = ~values.any(axis=1)
        if outside.any():
            values[:, 0][outside] = 1
        return np.ascontiguousarray(values.swapaxes(-1, -2)) if self.swapped else values

    def as_stored(self) -> Iterator[Array]:
        """Yield the values of each image with the axes that the files have."""
        return self.given.as_stored()

    def with_layout(self, layout: Layout) -> "CaseMaps":
        """Return the maps with the axes of an image said."""
        return replace(self, given=self.given.with_layout(layout))


def read_results(folder: Path) -> NnunetResults:
    """Read which cases each fold of a trained folder has maps of.

    Raises:
        BadMaps: no trained folder, no maps, or a case in two folds.
        BadData: labels that are regions.
    """
    for name in (DATASET, PLANS):
        if not (folder / name).is_file():
            raise BadMaps(
                f"{folder} lacks {name}; expected a folder that nnU-Net trained, such as"
                " nnUNet_results/Dataset001_NAME/nnUNetTrainer__nnUNetPlans__2d"
            )
    check_no_external_links(folder)
    plans, document = read_json(folder / PLANS), read_json(folder / DATASET)
    reader = plans.get("image_reader_writer") if isinstance(plans, dict) else None
    if reader == REORIENTED:
        raise BadMaps(
            f"{folder} was read by {REORIENTED}, which turns volumes; expected SimpleITKIO or"
            " another reader that keeps their axes: import the exported NIfTI maps"
        )
    classes = classes_of(folder / DATASET, document)
    fold_of: dict[str, int] = {}
    files: dict[str, Path] = {}
    for fold, file in _files(folder):
        if file.stem in files:
            raise BadMaps(
                f"{file} and {files[file.stem]} are both of case {file.stem!r}; expected each case"
                " in the validation of one fold"
            )
        fold_of[file.stem], files[file.stem] = fold, file
    if len(set(fold_of.values())) < 2:
        raise BadMaps(
            f"{folder} has maps of {format_count(len(set(fold_of.values())), 'fold')}; expected two"
            " or more: fold_K/validation/*.npz, written by `nnUNetv2_train ... --val --npz`"
        )
    ending = str(document.get("file_ending", ".nii.gz"))
    configuration = folder.resolve().name.rpartition("__")[2]
    return NnunetResults(folder, configuration, classes, ending in NIFTI, fold_of, files)


def _files(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in sorted(folder.iterdir()):
        match = FOLD.fullmatch(path.name)
        if match is not None:
            cases = sorted(path.glob("validation/*.npz"))
            _check_complete(path / "validation", {file.stem for file in cases})
            yield from ((int(match[1]), file) for file in cases)


def _check_complete(folder: Path, cases: set[str]) -> None:
    """Refuse a validation folder that holds a predicted case without its maps.

    Raises:
        BadMaps: there is one.
    """
    kept = [f for f in folder.glob("[!.]*") if f.suffix not in (".json", ".npz") and f.is_file()]
    others = {Path(file.name.removesuffix(".gz")).stem for file in kept}
    if cases and (lacking := sorted(others - cases)):
        raise BadMaps(
            f"{folder} holds case {lacking[0]!r} without {lacking[0]}.npz; export all of them by"
            " `nnUNetv2_train ... --val --npz`, or take the case's other files away"
        )
