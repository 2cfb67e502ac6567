"""Write label maps as NIfTI with the geometry of their source, and what was fused as JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.fitted_json import ARRAYS, STATE
from ensemble.pipeline.candidates.fuse import FITTED, resolve_fusion
from ensemble.pipeline.candidates.postprocess import read_candidate
from ensemble.pipeline.members.nnunet import NNUNET
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from evaluation.core.classes import Classes
from evaluation.core.errors import BadData
from evaluation.core.files import check_file_names, open_array, read_json, write_json
from evaluation.core.provenance import CONFIG, RECORD
from evaluation.core.ragged import Stack
from evaluation.core.types import Array
from members.data.dataset import DataSet
from members.data.nnunet_folder import DATASET, open_volume, source_volume, volume_shape

FUSED = "fused.json"
"""What was fused, beside the volumes."""


def write_volumes(
    folder: Path, run_members: RunMembers, data: DataSet, labels: Stack, classes: Classes
) -> None:
    """Write `CASE.nii.gz` per case: the classes' stored values, with the source's geometry.

    Args:
        folder: must exist.
        run_members: of the run, whose data are nnU-Net's raw set of NIfTI volumes.
        data: the images, slices along the volumes' last axis; their groups are the cases.
        labels: uint8 (image, row, col).
        classes: their stored values.

    Raises:
        BadData: other data, or a case of which slices are missing.
    """
    root = source_root(run_members)
    for case, indices in _cases(data):
        file = source_volume(root, case)
        source, shape = open_volume(file), volume_shape(file)
        if len(indices) != shape[2]:
            raise BadData(
                f"case {case!r} has {shape[2]} slices; the run has {len(indices)} of them"
            )
        slices = [classes.stored(np.asarray(labels[int(index)])) for index in indices]
        volume = np.stack(slices, axis=-1).astype(np.uint8)
        if volume.shape != shape:
            raise BadData(f"case {case!r} is {shape}; its labels are {volume.shape}")
        header = source.header.copy()
        header.set_data_dtype(np.uint8)
        header.set_slope_inter(1, 0)
        header["cal_max"] = header["cal_min"] = 0  # of the image's grey values
        written = type(source)(volume.reshape(source.shape), source.affine, header)
        written.to_filename(folder / f"{case}.nii.gz")


def read_volumes(folder: Path, data: DataSet, classes: Classes) -> Iterator[tuple[str, Array]]:
    """Yield (id, labels) per image."""
    for case, indices in _cases(data):
        file = folder / f"{case}.nii.gz"
        volume = np.asarray(open_volume(file).dataobj).reshape(volume_shape(file))
        for position, index in enumerate(indices):
            stored = np.ascontiguousarray(volume[:, :, position]).astype(np.uint8)
            yield data.ids[int(index)], classes.indices(stored)


def source_root(run_members: RunMembers) -> Path:
    """Return the folder of a run's data where that is nnU-Net's raw set.

    Raises:
        BadData: other data.
    """
    root = Path(run_experiment(run_members.run).data)
    if not (root / DATASET).is_file():
        raise BadData(f"{root} has no {DATASET}; expected nnU-Net's raw set of NIfTI volumes")
    return root


def write_fused(path: Path, run_members: RunMembers, candidate: str, split: str) -> None:
    """Write which members a candidate fuses, from which folders, by which weights, and its chain.

    Args:
        path: of the JSON file.
        run_members: of the run.
        candidate: name of the candidate.
        split: of the images.
    """
    run, (source, chain) = run_members.run, read_candidate(run_members.run, candidate)
    document: dict[str, Any] = {"candidate": candidate, "split": split, "chain": chain}
    members: tuple[str, ...] = (source,)
    if source not in run_members.names():
        spec = resolve_fusion(run_experiment(run), run_members, source)
        members = spec.members
        fitted = run.fusion(source) / FITTED
        state = read_json(fitted / STATE)
        document |= {
            "fusion": source,
            "strategy": spec.strategy,
            "fitted": {**state, "arrays": _arrays(state, "", fitted / ARRAYS)},
        }
    document["members"] = {name: _origin(run_members, name, split) for name in members}
    write_json(path, document)


def _arrays(state: dict[str, Any], prefix: str, archive: Path) -> dict[str, Any]:
    """Return the arrays of a fitted fusion as lists, its parts' by the path of their field."""
    found = {prefix + n: open_array(archive, prefix + n).tolist() for n in state["arrays"]}
    for name, part in state["parts"].items():
        parts = part if isinstance(part, list) else [part]
        for index, one in enumerate(parts):
            inside = f"{prefix}{name}.{index}." if isinstance(part, list) else f"{prefix}{name}."
            found |= _arrays(one, inside, archive)
    return found


def _origin(run_members: RunMembers, name: str, split: str) -> dict[str, Any]:
    record = run_members.run.probabilities(name, split) / RECORD
    config = read_json(record)[CONFIG] if record.is_file() else {}
    return {NNUNET: config[NNUNET]} if NNUNET in config else {"member": name}


def _cases(data: DataSet) -> Iterator[tuple[str, Array]]:
    """Yield each case with the indices of its slices, in the order of the images."""
    names = data.group_names()
    check_file_names(list(dict.fromkeys(names.tolist())))
    for case in dict.fromkeys(names.tolist()):
        yield case, np.flatnonzero(names == case)
